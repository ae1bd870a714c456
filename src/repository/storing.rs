//! Threads that store whole packs, so that compressing does not wait for disks and networks.
//!
//! A staged pack is made durable as soon as it is whole. It has no name yet, since that is the hash of all its bytes:
//! several packs are read back and hashed side by side, which costs a fraction of hashing each alone, and what was read
//! back is held against the checksum of what was written. Then they get their names. A kill before that costs the
//! upload of at most these few packs.
//!
//! Order on the store: a pack is durable before an index names it. Index files are also written on the way, so that a
//! backup that is killed leaves its packs usable for the next one.
//!
//! Memory: staged packs 128 KiB each while they are named. Others are held whole, 8 MiB each: two under construction, one
//! that waits, one for each thread (as many as the store takes at once), and when the store is slow one more for each
//! worker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use xxhash_rust::xxh3::Xxh3;

use super::error::RepositoryError;
use super::hash::Streams;
use super::pack::{self, PackEntry};
use super::packer::{Body, UnnamedPack};
use super::tree::BlobId;
use super::{BlobKind, Inner, crypto, guarded, index_file, unpacked};
use crate::site::{StagedObject, StoreErrorKind};

/// An index file is written when so many bytes of packs...
const INDEX_BYTES: u64 = if cfg!(test) { 4 << 20 } else { 64 << 20 };
/// ...or so many blobs have none yet.
const INDEX_BLOBS: usize = 50_000;
/// Staged packs that get their names together: as many as the narrower lanes take.
const NAMED_TOGETHER: usize = 8;
/// Bytes of each that are read at a time.
const WINDOW: usize = 128 << 10;

/// Stored packs that no index names yet.
#[derive(Default)]
struct Unindexed {
    packs: Vec<(BlobId, Vec<PackEntry>)>,
    blobs: usize,
    bytes: u64,
}

/// A durable pack that waits for its name.
struct Durable {
    object: Box<dyn StagedObject>,
    written: Box<Xxh3>,
    size: u64,
    entries: Vec<PackEntry>,
}

struct Shared {
    inner: Arc<Inner>,
    durable: Mutex<Vec<Durable>>,
    unindexed: Mutex<Unindexed>,
    added_bytes: AtomicU64,
    failure: Mutex<Option<RepositoryError>>,
}

/// The threads that store packs.
pub(super) struct Storing {
    shared: Arc<Shared>,
    /// `None` once it is finished.
    packs: Mutex<Option<Sender<UnnamedPack>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Storing {
    pub(super) fn start(inner: Arc<Inner>) -> Result<Self, RepositoryError> {
        let shared = Arc::new(Shared {
            inner,
            durable: Mutex::default(),
            unindexed: Mutex::default(),
            added_bytes: AtomicU64::new(0),
            failure: Mutex::default(),
        });
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let mut threads = Vec::new();
        for number in 0..shared.inner.store.parallel_puts().max(1) {
            let (shared, receiver) = (Arc::clone(&shared), receiver.clone());
            threads.push(super::spawn(format!("pack-{number}"), move || shared.work(&receiver))?);
        }
        Ok(Self { shared, packs: Mutex::new(Some(sender)), threads: Mutex::new(threads) })
    }

    /// Hands over a whole pack; waits while the threads have enough to do. Fails when an earlier one failed.
    pub(super) fn hand_over(&self, pack: UnnamedPack) -> Result<(), RepositoryError> {
        self.shared.check()?;
        let ended = || RepositoryError::machine("the threads that store packs have ended");
        let sender = guarded(&self.packs).clone().ok_or_else(ended)?;
        sender.send(pack).map_err(|_| ended())
    }

    /// Waits until all packs are stored, then writes the index. Gives the bytes that were added.
    pub(super) fn finish(&self) -> Result<u64, RepositoryError> {
        self.join();
        self.shared.check()?;
        let rest = std::mem::take(&mut *guarded(&self.shared.durable));
        self.shared.publish(rest)?;
        let rest = std::mem::take(&mut *guarded(&self.shared.unindexed));
        self.shared.write_index(&rest)?;
        Ok(self.shared.added_bytes.load(Ordering::Relaxed))
    }

    fn join(&self) {
        drop(guarded(&self.packs).take());
        for thread in guarded(&self.threads).drain(..) {
            if thread.join().is_err() {
                self.shared.fail(RepositoryError::machine("a thread that stores packs has ended by a panic"));
            }
        }
    }
}

impl Drop for Storing {
    fn drop(&mut self) {
        self.shared.fail(RepositoryError::machine("the writer was given up"));
        self.join();
    }
}

impl Shared {
    fn check(&self) -> Result<(), RepositoryError> {
        guarded(&self.failure).clone().map_or(Ok(()), Err)
    }

