//! Bytes, deduplicated and sealed: restic's repository format, version 2 (`doc/design.rst` of restic is the
//! specification), read and written by our own engine.

pub mod tree;

use std::io::Read;
use std::sync::Arc;

use jiff::Timestamp;

use crate::ground::{Failure, Progress, Secret};
use crate::site::{ObjectStore, StoreError};

pub use tree::{BlobId, Node, NodeKind};

/// Situations in which a caller acts differently.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    #[error("there is no repository in {0}")]
    NotARepository(String),
    #[error("{0} already holds a repository")]
    AlreadyExists(String),
    #[error("the password does not open the repository in {0}")]
    WrongPassword(String),
    /// What is damaged and how that was seen.
    #[error("{0}")]
    Damaged(String),
    #[error("{0}")]
    Unsupported(String),
    /// Another process holds the repository exclusively: who and since when.
    #[error("{0}")]
    Locked(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        match &error {
            RepositoryError::NotARepository(_)
            | RepositoryError::AlreadyExists(_)
            | RepositoryError::WrongPassword(_)
            | RepositoryError::Unsupported(_) => Failure::wrong_input(error.to_string()),
            RepositoryError::Locked(_) => Failure::busy(error.to_string()),
            RepositoryError::Damaged(_) | RepositoryError::Store(_) => Failure::failed(error.to_string()),
        }
    }
}

/// How costly the key derivation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStrength {
    /// For a password of 256 random bits that `init` made: costly derivation gains nothing.
    Random,
    /// For a password chosen by people: scrypt 2^17, 8, 1 (OWASP's minimum).
    Chosen,
}

/// What a blob holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlobKind {
    Data,
    Tree,
}

/// A snapshot as the format has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Hex id; empty until saved.
    pub id: String,
    pub time: Timestamp,
    pub tree: BlobId,
    /// Escaped paths.
    pub paths: Vec<String>,
    pub hostname: String,
    pub username: String,
    pub uid: u32,
    pub gid: u32,
    pub tags: Vec<String>,
    pub parent: Option<String>,
}

/// An opened repository: the password fits, the configuration is understood. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    store: Arc<dyn ObjectStore>,
}

/// Why content could not be stored: the side that failed is never confused.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error("{0}")]
    Source(std::io::Error),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

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

/// How chunk boundaries are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunking {
    /// By content, keyed from the master key.
    Content,
    /// Fixed, aligned blocks of this many bytes: disk images.
    Fixed(usize),
}

/// Stores blobs through a bounded pipeline. Shared by the threads that read sources.
pub struct BlobWriter {
    _private: (),
}

impl BlobWriter {
    /// Chunks, hashes, deduplicates and stores a stream. Returns when the stream is read; durable after [`BlobWriter::finish`].
    pub fn store_content(&self, _reader: &mut dyn Read, _chunking: Chunking) -> Result<StoredContent, ContentError> {
        unimplemented!()
    }

    /// Stores one directory. Nodes are sorted by name here.
    pub fn store_tree(&self, _nodes: Vec<Node>) -> Result<BlobId, RepositoryError> {
        unimplemented!()
    }

    /// True when the blob is stored already: lets an unchanged file keep its content without a read.
    pub fn contains(&self, _kind: BlobKind, _id: &BlobId) -> bool {
        unimplemented!()
    }

    /// Flushes packs, then the index; everything stored so far is durable and verified when it returns.
    pub fn finish(self) -> Result<WriteSummary, RepositoryError> {
        unimplemented!()
    }
}

/// Reads blobs, each checked by its MAC and its hash. Shared by threads; cheap to clone.
#[derive(Clone)]
pub struct BlobReader {
    _private: (),
}

impl BlobReader {
    /// Reads one blob.
    pub fn read(&self, _kind: BlobKind, _id: &BlobId) -> Result<Vec<u8>, RepositoryError> {
        unimplemented!()
    }

    /// Reads a directory; names are checked, entries sorted and unique, or it is damaged.
    pub fn read_tree(&self, _id: &BlobId) -> Result<Vec<Node>, RepositoryError> {
        unimplemented!()
    }

    /// Plain length of a blob without reading it; `None` when it is not in the index.
    pub fn length(&self, _kind: BlobKind, _id: &BlobId) -> Option<u64> {
        unimplemented!()
    }

    /// Reads many data blobs with each pack's bytes fetched once and in order; calls `sink` from worker threads with
    /// the position in `wanted` and the plain text or the error for that blob. Stops early when `sink` returns false.
    pub fn read_many(
        &self,
        _wanted: &[BlobId],
        _sink: &(dyn Fn(usize, Result<&[u8], RepositoryError>) -> bool + Sync),
    ) {
        unimplemented!()
    }
}

/// How thorough a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyDepth {
    /// Listing, indexes, snapshots and all trees; no data is read.
    Structure,
    /// Also reads so many percent of the packs (100 = all), chosen by `seed`.
    Data { percent: u8, seed: u64 },
}

/// What a verification saw.
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    pub snapshots: u64,
    pub packs: u64,
    pub packs_read: u64,
    pub blobs: u64,
    pub bytes_read: u64,
    /// Damage, one sentence each, naming object and, where known, the snapshot's paths.
    pub damage: Vec<String>,
}

/// Held while reading or writing; restic's own lock objects. Released on drop.
pub struct LockGuard {
    _private: (),
}

impl Repository {
    /// Makes a repository in an empty store.
    pub fn create(
        store: Arc<dyn ObjectStore>,
        _password: &Secret,
        _strength: KeyStrength,
    ) -> Result<Self, RepositoryError> {
        Ok(Self { store })
    }

    /// Opens one.
    pub fn open(store: Arc<dyn ObjectStore>, _password: &Secret) -> Result<Self, RepositoryError> {
        Ok(Self { store })
    }

    /// The repository's id, hex.
    pub fn id(&self) -> String {
        self.store.describe()
    }

    /// A shared lock (backup, restore): refused while somebody holds an exclusive one. `now` dates the lock.
    pub fn lock_shared(&self, _now: Timestamp) -> Result<LockGuard, RepositoryError> {
        unimplemented!()
    }

    /// Loads the index and gives a reader.
    pub fn reader(&self) -> Result<BlobReader, RepositoryError> {
        unimplemented!()
    }

    /// Loads the index and gives a writer. `progress` hears of bytes as they are taken in.
    pub fn writer(&self, _progress: Arc<dyn Progress>) -> Result<BlobWriter, RepositoryError> {
        unimplemented!()
    }

    /// All snapshots, oldest first; complete, or an error.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, RepositoryError> {
        unimplemented!()
    }

    /// One snapshot by its whole id.
    pub fn snapshot(&self, _id: &str) -> Result<Snapshot, RepositoryError> {
        unimplemented!()
    }

    /// Saves a snapshot (its `id` is ignored) and returns its id. Only after [`BlobWriter::finish`].
    pub fn save_snapshot(&self, _snapshot: &Snapshot) -> Result<String, RepositoryError> {
        unimplemented!()
    }

    /// Checks the repository.
    pub fn verify(&self, _depth: VerifyDepth, _progress: &dyn Progress) -> Result<VerifyReport, RepositoryError> {
        unimplemented!()
    }
}
