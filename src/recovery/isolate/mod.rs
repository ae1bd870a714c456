//! Hides the primary from the process that runs a drill, and proves by trying that it is hidden.
//!
//! As root: a mount namespace of its own, in which each primary path is covered. Otherwise the same in a user
//! namespace where the system allows it, else Landlock, else nothing; what is not proven is said. All children of the
//! process inherit it, and started programs cannot undo it: they lack what mounting, tracing and raw devices need. Other
//! names that the primary's data has on this machine (bind mounts, hard links) are not known and not hidden.

mod landlock;
mod namespace;
mod prove;

use std::io;
use std::path::{Path, PathBuf};

use lifeboat_verify::events::Isolated;

use crate::ground::byte_path::escape_path;
use crate::policy::{Policy, SourceKind, literal};

/// What every process needs; a path that holds one of these cannot be hidden, one below it can.
const NEEDED: [&str; 9] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/dev", "/proc", "/sys"];

/// A path to be hidden.
#[derive(Debug, Clone)]
struct Hide {
    /// Resolved: no symlink in it.
    path: PathBuf,
    directory: bool,
    /// Resolved paths below it that must stay reachable.
    kept: Vec<PathBuf>,
    /// Device and inode before anything was hidden.
    identity: (u64, u64),
}

/// What is to be hidden, and what cannot be.
#[derive(Debug, Default)]
struct Wanted {
    hide: Vec<Hide>,
    /// Primary paths that are not on this machine.
    gone: Vec<PathBuf>,
    /// Why a path cannot be hidden, a sentence each.
    impossible: Vec<String>,
}

/// The paths on this machine that belong to the primary: sources' paths, for patterns the directory before the first
/// wildcard. Sources that are reached by network have none, nor has an existing repository: what lies there is restored.
pub fn primary_paths(policy: &Policy) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for source in &policy.sources {
        match &source.kind {
            SourceKind::Files { paths: files, .. } => paths.extend(files.iter().map(PathBuf::from)),
            SourceKind::Logs { paths: patterns, .. } => paths.extend(patterns.iter().map(|text| fixed_prefix(text))),
            SourceKind::Image { path } | SourceKind::Sqlite { path } => paths.push(path.into()),
            SourceKind::Postgres(_)
            | SourceKind::Mysql(_)
            | SourceKind::Command(_)
            | SourceKind::Repository(_)
            | SourceKind::Ebs { .. }
            | SourceKind::Rds { .. } => {}
        }
    }
    paths.sort();
    paths.dedup();
    paths
}

fn fixed_prefix(pattern: &str) -> PathBuf {
    Path::new(pattern).components().map_while(|component| literal(&component.as_os_str().to_string_lossy())).collect()
}

/// Hides the primary's paths from this process and its children. Paths in `keep` (state directory, DR site, archive
/// directory, ...) and this program stay reachable where they lie below a primary path; all are absolute and exist.
///
/// Must be called before the process has a second thread. Never fails: the outcome says what was achieved.
/// The working directory becomes `/` when it would be hidden.
pub fn isolate(primary_paths: &[PathBuf], keep: &[PathBuf]) -> Isolated {
    let keep: Vec<PathBuf> = keep.iter().cloned().chain(std::env::current_exe().ok()).collect();
    let wanted = wanted(primary_paths, &keep);
    let mut outcome = Isolated {
        method: "none".into(),
        proven: false,
        hidden: wanted.gone.iter().map(|path| format!("{} (not on this machine)", escape_path(path))).collect(),
        not_proven: wanted.impossible.clone(),
    };
    if primary_paths.is_empty() {
        outcome.not_proven.push("the primary has no path on this machine that could be hidden".into());
    }
    if !wanted.hide.is_empty() {
        apply(&wanted.hide, &resolved(&keep), &mut outcome);
        enter_again();
        prove::prove(&wanted.hide, &mut outcome);
    }
    outcome.proven = outcome.not_proven.is_empty();
    outcome
}

