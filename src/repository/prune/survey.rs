//! What is stored and what of it is used: the facts that a prune decides on.
//!
//! "Used" comes from all snapshots, whoever wrote them. What cannot be read or is not listed whole is an error, never
//! "empty". Memory: 48 bytes a blob of the index, about 200 a pack, 3 bits a blob for what is needed.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::plan::{PackFacts, PackState};
use crate::ground::Progress;
use crate::repository::closure::{self, Bits};
use crate::repository::error::RepositoryError;
use crate::repository::index::Index;
use crate::repository::index_file::{self, INDEXES, NamedPack, ObjectNote};
use crate::repository::pack::{self, PackEntry};
use crate::repository::tree::BlobId;
use crate::repository::{BlobKind, Inner, snapshot, unpacked};

/// One stored pack.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredPack {
    pub(super) id: BlobId,
    size: u64,
    state: PackState,
    used: u64,
    unused: u64,
    trees: bool,
}

/// Everything that is stored, and what is needed of it.
pub(super) struct Survey {
    /// Blobs of all stored packs: named, marked and unnamed ones.
    pub(super) index: Index,
    /// Stored packs in the order of the index; packs whose content nobody knows stand behind.
    pub(super) packs: Vec<StoredPack>,
    pub(super) objects: Vec<ObjectNote>,
    /// Ids of the snapshots that were looked at.
    pub(super) snapshots: HashSet<String>,
    /// Copies that are counted as the used ones, data and trees.
    chosen: [Bits; 2],
}

const KINDS: [BlobKind; 2] = [BlobKind::Data, BlobKind::Tree];

impl Survey {
    /// Looks at everything.
    ///
    /// # Errors
    /// When an index file, a snapshot or a directory cannot be read, or a named pack is not there whole.
    pub(super) fn make(inner: &Inner, progress: &dyn Progress) -> Result<Self, RepositoryError> {
        progress.begin("finding what snapshots use", None);
        let survey = Self::look(inner, progress);
        progress.end();
        survey
    }

    fn look(inner: &Inner, progress: &dyn Progress) -> Result<Self, RepositoryError> {
        // Before the index: what a snapshot needs is indexed before it is saved. Later ones are looked at in the end.
        let snapshots = snapshot::load_all(inner)?;
        let (mut index, objects, states) = load_index(inner)?;
        let (stored, foreign) = unpacked::list(inner, pack::PACKS)?;
        for name in foreign {
            progress.warn(&format!("{name} is no object of the repository and is left alone"));
        }
        let sizes: HashMap<BlobId, u64> = stored.iter().copied().collect();
        let (unnamed, opaque) = read_unnamed(inner, &index, &stored)?;
        index = index.with(&unnamed);
        let lost = index.forget_lost_packs(&sizes);
        if let Some(pack) = lost.iter().find(|pack| !states.contains_key(pack)) {
            return Err(needs_repair(format!("{} is lost or cut", pack::key_of(pack))));
        }
        let mut packs = list_packs(&index, &sizes, &states, &unnamed);
        packs.extend(opaque.iter().map(|(id, size)| StoredPack::of(*id, *size, PackState::Unnamed)));
        let needed = find_needed(inner, &index, snapshots.iter().map(|snapshot| snapshot.tree), progress)?;
        let chosen = choose(&index, &needed, &mut packs);
        let snapshots = snapshots.into_iter().map(|snapshot| snapshot.id).collect();
        Ok(Self { index, packs, objects, snapshots, chosen })
    }

    /// The facts of every pack, with the ages of those whose fate hangs on it. `now` is the store's time.
    pub(super) fn facts(&self, inner: &Inner, now: Option<Timestamp>) -> Result<Vec<PackFacts>, RepositoryError> {
        let marked_by: HashMap<BlobId, BlobId> = (self.objects.iter())
            .filter(|object| !object.superseded)
            .flat_map(|object| object.marks.iter().map(|pack| (*pack, object.id)))
            .collect();
        let mut mark_times: HashMap<BlobId, Option<Timestamp>> = HashMap::new();
        let mut facts = Vec::with_capacity(self.packs.len());
        for pack in &self.packs {
            let since = match (pack.state, marked_by.get(&pack.id)) {
                (PackState::Marked, Some(object)) => match mark_times.get(object) {
                    Some(time) => *time,
                    None => *mark_times.entry(*object).or_insert(inner.store.modified(&format!("{INDEXES}{object}"))?),
                },
                _ if pack.needs_age() => inner.store.modified(&pack::key_of(&pack.id))?,
                _ => None,
            };
            facts.push(pack.facts(now.zip(since).map(|(now, since)| now.duration_since(since))));
        }
        Ok(facts)
    }

