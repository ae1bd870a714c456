//! A directory as an object store: durable, atomic, never following a symlink out of it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::object_store::{ObjectInfo, ObjectStore, PutMode, StagedObject, StoreError, StoreErrorKind};
use crate::ground::crash_point::crash_point;
use crate::ground::durable_file::StagedFile;
use crate::ground::{durable_file, os_reason};

/// A file under its temporary name that was not written to for so long belongs to a write that was killed.
const LEFT_OVER: SignedDuration = SignedDuration::from_hours(24);

/// Objects as files below one directory.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// A store in `root`, which is made at the first put if it is missing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, key: &str) -> Result<PathBuf, StoreError> {
        let plain = !key.is_empty() && key.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        if !plain || key.contains('\0') {
            return Err(StoreError { kind: StoreErrorKind::Other, message: format!("{key:?} is no object name") });
        }
        Ok(self.root.join(key))
    }
}

fn too_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than expected")
}

fn store_error(doing: &str, path: &Path, error: &io::Error) -> StoreError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => StoreErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => StoreErrorKind::AlreadyExists,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::Denied,
        _ => StoreErrorKind::Other,
    };
    StoreError { kind, message: format!("cannot {doing} {}: {}", path.display(), os_reason(error)) }
}

impl ObjectStore for LocalStore {
    fn put(&self, key: &str, bytes: &[u8], mode: PutMode) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let parent = path.parent().unwrap_or(&self.root);
        durable_file::create_directories(parent).map_err(|error| store_error("create", parent, &error))?;
        let written = match mode {
            PutMode::CreateNew => durable_file::create_new(&path, bytes, 0o600),
            PutMode::Replace => durable_file::replace(&path, bytes, 0o600),
        };
        written.map_err(|error| store_error("write", &path, &error))
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.path(key)?;
        fs::read(&path).map_err(|error| store_error("read", &path, &error))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let path = self.path(key)?;
        let read = || -> io::Result<Vec<u8>> {
            let file = File::open(&path)?;
            let wanted = range.end.saturating_sub(range.start);
            // Asked first: what an index says of lengths must not make us allocate them.
            if file.metadata()?.len().saturating_sub(range.start) < wanted {
                return Err(too_short());
            }
            let mut bytes = Vec::with_capacity(wanted as usize);
            (&file).seek(SeekFrom::Start(range.start))?;
            if (&file).take(wanted).read_to_end(&mut bytes)? as u64 == wanted { Ok(bytes) } else { Err(too_short()) }
        };
        read().map_err(|error| store_error("read", &path, &error))
    }

    fn read_at(&self, key: &str, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let mut read = || {
            File::open(&path)?.read_exact_at(into, offset).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => too_short(),
                _ => error,
            })
        };
        read().map_err(|error| store_error("read", &path, &error))
    }

    fn will_read(&self, key: &str, range: Range<u64>) {
        // Only a hint: whatever fails here is met again, and told, by the read itself.
        let Ok(file) = self.path(key).map(File::open) else { return };
        let Ok(file) = file else { return };
        let length = std::num::NonZero::new(range.end.saturating_sub(range.start));
        let _ = rustix::fs::fadvise(&file, range.start, length, rustix::fs::Advice::WillNeed);
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let directory = if prefix.is_empty() { self.root.clone() } else { self.path(prefix.trim_end_matches('/'))? };
        let mut objects = Vec::new();
        if fs::symlink_metadata(&directory).is_ok() {
            self.list_directory(&directory, prefix, &mut objects)?;
        } else if fs::symlink_metadata(&self.root).is_err() {
            let missing = io::Error::from(io::ErrorKind::NotFound);
            return Err(store_error("list", &self.root, &missing));
        }
        objects.sort_by(|left, right| left.key.cmp(&right.key));
        Ok(objects)
    }

    fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let path = self.path(key)?;
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(store_error("look at", &path, &error)),
        }
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(key)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(store_error("delete", &path, &error)),
            _ => {}
        }
        crash_point();
        Ok(())
    }

    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    fn stage(&self) -> Result<Option<Box<dyn StagedObject>>, StoreError> {
        let failed = |error: io::Error| store_error("write in", &self.root, &error);
        durable_file::create_directories(&self.root).map_err(failed)?;
        let file = StagedFile::create(&self.root, 0o600).map_err(failed)?;
        Ok(Some(Box::new(StagedHere { store: self.clone(), file })))
    }

    fn sweep(&self) -> Result<Vec<String>, StoreError> {
        let mut leftovers = Vec::new();
        list_temporary(&self.root, &mut leftovers)?;
        if leftovers.is_empty() {
            return Ok(Vec::new());
        }
        // Dated by the file system that holds the others, whose clock may not be this machine's.
        let mark = tempfile::Builder::new().prefix(".writing-").tempfile_in(&self.root);
        let now = mark.as_ref().map_err(|error| store_error("write in", &self.root, error)).and_then(|mark| {
            let stored = fs::metadata(mark.path()).and_then(|metadata| written(&metadata));
            stored.map_err(|error| store_error("look at", mark.path(), &error))
        })?;
        let mut told = Vec::new();
        for (path, since) in leftovers {
            if now.duration_since(since) > LEFT_OVER && !durable_file::is_in_work(&path) {
                fs::remove_file(&path).map_err(|error| store_error("delete", &path, &error))?;
                told.push(format!("{}: left by a write that was killed, untouched since {since}", path.display()));
            }
        }
        Ok(told)
    }

    fn modified(&self, key: &str) -> Result<Option<Timestamp>, StoreError> {
        let path = self.path(key)?;
        match fs::metadata(&path).and_then(|metadata| written(&metadata)) {
            Ok(time) => Ok(Some(time)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(store_error("look at", &path, &error)),
        }
    }
}

