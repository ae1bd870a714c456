//! A cache before a repository far away: what each backup reads again, kept on this machine.
//!
//! Kept are index files, snapshots, keys and packs of directories: objects whose name is the SHA-256 of their bytes, so
//! that nothing here can be out of date or believed wrongly. Bytes are compared with the name before they are used;
//! what does not match is thrown away and read from the place itself. Deleting the cache costs time and nothing else,
//! except where the credentials may not read what was stored: then the next backup reads all files again.
//!
//! What lies here is sealed as it is at the DR site. Its size is bounded; what was not used for longest goes first.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::object_store::{ObjectInfo, ObjectStore, PutMode, StagedObject, StoreError, StoreErrorKind};
use crate::ground::sha256_hex;

/// Bytes kept; the directories of about ten million files.
const LIMIT: u64 = 4 << 30;
/// A pack that is larger is not fetched whole for a piece of it.
const PACK_LARGEST: u64 = 64 << 20;

/// A store with a cache before it.
pub struct CachedStore {
    store: Arc<dyn ObjectStore>,
    directory: PathBuf,
    limit: u64,
    /// Names of packs whose bytes this process has compared with their name.
    sound: Mutex<HashSet<String>>,
    /// Whether the place has refused to let a pack be read.
    refused: AtomicBool,
}

impl CachedStore {
    /// A repository's store, with its cache in `directory`, which is made when it is needed.
    pub fn new(store: Arc<dyn ObjectStore>, directory: &Path) -> Self {
        Self::bounded(store, directory, LIMIT)
    }

    fn bounded(store: Arc<dyn ObjectStore>, directory: &Path, limit: u64) -> Self {
        let cache = Self {
            store,
            directory: directory.to_owned(),
            limit,
            sound: Mutex::default(),
            refused: AtomicBool::new(false),
        };
        cache.shrink();
        cache
    }

    /// Whether the object is small, immutable and read by every backup.
    fn is_kept(key: &str) -> bool {
        ["index/", "snapshots/", "keys/"].iter().any(|directory| key.starts_with(directory)) && name_of(key).is_some()
    }

    /// Where an object lies here; `None` for those whose name is no hash.
    fn path(&self, key: &str) -> Option<PathBuf> {
        let name = name_of(key)?;
        let kind = key.split('/').next()?;
        Some(self.directory.join(kind).join(&name[..2]).join(name))
    }

    /// The object's bytes, compared with its name.
    fn recall(&self, key: &str) -> Option<Vec<u8>> {
        let path = self.path(key)?;
        let bytes = fs::read(&path).ok()?;
        if Some(sha256_hex(&bytes).as_str()) == name_of(key) {
            touch(&path);
            return Some(bytes);
        }
        let _ = fs::remove_file(&path);
        None
    }

    /// Takes bytes whose hash is their name. A cache that cannot be written is as good as none.
    fn remember(&self, key: &str, bytes: &[u8]) {
        if let Some(path) = self.path(key)
            && !path.exists()
        {
            let _ = write(&path, bytes);
        }
    }

    /// A piece of a pack that lies here, whole and sound.
    fn recall_range(&self, key: &str, range: &Range<u64>) -> Option<Vec<u8>> {
        let path = self.path(key)?;
        let known = self.sound.lock().unwrap_or_else(PoisonError::into_inner).contains(key);
        if !known {
            self.recall(key)?;
            self.sound.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
        }
        let mut bytes = vec![0; usize::try_from(range.end.checked_sub(range.start)?).ok()?];
        File::open(path).and_then(|file| file.read_exact_at(&mut bytes, range.start)).ok()?;
        Some(bytes)
    }

