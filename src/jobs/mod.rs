//! Every kind of run from begin to ledger: begin it or take up one whose process died, do its work, close it.
//!
//! The faces start runs here and nowhere else.

pub mod archive;
pub mod backup;
pub mod drill;
pub mod prune;
pub mod rebuild;
pub mod repair;
pub mod restore;

use crate::catalog::RunRow;
use crate::engine::system::System;
use crate::ground::Result;

/// Unfinished runs of a kind, oldest first.
pub fn unfinished(system: &System, kind: &str) -> Result<Vec<RunRow>> {
    let mut runs = system.catalog.unfinished_runs(&system.policy.system)?;
    runs.retain(|run| run.kind == kind);
    Ok(runs)
}
