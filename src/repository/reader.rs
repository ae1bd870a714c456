//! Reading blobs: each is checked by its MAC and its hash; when a copy is damaged the next one is tried.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::error::RepositoryError;
use super::index::{Index, Location, Spot};
use super::opener::{self, Opener, Share, Stretch};
use super::pack::{self, PackEntry};
use super::tree::{BlobId, Node};
use super::{BlobKind, Inner, guarded, tree_json};

/// Trees kept in memory, in bytes of their JSON.
const TREE_CACHE: usize = 8 << 20;
/// Bytes of a part of a pack of trees that is fetched at once.
const PART_BYTES: u64 = 1 << 20;
/// Such parts kept in memory: 8 MiB, as stored.
const PARTS_MAX: usize = 8;

struct Shared {
    inner: Arc<Inner>,
    index: Arc<Index>,
    trees: Mutex<TreeCache>,
    parts: Mutex<Parts>,
}

/// Reads blobs, each checked by its MAC and its hash. Shared by threads; cheap to clone.
#[derive(Clone)]
pub struct BlobReader {
    shared: Arc<Shared>,
}

/// Hears of each blob of [`BlobReader::read_many`]: the position in the caller's list and the plain text or the error
/// for that blob. Called from several threads; false stops the reading.
pub type BlobSink<'a> = dyn Fn(usize, Result<&[u8], RepositoryError>) -> bool + Sync + 'a;

impl BlobReader {
    pub(super) fn new(inner: Arc<Inner>, index: impl Into<Arc<Index>>) -> Self {
        let index = index.into();
        Self { shared: Arc::new(Shared { inner, index, trees: Mutex::default(), parts: Mutex::default() }) }
    }

    /// Reads one blob.
    pub fn read(&self, kind: BlobKind, id: &BlobId) -> Result<Vec<u8>, RepositoryError> {
        let mut first_error = None;
        for location in self.shared.index.locations(kind, id) {
            match self.shared.read_at(&location) {
                Ok(plain) => return Ok(plain),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| not_indexed(kind, id)))
    }

    /// Reads a directory; names are checked, entries sorted and unique, or it is damaged.
    pub fn read_tree(&self, id: &BlobId) -> Result<Vec<Node>, RepositoryError> {
        let cached = guarded(&self.shared.trees).get(id);
        let plain = match cached {
            Some(plain) => plain,
            None => {
                let near = self.shared.read_near(id);
                let plain = Arc::new(near.map_or_else(|| self.read(BlobKind::Tree, id), Ok)?);
                guarded(&self.shared.trees).put(*id, Arc::clone(&plain));
                plain
            }
        };
        tree_json::decode(&plain)
            .map_err(|why| RepositoryError::Damaged(format!("the directory {id} is damaged: {why}")))
    }

    /// Plain length of a blob without reading it; `None` when it is not in the index.
    pub fn length(&self, kind: BlobKind, id: &BlobId) -> Option<u64> {
        self.shared.index.spot(kind, id).map(|spot| spot.plain_length())
    }

    /// Reads many data blobs with each pack's bytes fetched once and in the order in which `wanted` first needs the
    /// packs; calls `sink` from worker threads with the position in `wanted` and the plain text or the error for that
    /// blob. A blob that is wanted several times is opened once. Stops early when `sink` returns false.
    ///
    /// Memory: 48 MiB for all threads together, a few blobs for each, 20 bytes for each wanted blob, and one plain blob that is larger than a
    /// thread's share of the 48 MiB for each of at most 8 threads.
    pub fn read_many(&self, wanted: &[BlobId], sink: &BlobSink<'_>) {
        let (places, unknown) = self.places(wanted);
        for position in unknown {
            if !sink(position, Err(not_indexed(BlobKind::Data, &wanted[position]))) {
                return;
            }
        }
        let threads = opener::threads(&self.shared.inner, places.len());
        let bytes = |at: &Place| u64::from(at.spot.length) + u64::from(at.spot.uncompressed);
        let share = Share::of(threads, places.iter().map(bytes).sum());
        let stretches = stretches(&places, wanted, share);
        let loads = loads(&stretches, share);
        let reading = Reading {
            reader: self,
            wanted,
            places: &places,
            stretches: &stretches,
            loads: &loads,
            share,
            sink,
            stopped: AtomicBool::new(false),
        };
        let (next, threads) = (AtomicUsize::new(0), threads.min(loads.len()));
        let work = || reading.work(&next, threads);
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // Without another thread this one does all.
                if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
    }

