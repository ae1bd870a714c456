//! The last look before a snapshot is saved: whether everything it will refer to is still stored.
//!
//! A backup relies on blobs that it found in the index when it began. Its lock keeps others from removing them, unless the
//! lock was lost (a laptop slept, the store was away); and a prune by others may have marked packs meanwhile. Either is
//! noticed here, cheaply; then the whole tree is gone through, and packs that are marked but still there are put back into
//! the index, so that the snapshot is whole for every program from its first moment.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use super::error::RepositoryError;
use super::index::{Index, IndexBuilder};
use super::index_file::{self, NamedPack};
use super::lock::LockGuard;
use super::snapshot::{self, SNAPSHOTS, Snapshot};
use super::tree::BlobId;
use super::{BlobKind, Inner, closure, pack, rewrite, unpacked};

/// So often the tree is gone through again when the index changes while that is done.
const ATTEMPTS_MAX: u32 = 5;

/// Saves a snapshot whose tree is whole before and after; its id.
///
/// The look before finds what happened while the source was read. The look after finds a prune that was at work while the
/// snapshot was saved: either it sees the snapshot, or we see what it did to the index. A snapshot that turns out not to be
/// whole (a pause longer than a prune's margin, between the two looks) is withdrawn; nobody has relied on it yet.
pub(super) fn commit(
    inner: &Inner,
    snapshot: &Snapshot,
    guard: &LockGuard,
    now: Timestamp,
) -> Result<String, RepositoryError> {
    secure(inner, &snapshot.tree, guard, now)?;
    let id = snapshot::save(inner, snapshot)?;
    match secure(inner, &snapshot.tree, guard, now) {
        Ok(()) => Ok(id),
        Err(error) => {
            inner.store.delete(&format!("{SNAPSHOTS}{id}"))?;
            Err(error)
        }
    }
}

/// Makes sure that a tree may be referred to.
///
/// # Errors
/// Locked when somebody holds the repository exclusively since the lock was lost, damaged when something that the tree refers
/// to is not stored any more.
fn secure(inner: &Inner, tree: &BlobId, guard: &LockGuard, now: Timestamp) -> Result<(), RepositoryError> {
    for _ in 0..ATTEMPTS_MAX {
        let lost = guard.lost()?.is_some();
        if !lost && !guard.index_changed()? {
            return Ok(());
        }
        guard.renew(now)?;
        put_back_for(inner, &[*tree])?;
    }
    Err(RepositoryError::Locked("the index of the repository changes faster than a tree can be checked".to_owned()))
}

/// Whether everything that a tree refers to is stored; what of it is marked for deletion is put back into the index.
pub(super) fn is_whole(inner: &Inner, tree: &BlobId) -> Result<bool, RepositoryError> {
    match put_back_for(inner, &[*tree]) {
        Ok(()) => Ok(true),
        Err(RepositoryError::Damaged(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Goes through trees and puts the marked packs into the index without which they would not be whole.
pub(super) fn put_back_for(inner: &Inner, roots: &[BlobId]) -> Result<(), RepositoryError> {
    for file in rewrite::in_files(&needed_marked_packs(inner, roots)?) {
        index_file::save_proven(inner, file)?;
    }
    Ok(())
}

fn needed_marked_packs(inner: &Inner, roots: &[BlobId]) -> Result<Vec<NamedPack>, RepositoryError> {
    let loaded = index_file::load(inner, false)?;
    let sizes: HashMap<BlobId, u64> = unpacked::list(inner, pack::PACKS)?.0.into_iter().collect();
    let (named, marked) = (whole(loaded.index, &sizes), whole(index_of(&loaded.marked), &sizes));
    let all = whole(index_file::load_for_reading(inner, false)?.index, &sizes);
    let mut needed = BTreeSet::new();
    let mut need = |kind, id: &BlobId| {
        if named.contains(kind, id) {
            return Ok(());
        }
        let copy = marked.locations(kind, id).next();
        let gone =
            || RepositoryError::Damaged(format!("the blob {id} is not stored any more: it was pruned meanwhile"));
        needed.insert(copy.ok_or_else(gone)?.pack);
        Ok::<(), RepositoryError>(())
    };
    closure::visit(inner, &all, roots.iter().copied(), &mut |refs| {
        need(BlobKind::Tree, &refs.tree)?;
        refs.contents.iter().try_for_each(|id| need(BlobKind::Data, id))
    })?;
    Ok(loaded.marked.into_iter().filter(|(pack, _)| needed.contains(pack)).collect())
}

fn index_of(packs: &[NamedPack]) -> Index {
    let mut builder = IndexBuilder::default();
    packs.iter().for_each(|(pack, entries)| builder.add(*pack, entries.iter().copied()));
    builder.build()
}

fn whole(mut index: Index, sizes: &HashMap<BlobId, u64>) -> Index {
    index.forget_lost_packs(sizes);
    index
}
