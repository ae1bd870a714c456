//! Packs under construction: workers add sealed blobs; who fills a pack stores it.
//!
//! Order on the store: a pack is durable before an index names it. Index files are also written on the way, so that a
//! backup that is killed leaves its packs usable for the next one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::RepositoryError;
use super::index_file;
use super::pack::{self, PackEntry};
use super::tree::BlobId;
use super::{BlobKind, Inner, crypto, guarded, unpacked};

/// A pack is closed when it has so many bytes; less in unit tests, which want several packs of few bytes.
const PACK_TARGET: usize = if cfg!(test) { 1 << 20 } else { 16 << 20 };
/// An index file is written when so many bytes of packs...
const INDEX_BYTES: u64 = if cfg!(test) { 4 << 20 } else { 512 << 20 };
/// ...or so many blobs have none yet.
const INDEX_BLOBS: usize = 50_000;

/// A pack in memory.
#[derive(Default)]
struct OpenPack {
    bytes: Vec<u8>,
    entries: Vec<PackEntry>,
}

/// Stored packs that no index names yet.
#[derive(Default)]
struct Unindexed {
    packs: Vec<(BlobId, Vec<PackEntry>)>,
    blobs: usize,
    bytes: u64,
}

/// Builds packs, data and trees apart, and their index files.
#[derive(Default)]
pub(super) struct Packer {
    data: Mutex<OpenPack>,
    trees: Mutex<OpenPack>,
    unindexed: Mutex<Unindexed>,
    added_bytes: AtomicU64,
    new_blobs: AtomicU64,
}

impl Packer {
    /// Adds a sealed blob; stores the pack when that fills it. `uncompressed` as in [`PackEntry`].
    pub(super) fn add(
        &self,
        inner: &Inner,
        kind: BlobKind,
        id: BlobId,
        sealed: &[u8],
        uncompressed: u32,
    ) -> Result<(), RepositoryError> {
        let too_long = |_| RepositoryError::machine("a blob is longer than a pack can hold");
        let mut open = guarded(self.open_pack(kind));
        let offset = u32::try_from(open.bytes.len()).map_err(too_long)?;
        let length = u32::try_from(sealed.len()).map_err(too_long)?;
        if open.bytes.capacity() == 0 {
            // Once, with room for the header, instead of doubling its way up.
            open.bytes.reserve_exact(PACK_TARGET + (1 << 20));
        }
        open.bytes.extend_from_slice(sealed);
        open.entries.push(PackEntry { kind, id, offset, length, uncompressed });
        let full = (open.bytes.len() >= PACK_TARGET).then(|| std::mem::take(&mut *open));
        drop(open);
        self.new_blobs.fetch_add(1, Ordering::Relaxed);
        full.map_or(Ok(()), |pack| self.store(inner, pack))
    }

    fn open_pack(&self, kind: BlobKind) -> &Mutex<OpenPack> {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    /// Stores what is left, packs first, then the index. Returns bytes and blobs added since the start.
    pub(super) fn finish(&self, inner: &Inner) -> Result<(u64, u64), RepositoryError> {
        for open in [&self.data, &self.trees] {
            let pack = std::mem::take(&mut *guarded(open));
            if !pack.entries.is_empty() {
                self.store(inner, pack)?;
            }
        }
        let rest = std::mem::take(&mut *guarded(&self.unindexed));
        self.write_index(inner, &rest)?;
        Ok((self.added_bytes.load(Ordering::Relaxed), self.new_blobs.load(Ordering::Relaxed)))
    }

    fn store(&self, inner: &Inner, pack: OpenPack) -> Result<(), RepositoryError> {
        let OpenPack { mut bytes, entries } = pack;
        bytes.extend_from_slice(&pack::seal_header(&entries, &inner.key)?);
        let id = BlobId(crypto::sha256(&bytes));
        unpacked::put_named(inner, &pack::key_of(&id), &bytes)?;
        if entries.first().is_some_and(|entry| entry.kind == BlobKind::Tree) {
            inner.store.keep(&pack::key_of(&id), &bytes);
        }
        let size = bytes.len() as u64;
        drop(bytes);
        self.added_bytes.fetch_add(size, Ordering::Relaxed);
        self.note_stored(inner, id, entries, size)
    }

    fn note_stored(
        &self,
        inner: &Inner,
        id: BlobId,
        entries: Vec<PackEntry>,
        size: u64,
    ) -> Result<(), RepositoryError> {
        let mut unindexed = guarded(&self.unindexed);
        unindexed.blobs += entries.len();
        unindexed.bytes += size;
        unindexed.packs.push((id, entries));
        let due = unindexed.blobs >= INDEX_BLOBS || unindexed.bytes >= INDEX_BYTES;
        let batch = due.then(|| std::mem::take(&mut *unindexed));
        drop(unindexed);
        batch.map_or(Ok(()), |batch| self.write_index(inner, &batch))
    }

    fn write_index(&self, inner: &Inner, batch: &Unindexed) -> Result<(), RepositoryError> {
        if !batch.packs.is_empty() {
            let size = index_file::save(inner, &batch.packs)?;
            self.added_bytes.fetch_add(size, Ordering::Relaxed);
        }
        Ok(())
    }
}
