//! What the earlier point holds of the files a log source meets now: by path, or, for a log that was rotated by
//! renaming, by device and inode.
//!
//! Memory: about 40 bytes per earlier file of two blobs or more, at most [`FILES_MAX`] of them, and the entries of the
//! [`RECENT_MAX`] directories asked for last, each of at most [`DIRECTORY_MAX`] entries. Renamed files beyond that are
//! read whole. Nothing is looked up, and no tree read, while every file is found under its own path.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use jiff::Timestamp;

use super::Earlier;
use super::session::{Session, lock};
use crate::ground::byte_path::escape;
use crate::policy::SourceKind;
use crate::repository::{BlobId, Node, NodeKind};
use crate::site::records::Missing;

/// Most earlier files that are found by their inode.
const FILES_MAX: usize = 200_000;
/// Most entries of a directory whose files are found by their inode: each question reads the directory's tree.
const DIRECTORY_MAX: usize = 10_000;
/// Decoded directories that are kept: files of one directory rotate together.
const RECENT_MAX: usize = 4;
/// Most files named in [`LogHistory::finish`]; the count goes on.
const NAMED_MAX: usize = 1_000;
/// Longest time by which a full read may come early, so that a nightly start some seconds sooner than that of a week
/// ago does not put it off by a day.
const EARLY_MAX: Duration = Duration::from_secs(3_600);

/// A file of the earlier point: its directory, as a position in the list of trees, and its position in that.
#[derive(Debug, Clone, Copy)]
struct Location {
    tree: u32,
    entry: u32,
}

/// The earlier point's files by device and inode.
#[derive(Debug, Default)]
struct Inodes {
    trees: Vec<BlobId>,
    files: HashMap<(u64, u64), Location>,
}

/// Shared by the reading threads of one capture of logs.
#[derive(Debug, Default)]
pub(super) struct LogHistory {
    inodes: OnceLock<Inodes>,
    recent: Mutex<Vec<(BlobId, Arc<Vec<Node>>)>>,
    rewritten: Mutex<(Vec<Missing>, u64)>,
}

/// What a file was in the earlier point.
#[derive(Debug)]
pub(super) struct EarlierVersion {
    pub node: Node,
    /// Found by its inode under another path.
    pub renamed: bool,
}

impl LogHistory {
    /// The earlier version of a file: the same inode under the same path, else the same device and inode anywhere in
    /// the earlier tree. That is where to look and proves nothing: inodes are used again.
    pub fn earlier_version(&self, session: &Session<'_>, at_path: Option<&Node>, now: &Node) -> Option<EarlierVersion> {
        let same = |earlier: &&Node| earlier.kind == NodeKind::File && earlier.inode == now.inode;
        if let Some(node) = at_path.filter(same) {
            return Some(EarlierVersion { node: node.clone(), renamed: false });
        }
        let inodes = self.inodes.get_or_init(|| Inodes::read(session));
        let location = inodes.files.get(&(now.device_id, now.inode))?;
        let tree = inodes.trees.get(usize::try_from(location.tree).ok()?)?;
        let entries = self.entries(session, *tree);
        let node = entries.get(usize::try_from(location.entry).ok()?)?.clone();
        Some(EarlierVersion { node, renamed: true })
    }

    /// The entries of an earlier directory, from memory when it was asked for lately.
    fn entries(&self, session: &Session<'_>, tree: BlobId) -> Arc<Vec<Node>> {
        let known = lock(&self.recent).iter().find(|(id, _)| *id == tree).map(|(_, entries)| Arc::clone(entries));
        known.unwrap_or_else(|| {
            let entries = Arc::new(session.earlier_entries(Some(tree)));
            let mut recent = lock(&self.recent);
            recent.truncate(RECENT_MAX - 1);
            recent.insert(0, (tree, Arc::clone(&entries)));
            entries
        })
    }

    /// Remembers that a full read found other bytes than the earlier point holds.
    pub fn note_rewritten(&self, path: &[u8], reason: String) {
        let mut rewritten = lock(&self.rewritten);
        rewritten.1 += 1;
        if rewritten.0.len() < NAMED_MAX {
            rewritten.0.push(Missing { path: escape(path), reason });
        }
    }

    /// What [`LogHistory::note_rewritten`] heard, at most 1,000 of them, and how often it was called.
    pub fn finish(self) -> (Vec<Missing>, u64) {
        self.rewritten.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inodes {
    /// Goes through the earlier tree, which holds the directories with logs and nothing else.
    fn read(session: &Session<'_>) -> Self {
        let mut inodes = Self::default();
        let mut waiting: Vec<BlobId> = session.earlier.map(|earlier| earlier.tree).into_iter().collect();
        while let Some(tree) = waiting.pop() {
            let entries = session.earlier_entries(Some(tree));
            waiting.extend(entries.iter().filter_map(|node| node.subtree));
            if entries.len() <= DIRECTORY_MAX && !inodes.take(tree, &entries) {
                session.progress.warn(&format!(
                    "the earlier point has more than {FILES_MAX} logs: some that were renamed since are read whole"
                ));
                break;
            }
        }
        inodes
    }

    /// Takes a directory's files in; `false` when there is no room for more.
    fn take(&mut self, tree: BlobId, entries: &[Node]) -> bool {
        let Ok(number) = u32::try_from(self.trees.len()) else { return false };
        self.trees.push(tree);
        for (position, node) in (0_u32..).zip(entries) {
            // A file of one blob is read whole as fast as it is proven.
            if node.kind != NodeKind::File || node.content.len() < 2 {
                continue;
            }
            if self.files.len() >= FILES_MAX {
                return false;
            }
            self.files.insert((node.device_id, node.inode), Location { tree: number, entry: position });
        }
        true
    }
}

/// How often the logs of a source are read whole; `None` for every other kind.
pub(super) fn period_of(kind: &SourceKind) -> Option<Duration> {
    match kind {
        SourceKind::Logs { full_read, .. } => Some(*full_read),
        _ => None,
    }
}

/// Whether everything is to be read whole: never done, done in the future (the clock was set back), or long ago.
pub(super) fn is_full_read_due(period: Duration, earlier: Option<&Earlier>, now: Timestamp) -> bool {
    let Some(last) = earlier.and_then(|earlier| earlier.full_read) else { return true };
    let Ok(age) = Duration::try_from(now.duration_since(last)) else { return true };
    age.saturating_add((period / 20).min(EARLY_MAX)) >= period
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    const WEEK: Duration = Duration::from_secs(7 * 86_400);

    fn read_at(full_read: Option<Timestamp>) -> Earlier {
        Earlier { tree: BlobId([0; 32]), began: Timestamp::UNIX_EPOCH, full_read }
    }

    #[test]
    fn a_full_read_is_due_when_it_never_was_or_is_a_period_old() {
        let last = Timestamp::from_second(1_800_000_000).unwrap();
        let after = |seconds: i64| last + SignedDuration::from_secs(seconds);
        let due = |now| is_full_read_due(WEEK, Some(&read_at(Some(last))), now);
        assert!(is_full_read_due(WEEK, None, last));
        assert!(is_full_read_due(WEEK, Some(&read_at(None)), last));
        assert!(!due(last));
        assert!(!due(after(6 * 86_400 + 3 * 3_600)));
        assert!(due(after(7 * 86_400 - 30)), "a nightly start that is half a minute early");
        assert!(due(after(8 * 86_400)));
        assert!(due(after(-1)), "the clock was set back");
    }
}
