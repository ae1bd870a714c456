//! Storing blobs: the calling threads read and cut; workers name chunks side by side, compress, seal and pack them;
//! other threads store whole packs.
//!
//! Memory, with W workers (the machine's cores plus one, 3 to 8): 18 MiB of chunks under way, three buffers for cutting
//! of at most 8 and usually 2 MiB, 128 KiB for each calling thread, W times twice a blob while it is compressed (8 MiB
//! at most, usually 1); what [`super::packer`] holds; plus 48 bytes per blob of the index and about 80 per new blob.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::buffers::{self, Buffers, Plain, Windows};
use super::chunker::{self, ChunkBuffer, EarlierBlobs, Gear};
use super::compression::{Compressor, PLAIN_LIMIT};
use super::error::{ContentError, RepositoryError};
use super::hash::{self, Begun};
use super::index::Index;
use super::pack;
use super::packer::Packer;
use super::pipeline::{Budget, Job, Names, Queue, Task, Unnamed};
use super::tree::{BlobId, Node};
use super::{BlobKind, Chunking, Inner, guarded, tree_json};
use crate::ground::Progress;

/// A content of fewer bytes is one blob and needs no buffer for cutting. No more than the chunker's least.
const SMALL: usize = 128 << 10;
/// A chunk of fewer bytes is named at once: to wait for others would take longer.
const NAMED_AT_ONCE: usize = 16 << 10;
/// Memory that a worker keeps from blob to blob.
const KEPT_MAX: usize = 16 << 20;
/// Contents that are cut at the same time; more would not be read faster, and each has a buffer.
const CUT_AT_ONCE: usize = 3;

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

struct Shared {
    inner: Arc<Inner>,
    index: Arc<Index>,
    progress: Arc<dyn Progress>,
    gear: Gear,
    /// Blobs that this writer has taken on, stored or under way.
    taken: Mutex<HashSet<(BlobKind, BlobId)>>,
    /// Ids of all-zero blobs by length: disk images are full of them.
    zeros: Mutex<HashMap<usize, BlobId>>,
    queue: Queue,
    budget: Arc<Budget>,
    /// For cutting.
    windows: Windows,
    /// Of chunks under way.
    buffers: Arc<Buffers>,
    packer: Packer,
    /// Set with `failure`; cheap to look at.
    failed: AtomicBool,
    /// The first failure; everything after it is refused with the same words.
    failure: Mutex<Option<RepositoryError>>,
}

/// What a worker keeps from blob to blob.
struct Tools {
    compressor: Compressor,
    sealed: Vec<u8>,
}