/// A file in the store's directory that waits for its name.
struct StagedHere {
    store: LocalStore,
    file: StagedFile,
}

impl StagedHere {
    fn failed(&self, doing: &str, error: &io::Error) -> StoreError {
        store_error(doing, &self.store.root, error)
    }
}

impl StagedObject for StagedHere {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.append(bytes).map_err(|error| self.failed("write in", &error))
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.file.settle().map_err(|error| self.failed("write in", &error))
    }

    fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        self.file.read_at(offset, buffer).map_err(|error| self.failed("read back what was written in", &error))
    }

    fn publish(self: Box<Self>, key: &str) -> Result<(), StoreError> {
        let path = self.store.path(key)?;
        let parent = path.parent().unwrap_or(&self.store.root);
        durable_file::create_directories(parent).map_err(|error| store_error("create", parent, &error))?;
        self.file.publish(&path).map_err(|error| store_error("write", &path, &error))
    }
}

fn written(metadata: &fs::Metadata) -> io::Result<Timestamp> {
    Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)
}

/// Files under temporary names, wherever they lie, with the time of their last write. One that gets its name or goes
/// meanwhile is none.
fn list_temporary(directory: &Path, found: &mut Vec<(PathBuf, Timestamp)>) -> Result<(), StoreError> {
    let failed = |error: io::Error| store_error("list", directory, &error);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        if kind.is_dir() && entry.file_name() != "lost+found" {
            list_temporary(&path, found)?;
        } else if kind.is_file() && durable_file::is_temporary(&entry.file_name()) {
            match entry.metadata().and_then(|metadata| written(&metadata)) {
                Ok(since) => found.push((path, since)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(store_error("look at", &path, &error)),
            }
        }
    }
    Ok(())
}

impl LocalStore {
    fn list_directory(&self, directory: &Path, prefix: &str, objects: &mut Vec<ObjectInfo>) -> Result<(), StoreError> {
        let entries = fs::read_dir(directory).map_err(|error| store_error("list", directory, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| store_error("list", directory, &error))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if durable_file::is_temporary(OsStr::new(&name)) {
                continue;
            }
            let metadata = match entry.metadata() {
                // Somebody removed it since the directory was read: a lock that was let go, for instance.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata.map_err(|error| store_error("look at", &entry.path(), &error))?,
            };
            let key = format!("{prefix}{name}");
            if metadata.is_dir() {
                self.list_directory(&entry.path(), &format!("{key}/"), objects)?;
            } else if metadata.is_file() {
                objects.push(ObjectInfo { key, size: metadata.len() });
            }
        }
        Ok(())
    }
}
