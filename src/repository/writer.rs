//! Storing blobs: the calling threads cut, hash and deduplicate; workers compress, seal, pack and store.
//!
//! Memory, with W workers (the machine's cores plus one, 3 to 8): W queued and W worked-on blobs, of at most 4 MiB from
//! content or 8 MiB from fixed blocks and twice that while being compressed; W + 2 packs of at most 16 MiB and one blob;
//! 8 MiB per thread that calls [`BlobWriter::store_content`]. That is below `W * 64 + 50` MiB and usually a third of it;
//! plus 48 bytes per blob of the index and about 80 per new blob.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use super::chunker::{self, ChunkBuffer, Gear};
use super::compression::Compressor;
use super::error::{ContentError, RepositoryError};
use super::index::Index;
use super::pack;
use super::packer::Packer;
use super::tree::{BlobId, Node};
use super::{BlobKind, Chunking, Inner, guarded, tree_json};
use crate::ground::Progress;

/// Content of one file after it was stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredContent {
    pub blobs: Vec<BlobId>,
    /// Bytes read from the source.
    pub bytes: u64,
}

/// What a finished writer added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteSummary {
    /// Bytes written to the store, all kinds of objects.
    pub added_bytes: u64,
    pub new_blobs: u64,
}

/// A blob on its way to the workers.
struct Job {
    kind: BlobKind,
    id: BlobId,
    plain: Vec<u8>,
}

struct Shared {
    inner: Arc<Inner>,
    index: Index,
    progress: Arc<dyn Progress>,
    gear: Gear,
    /// Blobs that this writer has taken on, stored or under way.
    taken: Mutex<HashSet<(BlobKind, BlobId)>>,
    /// Ids of all-zero blobs by length: disk images are full of them.
    zeros: Mutex<HashMap<usize, BlobId>>,
    buffers: Mutex<Vec<ChunkBuffer>>,
    packer: Packer,
    /// Set with `failure`; cheap to look at.
    failed: AtomicBool,
    /// The first failure; everything after it is refused with the same words.
    failure: Mutex<Option<RepositoryError>>,
}

/// Stores blobs through a bounded pipeline. Shared by the threads that read sources.
///
/// Dropped without [`BlobWriter::finish`], it leaves packs that no index names: harmless, and never listed.
pub struct BlobWriter {
    shared: Arc<Shared>,
    /// `None` only while being taken down.
    jobs: Option<Sender<Job>>,
    workers: Vec<JoinHandle<()>>,
}

impl BlobWriter {
    pub(super) fn start(inner: Arc<Inner>, index: Index, progress: Arc<dyn Progress>) -> Result<Self, RepositoryError> {
        let gear = Gear::keyed(&inner.key);
        let shared = Arc::new(Shared {
            inner,
            index,
            progress,
            gear,
            taken: Mutex::default(),
            zeros: Mutex::default(),
            buffers: Mutex::default(),
            packer: Packer::default(),
            failed: AtomicBool::new(false),
            failure: Mutex::default(),
        });
        let count = super::parallelism().saturating_add(1).clamp(3, 8);
        let (jobs, queue) = crossbeam_channel::bounded(count);
        let mut writer = Self { shared, jobs: Some(jobs), workers: Vec::new() };
        for number in 0..count {
            writer.workers.push(writer.start_worker(number, queue.clone())?);
        }
        Ok(writer)
    }

    fn start_worker(&self, number: usize, queue: Receiver<Job>) -> Result<JoinHandle<()>, RepositoryError> {
        let shared = Arc::clone(&self.shared);
        let named = std::thread::Builder::new().name(format!("blob-{number}"));
        named
            .spawn(move || shared.work(&queue))
            .map_err(|error| RepositoryError::machine(format!("cannot start a thread: {error}")))
    }

    /// Chunks, hashes, deduplicates and stores a stream. Returns when the stream is read; durable after [`BlobWriter::finish`].
    /// A fixed block is at least 1 byte and at most 8 MiB.
    pub fn store_content(&self, reader: &mut dyn Read, chunking: Chunking) -> Result<StoredContent, ContentError> {
        let mut buffer = guarded(&self.shared.buffers).pop().unwrap_or_else(ChunkBuffer::new);
        buffer.reset();
        let stored = self.store_chunks(reader, chunking, &mut buffer);
        guarded(&self.shared.buffers).push(buffer);
        stored
    }

    fn store_chunks(
        &self,
        reader: &mut dyn Read,
        chunking: Chunking,
        buffer: &mut ChunkBuffer,
    ) -> Result<StoredContent, ContentError> {
        let mut stored = StoredContent::default();
        while let Some(chunk) = buffer.next(reader, chunking, &self.shared.gear).map_err(ContentError::Source)? {
            let id = self.shared.id_of(chunk);
            self.store_blob(BlobKind::Data, id, || chunk.to_vec())?;
            stored.blobs.push(id);
            stored.bytes += chunk.len() as u64;
            self.shared.progress.advance(chunk.len() as u64);
        }
        Ok(stored)
    }