    /// The blobs of the packs that `wanted` holds for, by pack and place; with `only_chosen` those that are counted as
    /// used there.
    pub(super) fn blobs(&self, only_chosen: bool, wanted: impl Fn(usize) -> bool) -> Vec<NamedPack> {
        let mut found: HashMap<usize, Vec<PackEntry>> = HashMap::new();
        for (bits, kind) in self.chosen.iter().zip(KINDS) {
            for (position, (pack, entry)) in self.index.entries(kind).enumerate() {
                if wanted(pack) && (!only_chosen || bits.get(position)) {
                    found.entry(pack).or_default().push(entry);
                }
            }
        }
        let mut numbers: Vec<usize> = (0..self.packs.len()).filter(|number| wanted(*number)).collect();
        numbers.sort_unstable();
        let blobs_of = |number: usize| {
            let mut entries = found.remove(&number).unwrap_or_default();
            entries.sort_by_key(|entry| entry.offset);
            (self.packs[number].id, entries)
        };
        numbers.into_iter().map(blobs_of).collect()
    }

    /// The numbers of packs with a used blob that `stored` does not hold.
    pub(super) fn not_held_by(&self, stored: &Index) -> Vec<usize> {
        let mut packs = Vec::new();
        for (bits, kind) in self.chosen.iter().zip(KINDS) {
            for (position, (pack, entry)) in self.index.entries(kind).enumerate() {
                if bits.get(position) && !stored.contains(kind, &entry.id) {
                    packs.push(pack);
                }
            }
        }
        packs.sort_unstable();
        packs.dedup();
        packs
    }
}

impl StoredPack {
    fn of(id: BlobId, size: u64, state: PackState) -> Self {
        Self { id, size, state, used: 0, unused: 0, trees: false }
    }

    fn needs_age(&self) -> bool {
        self.used == 0 || self.unused > 0 || self.size < super::Rules::default().small_bytes
    }

    fn facts(&self, age: Option<SignedDuration>) -> PackFacts {
        let Self { size, state, used, unused, trees, .. } = *self;
        PackFacts { size, state, used, unused, trees, age }
    }
}

fn needs_repair(what: String) -> RepositoryError {
    RepositoryError::Damaged(format!("{what}: nothing is pruned before `lifeboat repair` has been here"))
}

/// The index, its objects, and the packs that are marked only.
type LoadedIndex = (Index, Vec<ObjectNote>, HashMap<BlobId, PackState>);

/// All blobs that index files name or mark.
fn load_index(inner: &Inner) -> Result<LoadedIndex, RepositoryError> {
    let loaded = index_file::load_for_reading(inner, false)?;
    if let Some(damage) = loaded.damage.into_iter().next() {
        return Err(needs_repair(damage));
    }
    let states = loaded.marked.iter().map(|(pack, _)| (*pack, PackState::Marked)).collect();
    Ok((loaded.index, loaded.objects, states))
}

/// Packs with their sizes.
type Sizes = Vec<(BlobId, u64)>;

/// Packs that nothing names or marks: what their headers say, and those that cannot be read.
fn read_unnamed(inner: &Inner, index: &Index, stored: &Sizes) -> Result<(Vec<NamedPack>, Sizes), RepositoryError> {
    let (mut readable, mut opaque) = (Vec::new(), Vec::new());
    for (id, size) in stored.iter().filter(|(id, _)| index.pack_number(id).is_none()) {
        match pack::read_header(inner, id, *size) {
            Ok(entries) => readable.push((*id, entries)),
            Err(RepositoryError::Damaged(_)) => opaque.push((*id, *size)),
            // Somebody has removed it since the listing.
            Err(_) if inner.store.size(&pack::key_of(id))?.is_none() => {}
            Err(error) => return Err(error),
        }
    }
    Ok((readable, opaque))
}

