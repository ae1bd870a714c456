//! Opens stretches of packs: one read, then every blob in it is authenticated, decrypted where it lies, decompressed
//! into memory that is used again, and checked against its name, many blobs at once.

use std::ops::Range;

use zstd::bulk::Decompressor;

use super::crypto::OVERHEAD;
use super::hash;
use super::pack::{self, PackEntry};
use super::tree::BlobId;
use super::{Inner, parallelism};
use crate::site::StoreError;

/// Memory of all threads that open blobs at the same time, in bytes: what is fetched and what it decompresses to. One
/// blob that needs more than a thread's share is opened by itself.
const MEMORY: usize = 56 << 20;
/// Blobs of one stretch: small ones are a lot of work in few bytes, which the threads share.
const BLOBS_MAX: usize = 1024;
/// Unwanted bytes between two wanted blobs that are fetched rather than asking twice.
const GAP_LIMIT: u64 = 64 << 10;

/// Threads that open blobs, for so much work: one more than the machine runs at once, since one waits for the store.
pub(super) fn threads(work: usize) -> usize {
    (parallelism() + 1).clamp(2, 8).min(work.max(1))
}

/// How much one thread takes at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share(u64);

impl Share {
    /// The share of each of so many threads.
    pub(super) fn of(threads: usize) -> Self {
        Self((MEMORY / threads.max(1)) as u64)
    }

    /// Whether a blob is opened together with others at all.
    pub(super) fn holds(self, length: u32, uncompressed: u32) -> bool {
        u64::from(length) + u64::from(uncompressed) <= self.0
    }
}

/// A stretch of a pack that grows while blobs, in order of their place, fit.
#[derive(Debug, Clone, Default)]
pub(super) struct Stretch {
    start: u64,
    end: u64,
    plain: u64,
    blobs: usize,
}

impl Stretch {
    /// Takes a blob in; false, and nothing is changed, when it belongs to the next stretch. The first always fits.
    pub(super) fn take(&mut self, share: Share, offset: u32, length: u32, uncompressed: u32) -> bool {
        let (from, to) = (u64::from(offset), u64::from(offset) + u64::from(length));
        if self.blobs == 0 {
            *self = Self { start: from, end: to, plain: u64::from(uncompressed), blobs: 1 };
            return true;
        }
        let (end, plain) = (self.end.max(to), self.plain + u64::from(uncompressed));
        let fits = self.blobs < BLOBS_MAX && from <= self.end + GAP_LIMIT && end - self.start + plain <= share.0;
        if fits {
            *self = Self { start: self.start, end, plain, blobs: self.blobs + 1 };
        }
        fits
    }

    /// The bytes of the pack.
    pub(super) fn range(&self) -> Range<u64> {
        self.start..self.end
    }
}

/// Where a plain text lies.
enum Plain {
    /// It was not compressed: between nonce and tag.
    InPlace(Range<usize>),
    Decompressed(Range<usize>),
    Unreadable,
}

/// Memory and contexts of one thread.
pub(super) struct Opener<'a> {
    inner: &'a Inner,
    zstd: Option<Decompressor<'static>>,
    /// Both only grow: what is beyond the stretch in work is left from earlier ones.
    fetched: Vec<u8>,
    plain: Vec<u8>,
    opened: Vec<Plain>,
}

impl<'a> Opener<'a> {
    pub(super) fn new(inner: &'a Inner) -> Self {
        Self { inner, zstd: Decompressor::new().ok(), fetched: Vec::new(), plain: Vec::new(), opened: Vec::new() }
    }

    /// Reads a stretch of a pack and gives each of its blobs to `each`, in order: its number and its plain text, or
    /// nothing when it is not whole. `each` ends the work with false.
    pub(super) fn open(
        &mut self,
        pack: &BlobId,
        range: Range<u64>,
        blobs: &[PackEntry],
        each: &mut dyn FnMut(usize, Option<&[u8]>) -> bool,
    ) -> Result<(), StoreError> {
        let length = range.end.saturating_sub(range.start) as usize;
        grow(&mut self.fetched, length);
        self.inner.store.read_at(&pack::key_of(pack), range.start, &mut self.fetched[..length])?;
        self.unseal(range.start, length, blobs);
        self.check(blobs);
        for (number, place) in self.opened.iter().enumerate() {
            if !each(number, self.text(place)) {
                break;
            }
        }
        Ok(())
    }

    fn text(&self, place: &Plain) -> Option<&[u8]> {
        match place {
            Plain::InPlace(range) => self.fetched.get(range.clone()),
            Plain::Decompressed(range) => self.plain.get(range.clone()),
            Plain::Unreadable => None,
        }
    }

    fn unseal(&mut self, start: u64, length: usize, blobs: &[PackEntry]) {
        self.opened.clear();
        let mut used = 0;
        for entry in blobs {
            let place = self.unseal_one(start, length, entry, used).unwrap_or(Plain::Unreadable);
            if let Plain::Decompressed(range) = &place {
                used = range.end;
            }
            self.opened.push(place);
        }
    }

    fn unseal_one(&mut self, start: u64, length: usize, entry: &PackEntry, used: usize) -> Option<Plain> {
        let from = usize::try_from(u64::from(entry.offset).checked_sub(start)?).ok()?;
        let to = from.checked_add(entry.length as usize).filter(|to| *to <= length)?;
        let text = self.inner.key.open(&mut self.fetched[from..to])?;
        if entry.uncompressed == 0 {
            return Some(Plain::InPlace(from + OVERHEAD / 2..to - OVERHEAD / 2));
        }
        let end = used + entry.uncompressed as usize;
        grow(&mut self.plain, end);
        let written = self.zstd.as_mut()?.decompress_to_buffer(&*text, &mut self.plain[used..end]).ok()?;
        (written == entry.uncompressed as usize).then_some(Plain::Decompressed(used..end))
    }

    /// Takes what is not what its name says for unreadable; all hashes are computed side by side.
    fn check(&mut self, blobs: &[PackEntry]) {
        let readable: Vec<(usize, &[u8])> =
            self.opened.iter().enumerate().filter_map(|(number, place)| Some((number, self.text(place)?))).collect();
        let mut wrong = Vec::new();
        let texts: Vec<&[u8]> = readable.iter().map(|(_, text)| *text).collect();
        let found = hash::hash_many(&texts);
        let numbers = readable.iter().map(|(number, _)| *number);
        wrong
            .extend(numbers.zip(found).filter(|(number, hash)| blobs[*number].id.0 != *hash).map(|(number, _)| number));
        wrong.into_iter().for_each(|number| self.opened[number] = Plain::Unreadable);
    }
}

fn grow(buffer: &mut Vec<u8>, length: usize) {
    if buffer.len() < length {
        // Not doubled: the largest stretch is the bound of what is held.
        buffer.reserve_exact(length - buffer.len());
        buffer.resize(length, 0);
    }
}
