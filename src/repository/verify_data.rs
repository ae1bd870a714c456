//! Reading packs to check every stored byte: the header's MAC, that it says what the index says, and of every blob the
//! MAC, the decompression and the hash. A sound header describes blobs that follow each other without a gap up to the
//! header itself, and its own length: no byte of a pack is left out. The pack's own hash would tell nothing more, and is
//! not computed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::error::RepositoryError;
use super::opener::{self, Opener, Share, Stretch};
use super::pack::{self, PackEntry};
use super::verify::{KnownPack, PackDamage, VerifyReport};
use super::{Inner, crypto, guarded};
use crate::ground::Progress;

/// So many percent of the packs, rounded up, in an order that the seed decides: another seed reads others.
pub(super) fn choose(mut packs: Vec<KnownPack>, percent: u8, seed: u64) -> Vec<KnownPack> {
    let rank = |pack: &KnownPack| crypto::sha256(&[&seed.to_le_bytes()[..], &pack.id.0].concat());
    packs.sort_by_cached_key(rank);
    let count = (packs.len() * usize::from(percent.min(100))).div_ceil(100);
    packs.truncate(count);
    packs
}

/// Reads packs whole and checks header and every blob. Memory: 48 MiB for all threads together, one header for each, and a
/// blob that is larger than a thread's share.
pub(super) fn read_packs(
    inner: &Inner,
    packs: &[KnownPack],
    progress: &dyn Progress,
    report: &mut VerifyReport,
) -> Vec<PackDamage> {
    progress.begin("reading packs", Some(packs.iter().map(|pack| pack.size).sum()));
    let (next, bytes_read, found) = (AtomicUsize::new(0), AtomicU64::new(0), Mutex::new(Vec::new()));
    let threads = opener::threads(inner, packs.len());
    let share = Share::of(threads, u64::MAX);
    let work = || {
        let mut opener = Opener::new(inner);
        while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (read, damage) = PackReading::new(inner, pack).read(&mut opener, share);
            bytes_read.fetch_add(read, Ordering::Relaxed);
            guarded(&found).extend(damage);
            progress.advance(pack.size);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without another thread this one does all.
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    progress.end();
    report.packs_read = packs.len() as u64;
    report.bytes_read = bytes_read.into_inner();
    let mut found = std::mem::take(&mut *guarded(&found));
    found.sort_by(|left: &PackDamage, right| left.sentence.cmp(&right.sentence));
    found
}

/// A pack in work and what was found.
struct PackReading<'a> {
    inner: &'a Inner,
    pack: &'a KnownPack,
    object: String,
    bytes: u64,
    faults: Vec<String>,
    /// The store does not give the pack, or not all of it.
    refused: Option<String>,
}

impl<'a> PackReading<'a> {
    fn new(inner: &'a Inner, pack: &'a KnownPack) -> Self {
        let object = pack::key_of(&pack.id);
        Self { inner, pack, object, bytes: 0, faults: Vec::new(), refused: None }
    }

    /// Bytes read and what is wrong with the pack, if anything.
    fn read(mut self, opener: &mut Opener<'_>, share: Share) -> (u64, Option<PackDamage>) {
        self.inner.store.will_read(&self.object, 0..self.pack.size);
        let mut entries = match self.header() {
            Ok(entries) => {
                if !self.pack.entries.is_empty() && !same_blobs(&entries, &self.pack.entries) {
                    self.faults.push("the index and its header do not agree".to_owned());
                }
                entries
            }
            Err(()) => self.pack.entries.clone(),
        };
        entries.sort_by_key(|entry| entry.offset);
        let mut lost = Vec::new();
        let mut ahead = &entries[..];
        while !ahead.is_empty() {
            let mut stretch = Stretch::default();
            let takes = |entry: &&PackEntry| stretch.take(share, entry.offset, entry.length, entry.uncompressed);
            let count = ahead.iter().take_while(takes).count();
            let (now, later) = ahead.split_at(count);
            self.open(opener, share, &stretch, now, &mut lost);
            ahead = later;
        }
        if !lost.is_empty() {
            self.faults.push(format!("{} of its {} blobs cannot be read", lost.len(), entries.len()));
        }
        let sentence = match (&self.refused, self.faults.is_empty()) {
            (Some(refused), _) => format!("{} cannot be read: {refused}", self.object),
            (None, false) => format!("{} is damaged: {}", self.object, self.faults.join(", ")),
            (None, true) => return (self.bytes, None),
        };
        let lost = lost.iter().map(|entry| (entry.kind, entry.id)).collect();
        (self.bytes, Some(PackDamage { sentence, lost }))
    }

    /// The blobs that the header names. What is wrong with it is noted.
    fn header(&mut self) -> Result<Vec<PackEntry>, ()> {
        let size = self.pack.size;
        let ends = self.pack.entries.iter().map(|entry| u64::from(entry.offset) + u64::from(entry.length));
        // Where the index says that the blobs end, the header begins: one read instead of two.
        let read = match ends.max().filter(|end| *end < size) {
            Some(end) => match self.inner.store.get_range(&self.object, end..size) {
                Ok(tail) => pack::open_header(&self.inner.key, &tail, size),
                Err(error) => Err(self.refuse(error.to_string())),
            },
            None => pack::read_header(self.inner, &self.pack.id, size).map_err(|error| match error {
                RepositoryError::Store(error) => self.refuse(error.to_string()),
                other => other.to_string(),
            }),
        };
        self.bytes += pack::header_size(read.as_deref().unwrap_or_default());
        read.map_err(|why| self.faults.push(why))
    }

    fn refuse(&mut self, why: String) -> String {
        self.refused.get_or_insert(why).clone()
    }

    /// Opens the blobs of one stretch and notes those that are not whole.
    fn open<'e>(
        &mut self,
        opener: &mut Opener<'_>,
        share: Share,
        stretch: &Stretch,
        blobs: &'e [PackEntry],
        lost: &mut Vec<&'e PackEntry>,
    ) {
        let range = stretch.range();
        let opened = match blobs {
            [one] if !share.holds(one.length, one.uncompressed) => {
                self.inner.store.get_range(&self.object, range.clone()).map(|sealed| {
                    lost.extend(pack::open_blob(&self.inner.key, one, sealed).is_err().then_some(one));
                })
            }
            _ => opener.fetch(&self.pack.id, range.clone(), blobs.iter().enumerate()).map(|()| {
                opener.tell_all(&mut |number, plain| {
                    lost.extend(plain.is_none().then(|| &blobs[number]));
                    true
                });
            }),
        };
        match opened {
            Ok(()) => self.bytes += range.end - range.start,
            Err(error) => {
                lost.extend(blobs);
                self.refuse(error.to_string());
            }
        }
    }
}

fn same_blobs(header: &[PackEntry], index: &[PackEntry]) -> bool {
    let sorted = |entries: &[PackEntry]| {
        let mut sorted = entries.to_vec();
        sorted.sort_by_key(|entry| (entry.offset, entry.id, entry.kind));
        sorted
    };
    sorted(header) == sorted(index)
}
