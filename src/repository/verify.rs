//! Checking a repository: what is there, whether it fits together and, if asked, whether the stored bytes are whole.
//!
//! A deleted snapshot leaves no trace in the format: who keeps records of snapshots compares them with the listing.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::config::{self, Config};
use super::error::RepositoryError;
use super::index::Index;
use super::pack::{self, PackEntry};
use super::reader::BlobReader;
use super::snapshot::{self, Snapshot};
use super::tree::{BlobId, Node, NodeKind};
use super::tree_visits::{join, visit_each};
use super::{BlobKind, Inner, crypto, guarded, index_file, key, lock, opener, unpacked, verify_data};
use crate::ground::Progress;
use crate::ground::byte_path::escape;
use crate::site::StoreErrorKind;

/// Sentences of damage that are kept; more are counted.
const DAMAGE_LIMIT: usize = 1000;
/// Paths named for one damaged pack; more are counted.
const PATH_LIMIT: usize = 10;

/// How thorough a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyDepth {
    /// Listing, indexes, snapshots and all trees; no data is read.
    Structure,
    /// Also reads so many percent of the packs (100 = all), chosen by `seed`.
    Data { percent: u8, seed: u64 },
}

/// What a verification saw.
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    pub snapshots: u64,
    /// Packs that an index names.
    pub packs: u64,
    /// Packs that no index names, so that nothing needs them: a backup that was killed or is under way left them, or a
    /// repair. They are not read.
    pub unlisted_packs: u64,
    pub packs_read: u64,
    pub blobs: u64,
    pub bytes_read: u64,
    /// Damage, one sentence each, naming object and, where known, the snapshot's paths.
    pub damage: Vec<String>,
}

/// A pack that is missing or damaged, and the blobs that it no longer gives.
pub(super) struct PackDamage {
    pub(super) sentence: String,
    pub(super) lost: Vec<(BlobKind, BlobId)>,
}

/// A pack to look at: its size as stored and what the index says it holds; nothing where that makes another size.
pub(super) struct KnownPack {
    pub(super) id: BlobId,
    pub(super) size: u64,
    pub(super) entries: Vec<PackEntry>,
}

/// Damage so far; sentences beyond the limit are only counted.
#[derive(Default)]
struct Damage {
    sentences: Vec<String>,
    more: u64,
}

impl Damage {
    fn add(&mut self, sentence: impl Into<String>) {
        if self.sentences.len() < DAMAGE_LIMIT {
            self.sentences.push(sentence.into());
        } else {
            self.more += 1;
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            self.sentences.push(format!("{} more findings are not listed", self.more));
        }
        self.sentences
    }
}

/// Checks the repository. An error means that the check itself could not be done; damage is in the report.
pub(super) fn verify(
    inner: &std::sync::Arc<Inner>,
    depth: VerifyDepth,
    progress: &dyn Progress,
) -> Result<VerifyReport, RepositoryError> {
    progress.begin("checking the repository's structure", None);
    let (mut report, mut damage) = (VerifyReport::default(), Damage::default());
    check_fixed_objects(inner, &mut damage)?;
    let loaded = index_file::load(inner, false)?;
    loaded.damage.iter().for_each(|sentence| damage.add(sentence));
    report.blobs = loaded.index.len() as u64;
    let Listed { packs, bad: mut bad_packs, unlisted } = check_packs(inner, &loaded.index, &mut damage)?;
    (report.packs, report.unlisted_packs) = (packs.len() as u64, unlisted);
    let reader = BlobReader::new(std::sync::Arc::clone(inner), loaded.index);
    let snapshots = load_snapshots(inner, &mut damage)?;
    report.snapshots = snapshots.len() as u64;
    check_trees(inner, &reader, &snapshots, &mut damage);
    progress.end();
    if let VerifyDepth::Data { percent, seed } = depth {
        let chosen = verify_data::choose(packs, percent, seed);
        bad_packs.extend(verify_data::read_packs(inner, &chosen, progress, &mut report));
    }
    name_affected_files(&reader, &snapshots, bad_packs, &mut damage);
    report.damage = damage.finish();
    Ok(report)
}

