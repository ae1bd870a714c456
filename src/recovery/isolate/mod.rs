//! Hides the primary from the process that runs a drill.
use std::path::PathBuf;
use crate::policy::Policy;
use lifeboat_verify::events::Isolated;
pub fn isolate(_primary_paths: &[PathBuf], _keep: &[PathBuf]) -> Isolated { Isolated { method: "none".into(), proven: false, hidden: vec![], not_proven: vec![] } }
pub fn primary_paths(_policy: &Policy) -> Vec<PathBuf> { vec![] }