    /// Remembers that reading is refused.
    fn noted<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        if outcome.as_ref().is_err_and(|error| error.kind == StoreErrorKind::Denied) {
            self.refused.store(true, Ordering::Relaxed);
        }
        outcome
    }

    /// Removes what was not used for longest until the rest is within the limit.
    fn shrink(&self) {
        let mut files = Vec::new();
        collect(&self.directory, 3, &mut files);
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        files.sort_by_key(|(used, ..)| *used);
        for (_, size, path) in files {
            if total <= self.limit {
                break;
            }
            if fs::remove_file(path).is_ok() {
                total -= size;
            }
        }
    }
}

impl Drop for CachedStore {
    fn drop(&mut self) {
        self.shrink();
    }
}

fn name_of(key: &str) -> Option<&str> {
    let name = key.rsplit('/').next()?;
    (name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))).then_some(name)
}

/// Under another name first, so that a name never stands for half of the bytes. Not made durable: what a power cut
/// leaves is compared with its name like everything else.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// Marks a file as used now, by the file system's clock.
fn touch(path: &Path) {
    use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps { last_access: omit, last_modification: now };
    let _ = rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty());
}

fn collect(directory: &Path, depth: u32, files: &mut Vec<((i64, i64), u64, PathBuf)>) {
    use std::os::unix::fs::MetadataExt;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() && depth > 0 {
            collect(&entry.path(), depth - 1, files);
        } else if metadata.is_file() {
            files.push(((metadata.mtime(), metadata.mtime_nsec()), metadata.len(), entry.path()));
        }
    }
}

impl ObjectStore for CachedStore {
    fn put(&self, key: &str, bytes: &[u8], mode: PutMode) -> Result<(), StoreError> {
        // First, so that a host that may not read finds its own snapshot again after a kill in between. Nobody asks for
        // an object that the place does not list.
        if Self::is_kept(key) {
            self.remember(key, bytes);
        }
        self.store.put(key, bytes, mode)
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, StoreError> {
        if !Self::is_kept(key) {
            return self.store.get(key);
        }
        if let Some(bytes) = self.recall(key) {
            return Ok(bytes);
        }
        let bytes = self.store.get(key)?;
        if Some(sha256_hex(&bytes).as_str()) == name_of(key) {
            self.remember(key, &bytes);
        }
        Ok(bytes)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.store.get_range(key, range)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.store.list(prefix)
    }

    fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.store.size(key)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        if let Some(path) = self.path(key) {
            // Before it is gone there: nothing may be answered from here that is not there.
            let _ = fs::remove_file(path);
            self.sound.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        }
        self.store.delete(key)
    }

    fn describe(&self) -> String {
        self.store.describe()
    }

    fn parallel_puts(&self) -> usize {
        self.store.parallel_puts()
    }

    fn waiting_reads(&self) -> usize {
        self.store.waiting_reads()
    }

    fn get_range_kept(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        if let Some(bytes) = self.recall_range(key, &range) {
            return Ok(bytes);
        }
        if name_of(key).is_none() || self.noted(self.store.size(key))?.is_none_or(|size| size > PACK_LARGEST) {
            return self.store.get_range(key, range);
        }
        let bytes = self.noted(self.store.get(key))?;
        if Some(sha256_hex(&bytes).as_str()) != name_of(key) {
            return self.store.get_range(key, range);
        }
        self.remember(key, &bytes);
        let piece = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        match piece.and_then(|(start, end)| bytes.get(start..end)) {
            Some(piece) => Ok(piece.to_vec()),
            None => self.store.get_range(key, range),
        }
    }

    fn keep(&self, key: &str, bytes: &[u8]) {
        self.remember(key, bytes);
    }

    fn is_at_hand(&self, key: &str) -> bool {
        !self.refused.load(Ordering::Relaxed) || self.path(key).is_some_and(|path| path.exists())
    }

    fn pause(&self) {
        self.store.pause();
    }

    fn sweep(&self) -> Result<Vec<String>, StoreError> {
        self.store.sweep()
    }

    fn modified(&self, key: &str) -> Result<Option<Timestamp>, StoreError> {
        self.store.modified(key)
    }

    fn read_at(&self, key: &str, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        self.store.read_at(key, offset, into)
    }