    /// The places of wanted blobs in the order of reading; also the positions that the index does not know.
    fn places(&self, wanted: &[BlobId]) -> (Vec<Place>, Vec<usize>) {
        let index = &self.shared.index;
        let (mut places, mut unknown) = (Vec::with_capacity(wanted.len()), Vec::new());
        // A pack's turn comes when the first blob that lies in it is wanted: files are filled one after the other.
        let mut turns = vec![u32::MAX; index.packs().len()];
        for (position, id) in wanted.iter().enumerate() {
            match (index.spot(BlobKind::Data, id), u32::try_from(position)) {
                (Some(spot), Ok(position)) => {
                    let turn = &mut turns[spot.pack as usize];
                    *turn = (*turn).min(position);
                    places.push(Place { spot, position });
                }
                _ => unknown.push(position),
            }
        }
        let id = |at: &Place| &wanted[at.position as usize];
        places.sort_unstable_by(|left, right| {
            let key = |at: &Place| (turns[at.spot.pack as usize], at.spot.offset);
            key(left).cmp(&key(right)).then_with(|| id(left).cmp(id(right))).then(left.position.cmp(&right.position))
        });
        (places, unknown)
    }
}

/// A wanted blob.
struct Place {
    spot: Spot,
    position: u32,
}

/// Places that are fetched at once: their numbers, and where they lie in their pack.
type Piece = (Range<usize>, Stretch);

/// Whether two wanted blobs are one: the place alone would believe an index that gives one place to two blobs.
fn is_same(wanted: &[BlobId], left: &Place, right: &Place) -> bool {
    let key = |at: &Place| (at.spot.pack, at.spot.offset, &wanted[at.position as usize]);
    key(left) == key(right)
}

/// Cuts places into stretches.
fn stretches(places: &[Place], wanted: &[BlobId], share: Share) -> Vec<Piece> {
    let mut stretches = Vec::new();
    let (mut begin, mut stretch) = (0, Stretch::default());
    for (number, Place { spot, .. }) in places.iter().enumerate() {
        let before = number.checked_sub(1).map(|number| &places[number]);
        if before.is_some_and(|before| is_same(wanted, before, &places[number])) {
            continue;
        }
        let same_pack = before.is_some_and(|before| before.spot.pack == spot.pack);
        if same_pack && stretch.take(share, spot.offset, spot.length, spot.uncompressed) {
            continue;
        }
        if number > 0 {
            stretches.push((begin..number, stretch));
        }
        (begin, stretch) = (number, Stretch::default());
        stretch.take(share, spot.offset, spot.length, spot.uncompressed);
    }
    if !places.is_empty() {
        stretches.push((begin..places.len(), stretch));
    }
    stretches
}

/// Numbers of the stretches that a thread opens together, so that many blobs are hashed side by side.
fn loads(stretches: &[Piece], share: Share) -> Vec<Range<usize>> {
    let mut loads = Vec::new();
    let mut begin = 0;
    while begin < stretches.len() {
        let end = begin + Stretch::count_at_once(share, stretches[begin..].iter().map(|(_, stretch)| stretch));
        loads.push(begin..end);
        begin = end;
    }
    loads
}

/// What the threads of one [`BlobReader::read_many`] share.
struct Reading<'a> {
    reader: &'a BlobReader,
    wanted: &'a [BlobId],
    places: &'a [Place],
    stretches: &'a [Piece],
    loads: &'a [Range<usize>],
    share: Share,
    sink: &'a BlobSink<'a>,
    stopped: AtomicBool,
}

