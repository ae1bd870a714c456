//! Opens stretches of packs: one read, then every blob in it is authenticated, decrypted where it lies, decompressed
//! behind it, and checked against its name, many blobs side by side.

use std::ops::Range;

use zstd::bulk::Decompressor;

use super::crypto::OVERHEAD;
use super::hash::{self, Begun};
use super::pack::{self, PackEntry};
use super::tree::BlobId;
use super::{Inner, parallelism};
use crate::site::StoreError;

/// Memory of all threads that open blobs at the same time, in bytes: what is fetched and what it decompresses to. A
/// few blobs of each that are left from before, half as much at most, come on top. One blob that needs more than a thread's share is opened by
/// itself.
const MEMORY: usize = 48 << 20;
/// Blobs of one stretch: small ones are a lot of work in few bytes, which the threads share.
const BLOBS_MAX: usize = 1024;
/// Unwanted bytes between two wanted blobs that are fetched rather than asking twice.
const GAP_LIMIT: u64 = 64 << 10;

/// Threads that open blobs, for so much work: as many as the machine runs at once, and those that wait for the store.
pub(super) fn threads(inner: &Inner, work: usize) -> usize {
    (parallelism() + inner.store.waiting_reads()).clamp(2, 8).min(work.max(1))
}

/// How much one thread takes at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// Bytes that may be held.
    most: u64,
    /// Bytes that are taken at once: no more than leaves something for every thread.
    good: u64,
}

impl Share {
    /// The share of each of so many threads that open so many bytes in all, as stored and plain.
    pub(super) fn of(threads: usize, bytes: u64) -> Self {
        let threads = threads.max(1) as u64;
        let most = MEMORY as u64 / threads;
        Self { most, good: most.min(bytes.div_ceil(threads)) }
    }

    /// Whether a blob is opened together with others at all.
    pub(super) fn holds(self, length: u32, uncompressed: u32) -> bool {
        u64::from(length) + u64::from(uncompressed) <= self.most
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
        let fits = self.blobs < BLOBS_MAX && from <= self.end + GAP_LIMIT && end - self.start + plain <= share.good;
        if fits {
            *self = Self { start: self.start, end, plain, blobs: self.blobs + 1 };
        }
        fits
    }

    /// The bytes of the pack.
    pub(super) fn range(&self) -> Range<u64> {
        self.start..self.end
    }

    /// How many of these stretches one thread takes at once; at least the first.
    pub(super) fn count_at_once<'s>(share: Share, stretches: impl Iterator<Item = &'s Self>) -> usize {
        let (mut bytes, mut blobs) = (0, 0);
        let fits = |stretch: &&Self| {
            bytes += stretch.end - stretch.start + stretch.plain;
            blobs += stretch.blobs;
            bytes <= share.good && blobs <= BLOBS_MAX
        };
        stretches.take_while(fits).count().max(1)
    }
}

/// A blob that was fetched.
struct Opened {
    /// What the caller knows it by.
    tag: usize,
    id: BlobId,
    /// Where its plain text lies; nothing when it is not whole.
    plain: Option<Range<usize>>,
    begun: Begun,
}

/// Memory and contexts of one thread. Stretches are fetched one by one, checked together and then told.
pub(super) struct Opener<'a> {
    inner: &'a Inner,
    zstd: Option<Decompressor<'static>>,
    /// Stretches as stored, each with its plain texts behind it. It only grows: what is beyond `used` is left from
    /// earlier ones.
    bytes: Vec<u8>,
    used: usize,
    opened: Vec<Opened>,
}

impl<'a> Opener<'a> {
    pub(super) fn new(inner: &'a Inner) -> Self {
        Self { inner, zstd: Decompressor::new().ok(), bytes: Vec::new(), used: 0, opened: Vec::new() }
    }

