//! `kill -9` at random moments of backups, many times over: every older point stays exact to the byte, what is listed is
//! exact too, the next run completes, and restic finds nothing wrong.

mod common;
#[path = "common/engine/mod.rs"]
mod engine;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{World, is_long, noise, tree};
use engine::seed::{self, Seed};
use lifeboat::ground::Secret;
use lifeboat::repository::{BlobId, BlobKind, BlobReader, NodeKind, Repository};
use lifeboat::site::local::LocalStore;

const FILES: usize = 12;
const CHANGED: usize = 5;
const FILE_BYTES: usize = 300 << 10;
/// As `init` makes them, so that opening the repository takes no time.
const PASSWORD: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// SHA-256 of every file by its path below the primary.
type State = BTreeMap<PathBuf, BlobId>;

struct Killing {
    world: World,
    random: Seed,
    /// What the primary looked like before each run, oldest first.
    states: Vec<State>,
    /// Points seen so far, and which state each one holds.
    points: BTreeMap<String, usize>,
    /// Contents that this round has read back, by their blobs.
    read: HashMap<Vec<BlobId>, BlobId>,
}

fn system(seed: u64) -> Killing {
    let world = World::new();
    fs::write(world.password_file(), PASSWORD).unwrap();
    for directory in ["some", "more"] {
        fs::create_dir(world.primary().join(directory)).unwrap();
        for number in 0..60 {
            fs::write(world.primary().join(format!("{directory}/small-{number}")), noise(number, 500)).unwrap();
        }
    }
    world.write_files_policy("shop");
    Killing { world, random: Seed::new(seed), states: Vec::new(), points: BTreeMap::new(), read: HashMap::new() }
}

impl Killing {
    /// Changes some files and notes what is there now.
    fn change(&mut self) {
        for _ in 0..CHANGED {
            let path = self.world.primary().join(format!("file-{}", self.random.below(FILES)));
            fs::write(path, noise(self.random.next(), FILE_BYTES)).unwrap();
        }
        let small = format!("some/small-{}", self.random.below(60));
        fs::write(self.world.primary().join(small), self.random.next().to_string()).unwrap();
        let primary = self.world.primary();
        let files = common::files_below(&primary).into_iter();
        let hashed = files.map(|path| {
            let id = BlobId::of(&fs::read(&path).unwrap());
            (path.strip_prefix(&primary).unwrap().to_owned(), id)
        });
        self.states.push(hashed.collect());
    }

    /// Starts a backup and kills it at some moment below `limit`.
    fn kill(&mut self, limit: Duration) {
        let mut command = self.world.command(["backup", "shop"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let delay = limit.mul_f64(self.random.below(10_000) as f64 / 10_000.0);
        std::thread::sleep(delay);
        // It may have ended by itself; then there is nothing to kill.
        let _ = child.kill();
        child.wait().unwrap();
    }

    /// The points at the DR site, in order, with the id of their tree: read there, past the program and its catalog.
    fn listed(&self) -> Vec<(String, BlobId)> {
        let records = common::files_below(&self.world.dr().join("points")).into_iter().map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            serde_json::from_str::<serde_json::Value>(&text)
                .unwrap_or_else(|error| panic!("the record {} is half-written: {error}", path.display()))
        });
        let mut records: Vec<_> = records.collect();
        records.sort_by_key(|record| record["sequence"].as_u64().unwrap());
        let text = |record: &serde_json::Value, key: &str| record[key].as_str().unwrap().to_owned();
        records.iter().map(|record| (text(record, "id"), BlobId::from_hex(&text(record, "tree")).unwrap())).collect()
    }

    /// The first, the newest and one more of the listed points are exactly what was there when they were taken.
    fn check_points(&mut self) {
        let listed = self.listed();
        let known: Vec<&String> = listed.iter().map(|(id, _)| id).collect();
        assert!(self.points.keys().all(|id| known.contains(&id)), "a point disappeared");
        if listed.is_empty() {
            return;
        }
        let store = Arc::new(LocalStore::new(self.world.dr().join("repository")));
        let reader = Repository::open(store, &Secret::new(PASSWORD)).unwrap().reader().unwrap();
        self.read.clear();
        let chosen = [0, listed.len() - 1, self.random.below(listed.len())];
        for number in chosen {
            let (id, root) = &listed[number];
            let found = self.restored(&reader, *root);
            let state = match self.points.get(id) {
                Some(state) => *state,
                // A continued run may have read before the newest change.
                None => self
                    .states
                    .iter()
                    .rposition(|state| *state == found)
                    .unwrap_or_else(|| panic!("the new point {id} holds what was never there")),
            };
            assert!(self.states[state] == found, "the point {id} is not what it was");
            self.points.insert(id.clone(), state);
        }
    }