    /// Stores one directory. Nodes are sorted by name here.
    pub fn store_tree(&self, nodes: Vec<Node>) -> Result<BlobId, RepositoryError> {
        let plain = tree_json::encode(nodes)
            .map_err(|why| RepositoryError::Unsupported(format!("cannot store a directory: {why}")))?;
        let id = BlobId::of(&plain);
        self.store_blob(BlobKind::Tree, id, || plain)?;
        Ok(id)
    }

    /// True when the blob is stored already: lets an unchanged file keep its content without a read.
    pub fn contains(&self, kind: BlobKind, id: &BlobId) -> bool {
        self.shared.index.contains(kind, id) || guarded(&self.shared.taken).contains(&(kind, *id))
    }

    /// Flushes packs, then the index; everything stored so far is durable and verified when it returns.
    pub fn finish(mut self) -> Result<WriteSummary, RepositoryError> {
        self.stop();
        self.shared.check()?;
        let (added_bytes, new_blobs) = self.shared.packer.finish(&self.shared.inner)?;
        Ok(WriteSummary { added_bytes, new_blobs })
    }

    /// Hands a blob to the workers unless it is stored or taken on already.
    fn store_blob(&self, kind: BlobKind, id: BlobId, plain: impl FnOnce() -> Vec<u8>) -> Result<(), RepositoryError> {
        self.shared.check()?;
        if self.shared.is_stored(kind, &id) || !guarded(&self.shared.taken).insert((kind, id)) {
            return Ok(());
        }
        let job = Job { kind, id, plain: plain() };
        let ended = || RepositoryError::machine("the threads that store blobs have ended");
        self.jobs.as_ref().ok_or_else(ended)?.send(job).map_err(|_| ended())
    }

    /// Lets the workers finish what is queued and joins them.
    fn stop(&mut self) {
        self.jobs = None;
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                self.shared.fail(RepositoryError::machine("a thread that stores blobs has ended by a panic"));
            }
        }
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.workers.is_empty() {
            self.shared.fail(RepositoryError::machine("the writer was given up"));
            self.stop();
        }
    }
}

impl Shared {
    /// The failure so far, if any.
    fn check(&self) -> Result<(), RepositoryError> {
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        guarded(&self.failure).clone().map_or(Ok(()), Err)
    }

    fn fail(&self, error: RepositoryError) {
        guarded(&self.failure).get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    /// Whether a blob need not be stored. A directory that this host could not read again is stored once more.
    fn is_stored(&self, kind: BlobKind, id: &BlobId) -> bool {
        let at_hand = |pack: &BlobId| self.inner.store.is_at_hand(&pack::key_of(pack));
        match kind {
            BlobKind::Data => self.index.contains(kind, id),
            BlobKind::Tree => self.index.locations(kind, id).any(|location| at_hand(&location.pack)),
        }
    }

    fn id_of(&self, chunk: &[u8]) -> BlobId {
        if chunk.len() < 4096 || !chunker::is_zero(chunk) {
            return BlobId::of(chunk);
        }
        *guarded(&self.zeros).entry(chunk.len()).or_insert_with(|| BlobId::of(chunk))
    }

    /// A worker's life. After a failure the queue is emptied without work, so that nobody waits for ever.
    fn work(&self, queue: &Receiver<Job>) {
        let mut compressor = match Compressor::new() {
            Ok(compressor) => Some(compressor),
            Err(error) => {
                self.fail(RepositoryError::machine(format!("cannot set up compression: {error}")));
                None
            }
        };
        for job in queue {
            if let Some(compressor) = compressor.as_mut().filter(|_| !self.failed.load(Ordering::Acquire)) {
                self.store(compressor, job).unwrap_or_else(|error| self.fail(error));
            }
        }
    }

    fn store(&self, compressor: &mut Compressor, job: Job) -> Result<(), RepositoryError> {
        let Job { kind, id, plain } = job;
        let too_long = |_| RepositoryError::Unsupported("a directory has too many entries to be stored".to_owned());
        let length = u32::try_from(plain.len()).map_err(too_long)?;
        let compressed = if self.inner.config.version >= 2 {
            let failed = |error| RepositoryError::machine(format!("cannot compress a blob: {error}"));
            compressor.shrink(&plain).map_err(failed)?
        } else {
            None
        };
        let uncompressed = if compressed.is_some() { length } else { 0 };
        let sealed = self.inner.key.seal(compressed.as_ref().unwrap_or(&plain))?;
        drop((plain, compressed));
        self.packer.add(&self.inner, kind, id, &sealed, uncompressed)
    }
}
