//! Reads one source into the repository: files, logs, image, sqlite.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::ground::{Failure, Progress};
use crate::policy::Source;
use crate::repository::{BlobId, BlobReader, BlobWriter};
use crate::site::records::Missing;

/// The newest usable earlier point of the same source, to tell what did not change.
#[derive(Debug, Clone, Copy)]
pub struct Earlier {
    /// Its root tree.
    pub tree: BlobId,
    /// When its read began by this host's clock: entries changed later than this minus 2 s are read again.
    pub began: Timestamp,
}

/// What capture is given.
pub struct CaptureContext<'a> {
    pub writer: &'a BlobWriter,
    /// To read the earlier tree; `None` with `earlier` on the first backup.
    pub reader: &'a BlobReader,
    pub earlier: Option<Earlier>,
    /// A private directory for temporary files, emptied by the caller.
    pub scratch: &'a Path,
    pub progress: &'a dyn Progress,
}

/// One captured source.
#[derive(Debug, Clone)]
pub struct Captured {
    pub tree: BlobId,
    /// Absolute paths whose contents come directly below the restore target.
    pub roots: Vec<PathBuf>,
    pub entries: u64,
    /// Bytes as they would be restored.
    pub bytes: u64,
    /// Named, in the order met; at most 1,000, `missing_count` has the whole number.
    pub missing: Vec<Missing>,
    pub missing_count: u64,
}

/// Captures a source. The data time is the moment the caller calls this.
///
/// # Errors
/// When nothing of the source can be read (a path that does not exist), the source's kind is not served here, or the
/// repository cannot be written. Single entries that cannot be read are named in [`Captured::missing`].
pub fn capture(_source: &Source, _context: &CaptureContext<'_>) -> Result<Captured, Failure> {
    unimplemented!()
}