/// Stores blobs through a bounded pipeline. Shared by the threads that read sources.
///
/// Dropped without [`BlobWriter::finish`], it leaves packs that no index names: harmless, and never listed.
pub struct BlobWriter {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl BlobWriter {
    pub(super) fn start(
        inner: Arc<Inner>,
        index: Arc<Index>,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, RepositoryError> {
        let gear = Gear::keyed(&inner.key);
        let packer = Packer::start(Arc::clone(&inner))?;
        let shared = Arc::new(Shared {
            inner,
            index,
            progress,
            gear,
            taken: Mutex::default(),
            zeros: Mutex::default(),
            queue: Queue::default(),
            budget: Arc::default(),
            windows: Windows::new(CUT_AT_ONCE),
            buffers: Arc::default(),
            packer,
            failed: AtomicBool::new(false),
            failure: Mutex::default(),
        });
        let mut writer = Self { shared, workers: Vec::new() };
        for number in 0..super::parallelism().saturating_add(1).clamp(3, 8) {
            let shared = Arc::clone(&writer.shared);
            writer.workers.push(super::spawn(format!("blob-{number}"), move || shared.work())?);
        }
        Ok(writer)
    }

    /// Chunks, hashes, deduplicates and stores a stream. Returns when the stream is read and its blobs have names;
    /// durable after [`BlobWriter::finish`]. A fixed block is at least 1 byte and at most 8 MiB.
    pub fn store_content(&self, reader: &mut dyn Read, chunking: Chunking<'_>) -> Result<StoredContent, ContentError> {
        let mut first = Vec::new();
        let small = read_small(reader, &mut first).map_err(ContentError::Source)?;
        let names = Arc::new(Names::default());
        let bytes = match chunking {
            Chunking::Content | Chunking::Like(_) if small => {
                let bytes = first.len() as u64;
                // What it was read into may be many times as large.
                first.shrink_to_fit();
                self.shared.take_chunk(&names, first.len(), || Plain::from(first))?;
                bytes
            }
            _ => {
                let mut buffer = self.shared.windows.borrow();
                buffer.begin(&first);
                drop(first);
                self.store_chunks(reader, chunking, &mut buffer, &names)?
            }
        };
        let blobs = names.wait();
        self.shared.check()?;
        let ended = || RepositoryError::machine("the threads that store blobs have ended");
        Ok(StoredContent { blobs: blobs.ok_or_else(ended)?, bytes })
    }

    fn store_chunks(
        &self,
        reader: &mut dyn Read,
        chunking: Chunking<'_>,
        buffer: &mut ChunkBuffer,
        names: &Arc<Names>,
    ) -> Result<u64, ContentError> {
        let (mut bytes, mut earlier) = (0, EarlierBlobs::of(chunking));
        let length_of = |id: &BlobId| self.shared.index.spot(BlobKind::Data, id).map(|spot| spot.plain_length());
        loop {
            let before = earlier.at(bytes, length_of);
            let next = buffer.next(reader, chunking, before, &self.shared.gear).map_err(ContentError::Source)?;
            let Some(chunk) = next else { return Ok(bytes) };
            bytes += chunk.len() as u64;
            match self.shared.zero_id(chunk) {
                Some(id) => {
                    self.shared.progress.advance(chunk.len() as u64);
                    self.shared.store_new(BlobKind::Data, id, || self.shared.buffers.copy(chunk));
                    names.push(id);
                }
                None => self.shared.take_chunk(names, chunk.len(), || self.shared.buffers.copy(chunk))?,
            }
        }
    }

    /// Stores one directory. Nodes are sorted by name here.
    pub fn store_tree(&self, nodes: Vec<Node>) -> Result<BlobId, RepositoryError> {
        let plain = tree_json::encode(nodes)
            .map_err(|why| RepositoryError::Unsupported(format!("cannot store a directory: {why}")))?;
        check_length(plain.len())?;
        let id = BlobId::of(&plain);
        self.shared.check()?;
        self.shared.store_new(BlobKind::Tree, id, || Plain::from(plain));
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
        let (added_bytes, new_blobs) = self.shared.packer.finish()?;
        Ok(WriteSummary { added_bytes, new_blobs })
    }

    /// Lets the workers finish what is queued and joins them.
    fn stop(&mut self) {
        self.shared.queue.close();
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

/// What could not be read again must not be stored.
fn check_length(tree: usize) -> Result<(), RepositoryError> {
    if tree <= PLAIN_LIMIT {
        return Ok(());
    }
    let why = format!("a directory, or a list of a file's pieces, takes {tree} bytes where {PLAIN_LIMIT} can be read");
    Err(RepositoryError::Unsupported(format!("{why}: leave it out, or divide it")))
}

/// A fault of the program ends the backup, not the thread: others wait for what it would have done.
fn guard<T>(work: impl FnOnce() -> Result<T, RepositoryError>) -> Result<T, RepositoryError> {
    let panicked = |_| RepositoryError::machine("a thread that stores blobs has met a fault of the program");
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(panicked(payload)))
}

/// Reads up to [`SMALL`] bytes; true when the stream ends within them.
fn read_small(reader: &mut dyn Read, bytes: &mut Vec<u8>) -> io::Result<bool> {
    const STEP: usize = 16 << 10;
    let mut end = 0;
    loop {
        if end == bytes.len() {
            if end >= SMALL {
                return Ok(false);
            }
            bytes.resize(if end == 0 { STEP } else { SMALL }, 0);
        }
        match reader.read(&mut bytes[end..]) {
            Ok(0) => {
                bytes.truncate(end);
                return Ok(true);
            }
            Ok(count) => end += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
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

    /// The id of a chunk of zeros, without hashing it each time.
    fn zero_id(&self, chunk: &[u8]) -> Option<BlobId> {
        let zero = chunk.len() >= 4096 && chunker::is_zero(chunk);
        zero.then(|| *guarded(&self.zeros).entry(chunk.len()).or_insert_with(|| BlobId::of(chunk)))
    }

    /// Takes a chunk on: names it at once when it is small, else leaves that to the workers.
    fn take_chunk(
        &self,
        names: &Arc<Names>,
        length: usize,
        plain: impl FnOnce() -> Plain,
    ) -> Result<(), RepositoryError> {
        self.check()?;
        self.progress.advance(length as u64);
        match length {
            0 => {}
            1..NAMED_AT_ONCE => {
                let plain = plain();
                let id = BlobId::of(&plain);
                names.push(id);
                self.store_new(BlobKind::Data, id, || plain);
            }
            length => {
                let permit = self.budget.acquire(buffers::taken(length));
                let (plain, begun, place) = (plain(), Begun::default(), names.reserve());
                self.queue.push_unnamed(Unnamed { plain, begun, place, permit });
            }
        }
        Ok(())
    }

    /// True for a blob that is neither stored nor taken on; it is taken on now.
    fn is_new(&self, kind: BlobKind, id: BlobId) -> bool {
        !self.is_stored(kind, &id) && guarded(&self.taken).insert((kind, id))
    }

    fn store_new(&self, kind: BlobKind, id: BlobId, plain: impl FnOnce() -> Plain) {
        if self.is_new(kind, id) {
            let plain = plain();
            let permit = self.budget.acquire(plain.len());
            self.queue.push_job(Job { kind, id, plain, permit });
        }
    }

    /// A worker's life. After a failure the queue is emptied without work, so that nobody waits for ever.
    fn work(&self) {
        let mut tools = match Compressor::new() {
            Ok(compressor) => Some(Tools { compressor, sealed: Vec::new() }),
            Err(error) => {
                self.fail(RepositoryError::machine(format!("cannot set up compression: {error}")));
                None
            }
        };
        while let Some(task) = self.queue.take() {
            let going = !self.failed.load(Ordering::Acquire);
            match (task, tools.as_mut().filter(|_| going)) {
                (Task::Name { chunks, least }, tools) => {
                    let named = tools.map(|_| guard(|| Ok(self.name(chunks, least))));
                    self.queue.named(self.outcome(named).unwrap_or_default());
                }
                (Task::Store(job), tools) => {
                    let stored = tools.map(|tools| guard(|| self.store(tools, job)));
                    self.outcome(stored);
                }
            }
        }
    }

    /// Notes a failure; `None` for it and for what was not tried.
    fn outcome<T>(&self, result: Option<Result<T, RepositoryError>>) -> Option<T> {
        result?.map_err(|error| self.fail(error)).ok()
    }

    /// Names chunks side by side; gives back those that are to be continued.
    fn name(&self, chunks: Vec<Unnamed>, least: usize) -> Vec<Unnamed> {
        let inputs: Vec<_> = chunks.iter().map(|chunk| (&chunk.plain[..], chunk.begun)).collect();
        let ends = hash::hash_some(&inputs, least);
        let mut unfinished = Vec::new();
        for (chunk, end) in chunks.into_iter().zip(ends) {
            let id = match end {
                Ok(hash) => BlobId(hash),
                Err(begun) => {
                    unfinished.push(Unnamed { begun, ..chunk });
                    continue;
                }
            };
            chunk.place.fill(id);
            if self.is_new(BlobKind::Data, id) {
                self.queue.push_job(Job { kind: BlobKind::Data, id, plain: chunk.plain, permit: chunk.permit });
            }
        }
        unfinished
    }

    fn store(&self, tools: &mut Tools, job: Job) -> Result<(), RepositoryError> {
        let Job { kind, id, plain, permit } = job;
        let too_long = |_| RepositoryError::Unsupported("a directory has too many entries to be stored".to_owned());
        let length = u32::try_from(plain.len()).map_err(too_long)?;
        let compressed = if self.inner.config.version >= 2 {
            let failed = |error| RepositoryError::machine(format!("cannot compress a blob: {error}"));
            tools.compressor.shrink(kind, &plain).map_err(failed)?
        } else {
            None
        };
        let uncompressed = if compressed.is_some() { length } else { 0 };
        self.inner.key.seal_into(compressed.unwrap_or(&plain), &mut tools.sealed)?;
        drop(plain);
        self.packer.add(kind, id, &tools.sealed, uncompressed)?;
        if tools.sealed.capacity() > KEPT_MAX {
            // One huge directory must not cost its memory to the end.
            tools.sealed = Vec::new();
            tools.compressor.forget();
        }
        drop(permit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_could_not_be_read_again_is_refused() {
        assert!(check_length(PLAIN_LIMIT).is_ok());
        let refused = check_length(PLAIN_LIMIT + 1).unwrap_err().to_string();
        assert!(refused.contains("leave it out, or divide it"), "{refused}");
    }
}
