//! Index files: JSON that names packs and their blobs. One that `supersedes` others replaces them.
//!
//! Packs that wait for their deletion stand in `packs_to_delete`, as rustic has it; restic passes over the key. A pack that
//! any index file names in `packs` is stored, whatever others say: a mark counts only for packs that nothing else names.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::RepositoryError;
use super::index::{Index, IndexBuilder};
use super::pack::{self, PackEntry};
use super::tree::BlobId;
use super::{BlobKind, Inner, unpacked};
use crate::site::StoreErrorKind;

/// Directory of the index files.
pub(super) const INDEXES: &str = "index/";
/// Threads that load them at most: each holds a file of up to 50,000 blobs.
const THREADS: usize = 4;
/// So often the index is read from the start when others change it meanwhile.
const ATTEMPTS_MAX: u32 = 20;

/// A pack's name with its blobs.
pub(super) type NamedPack = (BlobId, Vec<PackEntry>);

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct IndexFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    supersedes: Option<Vec<BlobId>>,
    pub(super) packs: Option<Vec<PackJson>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    packs_to_delete: Option<Vec<PackJson>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PackJson {
    id: BlobId,
    blobs: Option<Vec<BlobJson>>,
    /// When it was marked, for people and for rustic; what counts is the store's own time of the index file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<String>,
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
pub(super) fn save(inner: &Inner, packs: &[NamedPack]) -> Result<u64, RepositoryError> {
    let file = IndexFile { packs: Some(to_json(packs, None)), ..IndexFile::default() };
    unpacked::save(inner, INDEXES, &file).map(|(_, size)| size)
}

/// Writes an index file that names packs and is read back and compared; its id.
pub(super) fn save_proven(inner: &Inner, packs: &[NamedPack]) -> Result<BlobId, RepositoryError> {
    let file = IndexFile { packs: Some(to_json(packs, None)), ..IndexFile::default() };
    let (id, _) = unpacked::save(inner, INDEXES, &file)?;
    prove(inner, &id, packs, &[])?;
    Ok(id)
}

/// Writes an index file that lists packs to be deleted and names none; read back and compared.
pub(super) fn save_marks(inner: &Inner, marked: &[NamedPack], now: Timestamp) -> Result<BlobId, RepositoryError> {
    let marks = to_json(marked, Some(&now.to_string()));
    let file = IndexFile { packs: Some(Vec::new()), packs_to_delete: Some(marks), ..IndexFile::default() };
    let (id, _) = unpacked::save(inner, INDEXES, &file)?;
    prove(inner, &id, &[], marked)?;
    Ok(id)
}

fn prove(inner: &Inner, id: &BlobId, packs: &[NamedPack], marked: &[NamedPack]) -> Result<(), RepositoryError> {
    let stored = load_object(inner, id)?;
    if stored.packs == packs && stored.marked == marked {
        return Ok(());
    }
    Err(RepositoryError::Damaged(format!("{INDEXES}{id} does not hold what was written")))
}

fn to_json(packs: &[NamedPack], time: Option<&str>) -> Vec<PackJson> {
    let blobs = |entries: &[PackEntry]| Some(entries.iter().map(BlobJson::from).collect());
    let json = |(id, entries): &NamedPack| PackJson { id: *id, blobs: blobs(entries), time: time.map(str::to_owned) };
    packs.iter().map(json).collect()
}

/// Names of all index files.
pub(super) fn names(inner: &Inner) -> Result<HashSet<BlobId>, RepositoryError> {
    Ok(unpacked::list(inner, INDEXES)?.0.into_iter().map(|(id, _)| id).collect())
}

/// What one index file says.
pub(super) struct IndexObject {
    pub(super) supersedes: Vec<BlobId>,
    pub(super) packs: Vec<NamedPack>,
    /// Listed as to be deleted.
    pub(super) marked: Vec<NamedPack>,
}

/// Loads one index file.
pub(super) fn load_object(inner: &Inner, id: &BlobId) -> Result<IndexObject, RepositoryError> {
    unpacked::load::<IndexFile>(inner, INDEXES, id).map(|file| IndexObject {
        supersedes: file.supersedes.unwrap_or_default(),
        packs: compact(file.packs),
        marked: compact(file.packs_to_delete),
    })
}

/// Loads a few index files at the same time.
fn load_objects(inner: &Inner, ids: &[BlobId]) -> Vec<(BlobId, Result<IndexObject, RepositoryError>)> {
    let ended = || RepositoryError::machine("a thread that reads the index has ended by a panic");
    std::thread::scope(|scope| {
        let loads: Vec<_> = ids.iter().map(|id| (*id, scope.spawn(|| load_object(inner, id)))).collect();
        loads.into_iter().map(|(id, load)| (id, load.join().unwrap_or_else(|_| Err(ended())))).collect()
    })
}

/// An index file by name only: what it speaks of, without blobs.
pub(super) struct ObjectNote {
    pub(super) id: BlobId,
    pub(super) packs: Vec<BlobId>,
    pub(super) marks: Vec<BlobId>,
    /// Another one replaces it: what it says does not count.
    pub(super) superseded: bool,
}

/// What loading the index gave.
pub(super) struct Loaded {
    pub(super) index: Index,
    /// Index files that could not be used, one sentence each.
    pub(super) damage: Vec<String>,
    /// Packs that no sound index file names, found by their own headers; part of `index`.
    pub(super) recovered: Vec<NamedPack>,
    /// Packs that wait for their deletion and that nothing names. Not part of `index`, unless it was asked for.
    pub(super) marked: Vec<NamedPack>,
    /// Every sound index file.
    pub(super) objects: Vec<ObjectNote>,
}

/// Loads all index files. Damaged ones are left out and named; with `recover`, packs that nothing else names are then
/// found by their headers, so that a restore works without an index.
pub(super) fn load(inner: &Inner, recover: bool) -> Result<Loaded, RepositoryError> {
    load_how(inner, recover, false)
}

/// As [`load`], with the blobs of packs that wait for their deletion: a reader takes what is still there.
pub(super) fn load_for_reading(inner: &Inner, recover: bool) -> Result<Loaded, RepositoryError> {
    load_how(inner, recover, true)
}

fn load_how(inner: &Inner, recover: bool, with_marked: bool) -> Result<Loaded, RepositoryError> {
    let Gathered { mut builder, damage, mut objects, marked, superseded } = gather(inner)?;
    let marked: Vec<NamedPack> = marked.into_iter().filter(|(pack, _)| !builder.names_pack(pack)).collect();
    let recovered = match recover && !damage.is_empty() {
        true => recover_from_packs(inner, &builder, &marked)?,
        false => Vec::new(),
    };
    recovered.iter().for_each(|(pack, entries)| builder.add(*pack, entries.iter().copied()));
    if with_marked {
        marked.iter().for_each(|(pack, entries)| builder.add(*pack, entries.iter().copied()));
    }
    objects.iter_mut().for_each(|object| object.superseded = superseded.contains(&object.id));
    Ok(Loaded { index: builder.build(), damage, recovered, marked, objects })
}

/// Index files as they come.
#[derive(Default)]
struct Gathered {
    builder: IndexBuilder,
    damage: Vec<String>,
    objects: Vec<ObjectNote>,
    marked: HashMap<BlobId, Vec<PackEntry>>,
    superseded: HashSet<BlobId>,
}

/// Reads every index file. Others may replace some meanwhile: a name that is gone is asked for again from the start, and
/// only a listing that has nothing new ends the reading, so that what was moved from one file into another is not missed.
fn gather(inner: &Inner) -> Result<Gathered, RepositoryError> {
    let mut superseded = HashSet::new();
    for _ in 0..ATTEMPTS_MAX {
        let mut gathered = Gathered { superseded: std::mem::take(&mut superseded), ..Gathered::default() };
        if gathered.read_all(inner)? && !gathered.objects.iter().any(|object| gathered.counts_wrongly(object)) {
            return Ok(gathered);
        }
        superseded = gathered.superseded;
    }
    let place = inner.store.describe();
    Err(RepositoryError::Locked(format!("the index of the repository in {place} changes faster than it can be read")))
}

impl Gathered {
    /// False when a file that was listed is gone.
    fn read_all(&mut self, inner: &Inner) -> Result<bool, RepositoryError> {
        let mut done = HashSet::new();
        loop {
            let (ids, foreign) = unpacked::list(inner, INDEXES)?;
            if done.is_empty() {
                self.damage.extend(foreign.iter().map(|key| format!("{key} has no name that the format knows")));
            }
            let fresh: Vec<BlobId> = ids.into_iter().map(|(id, _)| id).filter(|id| !done.contains(id)).collect();
            if fresh.is_empty() {
                return Ok(true);
            }
            for (id, object) in fresh.chunks(THREADS).flat_map(|ids| load_objects(inner, ids)) {
                done.insert(id);
                match object {
                    Ok(object) => self.take(id, object),
                    Err(error) if is_refusal(&error) => return Err(error),
                    Err(_) if inner.store.size(&format!("{INDEXES}{id}"))?.is_none() => return Ok(false),
                    Err(error) => self.damage.push(error.to_string()),
                }
            }
        }
    }

    fn take(&mut self, id: BlobId, object: IndexObject) {
        let IndexObject { supersedes, packs, marked } = object;
        let names = |packs: &[NamedPack]| packs.iter().map(|(pack, _)| *pack).collect();
        let counts = !self.superseded.contains(&id);
        self.objects.push(ObjectNote { id, packs: names(&packs), marks: names(&marked), superseded: !counts });
        self.superseded.extend(supersedes);
        if counts {
            packs.into_iter().for_each(|(pack, entries)| self.builder.add(pack, entries));
            self.marked.extend(marked);
        }
    }

    /// It was taken before the one that supersedes it was read.
    fn counts_wrongly(&self, object: &ObjectNote) -> bool {
        !object.superseded && self.superseded.contains(&object.id)
    }
}

/// The store does not let us read, which says nothing of the object. A disk that cannot read one file is damage.
fn is_refusal(error: &RepositoryError) -> bool {
    matches!(error, RepositoryError::Store(error) if error.kind != StoreErrorKind::Other)
}

/// The packs and blobs of a file that was read.
pub(super) fn compact(packs: Option<Vec<PackJson>>) -> Vec<NamedPack> {
    let packs = packs.unwrap_or_default().into_iter();
    packs.map(|pack| (pack.id, pack.blobs.unwrap_or_default().into_iter().map(PackEntry::from).collect())).collect()
}

/// Reads the headers of packs that no index names. A pack whose header cannot be read is left out: what it held is
/// then reported as missing where it is wanted.
fn recover_from_packs(
    inner: &Inner,
    builder: &IndexBuilder,
    marked: &[NamedPack],
) -> Result<Vec<NamedPack>, RepositoryError> {
    let marked: HashSet<BlobId> = marked.iter().map(|(pack, _)| *pack).collect();
    let mut recovered = Vec::new();
    for (id, size) in unpacked::list(inner, pack::PACKS)?.0 {
        if builder.names_pack(&id) || marked.contains(&id) {
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
        let packs = compact(serde_json::from_str::<IndexFile>(&text).unwrap().packs);
        let id = BlobId([0xaa; 32]);
        let tree = PackEntry { kind: BlobKind::Tree, id, offset: 5, length: 42, uncompressed: 99 };
        let data = PackEntry { kind: BlobKind::Data, id, offset: 47, length: 33, uncompressed: 0 };
        assert_eq!(packs, [(id, vec![tree, data]), (id, vec![])]);
    }

    #[test]
    fn what_rustic_marks_is_read_as_marked() {
        let id = "bb".repeat(32);
        let text = format!(
            r#"{{"packs":[],"packs_to_delete":[{{"id":"{id}","time":"2024-05-06T07:08:09.1+02:00[Europe/Paris]",
            "size":77,"blobs":[{{"id":"{id}","type":"data","offset":0,"length":33}}]}}]}}"#
        );
        let file: IndexFile = serde_json::from_str(&text).unwrap();
        let entry = PackEntry { kind: BlobKind::Data, id: BlobId([0xbb; 32]), offset: 0, length: 33, uncompressed: 0 };
        assert_eq!(compact(file.packs_to_delete), [(BlobId([0xbb; 32]), vec![entry])]);
        assert_eq!(compact(file.packs), []);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            prop_assert!(serde_json::from_slice::<IndexFile>(&bytes).is_err());
        }
    }
}
