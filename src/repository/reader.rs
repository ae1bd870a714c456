//! Reading blobs: each is checked by its MAC and its hash; when a copy is damaged the next one is tried.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::error::RepositoryError;
use super::index::{Index, Location};
use super::pack;
use super::tree::{BlobId, Node};
use super::{BlobKind, Inner, guarded, tree_json};

/// Trees kept in memory, in bytes of their JSON.
const TREE_CACHE: usize = 16 << 20;
/// Bytes of one fetch, unless a single blob is larger.
const FETCH_LIMIT: u64 = 8 << 20;
/// Unwanted bytes between two wanted blobs that are fetched rather than asking twice.
const GAP_LIMIT: u64 = 64 << 10;

struct Shared {
    inner: Arc<Inner>,
    index: Index,
    trees: Mutex<TreeCache>,
}

/// Reads blobs, each checked by its MAC and its hash. Shared by threads; cheap to clone.
#[derive(Clone)]
pub struct BlobReader {
    shared: Arc<Shared>,
}

/// Hears of each blob of [`BlobReader::read_many`]: the position in the caller's list and the plain text or the error
/// for that blob. Called from several threads; false stops the reading.
pub type BlobSink<'a> = dyn Fn(usize, Result<&[u8], RepositoryError>) -> bool + Sync + 'a;

/// Adjacent wanted blobs of one pack, fetched at once.
struct Fetch {
    pack: BlobId,
    start: u64,
    end: u64,
    /// Positions in the caller's list and the blob's place.
    blobs: Vec<(usize, Location)>,
}

impl BlobReader {
    pub(super) fn new(inner: Arc<Inner>, index: Index) -> Self {
        Self { shared: Arc::new(Shared { inner, index, trees: Mutex::default() }) }
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
                let plain = Arc::new(self.read(BlobKind::Tree, id)?);
                guarded(&self.shared.trees).put(*id, Arc::clone(&plain));
                plain
            }
        };
        tree_json::decode(&plain)
            .map_err(|why| RepositoryError::Damaged(format!("the directory {id} is damaged: {why}")))
    }

    /// Plain length of a blob without reading it; `None` when it is not in the index.
    pub fn length(&self, kind: BlobKind, id: &BlobId) -> Option<u64> {
        self.shared.index.locations(kind, id).next().map(|location| location.entry.plain_length())
    }

    /// Reads many data blobs with each pack's bytes fetched once and in order; calls `sink` from worker threads with
    /// the position in `wanted` and the plain text or the error for that blob. Stops early when `sink` returns false.
    ///
    /// Memory: one fetch of 8 MiB and one plain blob for each of at most 8 threads.
    pub fn read_many(&self, wanted: &[BlobId], sink: &BlobSink<'_>) {
        let (fetches, unknown) = self.plan(wanted);
        for position in unknown {
            if !sink(position, Err(not_indexed(BlobKind::Data, &wanted[position]))) {
                return;
            }
        }
        let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || {
            while let Some(fetch) = fetches.get(next.fetch_add(1, Ordering::Relaxed)) {
                if stopped.load(Ordering::Relaxed) || !self.deliver(fetch, &stopped, sink) {
                    stopped.store(true, Ordering::Relaxed);
                    break;
                }
            }
        };
        let threads = super::parallelism().clamp(2, 8).min(fetches.len());
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

    /// Groups wanted blobs into fetches; also gives the positions that the index does not know.
    fn plan(&self, wanted: &[BlobId]) -> (Vec<Fetch>, Vec<usize>) {
        let (mut places, mut unknown) = (Vec::with_capacity(wanted.len()), Vec::new());
        for (position, id) in wanted.iter().enumerate() {
            match self.shared.index.locations(BlobKind::Data, id).next() {
                Some(location) => places.push((position, location)),
                None => unknown.push(position),
            }
        }
        places.sort_by_key(|(position, at)| (at.pack, at.entry.offset, *position));
        let mut fetches: Vec<Fetch> = Vec::new();
        for (position, location) in places {
            let start = u64::from(location.entry.offset);
            let end = start + u64::from(location.entry.length);
            match fetches.last_mut().filter(|fetch| fetch.takes(&location.pack, start, end)) {
                Some(fetch) => {
                    fetch.end = fetch.end.max(end);
                    fetch.blobs.push((position, location));
                }
                None => fetches.push(Fetch { pack: location.pack, start, end, blobs: vec![(position, location)] }),
            }
        }
        (fetches, unknown)
    }

    /// Fetches once and hands each blob to the sink; false when that wants no more.
    fn deliver(&self, fetch: &Fetch, stopped: &AtomicBool, sink: &BlobSink<'_>) -> bool {
        let fetched = self.shared.inner.store.get_range(&pack::key_of(&fetch.pack), fetch.start..fetch.end);
        let mut last: Option<(BlobId, Result<Vec<u8>, RepositoryError>)> = None;
        for (position, location) in &fetch.blobs {
            if stopped.load(Ordering::Relaxed) {
                return false;
            }
            let id = location.entry.id;
            if last.as_ref().is_none_or(|(done, _)| *done != id) {
                let from_fetch = fetched.as_ref().ok().and_then(|bytes| self.shared.open_in(fetch, bytes, location));
                last = Some((id, from_fetch.map_or_else(|| self.read(BlobKind::Data, &id), Ok)));
            }
            let Some((_, outcome)) = &last else { return false };
            if !sink(*position, outcome.as_deref().map_err(Clone::clone)) {
                return false;
            }
        }
        true
    }
}

impl Fetch {
    fn takes(&self, pack: &BlobId, start: u64, end: u64) -> bool {
        self.pack == *pack && start <= self.end + GAP_LIMIT && end.max(self.end) - self.start <= FETCH_LIMIT
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

    /// A blob out of fetched bytes; `None` when it is damaged (reading it alone then finds the words or another copy).
    fn open_in(&self, fetch: &Fetch, bytes: &[u8], location: &Location) -> Option<Vec<u8>> {
        let start = usize::try_from(u64::from(location.entry.offset) - fetch.start).ok()?;
        let sealed = bytes.get(start..start + location.entry.length as usize)?;
        pack::open_blob(&self.inner.key, &location.entry, sealed.to_vec()).ok()
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