    fn fail(&self, error: RepositoryError) {
        guarded(&self.failure).get_or_insert(error);
    }

    /// A thread's life. After a failure packs are taken without work, so that nobody waits for ever.
    fn work(&self, packs: &Receiver<UnnamedPack>) {
        for pack in packs {
            if self.check().is_ok() {
                self.store(pack).unwrap_or_else(|error| self.fail(error));
            }
        }
    }

    fn store(&self, pack: UnnamedPack) -> Result<(), RepositoryError> {
        let UnnamedPack { body, size, entries, .. } = pack;
        match body {
            Body::Memory(bytes) => {
                let id = BlobId(crypto::sha256(&bytes));
                unpacked::put_named(&self.inner, &pack::key_of(&id), &bytes)?;
                if entries.first().is_some_and(|entry| entry.kind == BlobKind::Tree) {
                    self.inner.store.keep(&pack::key_of(&id), &bytes);
                }
                drop(bytes);
                self.note_stored(id, entries, size)
            }
            Body::Staged { mut object, written } => {
                object.settle()?;
                let mut durable = guarded(&self.durable);
                durable.push(Durable { object, written, size, entries });
                let batch = if durable.len() < NAMED_TOGETHER { Vec::new() } else { std::mem::take(&mut *durable) };
                drop(durable);
                self.publish(batch)
            }
        }
    }

    /// Reads durable packs back, checks them, and gives them their names.
    fn publish(&self, mut packs: Vec<Durable>) -> Result<(), RepositoryError> {
        let names = read_back(&mut packs)?;
        for (pack, id) in packs.into_iter().zip(names) {
            match pack.object.publish(&pack::key_of(&id)) {
                Err(error) if error.kind == StoreErrorKind::AlreadyExists => {}
                other => other?,
            }
            self.note_stored(id, pack.entries, pack.size)?;
        }
        Ok(())
    }

    fn note_stored(&self, id: BlobId, entries: Vec<PackEntry>, size: u64) -> Result<(), RepositoryError> {
        self.added_bytes.fetch_add(size, Ordering::Relaxed);
        let mut unindexed = guarded(&self.unindexed);
        unindexed.blobs += entries.len();
        unindexed.bytes += size;
        unindexed.packs.push((id, entries));
        let due = unindexed.blobs >= INDEX_BLOBS || unindexed.bytes >= INDEX_BYTES;
        let batch = due.then(|| std::mem::take(&mut *unindexed));
        drop(unindexed);
        batch.map_or(Ok(()), |batch| self.write_index(&batch))
    }

    fn write_index(&self, batch: &Unindexed) -> Result<(), RepositoryError> {
        if !batch.packs.is_empty() {
            let size = index_file::save(&self.inner, &batch.packs)?;
            self.added_bytes.fetch_add(size, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The names of packs by what can be read of them, which must be what was written.
fn read_back(packs: &mut [Durable]) -> Result<Vec<BlobId>, RepositoryError> {
    let mut streams = Streams::new(packs.len());
    let mut names = vec![None; packs.len()];
    let mut read = vec![Xxh3::new(); packs.len()];
    let mut buffers = vec![vec![0; WINDOW]; packs.len()];
    let longest = packs.iter().map(|pack| pack.size).max().unwrap_or(0);
    for offset in (0..longest).step_by(WINDOW) {
        let mut parts: Vec<&[u8]> = Vec::with_capacity(packs.len());
        for ((pack, buffer), read) in packs.iter_mut().zip(&mut buffers).zip(&mut read) {
            let wanted = pack.size.saturating_sub(offset).min(WINDOW as u64) as usize;
            let filled = if wanted == 0 { 0 } else { pack.object.read_back(offset, &mut buffer[..wanted])? };
            read.update(&buffer[..filled]);
            parts.push(&buffer[..filled]);
        }
        for (name, ended) in names.iter_mut().zip(streams.advance(&parts)) {
            *name = name.or(ended);
        }
    }
    for (pack, read) in packs.iter().zip(&read) {
        if read.digest() != pack.written.digest() {
            return Err(RepositoryError::machine("what was read back of a pack is not what was written"));
        }
    }
    Ok(names
        .into_iter()
        .enumerate()
        .map(|(number, name)| BlobId(name.unwrap_or_else(|| streams.finish(number))))
        .collect())
}
