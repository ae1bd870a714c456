//! Bytes, deduplicated and sealed: restic's repository format, version 2 (`doc/design.rst` of restic is the
//! specification), read and written by our own engine.
//!
//! | file | what it is |
//! |---|---|
//! | `config`, `key`, `crypto`, `polynomial` | how a repository is opened; sealing |
//! | `unpacked`, `compression` | objects outside packs; zstd, bounded |
//! | `tree`, `tree_json`, `quote`, `snapshot` | directories and snapshots |
//! | `pack`, `index`, `index_file` | blobs in packs; where each is |
//! | `chunker`, `writer`, `pipeline`, `hash`, `packer`, `storing` | storing |
//! | `reader`, `opener` | reading |
//! | `lock`, `process`, `commit` | use by several at once |
//! | `inspection` | whether trees of a repository that is not ours are whole |
//! | `verify`, `verify_data`, `tree_visits` | checking |
//! | `prune`, `repair`; `closure`, `repack`, `rewrite` | removing and mending; what they share |
//! | `fuzzing` | the parsers, for fuzzers and tests |
//!
//! Order of writes: packs, then the index that names them, then the snapshot that needs them; each durable before the
//! next. So a kill at any moment leaves at most packs that nothing names.

mod buffers;
mod chunker;
mod closure;
mod commit;
mod compression;
mod config;
mod crypto;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod hash;
mod index;
#[cfg(test)]
mod index_bounds;
mod index_file;
mod inspection;
mod key;
mod lock;
mod opener;
mod pack;
mod packer;
mod pipeline;
mod polynomial;
mod process;
pub mod prune;
mod quote;
mod reader;
mod repack;
pub mod repair;
mod rewrite;
mod snapshot;
mod storing;
pub mod tree;
mod tree_json;
mod tree_visits;
mod unpacked;
mod verify;
mod verify_data;
mod writer;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::ground::{Progress, Secret};
use crate::site::{ObjectStore, PutMode, StoreErrorKind};

use config::Config;
use crypto::SealKey;

pub use chunker::{BLOB_MAX, TAIL_KEPT};
pub use error::{ContentError, RepositoryError};
pub use inspection::{Inspection, TreeSize};
pub use lock::LockGuard;
pub use reader::{BlobReader, BlobSink};
pub use snapshot::Snapshot;
pub use tree::{BlobId, Node, NodeKind};
pub use verify::{VerifyDepth, VerifyReport};
pub use writer::{BlobWriter, StoredContent, WriteSummary};

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

/// How chunk boundaries are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunking<'a> {
    /// By content, keyed from the master key.
    Content,
    /// By content, but where these blobs of an earlier version lie, as long as the bytes are the same: a file that grew
    /// keeps the blob that once was its end.
    Like(&'a [BlobId]),
    /// Fixed, aligned blocks of this many bytes: disk images.
    Fixed(usize),
}

/// What all parts of an opened repository share.
struct Inner {
    store: Arc<dyn ObjectStore>,
    key: SealKey,
    config: Config,
}

/// An opened repository: the password fits, the configuration is understood. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    inner: Arc<Inner>,
}

/// A mutex whose holder panicked still protects whole values here: they are only pushed, taken and replaced.
fn guarded<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads the machine runs at the same time.
fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Starts a thread of the engine.
fn spawn<T: Send + 'static>(
    name: String,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<std::thread::JoinHandle<T>, RepositoryError> {
    let started = std::thread::Builder::new().name(name).spawn(work);
    started.map_err(|error| RepositoryError::machine(format!("cannot start a thread: {error}")))
}

impl Repository {
    /// Makes a repository in an empty store.
    ///
    /// The key is stored before the configuration. After a kill between the two, the next call finds the key by the
    /// same password and goes on with it.
    pub fn create(
        store: Arc<dyn ObjectStore>,
        password: &Secret,
        strength: KeyStrength,
    ) -> Result<Self, RepositoryError> {
        refuse_existing(&*store)?;
        let (key, stored_key) = match open_any_key(&*store, password)?.fits.pop() {
            Some(key) => (key, None),
            None => {
                let key = SealKey::generate()?;
                let object = put_key(&*store, &key::seal(&key, password, strength)?)?;
                (key, Some(object))
            }
        };
        let config = Config::generate()?;
        match store.put(config::CONFIG, &config.seal(&key)?, PutMode::CreateNew) {
            Err(error) if error.kind == StoreErrorKind::AlreadyExists => {
                stored_key.map_or(Ok(()), |object| store.delete(&object))?;
                Err(RepositoryError::AlreadyExists(store.describe()))
            }
            other => {
                other?;
                Ok(Self { inner: Arc::new(Inner { store, key, config }) })
            }
        }
    }