impl Reading<'_> {
    fn work(&self, next: &AtomicUsize, threads: usize) {
        let mut opener = Opener::new(&self.reader.shared.inner);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let load = self.loads.get(number).filter(|_| !self.stopped.load(Ordering::Relaxed));
            let Some(load) = load else {
                opener.tell_all(&mut |place, plain| self.hand_over(place, plain));
                return;
            };
            self.announce(self.loads.get(number + threads));
            for stretch in &self.stretches[load.clone()] {
                self.fetch(&mut opener, stretch);
            }
            opener.tell(self.share, &mut |place, plain| self.hand_over(place, plain));
        }
    }

    /// Tells the store what will be read next.
    fn announce(&self, load: Option<&Range<usize>>) {
        let shared = &self.reader.shared;
        for (numbers, stretch) in load.into_iter().flat_map(|load| &self.stretches[load.clone()]) {
            let pack = shared.index.pack_id(self.places[numbers.start].spot.pack);
            shared.inner.store.will_read(&pack::key_of(&pack), stretch.range());
        }
    }

    /// Fetches one stretch. What cannot be had so, or is too large to be opened with others, is handed over by itself.
    fn fetch(&self, opener: &mut Opener<'_>, (numbers, stretch): &Piece) {
        let groups = || self.places[numbers.clone()].chunk_by(|left, right| is_same(self.wanted, left, right));
        let mut at = numbers.start;
        let blobs: Vec<(usize, PackEntry)> = groups()
            .map(|group| {
                let first = (at, self.entry(&group[0]));
                at += group.len();
                first
            })
            .collect();
        let Some((_, entry)) = blobs.first() else { return };
        let pack = self.reader.shared.index.pack_id(self.places[numbers.start].spot.pack);
        let together = self.share.holds(entry.length, entry.uncompressed);
        if together && opener.fetch(&pack, stretch.range(), blobs.iter().map(|(at, entry)| (*at, entry))).is_ok() {
            return;
        }
        for (place, _) in blobs {
            if self.stopped.load(Ordering::Relaxed) || !self.hand_over(place, None) {
                return;
            }
        }
    }

    fn entry(&self, place: &Place) -> PackEntry {
        let Spot { offset, length, uncompressed, .. } = place.spot;
        PackEntry { kind: BlobKind::Data, id: self.wanted[place.position as usize], offset, length, uncompressed }
    }

    /// Gives one blob to all positions that want it, of which the first has this place. One that could not be opened
    /// with others is read by itself: that finds another copy, or the words for what is wrong.
    fn hand_over(&self, place: usize, plain: Option<&[u8]>) -> bool {
        let first = &self.places[place];
        let same = |at: &&Place| is_same(self.wanted, first, at);
        let id = &self.wanted[first.position as usize];
        let alone = plain.is_none().then(|| self.reader.read(BlobKind::Data, id));
        for at in self.places[place..].iter().take_while(same) {
            let outcome = match (plain, &alone) {
                (Some(plain), _) => Ok(plain),
                (None, Some(Ok(plain))) => Ok(&plain[..]),
                (None, Some(Err(error))) => Err(error.clone()),
                (None, None) => return true,
            };
            if self.stopped.load(Ordering::Relaxed) || !(self.sink)(at.position as usize, outcome) {
                self.stopped.store(true, Ordering::Relaxed);
                return false;
            }
        }
        true
    }
}

impl Shared {
    fn read_at(&self, location: &Location) -> Result<Vec<u8>, RepositoryError> {
        let Location { pack, entry } = location;
        let object = pack::key_of(pack);
        let start = u64::from(entry.offset);
        let range = start..start + u64::from(entry.length);
        let store = &self.inner.store;
        let sealed = match entry.kind {
            BlobKind::Tree => store.get_range_kept(&object, range),
            BlobKind::Data => store.get_range(&object, range),
        };
        let sealed = sealed.map_err(|error| RepositoryError::on_required(error, &object))?;
        pack::open_blob(&self.inner.key, entry, sealed)
            .map_err(|why| RepositoryError::Damaged(format!("the blob {} in {object} is damaged: {why}", entry.id)))
    }

