//! Writes a stored tree below a target directory and never outside of it.

use std::path::{Path, PathBuf};

use crate::ground::{Progress, Result};
use crate::repository::{BlobId, BlobReader};
use crate::site::records::Missing;

/// What a restore is asked for.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    pub tree: BlobId,
    /// Absolute roots of the point; contents of a single one come directly below the target.
    pub roots: Vec<PathBuf>,
    /// Only these (absolute, or relative to the single root); empty means everything.
    pub only: Vec<PathBuf>,
    /// Replace what is there. Otherwise the target must be empty or absent.
    pub overwrite: bool,
    /// Set owners, set-id bits, devices, capabilities; by default when running as root.
    pub privileged: bool,
}

/// What a restore did.
#[derive(Debug, Clone, Default)]
pub struct RestoreSummary {
    pub entries: u64,
    pub bytes: u64,
    /// What was not restored exactly, at most 1,000; `missing_count` has the whole number.
    pub missing: Vec<Missing>,
    pub missing_count: u64,
    /// Symlinks that are absolute or lead out of the target: reported, not blocked. At most 1,000.
    pub unsafe_links: Vec<String>,
}

/// Restores. A damaged or missing blob loses that file alone, which is named and not left half-written.
///
/// # Errors
/// Wrong input (exit 2) when the target is not empty without `overwrite` or `only` names nothing; failed when the
/// target cannot be written at all or is full.
pub fn restore(
    _reader: &BlobReader,
    _request: &RestoreRequest,
    _target: &Path,
    _progress: &dyn Progress,
) -> Result<RestoreSummary> {
    unimplemented!()
}
