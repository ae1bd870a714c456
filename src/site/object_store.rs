//! The narrow trait that every store of objects implements: local directories and buckets.
//!
//! Blocking on purpose: the repository engine runs on threads of its own; asynchronous callers use
//! `spawn_blocking`, and a network store drives its own runtime.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;

/// Whether a put may replace an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Fails with [`StoreErrorKind::AlreadyExists`] when the key is taken; atomic against other writers.
    CreateNew,
    /// Replaces an older object, whole or not at all.
    Replace,
}

/// What a listing says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: String,
    /// Bytes.
    pub size: u64,
}

/// What the caller can do about a store's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// No such object.
    NotFound,
    /// The key is taken ([`PutMode::CreateNew`]).
    AlreadyExists,
    /// No space or quota left.
    Full,
    /// Not permitted.
    Denied,
    /// Everything else; may be worth another try.
    Other,
}

/// A store's error: what was tried on which object and why it failed.
#[derive(Debug, Clone)]
pub struct StoreError {
    pub kind: StoreErrorKind,
    /// `write /mnt/dr/shop/repository/config: No space left on device`
    pub message: String,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StoreError {}

/// A place for objects. Keys are relative, `/`-separated, of plain components (no `.`, `..`, empty).
pub trait ObjectStore: Send + Sync {
    /// Stores an object, verified and durable when it returns.
    fn put(&self, key: &str, bytes: &[u8], mode: PutMode) -> Result<(), StoreError>;
    /// Reads an object whole.
    fn get(&self, key: &str) -> Result<Vec<u8>, StoreError>;
    /// Reads exactly these bytes; fewer is an error.
    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError>;
    /// Reads as many bytes as `into` has, from `offset`, into memory that the caller uses again and again; fewer is an
    /// error.
    fn read_at(&self, key: &str, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        let bytes = self.get_range(key, offset..offset.saturating_add(into.len() as u64))?;
        if bytes.len() != into.len() {
            let message = format!("read {key}: {} bytes came where {} were asked for", bytes.len(), into.len());
            return Err(StoreError { kind: StoreErrorKind::Other, message });
        }
        into.copy_from_slice(&bytes);
        Ok(())
    }
    /// These bytes are read soon: a store that can have them ready without holding up the caller does so.
    fn will_read(&self, _key: &str, _range: Range<u64>) {}
    /// All objects whose key starts with `prefix` (empty, or ending in `/`), sorted by key; complete, or an error.
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError>;
    /// Size in bytes, `None` when there is no such object.
    fn size(&self, key: &str) -> Result<Option<u64>, StoreError>;
    /// Removes an object; a missing one is success.
    fn delete(&self, key: &str) -> Result<(), StoreError>;
    /// Name of the place for people, for instance the directory.
    fn describe(&self) -> String;
    /// Begins an object piece by piece, without holding it in memory; `None` where the store only takes whole ones.
    fn stage(&self) -> Result<Option<Box<dyn StagedObject>>, StoreError> {
        Ok(None)
    }

    /// How many puts are worth having under way at the same time: a disk is busy with one or two, a bucket far away
    /// answers each late and takes several at once. Each holds its bytes in memory, and a bucket's a copy of them.
    fn parallel_puts(&self) -> usize {
        2
    }

    /// How many of those who read wait for the store at any moment: so many more readers than processors keep these busy.
    fn waiting_reads(&self) -> usize {
        1
    }

    /// As [`ObjectStore::get_range`], of an object that the same machine reads again and again in small pieces: a pack
    /// of directories. A store with a cache fetches it whole, once.
    fn get_range_kept(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.get_range(key, range)
    }

    /// Says that an object, just put with these bytes, is one that [`ObjectStore::get_range_kept`] will ask for.
    /// Never fails: a cache that does not take it costs time later and nothing else.
    fn keep(&self, key: &str, bytes: &[u8]) {
        let _ = (key, bytes);
    }

