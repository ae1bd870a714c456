//! Logs through the program: read from where the last backup ended, and restored exactly whatever happened to them.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Field, World, files_below, noise};
use serde_json::Value;

const MIB: usize = 1 << 20;

/// More than the comparison of a log's ends can cost: the first, the last twice, and the one before it, each of at
/// most 4 MiB and of 1 MiB on average.
const ENDS: f64 = 12.0 * MIB as f64;

/// A system with one source of logs.
struct Logs {
    world: World,
}

impl Logs {
    fn new() -> Self {
        Self::with_full_read("7d")
    }

    fn with_full_read(period: &str) -> Self {
        let logs = Self { world: World::new() };
        logs.set_full_read(period);
        logs
    }

    fn set_full_read(&self, period: &str) {
        let head = self.world.policy_head("shop", "{ rpo = \"1h\" }");
        let pattern = self.world.primary().join("**/*.log*");
        let source = format!(
            "[[source]]\nname = \"logs\"\nkind = \"logs\"\npaths = [\"{}\"]\nfull_read = \"{period}\"\n",
            pattern.display()
        );
        self.world.write_policy("shop", &format!("{head}{source}"));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.primary().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    fn append(&self, name: &str, content: &[u8]) {
        OpenOptions::new().append(true).open(self.path(name)).unwrap().write_all(content).unwrap();
    }

    fn write_at(&self, name: &str, content: &[u8], at: u64) {
        File::options().write(true).open(self.path(name)).unwrap().write_all_at(content, at).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Backs up and gives the point.
    fn back_up(&self) -> Value {
        self.world.run(["backup", "shop", "--json"]).expect(0).list("points").remove(0)
    }

    /// Backs up, restores, compares; gives the point.
    fn back_up_exactly(&self) -> Value {
        let point = self.back_up();
        let restored = self.restored(&point.text("id"));
        assert!(restored == contents(&self.world.primary()), "the restored logs differ from those that were there");
        point
    }

    /// What a point restores to: names and contents.
    fn restored(&self, point: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let target = self.world.path("restored");
        let _ = fs::remove_dir_all(&target);
        let arguments = ["restore", "shop", "--source", "logs", "--point", point, "--to", target.to_str().unwrap()];
        let _ = self.world.run(arguments).expect(0);
        contents(&target)
    }
}

fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = files_below(root).into_iter();
    files.map(|path| (path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

#[test]
fn the_cost_follows_the_new_bytes() {
    let logs = Logs::new();
    logs.write("app.log", &noise(1, 32 * MIB));
    assert_eq!(logs.back_up().number("read_bytes"), 32.0 * MIB as f64);
    for step in 2..4 {
        logs.append("app.log", &noise(step, 100_000));
        let point = logs.back_up();
        let read = point.number("read_bytes");
        assert!((100_000.0..ENDS).contains(&read), "{read} bytes read for 100,000 new ones");
        assert_eq!(point.number("bytes"), 32.0 * MIB as f64 + 100_000.0 * (step - 1) as f64);
    }
    // A whole read cuts the same blobs: there is nothing new but the tree.
    logs.set_full_read("1s");
    std::thread::sleep(Duration::from_millis(1_100));
    let whole = logs.back_up_exactly();
    // A file so young that its times prove nothing has its ends compared beforehand.
    let (read, size) = (whole.number("read_bytes"), 32.0 * MIB as f64 + 200_000.0);
    assert!((size..size + ENDS).contains(&read), "{read} of {size}");
    assert!(whole.number("added_bytes") < 20_000.0, "{whole:#}");
}

#[test]
fn logs_that_rotate_together_are_not_read_again() {
    let logs = Logs::new();
    logs.write("app.log", &noise(1, 24 * MIB));
    logs.write("app.log.1", &noise(2, 24 * MIB));
    logs.back_up();
    // Some lines came after the backup and before the rotation.
    logs.append("app.log", b"last words\n");
    logs.rename("app.log.1", "app.log.2");
    logs.rename("app.log", "app.log.1");
    logs.write("app.log", b"first words\n");
    let point = logs.back_up_exactly();
    assert!(point.number("read_bytes") < 2.0 * ENDS, "{point:#}");
    assert!(point.number("added_bytes") < ENDS, "{point:#}");
    // Again at once, into another directory as well.
    fs::create_dir(logs.path("old")).unwrap();
    logs.rename("app.log.2", "old/app.log.2");
    logs.rename("app.log.1", "app.log.2");
    logs.rename("app.log", "app.log.1");
    let point = logs.back_up_exactly();
    assert!(point.number("read_bytes") < 2.0 * ENDS, "{point:#}");
    // Compressed: another file, another inode.
    fs::write(logs.path("app.log.2.gz"), noise(7, MIB)).unwrap();
    fs::remove_file(logs.path("app.log.2")).unwrap();
    assert!(logs.back_up_exactly().number("read_bytes") >= MIB as f64);
}

#[test]
fn what_is_no_growth_is_read_whole() {
    let logs = Logs::new();
    logs.write("app.log", &noise(1, 6 * MIB));
    logs.write("other.log", &noise(2, 6 * MIB));
    logs.back_up();
    // Copied and cut, as logrotate's `copytruncate` does it.
    fs::copy(logs.path("app.log"), logs.path("app.log.1")).unwrap();
    logs.write("app.log", b"new\n");
    logs.back_up_exactly();
    // Shrunk and grown beyond what it was; the beginning is still the old one.
    File::options().write(true).open(logs.path("other.log")).unwrap().set_len(3 * MIB as u64).unwrap();
    logs.append("other.log", &noise(3, 9 * MIB));
    logs.back_up_exactly();
    // The same size, the time set back: rewritten in its middle.
    let path = logs.path("other.log");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    logs.write_at("other.log", b"rewritten", 6 * MIB as u64);
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    logs.back_up_exactly();
    // Another file with the inode of the old one, larger than that.
    let inode = fs::metadata(&path).unwrap().ino();
    fs::remove_file(&path).unwrap();
    logs.write("other.log", &noise(4, 14 * MIB));
    if fs::metadata(&path).unwrap().ino() != inode {
        common::skip("this file system does not use an inode again at once; the test cuts and fills the file instead");
        logs.back_up();
        logs.write("other.log", &noise(5, 15 * MIB));
    }
    assert!(logs.back_up_exactly().number("read_bytes") >= 14.0 * MIB as f64);
}

#[test]
fn a_log_that_never_stops_growing_is_stored_as_a_beginning_of_itself() {
    let logs = Logs::new();
    logs.write("app.log", &noise(1, 8 * MIB));
    let stopped = AtomicBool::new(false);
    let points: Vec<String> = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seed = 2;
            while !stopped.load(Ordering::Relaxed) {
                logs.append("app.log", &noise(seed, 30_000));
                seed += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let points = (0..4).map(|_| logs.back_up().text("id")).collect();
        stopped.store(true, Ordering::Relaxed);
        points
    });
    let whole = fs::read(logs.path("app.log")).unwrap();
    let mut length = 8 * MIB;
    for point in points {
        let restored = logs.restored(&point).remove(Path::new("app.log")).unwrap();
        assert!(restored.len() >= length && whole.starts_with(&restored), "{} bytes of {point}", restored.len());
        length = restored.len();
    }
}

#[test]
fn a_full_read_finds_what_the_ends_do_not_tell() {
    let logs = Logs::new();
    logs.write("app.log", &noise(1, 12 * MIB));
    let first = logs.back_up();
    let read_at = first["full_read"]["at"].clone();
    assert_eq!(read_at, first["data_time"]);
    // Changed between its first blob and its last, and then grown.
    logs.write_at("app.log", b"forged", 6 * MIB as u64);
    logs.append("app.log", b"more\n");
    let second = logs.back_up();
    assert_eq!(second["full_read"]["at"], read_at, "the second one read the new part alone");
    assert!(logs.restored(&second.text("id"))[Path::new("app.log")] != fs::read(logs.path("app.log")).unwrap());

    logs.set_full_read("1s");
    std::thread::sleep(Duration::from_millis(1_100));
    let run = logs.world.run(["backup", "shop", "--json"]).expect(0);
    assert!(run.stderr.contains("app.log: it was changed in its middle"), "{}", run.stderr);
    let third = run.list("points").remove(0);
    assert_eq!(third["full_read"]["at"], third["data_time"]);
    assert_eq!(third["full_read"]["rewritten"][0]["path"], logs.path("app.log").to_str().unwrap());
    assert_eq!(third["state"], "complete");
    assert!(logs.restored(&third.text("id")) == contents(&logs.world.primary()));
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(logs.back_up_exactly()["full_read"]["rewritten_count"], 0);
}

#[test]
fn when_all_was_read_is_known_to_a_new_machine() {
    let logs = Logs::new();
    logs.write("app.log", &noise(1, 3 * MIB));
    logs.back_up();
    logs.append("app.log", b"more\n");
    let before = logs.back_up();
    fs::remove_dir_all(logs.world.state()).unwrap();
    fs::remove_dir_all(logs.world.policies()).unwrap();
    let password = format!("file:{}", logs.world.password_file().display());
    let dr = logs.world.dr();
    let arguments = ["rebuild", "--from", dr.to_str().unwrap(), "--repository-password", &password];
    let _ = logs.world.run(arguments).expect(0);
    let points = logs.world.points("shop");
    assert_eq!(points.last().unwrap()["full_read"], before["full_read"]);
    logs.append("app.log", b"and more\n");
    assert_eq!(logs.back_up_exactly()["full_read"], before["full_read"], "not read whole for the move alone");
}

#[test]
fn records_without_a_full_read_lead_to_one() {
    let logs = Logs::new();
    logs.write("app.log", &noise(1, 3 * MIB));
    let point = logs.back_up();
    // As an older version wrote it.
    let record = files_below(&logs.world.dr().join("points")).remove(0);
    let mut older: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    for key in ["full_read", "read_bytes"] {
        assert!(older.as_object_mut().unwrap().remove(key).is_some(), "{older:#}");
    }
    fs::write(&record, serde_json::to_vec(&older).unwrap()).unwrap();
    fs::remove_dir_all(logs.world.state()).unwrap();
    let password = format!("file:{}", logs.world.password_file().display());
    let dr = logs.world.dr();
    fs::remove_dir_all(logs.world.policies()).unwrap();
    let _ = logs.world.run(["rebuild", "--from", dr.to_str().unwrap(), "--repository-password", &password]).expect(0);
    assert_eq!(logs.world.points("shop")[0].text("id"), point.text("id"));
    logs.append("app.log", b"more\n");
    let next = logs.back_up_exactly();
    assert_eq!(next["full_read"]["at"], next["data_time"]);
}

/// A number below `bound`, the same for the same state.
fn draw(state: &mut u64, bound: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) % bound
}

/// Something that happens to logs.
fn happen(logs: &Logs, state: &mut u64) -> &'static str {
    let length = draw(state, 4 * MIB as u64) as usize;
    let new = noise(*state, length);
    match draw(state, 6) {
        0 | 1 => {
            logs.append("app.log", &new);
            "appended to"
        }
        2 => {
            for (from, to) in [("app.log.1", "app.log.2"), ("app.log", "app.log.1")] {
                if logs.path(from).exists() {
                    logs.rename(from, to);
                }
            }
            logs.write("app.log", b"");
            "rotated"
        }
        3 => {
            let size = fs::metadata(logs.path("app.log")).unwrap().len();
            let size = draw(state, size + 1);
            File::options().write(true).open(logs.path("app.log")).unwrap().set_len(size).unwrap();
            "cut"
        }
        4 => {
            logs.write("app.log", &new);
            "rewritten"
        }
        _ => {
            fs::copy(logs.path("app.log"), logs.path("app.log.1")).unwrap();
            logs.write("app.log", b"");
            "copied and cut"
        }
    }
}

#[test]
fn whatever_happens_each_point_restores_to_what_was_there() {
    let seeds = if common::is_long() { 40 } else { 1 };
    for seed in 1..=seeds {
        let logs = Logs::new();
        logs.write("app.log", &noise(seed, 5 * MIB));
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let (mut story, mut points) = (Vec::new(), Vec::new());
        for _ in 0..6 {
            for _ in 0..=draw(&mut state, 3) {
                story.push(happen(&logs, &mut state));
            }
            story.push("backed up");
            points.push((logs.back_up().text("id"), contents(&logs.world.primary())));
        }
        for (point, was) in points {
            assert!(logs.restored(&point) == was, "seed {seed}: {point} differs after {story:?}");
        }
    }
}
