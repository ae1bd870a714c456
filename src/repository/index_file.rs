//! Index files: JSON that names packs and their blobs. One that `supersedes` others replaces them.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use super::error::RepositoryError;
use super::index::{Index, IndexBuilder};
use super::pack::{self, PackEntry};
use super::tree::BlobId;
use super::{BlobKind, Inner, guarded, unpacked};
use crate::site::StoreErrorKind;

/// Directory of the index files.
pub(super) const INDEXES: &str = "index/";
/// Threads that load them at most: each holds a file of up to 50,000 blobs.
const THREADS: usize = 4;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct IndexFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    supersedes: Option<Vec<BlobId>>,
    packs: Option<Vec<PackJson>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PackJson {
    id: BlobId,
    blobs: Option<Vec<BlobJson>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct BlobJson {
    id: BlobId,
    #[serde(rename = "type")]
    kind: KindJson,
    offset: u32,
    length: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    uncompressed_length: u32,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindJson {
    Data,
    Tree,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl From<&PackEntry> for BlobJson {
    fn from(entry: &PackEntry) -> Self {
        let kind = if entry.kind == BlobKind::Tree { KindJson::Tree } else { KindJson::Data };
        let PackEntry { id, offset, length, uncompressed, .. } = *entry;
        Self { id, kind, offset, length, uncompressed_length: uncompressed }
    }
}

impl From<BlobJson> for PackEntry {
    fn from(json: BlobJson) -> Self {
        let kind = if matches!(json.kind, KindJson::Tree) { BlobKind::Tree } else { BlobKind::Data };
        let BlobJson { id, offset, length, uncompressed_length, .. } = json;
        Self { kind, id, offset, length, uncompressed: uncompressed_length }
    }
}

/// Writes an index file for packs that are stored; returns its size.
pub(super) fn save(inner: &Inner, packs: &[(BlobId, Vec<PackEntry>)]) -> Result<u64, RepositoryError> {
    let packs = packs
        .iter()
        .map(|(id, entries)| PackJson { id: *id, blobs: Some(entries.iter().map(BlobJson::from).collect()) });
    let file = IndexFile { supersedes: None, packs: Some(packs.collect()) };
    unpacked::save(inner, INDEXES, &file).map(|(_, size)| size)
}

/// What loading the index gave.
pub(super) struct Loaded {
    pub(super) index: Index,
    /// Index files that could not be used, one sentence each.
    pub(super) damage: Vec<String>,
    /// Packs that no sound index file names, found by their own headers; part of `index`.
    pub(super) recovered: Vec<(BlobId, Vec<PackEntry>)>,
}

/// Loads all index files. Damaged ones are left out and named; with `recover`, packs that nothing else names are then
/// found by their headers, so that a restore works without an index.
pub(super) fn load(inner: &Inner, recover: bool) -> Result<Loaded, RepositoryError> {
    let (ids, foreign) = unpacked::list(inner, INDEXES)?;
    let mut ids: Vec<BlobId> = ids.into_iter().map(|(id, _)| id).collect();
    let Gathered { mut builder, superseded, damage: unusable } = gather(inner, &ids)?;
    if ids.iter().any(|id| superseded.contains(id)) {
        // Rare, since who writes such a file removes the others: then once more without them.
        ids.retain(|id| !superseded.contains(id));
        builder = gather(inner, &ids)?.builder;
    }
    let mut damage: Vec<String> =
        foreign.iter().map(|key| format!("{key} has no name that the format knows")).collect();
    damage.extend(unusable);
    let recovered = if recover && !damage.is_empty() { recover_from_packs(inner, &builder)? } else { Vec::new() };
    recovered.iter().for_each(|(pack, entries)| builder.add(*pack, entries.iter().copied()));
    Ok(Loaded { index: builder.build(), damage, recovered })
}

/// The store does not let us read, which says nothing of the object. A disk that cannot read one file is damage.
fn is_refusal(error: &RepositoryError) -> bool {
    matches!(error, RepositoryError::Store(error) if error.kind != StoreErrorKind::Other)
}

/// What several index files say together.
#[derive(Default)]
struct Gathered {
    builder: IndexBuilder,
    superseded: HashSet<BlobId>,
    damage: Vec<String>,
}

/// Loads index files, several at a time. Memory beyond the index: for each thread one file, as JSON and decoded.
fn gather(inner: &Inner, ids: &[BlobId]) -> Result<Gathered, RepositoryError> {
    let gathered = Mutex::new(Gathered::default());
    let (next, refused) = (AtomicUsize::new(0), Mutex::new(None));
    let work = || {
        while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
            match unpacked::load::<IndexFile>(inner, INDEXES, id) {
                Ok(file) => guarded(&gathered).add(file),
                Err(error) if is_refusal(&error) => {
                    next.store(ids.len(), Ordering::Relaxed);
                    guarded(&refused).get_or_insert(error);
                }
                Err(error) => guarded(&gathered).damage.push(error.to_string()),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS.min(super::parallelism()).min(ids.len()) {
            // Without another thread this one does all.
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    if let Some(error) = guarded(&refused).take() {
        return Err(error);
    }
    let mut gathered = std::mem::take(&mut *guarded(&gathered));
    gathered.damage.sort_unstable();
    Ok(gathered)
}

impl Gathered {
    fn add(&mut self, mut file: IndexFile) {
        self.superseded.extend(file.supersedes.take().into_iter().flatten());
        for (pack, entries) in compact(file) {
            self.builder.add(pack, entries);
        }
    }
}

/// The packs and blobs of a file that was read.
pub(super) fn compact(file: IndexFile) -> Vec<(BlobId, Vec<PackEntry>)> {
    let packs = file.packs.unwrap_or_default().into_iter();
    packs.map(|pack| (pack.id, pack.blobs.unwrap_or_default().into_iter().map(PackEntry::from).collect())).collect()
}

/// Reads the headers of packs that no index names. A pack whose header cannot be read is left out: what it held is
/// then reported as missing where it is wanted.
fn recover_from_packs(inner: &Inner, builder: &IndexBuilder) -> Result<Vec<(BlobId, Vec<PackEntry>)>, RepositoryError> {
    let mut recovered = Vec::new();
    for (id, size) in unpacked::list(inner, pack::PACKS)?.0 {
        if builder.names_pack(&id) {
            continue;
        }
        match pack::read_header(inner, &id, size) {
            Ok(entries) => recovered.push((id, entries)),
            Err(error) if is_refusal(&error) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(recovered)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_restic_writes_is_read() {
        let id = "aa".repeat(32);
        let text = format!(
            r#"{{"supersedes":["{id}"],"packs":[{{"id":"{id}","blobs":[
            {{"id":"{id}","type":"tree","offset":5,"length":42,"uncompressed_length":99}},
            {{"id":"{id}","type":"data","offset":47,"length":33}}]}},{{"id":"{id}","blobs":null}}]}}"#
        );
        let mut gathered = Gathered::default();
        gathered.add(serde_json::from_str(&text).unwrap());
        let id = BlobId([0xaa; 32]);
        let tree = PackEntry { kind: BlobKind::Tree, id, offset: 5, length: 42, uncompressed: 99 };
        let data = PackEntry { kind: BlobKind::Data, id, offset: 47, length: 33, uncompressed: 0 };
        assert_eq!(gathered.builder.build().by_pack(), [(id, vec![tree, data])]);
        assert_eq!(gathered.superseded, HashSet::from([id]));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            prop_assert!(serde_json::from_slice::<IndexFile>(&bytes).is_err());
        }
    }
}
