//! Files that are there after a power cut: temporary name, write, fsync, rename, fsync the directory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::crash_point::crash_point;

/// Names of files that are being written begin with it; after a crash they are left over and mean nothing.
const TEMPORARY_PREFIX: &str = ".writing-";

/// Whether a name is that of a file being written, or left over from a write that was killed.
pub fn is_temporary(name: &OsStr) -> bool {
    name.as_bytes().starts_with(TEMPORARY_PREFIX.as_bytes())
}

/// Makes the entries of a directory durable.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Creates a directory and its parents, each durable in its parent.
pub fn create_directories(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_directories(parent)?;
    }
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_directory(parent.unwrap_or(Path::new(".")))
}

/// Writes a file whole or not at all, replacing an older one; durable when it returns.
/// `mode` holds the permission bits, for instance `0o600` for a secret.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = write_temporary(path, bytes, mode)?;
    temporary.persist(path).map_err(|error| error.error)?;
    crash_point();
    sync_directory(parent_of(path))
}

/// As [`replace`], but fails with `AlreadyExists` when the name is taken; atomic against other writers.
pub fn create_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = write_temporary(path, bytes, mode)?;
    temporary.persist_noclobber(path).map_err(|error| error.error)?;
    crash_point();
    sync_directory(parent_of(path))
}

/// A file that is written piece by piece before its name is known; removed on drop.
pub struct StagedFile {
    temporary: tempfile::NamedTempFile,
}

impl StagedFile {
    /// In a directory of the file system on which it will stay. `mode` as in [`replace`].
    pub fn create(directory: &Path, mode: u32) -> io::Result<Self> {
        let temporary = temporary_in(directory, mode)?;
        // Says to whoever clears away what was left over that somebody is still at it. A file system without locks
        // leaves it to the file's age.
        let _ = flock(temporary.as_file(), FlockOperation::NonBlockingLockExclusive);
        Ok(Self { temporary })
    }

    /// Adds to its end.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.temporary.write_all(bytes)
    }

    /// Makes its content durable.
    pub fn settle(&mut self) -> io::Result<()> {
        self.temporary.as_file().sync_all()
    }

    /// Reads from a place on; fewer bytes only at its end.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.temporary.as_file().read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Gives it its name, which is durable when it returns; fails with `AlreadyExists` when the name is taken.
    pub fn publish(self, path: &Path) -> io::Result<()> {
        crash_point();
        self.temporary.persist_noclobber(path).map_err(|error| error.error)?;
        crash_point();
        sync_directory(parent_of(path))
    }
}

/// Whether a file under a temporary name is still being written by a process of this or, where the file system tells,
/// another host.
pub fn is_in_work(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary_in(directory: &Path, mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let permissions = fs::Permissions::from_mode(mode);
    tempfile::Builder::new().prefix(TEMPORARY_PREFIX).permissions(permissions).tempfile_in(directory)
}

fn write_temporary(path: &Path, bytes: &[u8], mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let mut temporary = temporary_in(parent_of(path), mode)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    check_written(temporary.as_file_mut(), bytes)?;
    crash_point();
    Ok(temporary)
}

/// What was written is read again before it gets its name. A file system that lost a part of it is caught here, not at
/// the restore.
fn check_written(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    const PIECE: usize = 64 << 10;
    file.rewind()?;
    let mut buffer = vec![0; PIECE.min(bytes.len())];
    for piece in bytes.chunks(PIECE) {
        let buffer = &mut buffer[..piece.len()];
        file.read_exact(buffer)?;
        if buffer != piece {
            return Err(io::Error::other("what was read back is not what was written"));
        }
    }
    match file.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("the file is longer than what was written")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn create_new_refuses_a_taken_name_and_leaves_the_old_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("one");
        create_new(&path, b"first", 0o600).unwrap();
        assert_eq!(create_new(&path, b"second", 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        replace(&path, b"third", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file stays");
    }
}
