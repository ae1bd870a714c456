//! A store in memory on which actors take turns: before each operation of an actor a scheduler decides who goes on. It
//! knows what every pack holds and every snapshot needs, and looks after each change whether all of that is still there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};

use jiff::{SignedDuration, Timestamp};

use crate::repository::config::Config;
use crate::repository::crypto::SealKey;
use crate::repository::index_file;
use crate::repository::tree::BlobId;
use crate::repository::{BlobKind, Inner, Repository, guarded, pack, snapshot};
use crate::site::{ObjectInfo, ObjectStore, PutMode, StoreError, StoreErrorKind};

pub(super) type Blobs = HashSet<(BlobKind, BlobId)>;
/// Chooses among the actors that may go on.
pub(super) type Choose = Box<dyn FnMut(&[usize]) -> usize + Send>;

#[derive(Default)]
struct State {
    objects: BTreeMap<String, (Vec<u8>, i64)>,
    /// Seconds; one passes with each operation.
    clock: i64,
    /// For each actor: the threads that wait, `None` when it has ended.
    waiting: Vec<Option<usize>>,
    current: Option<usize>,
    busy: bool,
    choose: Option<Choose>,
    packs: HashMap<BlobId, Blobs>,
    indexes: HashMap<BlobId, HashSet<BlobId>>,
    snapshots: HashMap<String, BlobId>,
    closures: HashMap<BlobId, Blobs>,
    recorded: Vec<BlobId>,
    only_recorded: bool,
    trace: Vec<(usize, String)>,
    violations: Vec<String>,
    lock_owners: HashMap<String, usize>,
    /// After so many operations the locks of these actors are lost and so many seconds pass.
    sleep: Option<(usize, Vec<usize>, i64)>,
}

/// The place where actors meet.
pub(super) struct Stage {
    state: Mutex<State>,
    turn: Condvar,
    opener: Mutex<Option<Opener>>,
    /// Objects are damaged on purpose.
    broken: Mutex<bool>,
}

/// The stage as one actor sees it; without an actor, nobody waits.
pub(super) struct Handle {
    stage: Arc<Stage>,
    actor: Option<usize>,
}

pub(super) fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn missing(key: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::NotFound, message: format!("{key} is missing") }
}

impl Handle {
    fn act<T>(&self, what: &str, key: &str, effect: impl FnOnce(&mut State) -> T) -> T {
        let Some(actor) = self.actor else { return effect(&mut guarded(&self.stage.state)) };
        let mut state = guarded(&self.stage.state);
        *state.waiting[actor].as_mut().unwrap() += 1;
        state.pick(&self.stage.turn);
        while state.current != Some(actor) || state.busy {
            state = self.stage.turn.wait(state).unwrap();
        }
        state.busy = true;
        *state.waiting[actor].as_mut().unwrap() -= 1;
        state.clock += 1;
        if key.starts_with("locks/") && what == "put" {
            state.lock_owners.insert(key.to_owned(), actor);
        }
        let operations = state.trace.len();
        if let Some((_, who, seconds)) = state.sleep.clone().filter(|(at, ..)| *at == operations) {
            state.lose_locks(&who, seconds);
        }
        state.trace.push((actor, format!("{what} {key}")));
        let outcome = effect(&mut state);
        (state.busy, state.current) = (false, None);
        state.pick(&self.stage.turn);
        outcome
    }
}

impl State {
    /// When every actor that goes on waits, one is chosen.
    fn pick(&mut self, turn: &Condvar) {
        let ready: Vec<usize> = (0..self.waiting.len()).filter(|actor| self.waiting[*actor].is_some()).collect();
        let all_wait = ready.iter().all(|actor| self.waiting[*actor].is_some_and(|threads| threads > 0));
        if self.current.is_none() && !self.busy && all_wait && !ready.is_empty() {
            self.current = self.choose.as_mut().map(|choose| choose(&ready));
            turn.notify_all();
        }
    }

    fn lose_locks(&mut self, who: &[usize], seconds: i64) {
        let owners = &self.lock_owners;
        self.objects.retain(|key, _| owners.get(key).is_none_or(|owner| !who.contains(owner)));
        self.clock += seconds;
    }

    /// Everything that a snapshot needs is in a stored pack that an index file names or lists as to be deleted.
    fn check(&mut self, after: &str) {
        let readable: HashSet<BlobId> = self.indexes.values().flatten().copied().collect();
        for (id, tree) in &self.snapshots {
            if self.only_recorded && !self.recorded.contains(tree) {
                continue;
            }
            for blob in &self.closures[tree] {
                let packs = || self.packs.iter().filter(|(_, blobs)| blobs.contains(blob));
                if packs().next().is_none() {
                    self.violations.push(format!("after {after}: {blob:?} of snapshot {id} is lost"));
                } else if !packs().any(|(pack, _)| readable.contains(pack)) {
                    self.violations.push(format!("after {after}: {blob:?} of snapshot {id} is in no index"));
                }
            }
        }
    }

