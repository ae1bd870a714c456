//! A real disk that is full at different moments, under the DR site, the restore target and the state directory: a sentence and
//! exit code 1, nothing half-done counts, and with room the same command completes.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use common::{Output, World, is_long, is_root, noise, tree};

/// A file system in memory, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with a word on stderr, where this machine does not let us.
    fn mount(directory: PathBuf, kibibytes: u64) -> Option<Self> {
        if !is_root() {
            common::skip("needs root to mount a small file system");
            return None;
        }
        fs::create_dir_all(&directory).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o"]).arg(format!("size={kibibytes}k")).arg("tmpfs").arg(&directory);
        if !mount.status().unwrap().success() {
            common::skip("this machine does not let root mount a tmpfs");
            return None;
        }
        Some(Self(directory))
    }

    fn grow(&self) {
        let mut mount = Command::new("mount");
        assert!(mount.args(["-o", "remount,size=64m"]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Sizes in KiB at which something is full; a few of them by default.
fn sizes(from: u64, to: u64, few: u64) -> Vec<u64> {
    let count = if is_long() { few * 10 } else { few };
    (0..count).map(|number| from + (to - from) * number / count).collect()
}

fn system() -> World {
    let world = World::new();
    fs::write(world.password_file(), "ab".repeat(32)).unwrap();
    for number in 0..6 {
        fs::write(world.primary().join(format!("file-{number}")), noise(number, 256 << 10)).unwrap();
    }
    world.write_files_policy("home");
    world
}

/// Exit code 1 and words about room, not a panic and not a success.
fn assert_full(output: &Output, what: &str) {
    assert_eq!(output.code, Some(1), "{what}: {}", output.stderr);
    let text = output.stderr.to_lowercase();
    assert!(text.contains("space") || text.contains("full"), "{what}: {text}");
    assert!(!text.contains("panicked"), "{what}: {text}");
}

#[test]
fn a_dr_site_that_is_full_at_any_moment_of_the_first_backup() {
    for size in sizes(4, 1500, 8) {
        let world = system();
        let Some(disk) = SmallDisk::mount(world.dr(), size) else { return };
        let what = format!("{size} KiB");
        assert_full(&world.run(["backup", "home"]), &what);
        assert!(common::files_below(&world.dr().join("points")).is_empty(), "{what}: a point is listed");
        assert!(common::files_below(&world.dr().join("repository/snapshots")).is_empty(), "{what}");
        disk.grow();
        let _ = world.run(["backup", "home"]).expect(0);
        tree::assert_same(&world.primary(), &world.restore_source("home", "files", "restored"));
        let _ = world.run(["verify", "home", "--read-data"]).expect(0);
    }
}

#[test]
fn a_restore_target_that_is_full() {
    let world = system();
    let _ = world.run(["backup", "home"]).expect(0);
    for size in sizes(16, 1500, 6) {
        let target = world.path(format!("target-{size}"));
        let Some(disk) = SmallDisk::mount(target.clone(), size) else { return };
        let restore = ["restore", "home", "--source", "files", "--to", target.to_str().unwrap(), "--overwrite"];
        assert_full(&world.run(restore), &format!("{size} KiB"));
        for file in common::files_below(&target) {
            let original = world.primary().join(file.file_name().unwrap());
            assert!(fs::read(&file).unwrap() == fs::read(original).unwrap(), "{} is left half-written", file.display());
        }
        disk.grow();
        let _ = world.run(restore).expect(0);
        tree::assert_same(&world.primary(), &target);
    }
}

#[test]
fn a_state_directory_that_is_full() {
    for size in sizes(8, 120, 6) {
        let world = system();
        let Some(disk) = SmallDisk::mount(world.state(), size) else { return };
        let what = format!("{size} KiB");
        let output = world.run(["backup", "home"]);
        if output.code == Some(0) {
            // Large enough for the whole journal: then the point must be good.
            tree::assert_same(&world.primary(), &world.restore_source("home", "files", "restored"));
            continue;
        }
        assert_full(&output, &what);
        disk.grow();
        let _ = world.run(["backup", "home"]).expect(0);
        tree::assert_same(&world.primary(), &world.restore_source("home", "files", "restored"));
        let _ = world.run(["verify", "home", "--read-data"]).expect(0);
        let _ = world.run(["ledger", "verify", "home"]).expect(0);
    }
}