    /// Opens one.
    pub fn open(store: Arc<dyn ObjectStore>, password: &Secret) -> Result<Self, RepositoryError> {
        let stored = store.get(config::CONFIG).map_err(|error| match error.kind {
            StoreErrorKind::NotFound => RepositoryError::NotARepository(store.describe()),
            _ => error.into(),
        })?;
        let keys = open_any_key(&*store, password)?;
        if keys.fits.is_empty() {
            return Err(keys.no_fit(&*store));
        }
        for key in keys.fits {
            if let Some(config) = Config::open(&key, &stored) {
                return Ok(Self { inner: Arc::new(Inner { key, config: config?, store }) });
            }
        }
        Err(RepositoryError::Damaged(format!("the object config in {} is damaged", store.describe())))
    }

    /// The repository's id, hex.
    pub fn id(&self) -> String {
        self.inner.config.id.clone()
    }

    /// A shared lock (backup, restore): refused while somebody holds an exclusive one. `now` dates the lock.
    pub fn lock_shared(&self, now: Timestamp) -> Result<LockGuard, RepositoryError> {
        lock::acquire(&self.inner, false, now)
    }

    /// An exclusive lock (removing packs): refused while anybody holds any.
    pub fn lock_exclusive(&self, now: Timestamp) -> Result<LockGuard, RepositoryError> {
        lock::acquire(&self.inner, true, now)
    }

    /// Loads the index and gives a reader. When an index file is damaged, packs that no other names are found by
    /// their own headers.
    pub fn reader(&self) -> Result<BlobReader, RepositoryError> {
        let loaded = index_file::load_for_reading(&self.inner, true)?;
        Ok(BlobReader::new(Arc::clone(&self.inner), loaded.index))
    }

    /// Loads the index and gives a writer. `progress` hears of bytes as they are taken in. Index files that are damaged
    /// are warned of; packs that no other index names then get a new one, so that nothing is lost with them. Blobs of packs
    /// that are lost or cut count as not stored: no new point may rely on them.
    pub fn writer(&self, progress: Arc<dyn Progress>) -> Result<BlobWriter, RepositoryError> {
        Ok(self.writer_with(index_file::load(&self.inner, true)?, progress)?.0)
    }

    /// As [`Repository::reader`] and [`Repository::writer`], with the index loaded once for both.
    pub fn reader_and_writer(&self, progress: Arc<dyn Progress>) -> Result<(BlobReader, BlobWriter), RepositoryError> {
        let loaded = index_file::load(&self.inner, true)?;
        let to_delete = !loaded.marked.is_empty();
        let (writer, index, lost) = self.writer_with(loaded, progress)?;
        // A writer does not rely on packs that wait for deletion or are damaged; a reader tries them.
        let reader = if to_delete || lost { self.reader()? } else { BlobReader::new(Arc::clone(&self.inner), index) };
        Ok((reader, writer))
    }

    /// The writer, its index, and whether packs are lost.
    fn writer_with(
        &self,
        loaded: index_file::Loaded,
        progress: Arc<dyn Progress>,
    ) -> Result<(BlobWriter, Arc<index::Index>, bool), RepositoryError> {
        for damage in &loaded.damage {
            progress.warn(damage);
        }
        if !loaded.recovered.is_empty() {
            index_file::save(&self.inner, &loaded.recovered)?;
        }
        let mut index = loaded.index;
        let lost = index.forget_lost_packs(&unpacked::list(&self.inner, pack::PACKS)?.0.into_iter().collect());
        if !lost.is_empty() {
            let count = lost.len();
            progress.warn(&format!("{count} packs are lost or cut; what is still there to read is stored again"));
        }
        let index = Arc::new(index);
        let writer = BlobWriter::start(Arc::clone(&self.inner), Arc::clone(&index), progress)?;
        Ok((writer, index, !lost.is_empty()))
    }