/// Configuration, keys and locks.
fn check_fixed_objects(inner: &Inner, damage: &mut Damage) -> Result<(), RepositoryError> {
    match inner.store.get(config::CONFIG) {
        Ok(stored) => match Config::open(&inner.key, &stored) {
            Some(Ok(config)) if config == inner.config => {}
            _ => damage.add("the object config is damaged"),
        },
        Err(error) if error.kind == StoreErrorKind::NotFound => damage.add("the object config is missing"),
        Err(error) => damage.add(format!("the object config is damaged: {error}")),
    }
    let (keys, foreign) = unpacked::list(inner, key::KEYS)?;
    foreign.iter().for_each(|name| damage.add(format!("{name} has no name that the format knows")));
    if keys.is_empty() {
        damage.add("the repository has no key: it cannot be opened again");
    }
    for (id, _) in keys {
        check_key(inner, &id).unwrap_or_else(|error| damage.add(error.of(&format!("{}{id}", key::KEYS)).to_string()));
    }
    for (id, _) in unpacked::list(inner, lock::LOCKS)?.0 {
        if let Err(RepositoryError::Damaged(why)) = lock::check_readable(inner, &id)
            && inner.store.size(&format!("{}{id}", lock::LOCKS))?.is_some()
        {
            damage.add(why);
        }
    }
    Ok(())
}

fn check_key(inner: &Inner, id: &BlobId) -> Result<(), RepositoryError> {
    let stored = inner.store.get(&format!("{}{id}", key::KEYS))?;
    if crypto::sha256(&stored) != id.0 {
        return Err(RepositoryError::Damaged("its bytes do not match its name".to_owned()));
    }
    key::check_form(&stored)
}

/// The packs that the index names.
struct Listed {
    /// Those that are there.
    packs: Vec<KnownPack>,
    bad: Vec<PackDamage>,
    /// How many are there beyond those.
    unlisted: u64,
}

/// Every pack that the index names must be there in the size that its blobs make.
fn check_packs(inner: &Inner, index: &Index, damage: &mut Damage) -> Result<Listed, RepositoryError> {
    let (stored, foreign) = unpacked::list(inner, pack::PACKS)?;
    foreign.iter().for_each(|name| damage.add(format!("{name} has no name that the format knows")));
    let mut sizes: HashMap<BlobId, u64> = stored.into_iter().collect();
    let (mut packs, mut bad) = (Vec::new(), Vec::new());
    for (id, entries) in index.by_pack() {
        let expected = pack::size_of(&entries);
        let lost = || entries.iter().map(|entry| (entry.kind, entry.id)).collect();
        let object = pack::key_of(&id);
        match sizes.remove(&id) {
            None => bad.push(PackDamage { sentence: format!("{object} is missing"), lost: lost() }),
            Some(size) if size != expected => {
                let sentence = format!("{object} is damaged: it has {size} bytes instead of {expected}");
                bad.push(PackDamage { sentence, lost: lost() });
                packs.push(KnownPack { id, size, entries: Vec::new() });
            }
            Some(size) => packs.push(KnownPack { id, size, entries }),
        }
    }
    Ok(Listed { packs, bad, unlisted: sizes.len() as u64 })
}

fn load_snapshots(inner: &Inner, damage: &mut Damage) -> Result<Vec<Snapshot>, RepositoryError> {
    let (ids, foreign) = unpacked::list(inner, snapshot::SNAPSHOTS)?;
    foreign.iter().for_each(|name| damage.add(format!("{name} has no name that the format knows")));
    let mut snapshots = Vec::new();
    for (id, _) in ids {
        match snapshot::load(inner, &id) {
            Ok(snapshot) => snapshots.push(snapshot),
            Err(error) => damage.add(error.to_string()),
        }
    }
    snapshots.sort_by(|left, right| (left.time, &left.id).cmp(&(right.time, &right.id)));
    Ok(snapshots)
}

fn short(snapshot: &Snapshot) -> &str {
    snapshot.id.get(..8).unwrap_or_default()
}

