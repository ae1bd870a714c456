//! The target itself: judged before anything is written, made if absent, opened once.

use std::collections::HashSet;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{self, Mode, OFlags};
use rustix::process::{Resource, getrlimit};

use super::plan::{self, Totals};
use super::target::{Directories, names_in, resolver_for, why};
use crate::ground::byte_path::escape_path;
use crate::ground::{Failure, Result, durable_file};

/// A fresh file system has this directory; it does not make the target a used one.
const FRESH_FILE_SYSTEM_ENTRY: &[u8] = b"lost+found";

/// The target, ready.
pub(super) struct Opened {
    pub(super) directories: Directories,
    /// Names in it from before.
    pub(super) existing: HashSet<Vec<u8>>,
    pub(super) open_files_max: usize,
}

/// Refuses a target that is no directory or not empty, without touching it.
pub(super) fn check(target: &Path, overwrite: bool) -> Result<()> {
    match open_directory(target) {
        Ok(directory) => existing_names(&directory, target, overwrite).map(|_| ()),
        Err(error) if error.kind() == ErrorKind::NotFound && std::fs::symlink_metadata(target).is_err() => Ok(()),
        Err(error) => Err(unusable(target, &error)),
    }
}

/// Makes the target if it is absent, opens it and looks whether everything fits.
pub(super) fn open(target: &Path, overwrite: bool, totals: &Totals) -> Result<Opened> {
    let made = make_if_absent(target)?;
    let opened = open_judged(target, overwrite, totals);
    if opened.is_err() && made {
        // Removes an empty directory or nothing: the refusal leaves the place as it was.
        let _ = std::fs::remove_dir(target);
    }
    opened
}

fn open_judged(target: &Path, overwrite: bool, totals: &Totals) -> Result<Opened> {
    let directory = open_directory(target).map_err(|error| unusable(target, &error))?;
    let existing = existing_names(&directory, target, overwrite)?;
    let space = fs::fstatvfs(&directory).map_err(|errno| {
        Failure::failed(format!("cannot look at the target {}: {}", escape_path(target), why(errno)))
    })?;
    plan::fits(totals, &space, rustix::process::geteuid().is_root(), overwrite)?;
    let resolver = resolver_for(directory.as_fd());
    let (open_directories_max, open_files_max) = open_limits();
    let directories = Directories::new(directory, resolver, open_directories_max).map_err(|errno| {
        Failure::failed(format!("cannot look at the target {}: {}", escape_path(target), why(errno)))
    })?;
    Ok(Opened { directories, existing, open_files_max })
}

/// Directories and files to hold open: together well below the process's limit, as each file may hold its directory.
fn open_limits() -> (usize, usize) {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let spare = usize::try_from(limit.saturating_sub(64)).unwrap_or(usize::MAX);
    ((spare / 8).clamp(8, 128), (spare / 4).clamp(4, 256))
}

/// The operator's own path may lead through symlinks: it is resolved here, once.
fn open_directory(target: &Path) -> std::io::Result<OwnedFd> {
    Ok(fs::open(target, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn existing_names(directory: &OwnedFd, target: &Path, overwrite: bool) -> Result<HashSet<Vec<u8>>> {
    let names = names_in(directory.as_fd())
        .map_err(|errno| Failure::failed(format!("cannot list the target {}: {}", escape_path(target), why(errno))))?;
    if !overwrite && names.iter().any(|name| name != FRESH_FILE_SYSTEM_ENTRY) {
        return Err(Failure::wrong_input(format!("the target {} is not empty", escape_path(target)))
            .hint("choose an empty or absent directory, or add --overwrite to replace files of the same names"));
    }
    Ok(names)
}

/// True when it was absent. It is private until it gets its own attributes.
fn make_if_absent(target: &Path) -> Result<bool> {
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = match std::fs::metadata(target) {
        Ok(_) => return Ok(false),
        Err(_) => durable_file::create_directories(parent)
            .and_then(|()| DirBuilder::new().mode(0o700).create(target))
            .and_then(|()| durable_file::sync_directory(parent)),
    };
    match made {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Failure::failed(format!("cannot make the target {}: {error}", escape_path(target)))),
    }
}

fn unusable(target: &Path, error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotADirectory => {
            Failure::wrong_input(format!("the target {} is not a directory", escape_path(target)))
                .hint("name a directory that is empty or absent")
        }
        ErrorKind::NotFound => {
            Failure::wrong_input(format!("the target {} is a symlink to nothing", escape_path(target)))
                .hint("name a directory that is empty or absent")
        }
        _ => Failure::failed(format!("cannot open the target {}: {error}", escape_path(target))),
    }
}
