//! The index in memory: which blob is where in which pack. 48 bytes a blob, 40 a pack.

use std::collections::HashMap;

use super::BlobKind;
use super::pack::{self, PackEntry};
use super::tree::BlobId;

/// A blob's place; sorted by id within its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    id: [u8; 32],
    pack: u32,
    offset: u32,
    length: u32,
    uncompressed: u32,
}

/// One copy of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) pack: BlobId,
    pub(super) entry: PackEntry,
}

/// Where the first copy of a blob is, small enough to hold one for each piece of many files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    /// Number for [`Index::pack_id`].
    pub(super) pack: u32,
    pub(super) offset: u32,
    /// Sealed, as stored.
    pub(super) length: u32,
    /// Plain length of a compressed blob, 0 for one that is not compressed.
    pub(super) uncompressed: u32,
}

impl Spot {
    /// Bytes of the plain text.
    pub(super) fn plain_length(&self) -> u64 {
        pack::plain_length(self.length, self.uncompressed)
    }
}

/// All blobs that the index files name. A blob may have several copies.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    packs: Vec<BlobId>,
    /// By number of the pack: where its last blob ends.
    ends: Vec<u64>,
    data: Vec<Entry>,
    trees: Vec<Entry>,
}

impl Index {
    fn of(&self, kind: BlobKind) -> &[Entry] {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    fn copies(&self, kind: BlobKind, id: &BlobId) -> &[Entry] {
        let entries = self.of(kind);
        let start = first_of(entries, &id.0);
        let count = entries[start..].iter().take_while(|entry| entry.id == id.0).count();
        &entries[start..start + count]
    }

    fn location(&self, kind: BlobKind, entry: &Entry) -> Location {
        Location {
            pack: self.packs[entry.pack as usize],
            entry: PackEntry {
                kind,
                id: BlobId(entry.id),
                offset: entry.offset,
                length: entry.length,
                uncompressed: entry.uncompressed,
            },
        }
    }

    /// True when some pack holds the blob.
    pub(super) fn contains(&self, kind: BlobKind, id: &BlobId) -> bool {
        !self.copies(kind, id).is_empty()
    }

    /// The first copy of a blob.
    pub(super) fn spot(&self, kind: BlobKind, id: &BlobId) -> Option<Spot> {
        let Entry { pack, offset, length, uncompressed, .. } = *self.copies(kind, id).first()?;
        Some(Spot { pack, offset, length, uncompressed })
    }

    /// Name of a pack by its number.
    pub(super) fn pack_id(&self, number: u32) -> BlobId {
        self.packs[number as usize]
    }

    /// Where the last blob of a pack ends.
    pub(super) fn end_of(&self, number: u32) -> u64 {
        self.ends[number as usize]
    }

    /// Every copy of a blob, the one to try first in front.
    pub(super) fn locations(&self, kind: BlobKind, id: &BlobId) -> impl Iterator<Item = Location> {
        self.copies(kind, id).iter().map(move |entry| self.location(kind, entry))
    }

    /// Every pack, by rising name; a pack's number is its place here.
    pub(super) fn packs(&self) -> &[BlobId] {
        &self.packs
    }

    /// A pack's number.
    pub(super) fn pack_number(&self, pack: &BlobId) -> Option<usize> {
        self.packs.binary_search(pack).ok()
    }

    /// Place of a blob's first copy among the blobs of its kind; its other copies follow.
    pub(super) fn position(&self, kind: BlobKind, id: &BlobId) -> Option<usize> {
        let entries = self.of(kind);
        let start = entries.partition_point(|entry| entry.id < id.0);
        entries.get(start).filter(|entry| entry.id == id.0).map(|_| start)
    }

    /// Every copy of every blob of a kind in order of their positions, with its pack's number.
    pub(super) fn entries(&self, kind: BlobKind) -> impl Iterator<Item = (usize, PackEntry)> {
        self.of(kind).iter().map(move |entry| (entry.pack as usize, self.location(kind, entry).entry))
    }

    /// Number of copies of blobs of a kind.
    pub(super) fn count(&self, kind: BlobKind) -> usize {
        self.of(kind).len()
    }

    /// With the blobs of more packs.
    pub(super) fn with(self, packs: &[(BlobId, Vec<PackEntry>)]) -> Self {
        if packs.is_empty() {
            return self;
        }
        let numbers = self.packs.iter().enumerate().map(|(number, pack)| (*pack, number as u32)).collect();
        let mut builder = IndexBuilder { index: self, numbers };
        packs.iter().for_each(|(pack, entries)| builder.add(*pack, entries.iter().copied()));
        builder.build()
    }

    /// Forgets the blobs of packs that are not there, or too short to hold them. `sizes` has every stored pack's bytes.
    /// Gives the packs that were forgotten.
    pub(super) fn forget_lost_packs(&mut self, sizes: &HashMap<BlobId, u64>) -> Vec<BlobId> {
        let whole: Vec<bool> = self
            .packs
            .iter()
            .zip(&self.ends)
            .map(|(pack, end)| sizes.get(pack).is_some_and(|size| size > end))
            .collect();
        self.data.retain(|entry| whole[entry.pack as usize]);
        self.trees.retain(|entry| whole[entry.pack as usize]);
        self.packs.iter().zip(&whole).filter(|(_, whole)| !**whole).map(|(pack, _)| *pack).collect()
    }

    /// Number of blobs, each copy counted.
    pub(super) fn len(&self) -> usize {
        self.data.len() + self.trees.len()
    }

    /// Every pack with its blobs in order of their place.
    pub(super) fn by_pack(&self) -> Vec<(BlobId, Vec<PackEntry>)> {
        let mut packs: Vec<_> = self.packs.iter().map(|pack| (*pack, Vec::new())).collect();
        for (kind, entries) in [(BlobKind::Data, &self.data), (BlobKind::Tree, &self.trees)] {
            for entry in entries {
                packs[entry.pack as usize].1.push(self.location(kind, entry).entry);
            }
        }
        for (_, entries) in &mut packs {
            entries.sort_by_key(|entry| entry.offset);
        }
        packs
    }
}

/// Collects index files into an [`Index`].
#[derive(Default)]
pub(super) struct IndexBuilder {
    index: Index,
    numbers: HashMap<BlobId, u32>,
}

impl IndexBuilder {
    /// Adds one pack's blobs.
    pub(super) fn add(&mut self, pack: BlobId, entries: impl IntoIterator<Item = PackEntry>) {
        let next = self.index.packs.len() as u32;
        let number = *self.numbers.entry(pack).or_insert(next);
        if number == next {
            self.index.packs.push(pack);
        }
        for PackEntry { kind, id, offset, length, uncompressed } in entries {
            let entry = Entry { id: id.0, pack: number, offset, length, uncompressed };
            match kind {
                BlobKind::Data => self.index.data.push(entry),
                BlobKind::Tree => self.index.trees.push(entry),
            }
        }
    }

