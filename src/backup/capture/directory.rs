//! A directory while it is read: what the earlier point has of it, what of it was captured, what is still to come.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use super::session::lock;
use crate::repository::{BlobId, Node};

/// Entries of a directory that one thread takes at once.
const BATCH: usize = 8;

/// A directory that is being read.
pub(super) struct Directory {
    pub fd: OwnedFd,
    /// Absolute.
    pub path: Vec<u8>,
    /// Bytes of `path` that are the walk's top.
    pub top_length: usize,
    /// Its own node, without the subtree.
    pub node: Node,
    /// What the earlier point has in it, sorted by name.
    pub earlier: Vec<Node>,
    /// The tree of the earlier point with just these.
    pub earlier_tree: Option<BlobId>,
    pub captured: Mutex<Entries>,
    /// Pieces of work not yet done: the listing itself, batches of entries, directories in it.
    pub outstanding: AtomicUsize,
    pub parent: Option<Arc<Directory>>,
}

/// What was captured of a directory so far.
#[derive(Default)]
pub(super) struct Entries {
    /// Places in the earlier version of entries that are exactly as they were there.
    pub same: Vec<usize>,
    pub others: Vec<Node>,
}

/// An entry that is no directory; whether a symlink is followed.
pub(super) type Entry = (CString, bool);

impl Directory {
    /// Where the earlier version has an entry of this name.
    pub fn position(&self, name: &[u8]) -> Option<usize> {
        self.earlier.binary_search_by(|node| node.name.as_slice().cmp(name)).ok()
    }

    /// Adds an entry.
    pub fn deliver(&self, node: Node) {
        match self.position(&node.name).filter(|index| self.earlier[*index] == node) {
            Some(index) => lock(&self.captured).same.push(index),
            None => lock(&self.captured).others.push(node),
        }
    }

    /// Adds several entries.
    pub fn take_in(&self, entries: Entries) {
        let mut captured = lock(&self.captured);
        captured.same.extend(entries.same);
        captured.others.extend(entries.others);
    }
}

/// Entries in batches, the last one first.
pub(super) fn batches(mut entries: Vec<Entry>) -> impl Iterator<Item = Vec<Entry>> {
    std::iter::from_fn(move || {
        let start = entries.len().checked_sub(1)? / BATCH * BATCH;
        Some(entries.split_off(start))
    })
}