fn list_packs(
    index: &Index,
    sizes: &HashMap<BlobId, u64>,
    marked: &HashMap<BlobId, PackState>,
    unnamed: &[NamedPack],
) -> Vec<StoredPack> {
    let unnamed: HashMap<BlobId, PackState> = unnamed.iter().map(|(pack, _)| (*pack, PackState::Unnamed)).collect();
    let state = |pack| marked.get(pack).or_else(|| unnamed.get(pack)).copied().unwrap_or(PackState::Named);
    let size = |pack| sizes.get(pack).copied().unwrap_or(0);
    index.packs().iter().map(|pack| StoredPack::of(*pack, size(pack), state(pack))).collect()
}

/// A bit at the first copy of every blob that a snapshot needs.
fn find_needed(
    inner: &Inner,
    index: &Index,
    roots: impl Iterator<Item = BlobId>,
    progress: &dyn Progress,
) -> Result<[Bits; 2], RepositoryError> {
    let mut needed = KINDS.map(|kind| Bits::new(index.count(kind)));
    let (mut missing, mut first) = (0_u64, None);
    let walked = closure::visit(inner, index, roots, &mut |refs| {
        if let Some(position) = index.position(BlobKind::Tree, &refs.tree) {
            needed[1].set(position);
        }
        for id in refs.contents {
            match index.position(BlobKind::Data, &id) {
                Some(position) => {
                    needed[0].set(position);
                }
                None => {
                    missing += 1;
                    first.get_or_insert(id);
                }
            }
        }
        Ok(())
    });
    walked.map_err(|error| match error {
        RepositoryError::Damaged(why) => RepositoryError::Damaged(format!(
            "{why}; what is below it is not known, so nothing is pruned: run `lifeboat repair`, or remove the snapshots \
             that `lifeboat verify` names"
        )),
        error => error,
    })?;
    if let Some(id) = first {
        progress.warn(&format!(
            "snapshots refer {missing} times to content that is stored nowhere (first: {id}); `lifeboat verify` names \
             the files"
        ));
    }
    Ok(needed)
}

/// Of several copies of a needed blob one is counted as used: in a named pack rather than in one that nothing names or
/// that is marked, and in a pack that has to stay anyway rather than in another.
fn choose(index: &Index, needed: &[Bits; 2], packs: &mut [StoredPack]) -> [Bits; 2] {
    let mut chosen = KINDS.map(|kind| Bits::new(index.count(kind)));
    for only_single in [true, false] {
        for ((kind, needed), chosen) in KINDS.into_iter().zip(needed).zip(&mut chosen) {
            let mut copies: Vec<(usize, usize, PackEntry)> = Vec::new();
            for (position, (pack, entry)) in index.entries(kind).enumerate() {
                if copies.first().is_some_and(|(_, _, first)| first.id != entry.id) {
                    count(&copies, needed, only_single, packs, chosen);
                    copies.clear();
                }
                copies.push((position, pack, entry));
            }
            count(&copies, needed, only_single, packs, chosen);
        }
    }
    chosen
}

/// Counts the copies of one blob.
fn count(
    copies: &[(usize, usize, PackEntry)],
    needed: &Bits,
    only_single: bool,
    packs: &mut [StoredPack],
    chosen: &mut Bits,
) {
    if copies.is_empty() || (copies.len() == 1) != only_single {
        return;
    }
    let rank = |pack: &StoredPack| match pack.state {
        PackState::Named => 0,
        PackState::Unnamed => 1,
        PackState::Marked => 2,
    };
    let best = (copies.iter())
        .min_by_key(|(position, pack, _)| (rank(&packs[*pack]), packs[*pack].used == 0, packs[*pack].unused, *position))
        .filter(|_| needed.get(copies[0].0))
        .map(|(position, ..)| *position);
    for (position, pack, entry) in copies {
        let pack = &mut packs[*pack];
        pack.trees |= entry.kind == BlobKind::Tree;
        if best == Some(*position) {
            pack.used += u64::from(entry.length);
            chosen.set(*position);
        } else {
            pack.unused += u64::from(entry.length);
        }
    }
}
