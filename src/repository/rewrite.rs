//! Index files replaced by others: the new ones are read back and compared before an old one is removed.
//!
//! Memory: one old index file and one new one of at most 50,000 blobs (or one pack, if that has more); 64 bytes a pack.

use std::collections::HashSet;

use super::error::RepositoryError;
use super::index_file::{self, INDEXES, IndexObject, NamedPack, ObjectNote};
use super::pack::PackEntry;
use super::tree::BlobId;
use super::{BlobKind, Inner, LockGuard, crypto};

/// Blobs of one new index file.
const INDEX_BLOBS: usize = 50_000;

/// Packs in files of bounded size.
pub(super) fn in_files(packs: &[NamedPack]) -> Vec<&[NamedPack]> {
    let (mut files, mut start, mut blobs) = (Vec::new(), 0, 0);
    for (end, (_, entries)) in packs.iter().enumerate() {
        if blobs > 0 && blobs + entries.len() > INDEX_BLOBS {
            files.push(&packs[start..end]);
            (start, blobs) = (end, 0);
        }
        blobs += entries.len().max(1);
    }
    if start < packs.len() {
        files.push(&packs[start..]);
    }
    files
}

/// Loads an index file that a listing had; one that is gone was replaced by another prune.
pub(super) fn load_listed(inner: &Inner, id: &BlobId) -> Result<IndexObject, RepositoryError> {
    match index_file::load_object(inner, id) {
        Err(RepositoryError::Damaged(_)) if inner.store.size(&format!("{INDEXES}{id}"))?.is_none() => {
            let why = "another prune has changed the index meanwhile; nothing was removed, run this one again";
            Err(RepositoryError::Locked(why.to_owned()))
        }
        loaded => loaded,
    }
}

/// Writes what these index files name, except packs in `without`, into new ones.
pub(super) fn write_rest(
    inner: &Inner,
    objects: &[&ObjectNote],
    without: &HashSet<BlobId>,
) -> Result<(), RepositoryError> {
    let (mut rest, mut blobs): (Vec<NamedPack>, usize) = (Vec::new(), 0);
    let mut written = HashSet::new();
    for object in objects.iter().filter(|object| !object.superseded) {
        for pack in load_listed(inner, &object.id)?.packs {
            // Named twice in the same words: a prune that was killed leaves that.
            if without.contains(&pack.0) || !written.insert((pack.0, digest(&pack.1))) {
                continue;
            }
            if !rest.is_empty() && blobs + pack.1.len() > INDEX_BLOBS {
                index_file::save_proven(inner, &std::mem::take(&mut rest))?;
                blobs = 0;
            }
            blobs += pack.1.len();
            rest.push(pack);
        }
    }
    if rest.is_empty() { Ok(()) } else { index_file::save_proven(inner, &rest).map(drop) }
}

fn digest(entries: &[PackEntry]) -> [u8; 32] {
    let mut bytes = Vec::with_capacity(entries.len() * 45);
    for PackEntry { kind, id, offset, length, uncompressed } in entries {
        bytes.push(u8::from(*kind == BlobKind::Tree));
        bytes.extend_from_slice(&id.0);
        for number in [offset, length, uncompressed] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    crypto::sha256(&bytes)
}

/// Removes index files: superseded ones first, since they would count again without the one that supersedes them; then
/// those with marks, so that no older mark outlives the entries that made it void; then the rest.
pub(super) fn remove(inner: &Inner, objects: &[&ObjectNote], guard: &LockGuard) -> Result<(), RepositoryError> {
    let mut order: Vec<&&ObjectNote> = objects.iter().collect();
    order.sort_by_key(|object| (!object.superseded, object.marks.is_empty()));
    guard.insist()?;
    for object in order {
        inner.store.delete(&format!("{INDEXES}{}", object.id))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_of_bounded_size_and_hold_all() {
        let entry = PackEntry { kind: BlobKind::Data, id: BlobId([1; 32]), offset: 0, length: 40, uncompressed: 0 };
        let pack = |number: u8, blobs: usize| (BlobId([number; 32]), vec![entry; blobs]);
        let packs = [pack(1, 30_000), pack(2, 20_000), pack(3, 1), pack(4, 70_000), pack(5, 0)];
        let sizes: Vec<usize> = in_files(&packs).iter().map(|file| file.len()).collect();
        assert_eq!(sizes, [2, 1, 1, 1]);
        assert!(in_files(&[]).is_empty());
    }
}
