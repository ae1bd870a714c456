//! Source kind `files`: directory trees and single files, everything kept that a file system has.
//!
//! Symlinks are recorded as symlinks, with one exception: a configured path that is itself a symlink is followed, so
//! that `paths = ["/var/www"]` backs up the site and not the name of where it lies. File system borders are crossed;
//! views of the kernel's state (`/proc`, `/sys`, a mounted `/dev`, control groups) are recorded as empty directories.

use std::collections::HashSet;
use std::path::PathBuf;

use super::Captured;
use super::content::Stability;
use super::exclude::compile_exclude;
use super::session::{Session, components};
use super::trees::plant;
use super::walk::{os, walk};
use crate::ground::byte_path::escape;
use crate::ground::{Failure, Result};

/// Captures the configured paths into one tree.
///
/// # Errors
/// When none of the paths can be read, a pattern is none, or the repository cannot be written.
pub(super) fn capture_files(session: Session<'_>, paths: &[String], exclude: &[String]) -> Result<Captured> {
    let exclude = compile_exclude(exclude)?;
    let paths = paths.iter().map(|path| normalize(path)).collect::<Result<Vec<_>>>()?;
    let tops = outermost(&paths);
    let followed: HashSet<Vec<u8>> = paths.iter().cloned().collect();
    let captives = walk(&session, &exclude, Stability::Exact, &tops, &followed)?;
    if captives.is_empty() {
        let reason = session.first_missing().unwrap_or_else(|| "no path is configured".to_owned());
        return Err(Failure::failed(format!("nothing of the source can be read: {reason}"))
            .hint("check that the paths exist and that this user may read them"));
    }
    for path in paths.iter().filter(|path| !tops.contains(path)) {
        note_unreachable(&session, path, &tops, &exclude);
    }
    let tree = plant(&session, captives)?;
    session.finish(tree, paths.iter().map(|path| PathBuf::from(os(path))).collect())
}

/// An absolute path without empty and `.` parts.
///
/// # Errors
/// Wrong input for a path that is relative or has `..`, whose meaning depends on symlinks.
pub(super) fn normalize(path: &str) -> Result<Vec<u8>> {
    if !path.starts_with('/') {
        return Err(Failure::wrong_input(format!("the path `{path}` is not absolute")).hint("write it from `/` on"));
    }
    let mut normal = Vec::new();
    for name in components(path.as_bytes()) {
        if name == b".." {
            return Err(Failure::wrong_input(format!("the path `{path}` contains `..`")).hint("write it without"));
        }
        normal.push(b'/');
        normal.extend_from_slice(name);
    }
    Ok(if normal.is_empty() { b"/".to_vec() } else { normal })
}

/// The paths that do not lie beneath another one: their walk meets all the others. Sorted, each once.
pub(super) fn outermost(paths: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut sorted = paths.to_vec();
    sorted.sort_by(|a, b| components(a).cmp(components(b)));
    let mut tops: Vec<Vec<u8>> = Vec::new();
    for path in sorted {
        // In this order everything beneath a path follows directly after it.
        if !tops.last().is_some_and(|top| is_beneath(&path, top)) {
            tops.push(path);
        }
    }
    tops
}

/// Whether `path` is `top` or lies beneath it.
pub(super) fn is_beneath(path: &[u8], top: &[u8]) -> bool {
    let mut names = components(path);
    components(top).all(|name| names.next() == Some(name))
}

/// Names a configured path that the walk of the path above it did not come to.
fn note_unreachable(session: &Session<'_>, path: &[u8], tops: &[Vec<u8>], exclude: &crate::policy::Exclude) {
    let Some(top) = tops.iter().find(|top| is_beneath(path, top)) else { return };
    let mut way = top.clone();
    for name in components(path).skip(components(top).count()) {
        way = super::walk::join(&way, name);
        let relative = way.get(top.len()..).unwrap_or_default();
        let relative = relative.strip_prefix(b"/").unwrap_or(relative);
        if exclude.matches(&way, relative) {
            return session.miss(path, format!("a pattern of `exclude` leaves out {} above it", escape(&way)));
        }
        match std::fs::symlink_metadata(os(&way)) {
            Ok(metadata) if metadata.is_symlink() && way != path => {
                let link = escape(&way);
                return session
                    .miss(path, format!("it is reached through the symbolic link {link}: name its real path"));
            }
            Ok(_) => {}
            Err(error) => return session.miss(path, format!("it cannot be looked at: {error}")),
        }
    }
}
