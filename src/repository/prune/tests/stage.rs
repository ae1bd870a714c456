//! A store in memory on which actors take turns: before each operation of an actor a scheduler decides who goes on. It
//! knows what every pack holds and every snapshot needs, and looks after each change whether all of that is still there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};

use jiff::{SignedDuration, Timestamp};

use crate::ground::{NoProgress, Secret};
use crate::repository::config::Config;
use crate::repository::crypto::SealKey;
use crate::repository::index_file::{self, INDEXES};
use crate::repository::tree::{BlobId, Node, NodeKind};
use crate::repository::{
    BlobKind, Chunking, Inner, KeyStrength, Repository, RepositoryError, Snapshot, guarded, pack, snapshot,
};
use crate::site::{ObjectInfo, ObjectStore, PutMode, StoreError, StoreErrorKind};

type Blobs = HashSet<(BlobKind, BlobId)>;
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

    /// One point, and packs that no snapshot needs at all.
    pub(super) fn new_with_garbage() -> Arc<Self> {
        let stage = Self::new();
        let repository = Repository::create(stage.aside(), &Secret::new("p"), KeyStrength::Random).unwrap();
        stage.know(&repository);
        stage.set_clock(-1_000_000);
        let kept = store(&stage, &repository, &[0, 1]).unwrap();
        repository.save_snapshot(&draft(kept)).unwrap();
        stage.record(kept);
        store(&stage, &repository, &[3]).unwrap();
        stage.set_clock(0);
        stage.copy()
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

    /// The tree with this one file, which was stored and never belonged to a snapshot.
    pub(super) fn tree_with(&self, number: usize) -> BlobId {
        let state = guarded(&self.state);
        let file = (BlobKind::Data, BlobId::of(&content(number)));
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

    fn learn(&self, tree: BlobId, blobs: Blobs) {
        guarded(&self.state).closures.insert(tree, blobs);
    }
}

fn node(name: &str, kind: NodeKind, content: Vec<BlobId>, size: u64, subtree: Option<BlobId>) -> Node {
    let time = now();
    Node {
        name: name.as_bytes().to_vec(),
        kind,
        mode: 0o644,
        modified: time,
        accessed: time,
        changed: time,
        uid: 0,
        gid: 0,
        user: String::new(),
        group: String::new(),
        inode: 1,
        device_id: 1,
        size,
        links: 1,
        link_target: None,
        device: 0,
        xattrs: Vec::new(),
        content,
        subtree,
    }
}

/// What the file of this number holds.
pub(super) fn content(number: usize) -> Vec<u8> {
    format!("the content of file {number}, again and again {number}").repeat(3).into_bytes()
}

/// Stores files of these numbers in a directory below another; the tree.
pub(super) fn store(stage: &Stage, repository: &Repository, files: &[usize]) -> Result<BlobId, RepositoryError> {
    let writer = repository.writer(Arc::new(NoProgress))?;
    let (mut nodes, mut blobs) = (Vec::new(), Blobs::new());
    for number in files {
        let plain = content(*number);
        let stored = writer.store_content(&mut &plain[..], Chunking::Content).unwrap();
        blobs.extend(stored.blobs.iter().map(|id| (BlobKind::Data, *id)));
        nodes.push(node(&format!("f{number}"), NodeKind::File, stored.blobs, plain.len() as u64, None));
    }
    let below = writer.store_tree(nodes)?;
    let tree = writer.store_tree(vec![node("d", NodeKind::Directory, Vec::new(), 0, Some(below))])?;
    blobs.extend([(BlobKind::Tree, below), (BlobKind::Tree, tree)]);
    writer.finish()?;
    stage.learn(tree, blobs);
    Ok(tree)
}

pub(super) fn draft(tree: BlobId) -> Snapshot {
    Snapshot {
        id: String::new(),
        time: now(),
        tree,
        paths: vec!["/d".to_owned()],
        hostname: "h".to_owned(),
        username: String::new(),
        uid: 0,
        gid: 0,
        tags: Vec::new(),
        parent: None,
    }
}

/// A backup as a run does it.
pub(super) fn back_up(stage: &Stage, repository: &Repository, files: &[usize]) -> Result<(), RepositoryError> {
    let guard = repository.lock_shared(now())?;
    let tree = store(stage, repository, files)?;
    repository.commit_snapshot(&draft(tree), &guard, now())?;
    stage.record(tree);
    Ok(())
}

/// Reads everything of a tree and compares.
pub(super) fn restore(repository: &Repository, tree: &BlobId) -> Result<(), RepositoryError> {
    let reader = repository.reader()?;
    for directory in reader.read_tree(tree)? {
        for file in reader.read_tree(&directory.subtree.unwrap())? {
            let mut plain = Vec::new();
            for id in &file.content {
                plain.extend(reader.read(BlobKind::Data, id)?);
            }
            let number = String::from_utf8(file.name[1..].to_vec()).unwrap().parse().unwrap();
            assert_eq!(plain, content(number));
        }
    }
    Ok(())
}

/// How a play begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Garbage of several kinds, nothing marked.
    Garbage,
    /// The same, marked long ago.
    MarkedLongAgo,
    /// The same, marked just now.
    MarkedJustNow,
}

/// Seconds that a mark has to be old in these tests.
pub(super) const MARGIN: i64 = 10_000;

pub(super) fn rules() -> super::super::Rules {
    super::super::Rules { margin: SignedDuration::from_secs(MARGIN), ..super::super::Rules::default() }
}

/// A repository with a point that is kept, packs that are used in part or not at all, and what a killed backup left.
pub(super) fn base(beginning: Beginning) -> Arc<Stage> {
    let stage = Stage::new();
    let repository = Repository::create(stage.aside(), &Secret::new("p"), KeyStrength::Random).unwrap();
    stage.know(&repository);
    stage.set_clock(-1_000_000);
    let writer = repository.writer(Arc::new(NoProgress)).unwrap();
    for number in [0, 1, 2] {
        writer.store_content(&mut &content(number)[..], Chunking::Content).unwrap();
    }
    writer.finish().unwrap();
    let kept = store(&stage, &repository, &[0, 1]).unwrap();
    repository.save_snapshot(&draft(kept)).unwrap();
    stage.record(kept);
    store(&stage, &repository, &[2]).unwrap();
    store(&stage, &repository, &[3]).unwrap();
    let before = stage.keys(INDEXES);
    store(&stage, &repository, &[4]).unwrap();
    let killed = stage.keys(INDEXES).into_iter().find(|key| !before.contains(key)).unwrap();
    stage.aside().delete(&killed).unwrap();
    if beginning != Beginning::Garbage {
        let long_ago = if beginning == Beginning::MarkedLongAgo { MARGIN * 5 } else { 50 };
        stage.set_clock(-long_ago);
        let report = repository.prune(&rules(), now(), &NoProgress).unwrap();
        assert!(report.total(super::super::Decision::Mark).0 >= 3, "{report:?}");
        assert!(report.total(super::super::Decision::Repack).0 >= 1, "{report:?}");
    }
    stage.set_clock(0);
    assert_eq!(stage.violations(), Vec::<String>::new());
    stage
}
