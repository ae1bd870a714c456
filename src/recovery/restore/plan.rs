//! How much there is to restore, computed before anything is written, and whether the target can take it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rustix::fs::StatVfs;

use super::selection::{Layout, Wanted};
use super::stored::{StoredTree, Trees};
use crate::ground::{Failure, Result};
use crate::repository::{BlobId, Node, NodeKind};

/// More entries than any file system holds: a tree that claims them was made to fill disks.
const ENTRIES_MAX: u64 = 1 << 32;

/// Sizes of what is asked for. A subtree that is stored once and stands in many places counts in each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) entries: u64,
    /// Entries that need an inode of their own for certain.
    pub(super) inodes: u64,
    /// Bytes of the files as they will look.
    pub(super) bytes: u64,
    /// Bytes of the different blobs: holes and repetitions may need less room, nothing needs more than `bytes`.
    pub(super) distinct_bytes: u64,
}

impl Totals {
    fn add(&mut self, other: Totals) {
        self.entries = self.entries.saturating_add(other.entries);
        self.inodes = self.inodes.saturating_add(other.inodes);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// Adds up. Trees that cannot be read count nothing here: the restore itself names them.
pub(super) fn totals(stored: &dyn StoredTree, trees: &Trees<'_>, layout: &Layout) -> Totals {
    let mut sums = Sums { stored, trees, known: HashMap::new(), blobs: HashSet::new(), distinct_bytes: 0 };
    let mut total = Totals::default();
    let mut partly = vec![(Arc::clone(&layout.entries), layout.wanted.clone())];
    while let Some((nodes, wanted)) = partly.pop() {
        for node in nodes.iter() {
            let Some(inner) = wanted.of(&node.name) else { continue };
            total.add(sums.of_entry(node));
            let Some(subtree) = node.subtree.filter(|_| node.kind == NodeKind::Directory) else { continue };
            match inner {
                Wanted::All => total.add(sums.of_tree(subtree)),
                Wanted::Only { .. } => partly.extend(trees.read(&subtree).ok().map(|nodes| (nodes, inner))),
            }
        }
    }
    Totals { distinct_bytes: sums.distinct_bytes, ..total }
}

struct Sums<'a> {
    stored: &'a dyn StoredTree,
    trees: &'a Trees<'a>,
    /// Trees already added up; those in work stand at zero, so that a tree within itself ends.
    known: HashMap<BlobId, Totals>,
    /// The blobs' first eight bytes: enough to tell them apart for an estimate.
    blobs: HashSet<u64>,
    distinct_bytes: u64,
}

struct Frame {
    tree: BlobId,
    below: Vec<BlobId>,
    sum: Totals,
}

impl Sums<'_> {
    fn of_entry(&mut self, node: &Node) -> Totals {
        let own_inode = node.links <= 1 || node.kind == NodeKind::Directory;
        let mut sum = Totals { entries: 1, inodes: u64::from(own_inode), ..Totals::default() };
        if node.kind == NodeKind::File {
            sum.bytes = node.size;
            for blob in &node.content {
                let [a, b, c, d, e, f, g, h, ..] = blob.0;
                if self.blobs.insert(u64::from_le_bytes([a, b, c, d, e, f, g, h])) {
                    self.distinct_bytes = self.distinct_bytes.saturating_add(self.stored.length(blob).unwrap_or(0));
                }
            }
        }
        sum
    }

    /// Adds up a whole tree without recursion: a chain of 10,000 directories must not need a deep stack.
    fn of_tree(&mut self, tree: BlobId) -> Totals {
        if let Some(&sum) = self.known.get(&tree) {
            return sum;
        }
        let mut stack = Vec::new();
        stack.extend(self.enter(tree));
        while let Some(frame) = stack.last_mut() {
            if let Some(next) = frame.below.pop() {
                match self.known.get(&next) {
                    Some(&sum) => frame.sum.add(sum),
                    None => {
                        frame.below.push(next);
                        stack.extend(self.enter(next));
                    }
                }
            } else if let Some(done) = stack.pop() {
                self.known.insert(done.tree, done.sum);
            }
        }
        self.known.get(&tree).copied().unwrap_or_default()
    }

    fn enter(&mut self, tree: BlobId) -> Option<Frame> {
        self.known.insert(tree, Totals::default());
        let nodes = self.trees.read(&tree).ok()?;
        let mut frame = Frame { tree, below: Vec::new(), sum: Totals::default() };
        for node in nodes.iter() {
            frame.sum.add(self.of_entry(node));
            frame.below.extend(node.subtree.filter(|_| node.kind == NodeKind::Directory));
        }
        Some(frame)
    }
}

/// Refuses what certainly does not fit. With `overwrite`, room that the replaced files give back is not known, so
/// only a monstrous number of entries is refused.
pub(super) fn fits(totals: &Totals, space: &StatVfs, root_user: bool, overwrite: bool) -> Result<()> {
    if totals.entries > ENTRIES_MAX {
        return Err(Failure::failed(format!(
            "the point describes {} entries, more than any file system holds: its trees are not genuine",
            totals.entries
        )));
    }
    let blocks = if root_user { space.f_bfree } else { space.f_bavail };
    let free = blocks.saturating_mul(space.f_frsize);
    if !overwrite && totals.distinct_bytes > free {
        return Err(too_small(format!("{} bytes are needed and {free} bytes are free", totals.distinct_bytes)));
    }
    // File systems that make inodes as needed say that they have none.
    if !overwrite && space.f_files > 0 && totals.inodes > space.f_ffree {
        return Err(too_small(format!("{} entries need inodes and {} are free", totals.inodes, space.f_ffree)));
    }
    Ok(())
}

fn too_small(numbers: String) -> Failure {
    Failure::failed(format!("the target has too little room: {numbers}; nothing was restored"))
        .hint("free space, choose another target, or restore a part with --path")
}
