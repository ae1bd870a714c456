//! What all threads of one capture share: the repository's side, the earlier point, the tally and the list of what
//! is missing.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::held::HeldDatabases;
use super::log_history::LogHistory;
use super::metadata::OwnerNames;
use super::store::{ContentStore, EarlierTrees};
use super::{Captured, Earlier};
use crate::ground::byte_path::escape;
use crate::ground::{Failure, Progress};
use crate::repository::{BlobId, Node, NodeKind, RepositoryError};
use crate::site::records::Missing;

/// Most entries named in [`Captured::missing`]; the count goes on.
const MISSING_NAMED_MAX: usize = 1_000;

/// Coarsest time stamp of a file system that does not count parts of a second: FAT counts in 2 s.
const GRAIN_OF_SECONDS: SignedDuration = SignedDuration::from_secs(2);
/// That of all others, with room to spare: the kernel takes the time from its last tick, 10 ms ago at most, and exFAT
/// counts in 10 ms.
const GRAIN_OF_PARTS: SignedDuration = SignedDuration::from_millis(100);

/// Threads that read files. Small cold files are bound by the time that each takes to come from the disk, which
/// serves many at once: so many more than there are cores.
const READERS: usize = 12;

/// Why an entry could not be captured; the side that failed decides whether the capture goes on.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The source's side: the reason, for the list of what is missing.
    Source(String),
    /// The repository's side: ends the capture.
    Repository(RepositoryError),
}

impl From<RepositoryError> for Trouble {
    fn from(error: RepositoryError) -> Self {
        Self::Repository(error)
    }
}

/// Identity of an inode and the version of its content, to read a hard-linked file once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LinkedFile {
    pub device_id: u64,
    pub inode: u64,
}

/// One capture under way.
pub(super) struct Session<'a> {
    pub store: &'a dyn ContentStore,
    pub trees: &'a dyn EarlierTrees,
    pub earlier: Option<Earlier>,
    pub scratch: &'a Path,
    pub progress: &'a dyn Progress,
    /// The data time.
    pub now: Timestamp,
    /// Variables by which processes of this capture are known.
    pub marks: &'a [(&'static str, String)],
    pub owners: OwnerNames,
    pub held: HeldDatabases,
    /// For a source of kind `logs`: what is known of its files.
    pub logs: Option<LogHistory>,
    /// Whether every file is read whole, whatever is known of it.
    pub reads_whole: bool,
    read_bytes: AtomicU64,
    /// Threads that read content.
    pub readers: usize,
    entries: AtomicU64,
    bytes: AtomicU64,
    missing: Mutex<Vec<Missing>>,
    missing_count: AtomicU64,
    /// Each with the number of its names met so far; dropped with the last, so the map stays small.
    linked: Mutex<HashMap<LinkedFile, (Node, u64)>>,
}

