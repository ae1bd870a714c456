//! Databases that this very process has open, first of all lifeboat's own catalog.
//!
//! POSIX gives up all locks of a process on a file when the process closes any descriptor of it, whichever. Reading
//! such a database like any file would take SQLite's locks away under it, and could damage it.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How names of SQLite's files end.
const DATABASE_SUFFIXES: [&[u8]; 6] = [b".db", b".db3", b".sqlite", b".sqlite3", b"-wal", b"-shm"];

/// Device and inode of each database file this process has open when a capture begins. The catalog is open for as
/// long as a run lasts, so that is soon enough.
#[derive(Debug, Default)]
pub(super) struct HeldDatabases(HashSet<(u64, u64)>);

impl HeldDatabases {
    /// Looks through this process's descriptors.
    pub fn of_this_process() -> Self {
        let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else { return Self::default() };
        let targets = descriptors.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let databases = targets.filter(|target| is_database(target));
        let identities = databases.filter_map(|target| std::fs::metadata(target).ok());
        Self(identities.map(|metadata| (metadata.dev(), metadata.ino())).collect())
    }

    /// Whether this is one of them.
    pub fn contains(&self, device_id: u64, inode: u64) -> bool {
        self.0.contains(&(device_id, inode))
    }
}

fn is_database(path: &Path) -> bool {
    DATABASE_SUFFIXES.iter().any(|suffix| path.as_os_str().as_bytes().ends_with(suffix))
}
