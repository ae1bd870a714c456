//! Writes a stored tree below a target directory and never outside of it.
//!
//! What the stored trees say is not trusted: whoever can write to the repository must not be able to write anywhere
//! else through us. The rules are in `docs/restore.md`; each file here holds one of them:
//!
//! | file | what it is |
//! |---|---|
//! | `name` | the only type of name that reaches the operating system |
//! | `target` | directories by descriptor, never by path; replacing without deleting |
//! | `selection` | which part of the point, and where it comes to lie |
//! | `plan` | how much it is and whether it fits, before anything is written |
//! | `tree_walk` | directories, and the order of everything else |
//! | `contents`, `filling`, `sparse` | files in batches, piece by piece, with holes |
//! | `links`, `specials` | hard links, then symlinks, devices and FIFOs |
//! | `metadata` | owners, attributes, modes, times, and what may not be set |
//! | `outcome` | what was done, and what is not exactly as saved |

mod contents;
mod filling;
mod links;
mod metadata;
mod name;
mod opening;
mod outcome;
mod plan;
mod selection;
mod sparse;
mod specials;
mod stored;
mod target;
mod tree_walk;
mod work;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::ground::{Progress, Result};
use crate::repository::{BlobId, BlobReader};
use crate::site::records::Missing;
use metadata::Rights;
use stored::{StoredTree, Trees};
use work::Work;

/// What a restore is asked for.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    pub tree: BlobId,
    /// Absolute roots of the point; contents of a single one come directly below the target.
    pub roots: Vec<PathBuf>,
    /// Only these (absolute, or relative to the single root); empty means everything.
    pub only: Vec<PathBuf>,
    /// Replace what is there. Otherwise the target must be empty or absent.
    pub overwrite: bool,
    /// Set owners, set-id bits, devices, capabilities; by default when running as root.
    pub privileged: bool,
}

/// What a restore did.
#[derive(Debug, Clone, Default)]
pub struct RestoreSummary {
    pub entries: u64,
    pub bytes: u64,
    /// What was not restored exactly, at most 1,000; `missing_count` has the whole number.
    pub missing: Vec<Missing>,
    pub missing_count: u64,
    /// Of these, what is not there at all because the repository is damaged or does not hold it.
    pub damaged_count: u64,
    /// Symlinks that are absolute or lead out of the target: reported, not blocked. At most 1,000.
    pub unsafe_links: Vec<String>,
}

/// Restores. A damaged or missing blob loses that file alone, which is named and not left half-written.
///
/// # Errors
/// Wrong input (exit 2) when the target is not empty without `overwrite` or `only` names nothing; failed when the
/// target cannot be written at all or is full.
pub fn restore(
    reader: &BlobReader,
    request: &RestoreRequest,
    target: &Path,
    progress: &dyn Progress,
) -> Result<RestoreSummary> {
    restore_from(reader, request, target, progress)
}

fn restore_from(
    stored: &dyn StoredTree,
    request: &RestoreRequest,
    target: &Path,
    progress: &dyn Progress,
) -> Result<RestoreSummary> {
    opening::check(target, request.overwrite)?;
    let trees = Trees::new(stored);
    let layout = selection::layout(&trees, request)?;
    let totals = plan::totals(stored, &trees, &layout);
    let opened = opening::open(target, request.overwrite, &totals)?;
    let mut work = Work {
        stored,
        trees: &trees,
        progress,
        rights: Rights::of_this_thread(request.privileged),
        outcome: outcome::Outcome::default(),
        directories: opened.directories,
        prefix: layout.prefix.clone(),
        open_files_max: opened.open_files_max,
    };
    progress.begin("restoring", Some(totals.bytes));
    let written = write_all(&mut work, layout, &opened.existing);
    progress.end();
    written?;
    Ok(work.outcome.finish())
}

/// The order matters: nothing is created through a symlink, since none exists yet when files are written, and no
/// directory gets its times before everything in it stands.
fn write_all(
    work: &mut Work<'_>,
    layout: selection::Layout,
    existing: &std::collections::HashSet<Vec<u8>>,
) -> Result<()> {
    let mut set_aside = tree_walk::walk(work, layout, existing)?;
    let specials = std::mem::take(&mut set_aside.specials);
    specials::make_all(work, &mut set_aside.links, specials)?;
    tree_walk::finish_directories(work, set_aside)?;
    work.directories.sync()
}
