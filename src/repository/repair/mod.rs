//! Mending what is damaged, out of what is still readable.
//!
//! The index is made anew from the packs themselves. A damaged pack costs only the blobs that were hit: the others are
//! copied into new packs, and the damaged one leaves the index, so that the next backup stores its content again where the
//! source still has it. Nothing is deleted but index files, after the new ones were read back; damaged packs stay where
//! they are (a later prune takes them away), and no snapshot is changed. What is lost is named by snapshot and path.
//!
//! Killed anywhere, it is simply run again. Memory: about 250 bytes a blob, one pack, and a pack under construction.

mod losses;
mod packs;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::RepositoryError;
use super::index::{Index, IndexBuilder};
use super::index_file::{self, INDEXES, NamedPack};
use super::lock;
use super::pack::{self, PackEntry};
use super::repack::Repacker;
use super::tree::BlobId;
use super::{Inner, Repository, rewrite, unpacked};
use crate::ground::Progress;

pub use losses::Loss;
use packs::Found;

/// What a repair saw and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairReport {
    /// Stored packs.
    pub packs: u64,
    /// Objects that are damaged or lost, a sentence each.
    pub damage: Vec<String>,
    /// Whether index files were replaced.
    pub index_rewritten: bool,
    /// Blobs of damaged packs that were copied into new ones, and the bytes of these.
    pub salvaged_blobs: u64,
    pub salvaged_bytes: u64,
    /// Blobs that were indexed and that nothing holds any more.
    pub lost_blobs: u64,
    /// What snapshots lack.
    pub losses: Vec<Loss>,
    /// Losses beyond those that are listed.
    pub more_losses: u64,
}

impl Repository {
    /// Mends the repository. With `headers_only` packs are judged by their headers and sizes, which does not read the data:
    /// for an index that is lost, when the packs are believed to be whole.
    ///
    /// # Errors
    /// Locked when anybody uses the repository; the store's error when it does not answer or cannot be written.
    pub fn repair(
        &self,
        headers_only: bool,
        now: Timestamp,
        progress: &dyn Progress,
    ) -> Result<RepairReport, RepositoryError> {
        let inner: &Arc<Inner> = &self.inner;
        let guard = lock::acquire(inner, true, now)?;
        let (old_objects, foreign) = unpacked::list(inner, INDEXES)?;
        let loaded = index_file::load_for_reading(inner, false)?;
        let index_is_whole = loaded.damage.len() == foreign.len();
        let mut report = RepairReport { damage: loaded.damage, ..RepairReport::default() };
        let known: HashMap<BlobId, Vec<PackEntry>> = loaded.index.by_pack().into_iter().collect();
        let found = packs::examine(inner, &known, headers_only, progress, &mut report)?;
        let sound = index_of(&found);
        self.salvage(&found, &sound, &mut report)?;
        let is_right = index_is_whole && loaded.index == sound;
        drop(sound);
        if !is_right {
            write_index(inner, found)?;
            guard.insist()?;
            for (id, _) in old_objects {
                inner.store.delete(&format!("{INDEXES}{id}"))?;
            }
            report.index_rewritten = true;
        }
        let now_stored = index_file::load_for_reading(inner, false)?;
        report.lost_blobs = count_lost(&known, &now_stored.index);
        drop(known);
        losses::find(inner, now_stored.index, progress, &mut report)?;
        Ok(report)
    }

    /// Copies what is readable in damaged packs and nowhere else.
    fn salvage(&self, found: &[Found], sound: &Index, report: &mut RepairReport) -> Result<(), RepositoryError> {
        let mut repacker = Repacker::new(&self.inner);
        let mut taken = std::collections::HashSet::new();
        for (id, entries) in found.iter().filter_map(Found::damaged) {
            for entry in entries {
                if sound.contains(entry.kind, &entry.id) || taken.contains(&(entry.kind, entry.id)) {
                    continue;
                }
                match repacker.copy(id, entry) {
                    Ok(()) => {
                        taken.insert((entry.kind, entry.id));
                    }
                    Err(RepositoryError::Damaged(_)) => {}
                    Err(error) if packs::is_unreadable(&error) && !repacker.has_failed() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        report.salvaged_blobs = taken.len() as u64;
        (report.salvaged_bytes, _) = repacker.finish()?;
        Ok(())
    }
}

fn index_of(found: &[Found]) -> Index {
    let mut builder = IndexBuilder::default();
    for (id, entries) in found.iter().filter_map(Found::sound) {
        builder.add(*id, entries.iter().copied());
    }
    builder.build()
}

/// The whole index anew, each file read back and compared.
fn write_index(inner: &Inner, found: Vec<Found>) -> Result<(), RepositoryError> {
    let packs: Vec<NamedPack> = found.into_iter().filter_map(Found::into_sound).collect();
    rewrite::in_files(&packs).into_iter().try_for_each(|file| index_file::save_proven(inner, file).map(drop))
}

fn count_lost(known: &HashMap<BlobId, Vec<PackEntry>>, stored: &Index) -> u64 {
    let mut lost: Vec<_> = (known.values().flatten())
        .filter(|entry| !stored.contains(entry.kind, &entry.id))
        .map(|entry| (entry.kind, entry.id))
        .collect();
    lost.sort_unstable();
    lost.dedup();
    lost.len() as u64
}

/// Names a pack for people.
fn object_of(id: &BlobId) -> String {
    pack::key_of(id)
}
