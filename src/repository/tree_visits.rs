//! Visiting the trees of many snapshots, each once, several at a time.
//!
//! Memory: 32 bytes and a little for each different directory, the trees in work, and those that wait: of one snapshot,
//! no more than the depth of its directories times the most that one of them holds.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};

use super::error::RepositoryError;
use super::guarded;
use super::reader::BlobReader;
use super::snapshot::Snapshot;
use super::tree::{BlobId, Node};

/// Hears of a tree: the snapshot, the path, the id, and what it holds. Called from several threads.
pub(super) type Visit<'a> = dyn Fn(&Snapshot, &[u8], BlobId, Result<&[Node], RepositoryError>) + Sync + 'a;

/// Trees that wait.
#[derive(Default)]
struct Ahead {
    /// Number of the snapshot that is walked through.
    snapshot: usize,
    begun: bool,
    /// Trees and their paths, the deepest last.
    trees: Vec<(BlobId, Vec<u8>)>,
    seen: HashSet<BlobId>,
    /// Trees in work: they may have others below them.
    busy: usize,
}

struct Visits<'a> {
    reader: &'a BlobReader,
    snapshots: &'a [Snapshot],
    visit: &'a Visit<'a>,
    ahead: Mutex<Ahead>,
    changed: Condvar,
}

/// Visits each tree of all snapshots once, with the first snapshot in the list that leads to it, by so many threads.
pub(super) fn visit_each(reader: &BlobReader, snapshots: &[Snapshot], threads: usize, visit: &Visit<'_>) {
    let visits = Visits { reader, snapshots, visit, ahead: Mutex::default(), changed: Condvar::new() };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without another thread this one does all.
            if std::thread::Builder::new().spawn_scoped(scope, || visits.work()).is_err() {
                break;
            }
        }
        visits.work();
    });
}

/// The path of an entry below a path.
pub(super) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    [path, b"/", name].concat()
}

impl Visits<'_> {
    fn work(&self) {
        while let Some((snapshot, id, path)) = self.next() {
            let mut below = Vec::new();
            match self.reader.read_tree(&id) {
                Ok(nodes) => {
                    (self.visit)(snapshot, &path, id, Ok(&nodes));
                    below.extend(nodes.iter().filter_map(|node| Some((node.subtree?, join(&path, &node.name)))));
                }
                Err(error) => (self.visit)(snapshot, &path, id, Err(error)),
            }
            let mut ahead = guarded(&self.ahead);
            ahead.busy -= 1;
            let Ahead { trees, seen, .. } = &mut *ahead;
            trees.extend(below.into_iter().filter(|(id, _)| !seen.contains(id)));
            drop(ahead);
            self.changed.notify_all();
        }
    }

    /// The next tree that was not seen. The next snapshot begins when the one before is through.
    fn next(&self) -> Option<(&Snapshot, BlobId, Vec<u8>)> {
        let mut ahead = guarded(&self.ahead);
        loop {
            if let Some((id, path)) = ahead.trees.pop() {
                if ahead.seen.insert(id) {
                    ahead.busy += 1;
                    return Some((self.snapshots.get(ahead.snapshot)?, id, path));
                }
            } else if ahead.busy > 0 {
                ahead = self.changed.wait(ahead).unwrap_or_else(PoisonError::into_inner);
            } else {
                ahead.snapshot += usize::from(ahead.begun);
                ahead.begun = true;
                let tree = self.snapshots.get(ahead.snapshot).map(|snapshot| snapshot.tree);
                ahead.snapshot = ahead.snapshot.min(self.snapshots.len());
                let Some(tree) = tree else {
                    self.changed.notify_all();
                    return None;
                };
                ahead.trees.push((tree, Vec::new()));
            }
        }
    }
}
