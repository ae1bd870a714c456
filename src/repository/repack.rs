//! New packs out of blobs that are stored already: each blob is opened and checked, then copied as it lies there, sealed.
//!
//! Memory: one open pack of each kind of at most 16 MiB and one blob, and the entries of the packs that no index names yet.

use super::error::RepositoryError;
use super::index_file::{self, NamedPack};
use super::pack::{self, PackEntry};
use super::tree::BlobId;
use super::{BlobKind, Inner, crypto, unpacked};

/// A pack is closed when it has so many bytes; less in unit tests, which want several packs of few bytes.
const PACK_TARGET: usize = if cfg!(test) { 1 << 18 } else { 16 << 20 };
/// An index file is written when so many blobs have none yet.
const INDEX_BLOBS: usize = 50_000;

#[derive(Default)]
struct OpenPack {
    bytes: Vec<u8>,
    entries: Vec<PackEntry>,
}

/// Takes sealed blobs and makes packs and index files of them.
pub(super) struct Repacker<'a> {
    inner: &'a Inner,
    data: OpenPack,
    trees: OpenPack,
    unindexed: Vec<NamedPack>,
    /// Bytes of the packs that were stored.
    pub(super) added_bytes: u64,
    /// Packs that were stored.
    pub(super) added_packs: u64,
    /// A pack or its index could not be stored.
    failed: bool,
}

impl<'a> Repacker<'a> {
    pub(super) fn new(inner: &'a Inner) -> Self {
        let (data, trees) = (OpenPack::default(), OpenPack::default());
        Self { inner, data, trees, unindexed: Vec::new(), added_bytes: 0, added_packs: 0, failed: false }
    }

    /// Copies a blob out of a stored pack.
    ///
    /// # Errors
    /// Damaged when the blob there is not whole.
    pub(super) fn copy(&mut self, from: &BlobId, entry: &PackEntry) -> Result<(), RepositoryError> {
        let object = pack::key_of(from);
        let start = u64::from(entry.offset);
        let sealed = self.inner.store.get_range(&object, start..start + u64::from(entry.length));
        let sealed = sealed.map_err(|error| RepositoryError::on_required(error, &object))?;
        pack::open_blob(&self.inner.key, entry, sealed.clone())
            .map_err(|why| RepositoryError::Damaged(format!("the blob {} in {object} is damaged: {why}", entry.id)))?;
        self.add(entry, &sealed)
    }

    /// Whether the store refused a pack: an error of [`Repacker::copy`] is then not one of the blob.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Adds a sealed blob that was checked.
    fn add(&mut self, entry: &PackEntry, sealed: &[u8]) -> Result<(), RepositoryError> {
        let open = match entry.kind {
            BlobKind::Data => &mut self.data,
            BlobKind::Tree => &mut self.trees,
        };
        let offset = u32::try_from(open.bytes.len()).map_err(|_| RepositoryError::machine("a pack became too long"))?;
        open.bytes.extend_from_slice(sealed);
        open.entries.push(PackEntry { offset, ..*entry });
        if open.bytes.len() >= PACK_TARGET {
            let full = std::mem::take(open);
            self.failed = true;
            self.store(full)?;
            self.failed = false;
        }
        Ok(())
    }

    fn store(&mut self, pack: OpenPack) -> Result<(), RepositoryError> {
        let OpenPack { mut bytes, entries } = pack;
        bytes.extend_from_slice(&pack::seal_header(&entries, &self.inner.key)?);
        let id = BlobId(crypto::sha256(&bytes));
        unpacked::put_named(self.inner, &pack::key_of(&id), &bytes)?;
        self.added_bytes += bytes.len() as u64;
        self.added_packs += 1;
        self.unindexed.push((id, entries));
        if self.unindexed.iter().map(|(_, entries)| entries.len()).sum::<usize>() >= INDEX_BLOBS {
            self.write_index()?;
        }
        Ok(())
    }

    fn write_index(&mut self) -> Result<(), RepositoryError> {
        let packs = std::mem::take(&mut self.unindexed);
        if packs.is_empty() { Ok(()) } else { index_file::save_proven(self.inner, &packs).map(drop) }
    }

    /// Stores what is left, packs first, then the index that names them; bytes and packs that were added.
    pub(super) fn finish(mut self) -> Result<(u64, u64), RepositoryError> {
        for open in [std::mem::take(&mut self.data), std::mem::take(&mut self.trees)] {
            if !open.entries.is_empty() {
                self.store(open)?;
            }
        }
        self.write_index()?;
        Ok((self.added_bytes, self.added_packs))
    }
}
