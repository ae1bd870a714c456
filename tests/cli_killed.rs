//! `kill -9` at any moment costs no older point, and the next command takes up what was under way.

#![allow(clippy::disallowed_methods, reason = "the test compares with the machine's clock")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Field, World, is_long, noise, orders, tree};

fn rounds() -> u64 {
    if is_long() { 200 } else { 10 }
}

/// Random delays that differ from run to run; the seed is told so that a failure can be looked into.
struct Delays(u64);

impl Delays {
    fn new() -> Self {
        let seed = jiff::Timestamp::now().as_nanosecond() as u64;
        eprintln!("seed of the delays: {seed}");
        Self(seed)
    }

    fn below(&mut self, limit: Duration) -> Duration {
        self.0 = self.0.wrapping_add(1);
        let bytes = noise(self.0, 8);
        let fraction = f64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])) / f64::from(u32::MAX);
        limit.mul_f64(fraction)
    }
}

fn spawn(world: &World, arguments: &[&str]) -> Child {
    world.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill_after(mut child: Child, delay: Duration) {
    std::thread::sleep(delay);
    // It may have ended by itself; then there is nothing to kill.
    let _ = child.kill();
    child.wait().unwrap();
}

fn change(world: &World, round: u64) {
    for number in 0..4 {
        let path = world.primary().join(format!("tree/file-{}", (round + number) % 12));
        fs::write(path, noise(round * 100 + number, 1 << 20)).unwrap();
    }
}

fn copy_of_primary(world: &World, name: &str) -> std::path::PathBuf {
    let copy = world.path(name);
    let mut command = std::process::Command::new("cp");
    assert!(command.arg("-a").arg(world.primary().join("tree")).arg(&copy).status().unwrap().success());
    copy
}

fn system() -> World {
    let world = World::new();
    let base = world.primary();
    fs::create_dir(base.join("tree")).unwrap();
    orders::make(&base.join("orders.db"));
    for number in 0..60 {
        fs::write(base.join(format!("tree/file-{number}")), noise(number, 100_000)).unwrap();
    }
    let text = format!(
        "{}[[source]]\nname = \"files\"\nkind = \"files\"\npaths = [\"{base}/tree\"]\n\
         [[source]]\nname = \"orders\"\nkind = \"sqlite\"\npath = \"{base}/orders.db\"\n\
         [[plan.drill.step]]\nrestore = \"files\"\n[[plan.drill.step]]\nrestore = \"orders\"\n\
         [[plan.drill.check]]\ncommand = \"sleep 0.5; test -f files/file-1\"\n",
        world.policy_head("shop", "{ rpo = \"1h\", rto = \"1h\" }"),
        base = base.display(),
    );
    world.write_policy("shop", &text);
    world
}

fn assert_point(world: &World, point: &str, expected: &Path, name: &str) {
    let target = world.path(name);
    let to = target.to_str().unwrap();
    let _ = world.run(["restore", "shop", "--source", "files", "--point", point, "--to", to]).expect(0);
    tree::assert_same(expected, &target);
    fs::remove_dir_all(&target).unwrap();
}

/// What is listed can be restored.
fn assert_restorable(world: &World, point: &str) {
    let target = world.path("listed");
    let to = target.to_str().unwrap();
    let _ = world.run(["restore", "shop", "--point", point, "--source", "files", "--to", to]).expect(0);
    fs::remove_dir_all(&target).unwrap();
}

#[test]
fn backups_killed_at_random_lose_no_older_point() {
    let world = system();
    let mut delays = Delays::new();
    // Also the very first backup, which makes the DR site, may be killed.
    for _ in 0..3 {
        let delay = delays.below(Duration::from_millis(700));
        kill_after(spawn(&world, &["backup", "shop"]), delay);
    }
    let begin = Instant::now();
    let _ = world.run(["backup", "shop"]).expect(0);
    let whole = begin.elapsed().mul_f64(1.2);
    let first = world.newest_point("shop", "files");
    let original = copy_of_primary(&world, "original");
    for round in 0..rounds() {
        change(&world, round + 1);
        kill_after(spawn(&world, &["backup", "shop"]), delays.below(whole));
        assert_point(&world, &first, &original, "older");
        assert_restorable(&world, &world.newest_point("shop", "files"));
    }
    let _ = world.run(["backup", "shop"]).expect(0);
    // One more: the one before may have been the end of a killed run with older data.
    let _ = world.run(["backup", "shop"]).expect(0);
    tree::assert_same(&world.primary().join("tree"), &world.restore_source("shop", "files", "newest"));
    for point in world.points("shop").iter().filter(|point| point["source"] == "files") {
        assert_restorable(&world, &point.text("id"));
    }
    let mut pairs: Vec<_> =
        world.points("shop").iter().map(|point| (point.text("source"), point.text("run"))).collect();
    let all = pairs.len();
    pairs.sort();
    pairs.dedup();
    assert_eq!(pairs.len(), all, "no source is taken twice in one run");
    let _ = world.run(["verify", "shop", "--read-data"]).expect(0);
    let _ = world.restic(["unlock", "--remove-all"]).expect(0);
    let _ = world.restic(["check", "--read-data"]).expect(0);
}

#[test]
fn a_killed_backup_is_continued_under_its_own_run() {
    let world = system();
    let _ = world.run(["backup", "shop"]).expect(0);
    for number in 0..6 {
        fs::write(world.primary().join(format!("tree/big-{number}")), noise(1000 + number, 16 << 20)).unwrap();
    }
    let packs = || common::files_below(&world.dr().join("repository/data")).len();
    let before = packs();
    let mut child = spawn(&world, &["backup", "shop"]);
    common::wait_until("a pack of the second backup", || packs() > before);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(world.points("shop").len(), 2, "it was killed in the middle");

    let _ = world.run(["backup", "shop"]).expect(0);
    let continued: Vec<String> = common::files_below(&world.dr().join("runs"))
        .into_iter()
        .filter(|path| fs::read_to_string(path).unwrap().contains("\"continued\""))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(continued.len(), 1, "one run was taken up again");
    let of_run = world.points("shop").iter().filter(|point| point.text("run") == continued[0]).count();
    assert_eq!(of_run, 2, "its points are complete under its own id");
    tree::assert_same(&world.primary().join("tree"), &world.restore_source("shop", "files", "newest"));
}

#[test]
fn drills_killed_at_random_are_finished_and_leave_nothing() {
    let world = system();
    fs::write(world.primary().join("tree/canary-of-the-drill"), "alive").unwrap();
    let _ = world.run(["backup", "shop"]).expect(0);
    let begin = Instant::now();
    let _ = world.run(["drill", "shop"]).expect(0);
    let whole = begin.elapsed();
    let mut delays = Delays::new();
    for _ in 0..rounds() {
        kill_after(spawn(&world, &["drill", "shop"]), delays.below(whole));
    }
    let last = world.run(["drill", "shop", "--json"]).expect(0).json();
    assert_eq!(last["passed"], true);
    let drills = world.run(["drills", "shop", "--json"]).expect(0).list("drills");
    let mut numbers: Vec<u64> = drills.iter().map(|drill| drill["drill"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=drills.len() as u64).collect::<Vec<_>>(), "no drill disappeared");
    let canaries =
        common::files_below(&world.path("")).into_iter().filter(|path| path.ends_with("canary-of-the-drill"));
    assert_eq!(canaries.count(), 1, "nothing restored is left");
}