/// A lock whose holder panicked is taken over: the panic itself ends the capture when its thread is joined.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Session<'a> {
    /// Begins a capture.
    pub fn new(
        store: &'a dyn ContentStore,
        trees: &'a dyn EarlierTrees,
        earlier: Option<Earlier>,
        scratch: &'a Path,
        progress: &'a dyn Progress,
    ) -> Self {
        Self {
            store,
            trees,
            earlier,
            scratch,
            progress,
            now: Timestamp::UNIX_EPOCH,
            marks: &[],
            owners: OwnerNames::of_this_host(),
            held: HeldDatabases::of_this_process(),
            logs: None,
            reads_whole: false,
            read_bytes: AtomicU64::new(0),
            readers: READERS,
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            missing: Mutex::default(),
            missing_count: AtomicU64::new(0),
            linked: Mutex::default(),
        }
    }

    /// Names something that is not in the point, or not exactly.
    pub fn miss(&self, path: &[u8], reason: impl Into<String>) {
        self.missing_count.fetch_add(1, Ordering::Relaxed);
        let mut missing = lock(&self.missing);
        if missing.len() < MISSING_NAMED_MAX {
            missing.push(Missing { path: escape(path), reason: reason.into() });
        }
    }

    /// Counts a captured entry and, for a file, its bytes; further links to a file count as entries alone.
    pub fn count(&self, node: &Node, first_link: bool) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        if node.kind == NodeKind::File && first_link {
            self.bytes.fetch_add(node.size, Ordering::Relaxed);
        }
    }

    /// Counts bytes that were read from the source.
    pub fn count_read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The node under which the same inode was captured before in this run.
    pub fn linked_before(&self, file: LinkedFile) -> Option<Node> {
        lock(&self.linked).get(&file).map(|(node, _)| node.clone())
    }

    /// Remembers a file with several names; `true` when it is the first of them.
    pub fn remember_link(&self, file: LinkedFile, node: &Node) -> bool {
        let mut linked = lock(&self.linked);
        let met = linked.get(&file).map_or(0, |(_, met)| *met) + 1;
        if met < node.links {
            linked.insert(file, (node.clone(), met));
        } else {
            linked.remove(&file);
        }
        met == 1
    }

    /// The earlier version of a directory. A damaged one costs time, not the backup: everything is read again.
    pub fn earlier_entries(&self, tree: Option<BlobId>) -> Vec<Node> {
        let Some(tree) = tree else { return Vec::new() };
        self.trees.read_tree(&tree).unwrap_or_else(|error| {
            self.progress.warn(&format!("the earlier point cannot be compared with, so files are read again: {error}"));
            Vec::new()
        })
    }

    /// The earlier version of the entry at an absolute path.
    pub fn earlier_node(&self, path: &[u8]) -> Option<Node> {
        let mut tree = Some(self.earlier?.tree);
        let mut found = None;
        for name in components(path) {
            let mut entries = self.earlier_entries(tree);
            let node = entries.swap_remove(entries.iter().position(|node| node.name == name)?);
            tree = node.subtree;
            found = Some(node);
        }
        found
    }

    /// The tree of the earlier version of the directory at an absolute path.
    pub fn earlier_tree(&self, path: &[u8]) -> Option<BlobId> {
        if components(path).next().is_none() {
            return self.earlier.map(|earlier| earlier.tree);
        }
        self.earlier_node(path)?.subtree
    }

    /// Whether a file may keep the content its earlier version had, without a read.
    pub fn is_unchanged(&self, node: &Node, earlier: &Node) -> bool {
        !self.reads_whole && self.looks_unchanged(node, earlier)
    }

    /// Whether size, inode and times say that a file has the content its earlier version had: nothing about it changed, its
    /// last change is not so young that a later one could bear the same time, and all of its content is still stored.
    pub fn looks_unchanged(&self, node: &Node, earlier: &Node) -> bool {
        let Some(began) = self.earlier.map(|earlier| earlier.began) else { return false };
        earlier.kind == NodeKind::File
            && (earlier.size, earlier.inode) == (node.size, node.inode)
            && (earlier.modified, earlier.changed) == (node.modified, node.changed)
            && is_settled(node.modified, began)
            && is_settled(node.changed, began)
            && (node.size == 0 || !earlier.content.is_empty())
            && earlier.content.iter().all(|blob| self.store.contains(blob))
    }

    /// The first thing found missing, as a sentence.
    pub fn first_missing(&self) -> Option<String> {
        lock(&self.missing).first().map(|missing| format!("{}: {}", missing.path, missing.reason))
    }

    /// Ends the capture.
    pub fn finish(self, tree: BlobId, roots: Vec<std::path::PathBuf>) -> Result<Captured, Failure> {
        let (rewritten, rewritten_count) = self.logs.map(LogHistory::finish).unwrap_or_default();
        Ok(Captured {
            read_bytes: self.read_bytes.into_inner(),
            full_read: None,
            rewritten,
            rewritten_count,
            tree,
            roots,
            entries: self.entries.into_inner(),
            bytes: self.bytes.into_inner(),
            missing: self.missing.into_inner().unwrap_or_else(PoisonError::into_inner),
            missing_count: self.missing_count.into_inner(),
            database: None,
        })
    }
}

/// Whether a change after `began` must have got another time stamp than this. A stamp of a whole second may come from a
/// file system that knows no others.
fn is_settled(stamp: Timestamp, began: Timestamp) -> bool {
    let grain = if stamp.subsec_nanosecond() == 0 { GRAIN_OF_SECONDS } else { GRAIN_OF_PARTS };
    began.saturating_sub(grain).is_ok_and(|limit| stamp < limit)
}

/// The names along an absolute path; empty ones and `.` are no names.
pub(super) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_settles_when_its_file_system_would_give_another() {
        for (stamp, began, settled) in [
            ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.7Z", true),
            ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.6Z", false),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.7Z", false),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:02Z", false),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:02.001Z", true),
            ("2026-01-01T00:00:01.5Z", "2026-01-01T00:00:00Z", false),
        ] {
            assert_eq!(is_settled(stamp.parse().unwrap(), began.parse().unwrap()), settled, "{stamp} and {began}");
        }
    }
}
