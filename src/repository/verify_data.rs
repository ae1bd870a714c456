//! Reading packs to check every stored byte.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::pack::{self, PackEntry};
use super::verify::{KnownPack, PackDamage, VerifyReport};
use super::{Inner, crypto, guarded};
use crate::ground::Progress;

/// Threads that read; each holds one pack.
const THREADS: usize = 4;

/// So many percent of the packs, rounded up, in an order that the seed decides: another seed reads others.
pub(super) fn choose(mut packs: Vec<KnownPack>, percent: u8, seed: u64) -> Vec<KnownPack> {
    let rank = |pack: &KnownPack| crypto::sha256(&[&seed.to_le_bytes()[..], &pack.id.0].concat());
    packs.sort_by_cached_key(rank);
    let count = (packs.len() * usize::from(percent.min(100))).div_ceil(100);
    packs.truncate(count);
    packs
}

/// Reads packs whole and checks name, header and every blob.
pub(super) fn read_packs(
    inner: &Inner,
    packs: &[KnownPack],
    progress: &dyn Progress,
    report: &mut VerifyReport,
) -> Vec<PackDamage> {
    progress.begin("reading packs", Some(packs.iter().map(|pack| pack.size).sum()));
    let (next, bytes_read, found) = (AtomicUsize::new(0), AtomicU64::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (read, damage) = read_pack(inner, pack);
            bytes_read.fetch_add(read, Ordering::Relaxed);
            guarded(&found).extend(damage);
            progress.advance(pack.size);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..super::parallelism().min(THREADS) {
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

/// Bytes read and what is wrong with the pack, if anything.
fn read_pack(inner: &Inner, pack: &KnownPack) -> (u64, Option<PackDamage>) {
    let object = pack::key_of(&pack.id);
    let bytes = match inner.store.get(&object) {
        Ok(bytes) => bytes,
        Err(error) => {
            let lost = pack.entries.iter().map(|entry| (entry.kind, entry.id)).collect();
            return (0, Some(PackDamage { sentence: format!("{object} cannot be read: {error}"), lost }));
        }
    };
    let mut faults = Vec::new();
    if crypto::sha256(&bytes) != pack.id.0 {
        faults.push("its bytes do not match its name".to_owned());
    }
    let entries = match pack::entries_of(&inner.key, &bytes) {
        Ok(entries) => {
            if !pack.entries.is_empty() && !same_blobs(&entries, &pack.entries) {
                faults.push("the index and its header do not agree".to_owned());
            }
            entries
        }
        Err(why) => {
            faults.push(why);
            pack.entries.clone()
        }
    };
    let lost: Vec<_> = entries.iter().filter(|entry| !is_whole(inner, entry, &bytes)).collect();
    if !lost.is_empty() {
        faults.push(format!("{} of its {} blobs cannot be read", lost.len(), entries.len()));
    }
    let lost = lost.iter().map(|entry| (entry.kind, entry.id)).collect();
    let damage = (!faults.is_empty())
        .then(|| PackDamage { sentence: format!("{object} is damaged: {}", faults.join(", ")), lost });
    (bytes.len() as u64, damage)
}

fn same_blobs(header: &[PackEntry], index: &[PackEntry]) -> bool {
    let sorted = |entries: &[PackEntry]| {
        let mut sorted = entries.to_vec();
        sorted.sort_by_key(|entry| (entry.offset, entry.id, entry.kind));
        sorted
    };
    sorted(header) == sorted(index)
}

fn is_whole(inner: &Inner, entry: &PackEntry, pack: &[u8]) -> bool {
    let start = entry.offset as usize;
    let sealed = start.checked_add(entry.length as usize).and_then(|end| pack.get(start..end));
    sealed.is_some_and(|sealed| pack::open_blob(&inner.key, entry, sealed.to_vec()).is_ok())
}