    /// Reads a stretch of a pack and decrypts its blobs, to be told with others under these tags. When the store does
    /// not give it, nothing will be told of them.
    pub(super) fn fetch<'b>(
        &mut self,
        pack: &BlobId,
        range: Range<u64>,
        blobs: impl IntoIterator<Item = (usize, &'b PackEntry)>,
    ) -> Result<(), StoreError> {
        let length = range.end.saturating_sub(range.start) as usize;
        let held = self.used..self.used + length;
        grow(&mut self.bytes, held.end);
        self.inner.store.read_at(&pack::key_of(pack), range.start, &mut self.bytes[held.clone()])?;
        self.used = held.end;
        for (tag, entry) in blobs {
            let plain = self.unseal(range.start, held.clone(), entry);
            self.opened.push(Opened { tag, id: entry.id, plain, begun: Begun::default() });
        }
        Ok(())
    }

    /// Checks what was fetched against its names and gives it to `each`: its tag, and its plain text, or nothing when
    /// it is not whole. `each` ends the work with false. A few blobs of at most half a share may be left for the next
    /// time, when they are checked beside others; [`Opener::tell_all`] leaves none.
    pub(super) fn tell(&mut self, share: Share, each: &mut dyn FnMut(usize, Option<&[u8]>) -> bool) {
        self.tell_some(hash::LANES_WORTH, each);
        if self.used as u64 > share.good / 2 {
            self.tell_all(each);
        }
    }

    /// As [`Opener::tell`], all of it.
    pub(super) fn tell_all(&mut self, each: &mut dyn FnMut(usize, Option<&[u8]>) -> bool) {
        self.tell_some(1, each);
    }

    fn tell_some(&mut self, least: usize, each: &mut dyn FnMut(usize, Option<&[u8]>) -> bool) {
        let opened = std::mem::take(&mut self.opened);
        let text = |blob: &Opened| self.bytes.get(blob.plain.clone()?);
        let texts: Vec<_> = opened.iter().filter_map(|blob| Some((text(blob)?, blob.begun))).collect();
        let mut hashes = hash::hash_some(&texts, least).into_iter();
        let mut left = Vec::new();
        let mut going = true;
        for blob in opened {
            let plain = text(&blob);
            match plain.and_then(|_| hashes.next()) {
                Some(Err(begun)) => left.push(Opened { begun, ..blob }),
                Some(Ok(hash)) => going = going && each(blob.tag, plain.filter(|_| hash == blob.id.0)),
                None => going = going && each(blob.tag, None),
            }
        }
        self.keep(if going { left } else { Vec::new() });
    }

    /// Moves what is left to the front.
    fn keep(&mut self, mut left: Vec<Opened>) {
        left.sort_by_key(|blob| blob.plain.as_ref().map(|range| range.start));
        self.used = 0;
        for range in left.iter_mut().filter_map(|blob| blob.plain.as_mut()) {
            let moved = self.used..self.used + range.len();
            self.bytes.copy_within(range.clone(), moved.start);
            self.used = moved.end;
            *range = moved;
        }
        self.opened = left;
    }

    /// Decrypts one blob of a stretch that begins at `start` of its pack and was fetched to `held`.
    fn unseal(&mut self, start: u64, held: Range<usize>, entry: &PackEntry) -> Option<Range<usize>> {
        let from = held.start.checked_add(usize::try_from(u64::from(entry.offset).checked_sub(start)?).ok()?)?;
        let to = from.checked_add(entry.length as usize).filter(|to| *to <= held.end)?;
        let plain = self.used..self.used + entry.uncompressed as usize;
        grow(&mut self.bytes, plain.end);
        let (sealed, free) = self.bytes.split_at_mut(held.end);
        let text = self.inner.key.open(&mut sealed[from..to])?;
        if entry.uncompressed == 0 {
            return Some(from + OVERHEAD / 2..to - OVERHEAD / 2);
        }
        let target = &mut free[plain.start - held.end..plain.end - held.end];
        let written = self.zstd.as_mut()?.decompress_to_buffer(&*text, target).ok()?;
        if written != plain.len() {
            return None;
        }
        self.used = plain.end;
        Some(plain)
    }
}

fn grow(buffer: &mut Vec<u8>, length: usize) {
    if buffer.len() < length {
        // Not doubled: the largest stretch is the bound of what is held.
        buffer.reserve_exact(length - buffer.len());
        buffer.resize(length, 0);
    }
}