    /// True when the pack was added.
    pub(super) fn names_pack(&self, pack: &BlobId) -> bool {
        self.numbers.contains_key(pack)
    }

    /// Sorts packs and blobs, drops exact repetitions and spare memory.
    pub(super) fn build(self) -> Index {
        let Self { mut index, numbers: _ } = self;
        let mut order: Vec<u32> = (0..index.packs.len() as u32).collect();
        order.sort_by_key(|number| index.packs[*number as usize]);
        let mut renumbered = vec![0; order.len()];
        for (new, old) in order.iter().enumerate() {
            renumbered[*old as usize] = new as u32;
        }
        index.packs.sort_unstable();
        index.packs.shrink_to_fit();
        for entries in [&mut index.data, &mut index.trees] {
            entries.iter_mut().for_each(|entry| entry.pack = renumbered[entry.pack as usize]);
            entries.sort_unstable();
            entries.dedup();
            entries.shrink_to_fit();
        }
        index.ends = vec![0; index.packs.len()];
        for entry in index.data.iter().chain(&index.trees) {
            let end = &mut index.ends[entry.pack as usize];
            *end = (*end).max(u64::from(entry.offset) + u64::from(entry.length));
        }
        index
    }
}

/// Where the copies of a blob begin among sorted entries. Ids are hashes, evenly spread: their first bytes tell the
/// place within a few entries, where halving would touch a distant one twenty times. Ids that somebody chose cost no
/// more than halving twice.
fn first_of(entries: &[Entry], id: &[u8; 32]) -> usize {
    let share = id.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let guess = ((u128::from(share) * entries.len() as u128) >> 64) as usize;
    let below = |at: usize| entries[at].id < *id;
    let (mut low, mut high, mut step) = (guess, guess, 32);
    while low > 0 && !below(low - 1) {
        low = low.saturating_sub(step);
        step *= 2;
    }
    while high < entries.len() && below(high) {
        high = (high + step).min(entries.len());
        step *= 2;
    }
    low + entries[low..high].partition_point(|entry| entry.id < *id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(kind: BlobKind, id: u8, offset: u32) -> PackEntry {
        PackEntry { kind, id: BlobId([id; 32]), offset, length: 100, uncompressed: 0 }
    }

    #[test]
    fn duplicates_are_kept_as_copies_and_repetitions_are_not() {
        let mut builder = IndexBuilder::default();
        builder.add(BlobId([9; 32]), [entry(BlobKind::Data, 1, 0), entry(BlobKind::Data, 2, 100)]);
        builder.add(BlobId([3; 32]), [entry(BlobKind::Data, 1, 0), entry(BlobKind::Tree, 1, 100)]);
        builder.add(BlobId([9; 32]), [entry(BlobKind::Data, 1, 0)]);
        let index = builder.build();
        assert_eq!(index.len(), 4);
        let packs: Vec<_> = index.locations(BlobKind::Data, &BlobId([1; 32])).map(|at| at.pack.0[0]).collect();
        assert_eq!(packs, [3, 9]);
        assert!(index.contains(BlobKind::Tree, &BlobId([1; 32])));
        assert!(!index.contains(BlobKind::Tree, &BlobId([2; 32])));
        assert_eq!(index.by_pack()[1].1.len(), 2);
        assert_eq!(index.position(BlobKind::Data, &BlobId([2; 32])), Some(2));
        assert_eq!(index.position(BlobKind::Data, &BlobId([3; 32])), None);
        assert_eq!(index.entries(BlobKind::Data).map(|(pack, _)| pack).collect::<Vec<_>>(), [0, 1, 1]);
        assert_eq!((index.count(BlobKind::Tree), index.pack_number(&BlobId([9; 32]))), (1, Some(1)));
    }

    proptest! {
        #[test]
        fn every_blob_is_found_however_ids_are_spread(
            mut ids in proptest::collection::vec(prop_oneof![any::<[u8; 32]>(), any::<u8>().prop_map(|last| {
                let mut id = [0xff; 32];
                id[31] = last;
                id
            })], 0..300),
            other: [u8; 32],
        ) {
            ids.sort_unstable();
            let entry = |id: &[u8; 32]| Entry { id: *id, pack: 0, offset: 0, length: 0, uncompressed: 0 };
            let entries: Vec<Entry> = ids.iter().map(entry).collect();
            for id in ids.iter().chain([&other, &[0; 32], &[0xff; 32]]) {
                prop_assert_eq!(first_of(&entries, id), entries.partition_point(|entry| entry.id < *id));
            }
        }
    }

    #[test]
    fn a_million_blobs_take_48_bytes_each_and_a_pack_40() {
        let mut builder = IndexBuilder::default();
        let packs = super::super::index_bounds::packs(1_000_000, 32);
        let count = packs.len();
        packs.into_iter().for_each(|(pack, entries)| builder.add(pack, entries));
        let index = builder.build();
        assert_eq!(index.len(), 1_000_000);
        let blobs = (index.data.capacity() + index.trees.capacity()) * size_of::<Entry>();
        assert!(blobs <= 1_000_000 * 48, "{blobs} bytes for the blobs");
        let packs = index.packs.capacity() * size_of::<BlobId>() + index.ends.capacity() * size_of::<u64>();
        assert!(packs <= count * 40, "{packs} bytes for {count} packs");
    }
}
