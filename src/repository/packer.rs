//! Packs under construction: workers add sealed blobs; a pack that is full goes to the storing threads.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use xxhash_rust::xxh3::Xxh3;

use super::error::RepositoryError;
use super::pack::{self, PackEntry};
use super::storing::Storing;
use super::tree::BlobId;
use super::{BlobKind, Inner, guarded};
use crate::site::StagedObject;

/// A pack is closed when it has so many bytes: a small backup's packs are small, so that the last of them, which nothing
/// else is done beside, get their names soon. Less in unit tests, which want several packs of few bytes.
const PACK_TARGET: RangeInclusive<u64> = if cfg!(test) { 1 << 20..=1 << 20 } else { 4 << 20..=16 << 20 };
/// Between the two, a pack has this part of what was stored so far.
const PACK_SHARE: u64 = 32;
/// The same where a pack has to be held in memory until it is stored.
const PACK_TARGET_IN_MEMORY: u64 = if cfg!(test) { 1 << 20 } else { 8 << 20 };

/// Most blobs of a pack: its header stays far below what a reader takes.
const ENTRIES_MAX: usize = 100_000;

/// Where the bytes of a pack are until it has a name.
pub(super) enum Body {
    Memory(Vec<u8>),
    /// In the store already; `written` is the checksum of what was handed to it.
    Staged {
        object: Box<dyn StagedObject>,
        written: Box<Xxh3>,
    },
}

/// A pack without a name: blobs, at last the header.
pub(super) struct UnnamedPack {
    pub(super) body: Body,
    pub(super) size: u64,
    /// It is full with so many bytes.
    target: u64,
    pub(super) entries: Vec<PackEntry>,
}

impl UnnamedPack {
    /// After so many bytes of other packs.
    fn begin(inner: &Inner, packed: u64) -> Result<Self, RepositoryError> {
        let (body, target) = match inner.store.stage()? {
            Some(object) => {
                let target = (packed / PACK_SHARE).clamp(*PACK_TARGET.start(), *PACK_TARGET.end());
                (Body::Staged { object, written: Box::new(Xxh3::new()) }, target)
            }
            None => (Body::Memory(Vec::new()), PACK_TARGET_IN_MEMORY),
        };
        Ok(Self { body, size: 0, target, entries: Vec::new() })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), RepositoryError> {
        match &mut self.body {
            Body::Memory(pack) => {
                if pack.capacity() == 0 {
                    // Once, with room for the header, instead of doubling its way up.
                    pack.reserve_exact(PACK_TARGET_IN_MEMORY as usize + (1 << 20));
                }
                pack.extend_from_slice(bytes);
            }
            Body::Staged { object, written } => {
                object.append(bytes)?;
                written.update(bytes);
            }
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.size >= self.target || self.entries.len() >= ENTRIES_MAX
    }

    /// Adds the header: nothing more can be added.
    fn close(mut self, inner: &Inner) -> Result<Self, RepositoryError> {
        let header = pack::seal_header(&self.entries, &inner.key)?;
        self.append(&header)?;
        Ok(self)
    }
}

/// Builds packs, data and trees apart.
pub(super) struct Packer {
    inner: Arc<Inner>,
    data: Mutex<Option<UnnamedPack>>,
    trees: Mutex<Option<UnnamedPack>>,
    storing: Storing,
    /// Bytes of packs that were closed.
    packed: AtomicU64,
    new_blobs: AtomicU64,
}

impl Packer {
    pub(super) fn start(inner: Arc<Inner>) -> Result<Self, RepositoryError> {
        let storing = Storing::start(Arc::clone(&inner))?;
        Ok(Self {
            inner,
            data: Mutex::default(),
            trees: Mutex::default(),
            storing,
            packed: AtomicU64::new(0),
            new_blobs: AtomicU64::new(0),
        })
    }

    /// Adds a sealed blob; hands the pack on when that fills it. `uncompressed` as in [`PackEntry`].
    pub(super) fn add(
        &self,
        kind: BlobKind,
        id: BlobId,
        sealed: &[u8],
        uncompressed: u32,
    ) -> Result<(), RepositoryError> {
        let too_long = |_| RepositoryError::machine("a blob is longer than a pack can hold");
        let mut place = guarded(self.open_pack(kind));
        let mut pack = match place.take() {
            Some(pack) => pack,
            None => UnnamedPack::begin(&self.inner, self.packed.load(Ordering::Relaxed))?,
        };
        let offset = u32::try_from(pack.size).map_err(too_long)?;
        let length = u32::try_from(sealed.len()).map_err(too_long)?;
        pack.append(sealed)?;
        pack.entries.push(PackEntry { kind, id, offset, length, uncompressed });
        self.new_blobs.fetch_add(1, Ordering::Relaxed);
        if !pack.is_full() {
            *place = Some(pack);
            return Ok(());
        }
        drop(place);
        self.packed.fetch_add(pack.size, Ordering::Relaxed);
        self.storing.hand_over(pack.close(&self.inner)?)
    }

    fn open_pack(&self, kind: BlobKind) -> &Mutex<Option<UnnamedPack>> {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    /// Stores what is left, packs first, then the index. Returns bytes and blobs added since the start.
    pub(super) fn finish(&self) -> Result<(u64, u64), RepositoryError> {
        for open in [&self.data, &self.trees] {
            let pack = guarded(open).take();
            if let Some(pack) = pack {
                self.storing.hand_over(pack.close(&self.inner)?)?;
            }
        }
        let added_bytes = self.storing.finish()?;
        Ok((added_bytes, self.new_blobs.load(Ordering::Relaxed)))
    }
}
