//! Where stored trees and blobs come from: the repository, or a map in tests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::repository::{BlobId, BlobKind, BlobReader, Node, RepositoryError};

/// Receives one blob, or why it cannot be had; answers whether to go on. Called from several threads.
pub(super) type Sink<'a> = dyn Fn(usize, Result<&[u8], RepositoryError>) -> bool + Sync + 'a;

/// What a restore needs of a repository.
pub(super) trait StoredTree: Sync {
    /// One directory's entries.
    fn read_tree(&self, id: &BlobId) -> Result<Vec<Node>, RepositoryError>;
    /// Plain length of a data blob; `None` when the index does not know it.
    fn length(&self, id: &BlobId) -> Option<u64>;
    /// Reads data blobs; `sink` gets the position in `wanted`.
    fn read_many(&self, wanted: &[BlobId], sink: &Sink<'_>);
}

impl StoredTree for BlobReader {
    fn read_tree(&self, id: &BlobId) -> Result<Vec<Node>, RepositoryError> {
        BlobReader::read_tree(self, id)
    }

    fn length(&self, id: &BlobId) -> Option<u64> {
        BlobReader::length(self, BlobKind::Data, id)
    }

    fn read_many(&self, wanted: &[BlobId], sink: &Sink<'_>) {
        BlobReader::read_many(self, wanted, sink);
    }
}

/// Entries kept in memory between the passes over the trees; beyond it trees are read again.
const CACHED_ENTRIES_MAX: usize = 8_192;

/// Keeps the first trees read, so that a small restore reads each tree once although it looks twice.
pub(super) struct Trees<'a> {
    stored: &'a dyn StoredTree,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    trees: HashMap<BlobId, Arc<Vec<Node>>>,
    entries: usize,
}

impl<'a> Trees<'a> {
    pub(super) fn new(stored: &'a dyn StoredTree) -> Self {
        Self { stored, kept: Mutex::default() }
    }

    /// The entries of a directory.
    pub(super) fn read(&self, id: &BlobId) -> Result<Arc<Vec<Node>>, RepositoryError> {
        if let Some(nodes) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).trees.get(id) {
            return Ok(Arc::clone(nodes));
        }
        let nodes = Arc::new(self.stored.read_tree(id)?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.entries + nodes.len() < CACHED_ENTRIES_MAX {
            kept.entries += nodes.len() + 1;
            kept.trees.insert(*id, Arc::clone(&nodes));
        }
        Ok(nodes)
    }
}
