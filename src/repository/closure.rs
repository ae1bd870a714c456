//! Everything that trees refer to, each tree read once: what a prune counts as used and a commit makes sure of.
//!
//! Memory: 1 bit per tree of the index, 32 bytes per tree that waits to be read, and a batch of trees of at most 16 MiB of
//! JSON (or one larger tree) with the ids in them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::error::RepositoryError;
use super::index::Index;
use super::tree::BlobId;
use super::{BlobKind, Inner, guarded, pack, tree_json};

/// Trees read at the same time: the store's answers are waited for, not the processor.
const THREADS: usize = 8;
/// Trees of one batch...
const BATCH_TREES: usize = 512;
/// ...and bytes of their JSON.
const BATCH_BYTES: u64 = 16 << 20;

/// One bit for each position.
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// So many positions, none set.
    pub(super) fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    pub(super) fn get(&self, position: usize) -> bool {
        self.0[position / 64] & (1 << (position % 64)) != 0
    }

    /// Sets a bit; true when it was not set.
    pub(super) fn set(&mut self, position: usize) -> bool {
        let fresh = !self.get(position);
        self.0[position / 64] |= 1 << (position % 64);
        fresh
    }
}

/// What one tree refers to.
pub(super) struct TreeRefs {
    pub(super) tree: BlobId,
    pub(super) subtrees: Vec<BlobId>,
    pub(super) contents: Vec<BlobId>,
}

/// Reads every tree that the roots lead to, each once, and hands over what it refers to.
///
/// # Errors
/// The first tree that the index does not know or that cannot be read: what is below it is not known then.
pub(super) fn visit(
    inner: &Inner,
    index: &Index,
    roots: impl IntoIterator<Item = BlobId>,
    hear: &mut dyn FnMut(TreeRefs) -> Result<(), RepositoryError>,
) -> Result<(), RepositoryError> {
    let mut seen = Bits::new(index.count(BlobKind::Tree));
    let mut waiting = Vec::new();
    let mut add = |tree: BlobId, waiting: &mut Vec<BlobId>| {
        let missing = || RepositoryError::Damaged(format!("the directory {tree} is missing: no index names it"));
        if seen.set(index.position(BlobKind::Tree, &tree).ok_or_else(missing)?) {
            waiting.push(tree);
        }
        Ok::<(), RepositoryError>(())
    };
    for root in roots {
        add(root, &mut waiting)?;
    }
    while !waiting.is_empty() {
        for refs in read_batch(inner, index, &take_batch(index, &mut waiting))? {
            for subtree in &refs.subtrees {
                add(*subtree, &mut waiting)?;
            }
            hear(refs)?;
        }
    }
    Ok(())
}

fn take_batch(index: &Index, waiting: &mut Vec<BlobId>) -> Vec<BlobId> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH_TREES && bytes < BATCH_BYTES {
        let Some(tree) = waiting.pop() else { break };
        bytes += index
            .locations(BlobKind::Tree, &tree)
            .next()
            .map_or(0, |location| pack::plain_length(location.entry.length, location.entry.uncompressed));
        batch.push(tree);
    }
    // In the order of their places, so that neighbours are read one after the other.
    batch.sort_by_cached_key(|tree| {
        index.locations(BlobKind::Tree, tree).next().map(|location| (location.pack, location.entry.offset))
    });
    batch
}

fn read_batch(inner: &Inner, index: &Index, batch: &[BlobId]) -> Result<Vec<TreeRefs>, RepositoryError> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(batch.len())));
    let work = || {
        while let Some(tree) = batch.get(next.fetch_add(1, Ordering::Relaxed)) {
            let read = read_refs(inner, index, tree);
            guarded(&done).push(read);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS.min(batch.len() / 8) {
            // Without another thread this one does all.
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_iter().collect()
}

fn read_refs(inner: &Inner, index: &Index, tree: &BlobId) -> Result<TreeRefs, RepositoryError> {
    let plain = read_blob(inner, index, BlobKind::Tree, tree)?;
    let nodes = tree_json::decode(&plain)
        .map_err(|why| RepositoryError::Damaged(format!("the directory {tree} is damaged: {why}")))?;
    let mut refs = TreeRefs { tree: *tree, subtrees: Vec::new(), contents: Vec::new() };
    for node in nodes {
        refs.subtrees.extend(node.subtree);
        refs.contents.extend(node.content);
    }
    Ok(refs)
}

/// One blob from the first of its copies that is whole.
fn read_blob(inner: &Inner, index: &Index, kind: BlobKind, id: &BlobId) -> Result<Vec<u8>, RepositoryError> {
    let mut first_error = None;
    for location in index.locations(kind, id) {
        let object = pack::key_of(&location.pack);
        let start = u64::from(location.entry.offset);
        let sealed = inner.store.get_range(&object, start..start + u64::from(location.entry.length));
        let opened = sealed.map_err(|error| RepositoryError::on_required(error, &object)).and_then(|sealed| {
            pack::open_blob(&inner.key, &location.entry, sealed)
                .map_err(|why| RepositoryError::Damaged(format!("the blob {id} in {object} is damaged: {why}")))
        });
        match opened {
            Ok(plain) => return Ok(plain),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let missing = || RepositoryError::Damaged(format!("the blob {id} is missing: no index names it"));
    Err(first_error.unwrap_or_else(missing))
}