    fn restored(&mut self, reader: &BlobReader, root: BlobId) -> State {
        let mut state = State::new();
        let mut ahead = vec![(root, PathBuf::from("/"))];
        while let Some((id, path)) = ahead.pop() {
            for node in reader.read_tree(&id).unwrap() {
                let path = path.join(String::from_utf8(node.name).unwrap());
                if node.kind == NodeKind::Directory {
                    ahead.push((node.subtree.unwrap(), path));
                    continue;
                }
                let whole = |blobs: &Vec<BlobId>| {
                    let read = blobs.iter().map(|id| reader.read(BlobKind::Data, id).unwrap());
                    BlobId::of(&read.collect::<Vec<_>>().concat())
                };
                let hash = *self.read.entry(node.content).or_insert_with_key(whole);
                state.insert(path.strip_prefix(self.world.primary()).unwrap().to_owned(), hash);
            }
        }
        state
    }

    fn restic_agrees(&self) {
        let _ = self.world.restic(["unlock"]).expect(0);
        let _ = self.world.restic(["check", "--read-data"]).expect(0);
    }
}

/// Test 3 of the plan.
#[test]
fn backups_killed_fifty_times_cost_nothing_that_was_stored() {
    let seed = seed::seed();
    let mut killing = system(seed);
    let kills = if is_long() { 1_000 } else { 50 };
    killing.change();
    let begin = Instant::now();
    let _ = killing.world.run(["backup", "shop"]).expect(0);
    let whole = begin.elapsed().mul_f64(1.1);
    killing.check_points();
    for kill in 0..kills {
        killing.change();
        killing.kill(whole);
        killing.check_points();
        if kill % 10 == 9 {
            killing.restic_agrees();
        }
    }
    // The first ends what was interrupted, which may have read before the newest change; the second has it all.
    for _ in 0..2 {
        let _ = killing.world.run(["backup", "shop"]).expect(0);
    }
    killing.check_points();
    let newest = killing.points[&killing.listed().last().unwrap().0];
    assert_eq!(newest, killing.states.len() - 1, "the newest point is the newest state");
    tree::assert_same(&killing.world.primary(), &killing.world.restore_source("shop", "files", "restored"));
    let _ = killing.world.run(["verify", "shop", "--read-data"]).expect(0);
    killing.restic_agrees();
    eprintln!("{} points after {kills} kills", killing.points.len());
}

/// A damaged snapshot of somebody else must not keep a run that was killed from being continued.
#[test]
fn a_killed_backup_is_continued_beside_a_damaged_snapshot() {
    if !cfg!(debug_assertions) {
        return common::skip("the places exist in debug builds only");
    }
    use std::os::unix::fs::PermissionsExt;
    let mut killing = system(1);
    killing.change();
    let _ = killing.world.run(["backup", "shop"]).expect(0);
    let snapshot = common::files_below(&killing.world.dr().join("repository/snapshots")).remove(0);
    fs::set_permissions(&snapshot, fs::Permissions::from_mode(0o600)).unwrap();
    let mut bytes = fs::read(&snapshot).unwrap();
    bytes[40] ^= 1;
    fs::write(&snapshot, bytes).unwrap();
    for place in [2, 5, 8] {
        killing.change();
        killing.world.set_variable("LIFEBOAT_KILL_AT", place.to_string());
        assert_eq!(killing.world.command(["backup", "shop"]).output().unwrap().status.code(), None);
        killing.world.clear_variables();
        let _ = killing.world.run(["backup", "shop"]).expect(0);
        let status = killing.world.run(["status", "shop", "--json"]).expect(0).json();
        assert!(!status.to_string().contains("interrupted"), "place {place}: {status}");
    }
    // All of the damage is told, not the snapshot alone.
    let pack = common::files_below(&killing.world.dr().join("repository/data")).remove(0);
    fs::remove_file(&pack).unwrap();
    let name = pack.file_name().unwrap().to_string_lossy().into_owned();
    let _ = killing.world.run(["verify", "shop"]).expect(1).says(&["snapshots/", &name, "has lost its snapshot"]);
}