    /// All snapshots, oldest first; complete, or an error.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, RepositoryError> {
        snapshot::load_all(&self.inner)
    }

    /// All snapshots that can be read, oldest first, and a sentence for each that cannot.
    pub fn readable_snapshots(&self) -> Result<(Vec<Snapshot>, Vec<String>), RepositoryError> {
        snapshot::load_readable(&self.inner)
    }

    /// The snapshot with this tag, among those that this host may read.
    pub fn tagged_snapshot(&self, tag: &str) -> Result<Option<Snapshot>, RepositoryError> {
        snapshot::find(&self.inner, tag)
    }

    /// One snapshot by its whole id.
    pub fn snapshot(&self, id: &str) -> Result<Snapshot, RepositoryError> {
        let id = BlobId::from_hex(id)
            .ok_or_else(|| RepositoryError::Unsupported(format!("{id:?} is not the whole id of a snapshot")))?;
        snapshot::load(&self.inner, &id)
    }

    /// Saves a snapshot (its `id` is ignored) of whose tree everything is stored, before and after; its id. Only after
    /// [`BlobWriter::finish`]. Costs two listings more than saving alone, unless the lock was lost or others have pruned
    /// meanwhile: then the whole tree is gone through, and what was marked for deletion is put back.
    ///
    /// # Errors
    /// Locked when somebody holds the repository exclusively by now; damaged when something is not stored any more: no
    /// snapshot is left, and the source has to be read again.
    pub fn commit_snapshot(
        &self,
        snapshot: &Snapshot,
        lock: &LockGuard,
        now: Timestamp,
    ) -> Result<String, RepositoryError> {
        commit::commit(&self.inner, snapshot, lock, now)
    }

    /// Whether everything that a tree refers to is stored; what of it is marked for deletion is put back.
    pub fn is_whole(&self, tree: &BlobId) -> Result<bool, RepositoryError> {
        commit::is_whole(&self.inner, tree)
    }

    /// Loads the index to tell of trees whether they are whole, without writing anything. Snapshots are listed before.
    pub fn inspection(&self) -> Result<Inspection, RepositoryError> {
        Inspection::begin(&self.inner)
    }

    /// Whether its configuration still lies there: a disk that has gone leaves an empty directory.
    pub fn is_there(&self) -> Result<bool, RepositoryError> {
        Ok(self.inner.store.size("config")?.is_some())
    }

    /// Names of the index files as they lie there now. While they stay the same, nothing was pruned.
    pub fn index_names(&self) -> Result<HashSet<BlobId>, RepositoryError> {
        index_file::names(&self.inner)
    }

    /// Saves a snapshot (its `id` is ignored) and returns its id. Only after [`BlobWriter::finish`], and only where nobody
    /// else may prune: see [`Repository::commit_snapshot`].
    pub fn save_snapshot(&self, snapshot: &Snapshot) -> Result<String, RepositoryError> {
        snapshot::save(&self.inner, snapshot)
    }

    /// Removes what is left of a snapshot that is damaged; false when there is nothing, or it is not damaged.
    ///
    /// # Errors
    /// The store's error when it does not answer or does not remove it.
    pub fn remove_damaged_snapshot(&self, id: &str) -> Result<bool, RepositoryError> {
        let object = format!("{}{id}", snapshot::SNAPSHOTS);
        match self.snapshot(id) {
            Err(RepositoryError::Damaged(_)) if self.inner.store.size(&object)?.is_some() => {
                self.inner.store.delete(&object)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Checks the repository.
    pub fn verify(&self, depth: VerifyDepth, progress: &dyn Progress) -> Result<VerifyReport, RepositoryError> {
        verify::verify(&self.inner, depth, progress)
    }
}

/// A store with a configuration, or with content whose configuration was lost, is not written into.
fn refuse_existing(store: &dyn ObjectStore) -> Result<(), RepositoryError> {
    let holds = |prefix| match store.list(prefix) {
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(false),
        other => other.map(|objects| !objects.is_empty()),
    };
    let taken = store.size(config::CONFIG)?.is_some()
        || holds(snapshot::SNAPSHOTS)?
        || holds(index_file::INDEXES)?
        || holds(pack::PACKS)?;
    if taken { Err(RepositoryError::AlreadyExists(store.describe())) } else { Ok(()) }
}

fn put_key(store: &dyn ObjectStore, bytes: &[u8]) -> Result<String, RepositoryError> {
    let object = format!("{}{}", key::KEYS, BlobId::of(bytes));
    store.put(&object, bytes, PutMode::CreateNew)?;
    Ok(object)
}

/// What a password met among the key objects.
#[derive(Default)]
struct Keys {
    fits: Vec<SealKey>,
    /// Sound keys of other passwords.
    others: u64,
    /// Keys that cannot be used, and why; the first is told.
    problem: Option<RepositoryError>,
}

impl Keys {
    /// Why no key fits: a damaged key might have been the one, so that comes before a wrong password.
    fn no_fit(self, store: &dyn ObjectStore) -> RepositoryError {
        let place = store.describe();
        match self.problem {
            Some(problem) => problem,
            None if self.others == 0 => RepositoryError::Damaged(format!("the repository in {place} has no key")),
            None => RepositoryError::WrongPassword(place),
        }
    }
}

/// Tries the password on every key object. One that opens is used even when its name does not match.
fn open_any_key(store: &dyn ObjectStore, password: &Secret) -> Result<Keys, RepositoryError> {
    let objects = match store.list(key::KEYS) {
        Err(error) if error.kind == StoreErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    let mut keys = Keys::default();
    for object in objects {
        let bytes = store.get(&object.key)?;
        let whole = object.key.ends_with(&BlobId::of(&bytes).to_string());
        match key::open(&bytes, password) {
            Ok(key::Opened::Fits(key)) => keys.fits.push(key),
            Ok(key::Opened::OtherPassword) if whole => keys.others += 1,
            Err(error) if whole => keys.problem = keys.problem.or(Some(error.of(&object.key))),
            // Whatever it now seems to ask for, it was not written so.
            Ok(key::Opened::OtherPassword) | Err(_) => {
                let problem = RepositoryError::Damaged("its bytes do not match its name".to_owned());
                keys.problem = keys.problem.or(Some(problem.of(&object.key)));
            }
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests;