    fn will_read(&self, key: &str, range: Range<u64>) {
        self.store.will_read(key, range);
    }

    fn stage(&self) -> Result<Option<Box<dyn StagedObject>>, StoreError> {
        self.store.stage()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::local::LocalStore;

    struct Bed {
        _root: tempfile::TempDir,
        far: PathBuf,
        near: PathBuf,
    }

    fn bed() -> Bed {
        let root = tempfile::tempdir().unwrap();
        Bed { far: root.path().join("far"), near: root.path().join("near"), _root: root }
    }

    fn cache(bed: &Bed) -> CachedStore {
        CachedStore::new(Arc::new(LocalStore::new(&bed.far)), &bed.near)
    }

    fn key(directory: &str, bytes: &[u8]) -> String {
        format!("{directory}/{}", sha256_hex(bytes))
    }

    #[test]
    fn what_was_put_is_answered_from_here_and_a_damaged_copy_is_not() {
        let bed = bed();
        let (bytes, other) = (b"an index".as_slice(), b"a record".as_slice());
        let name = key("index", bytes);
        let cached = cache(&bed);
        cached.put(&name, bytes, PutMode::CreateNew).unwrap();
        cached.put("config", other, PutMode::CreateNew).unwrap();
        fs::rename(bed.far.join(&name), bed.far.join("aside")).unwrap();
        assert_eq!(cache(&bed).get(&name).unwrap(), bytes);
        let copy = cached.path(&name).unwrap();
        fs::write(&copy, b"an Index").unwrap();
        assert!(cache(&bed).get(&name).is_err());
        fs::rename(bed.far.join("aside"), bed.far.join(&name)).unwrap();
        assert_eq!(cache(&bed).get(&name).unwrap(), bytes);
        assert_eq!(fs::read(copy).unwrap(), bytes);
        fs::write(bed.far.join("config"), b"changed").unwrap();
        assert_eq!(cache(&bed).get("config").unwrap(), b"changed");
    }

    #[test]
    fn a_pack_of_directories_is_fetched_once_and_read_in_pieces() {
        let bed = bed();
        let bytes = b"0123456789".as_slice();
        let name = key("data/84", bytes);
        LocalStore::new(&bed.far).put(&name, bytes, PutMode::CreateNew).unwrap();
        assert_eq!(cache(&bed).get_range_kept(&name, 2..5).unwrap(), b"234");
        fs::remove_file(bed.far.join(&name)).unwrap();
        let cached = cache(&bed);
        assert_eq!(cached.get_range_kept(&name, 7..10).unwrap(), b"789");
        assert!(cached.get_range(&name, 7..10).is_err(), "data is read from the place itself");
        fs::write(cached.path(&name).unwrap(), b"012345678X").unwrap();
        assert!(
            cache(&bed).get_range_kept(&name, 0..2).is_err(),
            "a damaged copy is not used, not even its sound part"
        );
    }

    #[test]
    fn it_stays_within_its_bound_and_drops_what_was_not_used_for_longest() {
        let bed = bed();
        let objects: Vec<Vec<u8>> = (0..6_u8).map(|number| vec![number; 1000]).collect();
        let cached = cache(&bed);
        for (age, bytes) in objects.iter().enumerate() {
            let name = key("index", bytes);
            cached.put(&name, bytes, PutMode::CreateNew).unwrap();
            let file = File::options().write(true).open(cached.path(&name).unwrap()).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 + age as u64);
            file.set_modified(time).unwrap();
        }
        assert!(cached.recall(&key("index", &objects[0])).is_some(), "used now");
        drop(CachedStore::bounded(Arc::new(LocalStore::new(&bed.far)), &bed.near, 2500));
        let kept: Vec<bool> = objects.iter().map(|bytes| cached.path(&key("index", bytes)).unwrap().exists()).collect();
        assert_eq!(kept, [true, false, false, false, false, true]);
    }
}
