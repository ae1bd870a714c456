//! Tries to reach what should be hidden.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lifeboat_verify::events::Isolated;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::Hide;
use crate::ground::byte_path::escape_path;

/// Adds each path to what is hidden, or to what is not proven.
pub(super) fn prove(hide: &[Hide], outcome: &mut Isolated) {
    for one in hide {
        let name = escape_path(&one.path);
        match reach(one) {
            None => outcome.hidden.push(name),
            Some(what) => outcome.not_proven.push(format!("{name} can still be reached: {what}")),
        }
    }
}

/// What could be reached; `None` when nothing could.
fn reach(hide: &Hide) -> Option<String> {
    if hide.directory {
        return entries(&hide.path, hide);
    }
    let file = open(&hide.path).ok()?;
    if is_same(&file, hide) {
        return Some("it opens".into());
    }
    let mut byte = [0];
    let read = file.take(1).read(&mut byte).unwrap_or(0);
    (read > 0).then(|| "it can be read".into())
}

fn entries(directory: &Path, hide: &Hide) -> Option<String> {
    let listed = fs::read_dir(directory).ok()?;
    if open(directory).is_ok_and(|opened| directory == hide.path && is_same(&opened, hide)) {
        return Some("it opens".into());
    }
    for entry in listed.flatten() {
        let path: PathBuf = entry.path();
        if hide.kept.contains(&path) {
            continue;
        }
        if !hide.kept.iter().any(|kept| kept.starts_with(&path)) {
            return Some(format!("{} is listed", escape_path(&path)));
        }
        if let Some(found) = entries(&path, hide) {
            return Some(found);
        }
    }
    None
}

fn open(path: &Path) -> io::Result<fs::File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(fs::File::from(openat(CWD, path, flags, Mode::empty())?))
}

fn is_same(file: &fs::File, hide: &Hide) -> bool {
    file.metadata().is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == hide.identity)
}