/// Tries the ways from the best down; why one is not available counts only when none is.
fn apply(hide: &[Hide], keep: &[PathBuf], outcome: &mut Isolated) {
    let mut reasons = Vec::new();
    if rustix::process::geteuid().is_root() {
        match namespace::enter() {
            Ok(()) => return in_namespace(hide, outcome),
            Err(error) => reasons.push(format!("a mount namespace is not permitted: {error}")),
        }
    } else {
        match namespace::enter_as_user() {
            Ok(()) => return in_namespace(hide, outcome),
            Err(error) => reasons.push(format!("a user namespace is not permitted: {error}")),
        }
    }
    match landlock::restrict(hide, keep) {
        Ok(()) => outcome.method = "landlock".into(),
        Err(reason) => {
            reasons.push(reason);
            outcome.not_proven.append(&mut reasons);
        }
    }
}

fn in_namespace(hide: &[Hide], outcome: &mut Isolated) {
    outcome.method = "mount namespace".into();
    // Files first: their cover is made in the directory for temporary files, which may be hidden next.
    let (directories, files): (Vec<&Hide>, Vec<&Hide>) = hide.iter().partition(|one| one.directory);
    for one in files.into_iter().chain(directories) {
        if let Err(error) = namespace::cover(one) {
            outcome.not_proven.push(format!("{} could not be covered: {error}", escape_path(&one.path)));
        }
    }
    if let Err(error) = namespace::keep_children_in() {
        outcome.not_proven.push(format!("scripts of root could uncover what is hidden: {error}"));
    }
}

/// A working directory held from before would lead around the cover.
fn enter_again() {
    let again = std::env::current_dir().and_then(std::env::set_current_dir);
    if again.is_err() {
        // Without any directory relative paths fail, which is what is wanted.
        let _ = std::env::set_current_dir("/");
    }
}

fn wanted(primary_paths: &[PathBuf], keep: &[PathBuf]) -> Wanted {
    let keep = resolved(keep);
    let mut wanted = Wanted::default();
    for path in with_companions(primary_paths) {
        match std::fs::canonicalize(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                wanted.gone.push(path);
            }
            Err(error) => wanted.impossible.push(format!("{} cannot be looked at: {error}", escape_path(&path))),
            Ok(path) => want(&mut wanted, path, &keep),
        }
    }
    // What lies below another hidden path is hidden with it.
    let roots: Vec<PathBuf> = wanted.hide.iter().map(|one| one.path.clone()).collect();
    wanted.hide.retain(|one| !roots.iter().any(|root| one.path != *root && one.path.starts_with(root)));
    wanted.hide.sort_by(|left, right| left.path.cmp(&right.path));
    wanted.hide.dedup_by(|left, right| left.path == right.path);
    wanted
}

fn resolved(paths: &[PathBuf]) -> Vec<PathBuf> {
    paths.iter().filter_map(|path| std::fs::canonicalize(path).ok()).collect()
}

/// A SQLite database's journals hold its newest data.
fn with_companions(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for path in paths {
        all.push(path.clone());
        for suffix in ["-wal", "-shm", "-journal"] {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            let companion = PathBuf::from(name);
            if companion.is_file() {
                all.push(companion);
            }
        }
    }
    all
}

fn want(wanted: &mut Wanted, path: PathBuf, keep: &[PathBuf]) {
    let name = escape_path(&path);
    if let Some(needed) = NEEDED.iter().find(|needed| Path::new(needed).starts_with(&path)) {
        wanted.impossible.push(format!("{name} cannot be hidden: every process needs {needed}"));
    } else if keep.contains(&path) {
        wanted.impossible.push(format!("{name} cannot be hidden: lifeboat itself works there"));
    } else {
        match std::fs::metadata(&path) {
            Ok(metadata) => {
                use std::os::unix::fs::MetadataExt;
                let directory = metadata.is_dir();
                let kept = keep.iter().filter(|kept| kept.starts_with(&path)).cloned().collect();
                let kept = if directory { outermost(kept) } else { Vec::new() };
                wanted.hide.push(Hide { path, directory, kept, identity: (metadata.dev(), metadata.ino()) });
            }
            Err(error) => wanted.impossible.push(format!("{name} cannot be looked at: {error}")),
        }
    }
}

fn outermost(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort();
    paths.dedup_by(|inner, outer| inner.starts_with(&*outer));
    paths
}

#[cfg(test)]
mod tests;