    fn forget(&mut self, key: &str) {
        let id = BlobId::from_hex(key.rsplit('/').next().unwrap());
        if let Some(id) = id {
            match key.split('/').next().unwrap() {
                "data" => drop(self.packs.remove(&id)),
                "index" => drop(self.indexes.remove(&id)),
                "snapshots" => drop(self.snapshots.remove(&id.to_string())),
                _ => return,
            }
            self.check(&format!("delete {key}"));
        }
    }
}

impl ObjectStore for Handle {
    fn put(&self, key: &str, bytes: &[u8], mode: PutMode) -> Result<(), StoreError> {
        // What the object says is read before it is there for others.
        let knowledge = self.stage.understand(key, bytes);
        self.act("put", key, |state| {
            if mode == PutMode::CreateNew && state.objects.contains_key(key) {
                return Err(StoreError { kind: StoreErrorKind::AlreadyExists, message: key.to_owned() });
            }
            let time = state.clock;
            state.objects.insert(key.to_owned(), (bytes.to_vec(), time));
            match knowledge {
                Knowledge::Pack(id, blobs) => drop(state.packs.insert(id, blobs)),
                Knowledge::Index(id, packs) => drop(state.indexes.insert(id, packs)),
                Knowledge::Snapshot(id, tree) => drop(state.snapshots.insert(id, tree)),
                Knowledge::Other => {}
            }
            state.check(&format!("put {key}"));
            Ok(())
        })
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, StoreError> {
        self.act("get", key, |state| state.objects.get(key).map(|(bytes, _)| bytes.clone()).ok_or_else(|| missing(key)))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.act("get", key, |state| {
            let (bytes, _) = state.objects.get(key).ok_or_else(|| missing(key))?;
            let part = bytes.get(range.start as usize..range.end as usize);
            part.map(<[u8]>::to_vec).ok_or_else(|| StoreError { kind: StoreErrorKind::Other, message: key.to_owned() })
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.act("list", prefix, |state| {
            let below = state.objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
            Ok(below.map(|(key, (bytes, _))| ObjectInfo { key: key.clone(), size: bytes.len() as u64 }).collect())
        })
    }

    fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        self.act("size", key, |state| Ok(state.objects.get(key).map(|(bytes, _)| bytes.len() as u64)))
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.act("delete", key, |state| {
            if state.objects.remove(key).is_some() {
                state.forget(key);
            }
            Ok(())
        })
    }

    fn modified(&self, key: &str) -> Result<Option<Timestamp>, StoreError> {
        let time = |seconds: i64| now() + SignedDuration::from_secs(seconds);
        self.act("modified", key, |state| Ok(state.objects.get(key).map(|(_, seconds)| time(*seconds))))
    }

    fn describe(&self) -> String {
        "the stage".to_owned()
    }
}

enum Knowledge {
    Pack(BlobId, Blobs),
    Index(BlobId, HashSet<BlobId>),
    Snapshot(String, BlobId),
    Other,
}

/// What opens a repository, to have it again on another store.
#[derive(Clone)]
pub(super) struct Opener {
    key: SealKey,
    config: Config,
}

impl Opener {
    pub(super) fn of(repository: &Repository) -> Self {
        Self { key: repository.inner.key.clone(), config: repository.inner.config.clone() }
    }

    pub(super) fn open(&self, store: Arc<dyn ObjectStore>) -> Repository {
        Repository { inner: Arc::new(Inner { store, key: self.key.clone(), config: self.config.clone() }) }
    }
}

impl Stage {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            turn: Condvar::new(),
            opener: Mutex::default(),
            broken: Mutex::default(),
        })
    }

    /// Another stage with the same objects and knowledge.
    pub(super) fn copy(&self) -> Arc<Self> {
        let state = guarded(&self.state);
        let copy = State {
            objects: state.objects.clone(),
            clock: state.clock,
            packs: state.packs.clone(),
            indexes: state.indexes.clone(),
            snapshots: state.snapshots.clone(),
            closures: state.closures.clone(),
            recorded: state.recorded.clone(),
            ..State::default()
        };
        let opener = Mutex::new(guarded(&self.opener).clone());
        Arc::new(Self { state: Mutex::new(copy), turn: Condvar::new(), opener, broken: Mutex::default() })
    }

    /// The store for somebody who does not wait for a turn.
    pub(super) fn aside(self: &Arc<Self>) -> Arc<Handle> {
        Arc::new(Handle { stage: Arc::clone(self), actor: None })
    }

    pub(super) fn know(&self, repository: &Repository) {
        *guarded(&self.opener) = Some(Opener::of(repository));
    }

    pub(super) fn open_aside(self: &Arc<Self>) -> Repository {
        guarded(&self.opener).clone().unwrap().open(self.aside())
    }

    /// Lets these actors play, each on a thread of its own, in turns that `choose` decides.
    pub(super) fn play(self: &Arc<Self>, choose: Choose, actors: Vec<Box<dyn FnOnce(Repository) + Send>>) {
        {
            let mut state = guarded(&self.state);
            state.waiting = vec![Some(0); actors.len()];
            state.choose = Some(choose);
        }
        let opener = guarded(&self.opener).clone().unwrap();
        std::thread::scope(|scope| {
            for (number, actor) in actors.into_iter().enumerate() {
                let repository = opener.open(Arc::new(Handle { stage: Arc::clone(self), actor: Some(number) }));
                scope.spawn(move || {
                    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| actor(repository)));
                    let mut state = guarded(&self.state);
                    state.waiting[number] = None;
                    if ended.is_err() {
                        state.violations.push(format!("actor {number} panicked"));
                    }
                    state.pick(&self.turn);
                });
            }
        });
    }

    pub(super) fn set_clock(&self, seconds: i64) {
        guarded(&self.state).clock = seconds;
    }

    pub(super) fn clock(&self) -> i64 {
        guarded(&self.state).clock
    }

    /// Machines sleep during the play, after so many operations: their locks are removed by others, and time passes.
    pub(super) fn sleep_at(&self, operation: Option<usize>, actors: &[usize], seconds: i64) {
        guarded(&self.state).sleep = operation.map(|operation| (operation, actors.to_vec(), seconds));
    }

    /// Only snapshots that a backup has recorded count from now on.
    pub(super) fn judge_only_recorded(&self) {
        guarded(&self.state).only_recorded = true;
    }

    pub(super) fn record(&self, tree: BlobId) {
        let mut state = guarded(&self.state);
        state.recorded.push(tree);
        state.check("the record of a point");
    }

    pub(super) fn recorded(&self) -> Vec<BlobId> {
        guarded(&self.state).recorded.clone()
    }

    pub(super) fn violation(&self, what: String) {
        guarded(&self.state).violations.push(what);
    }

    pub(super) fn violations(&self) -> Vec<String> {
        guarded(&self.state).violations.clone()
    }

    pub(super) fn trace(&self) -> Vec<(usize, String)> {
        guarded(&self.state).trace.clone()
    }

    /// Nothing that is put from now on is understood or judged: for damage.
    pub(super) fn forget_keys(&self) {
        *guarded(&self.broken) = true;
        guarded(&self.state).snapshots.clear();
    }

    /// Whether a point that was recorded needs something in this pack.
    pub(super) fn is_needed(&self, key: &str) -> bool {
        let state = guarded(&self.state);
        let blobs = key.rsplit('/').next().and_then(BlobId::from_hex).and_then(|pack| state.packs.get(&pack)).unwrap();
        state.recorded.iter().any(|tree| state.closures[tree].iter().any(|blob| blobs.contains(blob)))
    }

    /// The tree with a file of this one blob alone.
    pub(super) fn tree_with(&self, file: BlobId) -> BlobId {
        let state = guarded(&self.state);
        let file = (BlobKind::Data, file);
        let mut with = state.closures.iter().filter(|(_, blobs)| blobs.contains(&file) && blobs.len() == 3);
        *with.next().unwrap().0
    }

    pub(super) fn keys(&self, prefix: &str) -> Vec<String> {
        guarded(&self.state).objects.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    fn understand(self: &Arc<Self>, key: &str, bytes: &[u8]) -> Knowledge {
        let (directory, name) = (key.split('/').next().unwrap(), key.rsplit('/').next().unwrap());
        if *guarded(&self.broken) {
            return Knowledge::Other;
        }
        let Some((id, opener)) = BlobId::from_hex(name).zip(guarded(&self.opener).clone()) else {
            return Knowledge::Other;
        };
        let alone = Stage::new();
        guarded(&alone.state).objects.insert(key.to_owned(), (bytes.to_vec(), 0));
        let repository = opener.open(alone.aside());
        let inner = &repository.inner;
        match directory {
            "data" => {
                let entries = pack::entries_of(&inner.key, bytes).unwrap();
                Knowledge::Pack(id, entries.iter().map(|entry| (entry.kind, entry.id)).collect())
            }
            "index" => {
                let object = index_file::load_object(inner, &id).unwrap();
                Knowledge::Index(id, object.packs.iter().chain(&object.marked).map(|(pack, _)| *pack).collect())
            }
            "snapshots" => Knowledge::Snapshot(id.to_string(), snapshot::load(inner, &id).unwrap().tree),
            _ => Knowledge::Other,
        }
    }

    /// Tells what a tree needs.
    pub(super) fn learn(&self, tree: BlobId, blobs: Blobs) {
        guarded(&self.state).closures.insert(tree, blobs);
    }
}