    /// A tree out of a part of its pack that is fetched with its neighbours, since they are wanted next. `None` when it
    /// cannot be had so: reading it alone then finds the words or another copy.
    fn read_near(&self, id: &BlobId) -> Option<Vec<u8>> {
        let Spot { pack, offset, length, uncompressed } = self.index.spot(BlobKind::Tree, id)?;
        let (from, to) = (u64::from(offset), u64::from(offset) + u64::from(length));
        let start = from - from % PART_BYTES;
        let end = to.max((start + PART_BYTES).min(self.index.end_of(pack)));
        if end - start > 2 * PART_BYTES {
            return None;
        }
        let held = guarded(&self.parts).get(pack, start, to);
        let part = match held {
            Some(part) => part,
            None => {
                let object = pack::key_of(&self.index.pack_id(pack));
                let part = Arc::new(self.inner.store.get_range_kept(&object, start..end).ok()?);
                guarded(&self.parts).put(pack, start, Arc::clone(&part));
                part
            }
        };
        let sealed = part.get((from - start) as usize..(to - start) as usize)?.to_vec();
        let entry = PackEntry { kind: BlobKind::Tree, id: *id, offset, length, uncompressed };
        pack::open_blob(&self.inner.key, &entry, sealed).ok()
    }
}

/// Parts of packs that hold trees; the one not used for longest goes first.
#[derive(Default)]
struct Parts {
    held: Vec<(u32, u64, Arc<Vec<u8>>)>,
}

impl Parts {
    /// The part of a pack from `start`, when it reaches to `end`.
    fn get(&mut self, pack: u32, start: u64, end: u64) -> Option<Arc<Vec<u8>>> {
        let reaches = |part: &[u8]| start + part.len() as u64 >= end;
        let at = self.held.iter().position(|(of, from, part)| (*of, *from) == (pack, start) && reaches(part))?;
        let found = self.held.remove(at);
        let part = Arc::clone(&found.2);
        self.held.push(found);
        Some(part)
    }

    fn put(&mut self, pack: u32, start: u64, part: Arc<Vec<u8>>) {
        self.held.retain(|(of, from, _)| (*of, *from) != (pack, start));
        if self.held.len() >= PARTS_MAX {
            self.held.remove(0);
        }
        self.held.push((pack, start, part));
    }
}

fn not_indexed(kind: BlobKind, id: &BlobId) -> RepositoryError {
    let what = if kind == BlobKind::Tree { "directory" } else { "blob" };
    RepositoryError::Damaged(format!("the {what} {id} is missing: no index names it"))
}

/// The least recently used trees go first.
#[derive(Default)]
struct TreeCache {
    trees: HashMap<BlobId, (Arc<Vec<u8>>, u64)>,
    bytes: usize,
    uses: u64,
}

impl TreeCache {
    fn get(&mut self, id: &BlobId) -> Option<Arc<Vec<u8>>> {
        self.uses += 1;
        let (plain, used) = self.trees.get_mut(id)?;
        *used = self.uses;
        Some(Arc::clone(plain))
    }

    fn put(&mut self, id: BlobId, plain: Arc<Vec<u8>>) {
        if plain.len() > TREE_CACHE / 4 {
            return;
        }
        self.bytes += plain.len();
        self.uses += 1;
        if let Some((old, _)) = self.trees.insert(id, (plain, self.uses)) {
            self.bytes -= old.len();
        }
        if self.bytes > TREE_CACHE {
            self.forget_older_half();
        }
    }

    /// Half at once, so that a walk over many trees does not search for the oldest each time.
    fn forget_older_half(&mut self) {
        let mut uses: Vec<u64> = self.trees.values().map(|(_, used)| *used).collect();
        uses.sort_unstable();
        let middle = uses[uses.len() / 2];
        self.trees.retain(|_, (_, used)| *used > middle);
        self.bytes = self.trees.values().map(|(plain, _)| plain.len()).sum();
    }
}