/// All trees must be readable and every blob of a file in the index, with the file's length in sum.
fn check_trees(inner: &Inner, reader: &BlobReader, snapshots: &[Snapshot], damage: &mut Damage) {
    let found = Mutex::new(Damage::default());
    visit_each(reader, snapshots, opener::threads(inner, usize::MAX), &|snapshot, path, _, nodes| match nodes {
        Ok(nodes) => {
            for node in nodes.iter().filter(|node| node.kind == NodeKind::File) {
                if let Err(why) = check_content(reader, node) {
                    let file = escape(&join(path, &node.name));
                    guarded(&found).add(format!("the file {file} of snapshot {} is damaged: {why}", short(snapshot)));
                }
            }
        }
        Err(error) => {
            let directory = escape(if path.is_empty() { b"/" } else { path });
            let sentence = format!("the directory {directory} of snapshot {} cannot be read: {error}", short(snapshot));
            guarded(&found).add(sentence);
        }
    });
    let mut found = std::mem::take(&mut *guarded(&found));
    found.sentences.sort_unstable();
    found.sentences.into_iter().for_each(|sentence| damage.add(sentence));
    damage.more += found.more;
}

/// Every piece of a file must be known, and their lengths make its size; the error says what is wrong.
pub(super) fn check_content(reader: &BlobReader, node: &Node) -> Result<(), String> {
    let mut total = 0_u64;
    for id in &node.content {
        let length = reader.length(BlobKind::Data, id);
        total = total.saturating_add(length.ok_or_else(|| format!("its blob {id} is missing: no index names it"))?);
    }
    if total == node.size {
        Ok(())
    } else {
        Err(format!("its blobs hold {total} bytes, but its size is {}", node.size))
    }
}

/// Files that need a damaged pack, found by a walk over all trees that can be read.
fn name_affected_files(reader: &BlobReader, snapshots: &[Snapshot], bad: Vec<PackDamage>, damage: &mut Damage) {
    if bad.is_empty() {
        return;
    }
    let mut owners: HashMap<(BlobKind, BlobId), usize> = HashMap::new();
    for (number, pack) in bad.iter().enumerate() {
        owners.extend(pack.lost.iter().map(|blob| (*blob, number)));
    }
    let affected: Mutex<Vec<(Vec<String>, u64)>> = Mutex::new(bad.iter().map(|_| (Vec::new(), 0)).collect());
    let note = |number: usize, snapshot: &Snapshot, path: &[u8]| {
        let (paths, more) = &mut guarded(&affected)[number];
        if paths.len() < PATH_LIMIT {
            paths.push(format!("{} of snapshot {}", escape(path), short(snapshot)));
        } else {
            *more += 1;
        }
    };
    let blind = AtomicBool::new(false);
    // By one thread: which paths are named does not depend on who comes first.
    visit_each(reader, snapshots, 1, &|snapshot, path, tree, nodes| {
        blind.fetch_or(nodes.is_err(), Ordering::Relaxed);
        if let Some(number) = owners.get(&(BlobKind::Tree, tree)) {
            note(*number, snapshot, if path.is_empty() { b"/" } else { path });
        }
        for node in nodes.unwrap_or_default() {
            let packs: HashSet<_> =
                node.content.iter().filter_map(|id| owners.get(&(BlobKind::Data, *id))).copied().collect();
            packs.into_iter().for_each(|number| note(number, snapshot, &join(path, &node.name)));
        }
    });
    let affected = std::mem::take(&mut *guarded(&affected));
    for (pack, (paths, more)) in bad.into_iter().zip(affected) {
        let affected = match (pack.lost.is_empty(), blind.load(Ordering::Relaxed)) {
            (true, _) => "; its blobs are whole".to_owned(),
            (false, blind) => affected_text(&paths, more, blind),
        };
        damage.add(pack.sentence + &affected);
    }
}

fn affected_text(paths: &[String], more: u64, blind: bool) -> String {
    match (paths.is_empty(), more) {
        (true, _) if blind => "; what needs it cannot be told, since directories cannot be read".to_owned(),
        (true, _) => "; no snapshot needs it".to_owned(),
        (false, 0) => format!("; affected: {}", paths.join(", ")),
        (false, _) => format!("; affected: {} and {more} more", paths.join(", ")),
    }
}