    /// False when it is known that [`ObjectStore::get_range_kept`] will be refused this object: the credentials may put and
    /// not read, and no cache has it. What is in it is then worth storing once more.
    fn is_at_hand(&self, key: &str) -> bool {
        let _ = key;
        true
    }

    /// Ends threads and connections of its own; the next call makes new ones. For a process that is about to leave
    /// its name spaces.
    fn pause(&self) {}

    /// Clears away what uploads that were broken off left behind, when it is older than any upload takes; one sentence
    /// for each thing removed.
    fn sweep(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    /// When an object was stored, by the store's own clock; `None` when there is no such object, or when the store does
    /// not tell. Two such times of one store are compared, never one with the clock of this machine.
    fn modified(&self, key: &str) -> Result<Option<Timestamp>, StoreError> {
        let _ = key;
        Ok(None)
    }
}

/// An object that is written before its name is known, which may be the hash of its bytes. Given up on drop.
pub trait StagedObject: Send {
    /// Adds to its end.
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError>;
    /// Makes what was added durable.
    fn settle(&mut self) -> Result<(), StoreError>;
    /// Reads what was added, from this place on; fewer bytes only at its end.
    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError>;
    /// Gives it its name; durable when it returns. A name that is taken fails with [`StoreErrorKind::AlreadyExists`].
    fn publish(self: Box<Self>, key: &str) -> Result<(), StoreError>;
}

/// A part of a store below a prefix, seen as a store.
pub struct Below {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

impl Below {
    /// `prefix` without a trailing slash.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self { store, prefix: format!("{prefix}/") }
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

impl ObjectStore for Below {
    fn put(&self, key: &str, bytes: &[u8], mode: PutMode) -> Result<(), StoreError> {
        self.store.put(&self.key(key), bytes, mode)
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, StoreError> {
        self.store.get(&self.key(key))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.store.get_range(&self.key(key), range)
    }

    fn read_at(&self, key: &str, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        self.store.read_at(&self.key(key), offset, into)
    }

    fn will_read(&self, key: &str, range: Range<u64>) {
        self.store.will_read(&self.key(key), range);
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut objects = self.store.list(&self.key(prefix))?;
        for object in &mut objects {
            object.key.drain(..self.prefix.len());
        }
        Ok(objects)
    }

    fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.store.size(&self.key(key))
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.store.delete(&self.key(key))
    }

    fn describe(&self) -> String {
        format!("{}/{}", self.store.describe(), self.prefix.trim_end_matches('/'))
    }

    fn stage(&self) -> Result<Option<Box<dyn StagedObject>>, StoreError> {
        let staged = self.store.stage()?;
        Ok(staged.map(|object| Box::new(StagedBelow { object, prefix: self.prefix.clone() }) as Box<_>))
    }

    fn parallel_puts(&self) -> usize {
        self.store.parallel_puts()
    }

    fn waiting_reads(&self) -> usize {
        self.store.waiting_reads()
    }

    fn get_range_kept(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.store.get_range_kept(&self.key(key), range)
    }

    fn keep(&self, key: &str, bytes: &[u8]) {
        self.store.keep(&self.key(key), bytes);
    }

    fn is_at_hand(&self, key: &str) -> bool {
        self.store.is_at_hand(&self.key(key))
    }

    fn pause(&self) {
        self.store.pause();
    }

    fn sweep(&self) -> Result<Vec<String>, StoreError> {
        self.store.sweep()
    }

    fn modified(&self, key: &str) -> Result<Option<Timestamp>, StoreError> {
        self.store.modified(&self.key(key))
    }
}

struct StagedBelow {
    object: Box<dyn StagedObject>,
    prefix: String,
}

impl StagedObject for StagedBelow {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.object.append(bytes)
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.object.settle()
    }

    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        self.object.read_back(offset, buffer)
    }

    fn publish(self: Box<Self>, key: &str) -> Result<(), StoreError> {
        let Self { object, prefix } = *self;
        object.publish(&format!("{prefix}{key}"))
    }
}
