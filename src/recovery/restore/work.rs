//! What all steps of one restore share.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::metadata::Rights;
use super::name::EntryName;
use super::outcome::Outcome;
use super::stored::{StoredTree, Trees};
use super::target::{Directories, DirectoryId};
use crate::ground::Progress;
use crate::ground::byte_path::escape;

/// Where an entry comes to lie.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) directory: DirectoryId,
    pub(super) name: EntryName,
    /// Something of this very name was there before the restore and may be replaced.
    pub(super) existing: bool,
}

/// The restore in progress.
pub(super) struct Work<'a> {
    pub(super) stored: &'a dyn StoredTree,
    pub(super) trees: &'a Trees<'a>,
    pub(super) progress: &'a dyn Progress,
    pub(super) rights: Rights,
    pub(super) outcome: Outcome,
    pub(super) directories: Directories,
    /// Absolute path in the point that the target stands for: messages name entries as they were saved.
    pub(super) prefix: PathBuf,
    /// Files that may be open at once.
    pub(super) open_files_max: usize,
}

impl Work<'_> {
    /// The path an entry had, for people.
    pub(super) fn path(&self, directory: DirectoryId, name: Option<&[u8]>) -> String {
        let mut path = self.prefix.as_os_str().as_bytes().to_vec();
        let components = self.directories.components(directory);
        for component in components.into_iter().map(EntryName::as_bytes).chain(name) {
            if path.last() != Some(&b'/') {
                path.push(b'/');
            }
            path.extend_from_slice(component);
        }
        escape(&path)
    }

    /// Names an entry that is not restored exactly.
    pub(super) fn missing(&self, place: &Place, reasons: &[String]) {
        self.outcome.missing(|| self.path(place.directory, Some(place.name.as_bytes())), reasons);
    }
}
