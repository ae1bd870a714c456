//! A DR directory on a full disk: a sentence, exit code 1, and every older point is still good.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use common::{World, is_root, noise, tree};

/// A small file system in memory, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(directory: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir(&directory).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o"]).arg(format!("size={size}")).arg("tmpfs").arg(&directory);
        mount.status().unwrap().success().then_some(Self(directory))
    }

    fn grow(&self, size: &str) {
        let mut mount = Command::new("mount");
        assert!(mount.arg("-o").arg(format!("remount,size={size}")).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_dr_site_fails_the_backup_and_keeps_the_older_points() {
    if !is_root() {
        return common::skip("needs root to mount a small file system");
    }
    let world = World::new();
    let Some(disk) = SmallDisk::mount(world.dr(), "24m") else {
        return common::skip("this machine does not let root mount a tmpfs");
    };
    world.write_files_policy("home");
    fs::write(world.primary().join("small"), noise(1, 2 << 20)).unwrap();
    let _ = world.run(["backup", "home"]).expect(0);
    let before = world.path("before");
    assert!(Command::new("cp").arg("-a").arg(world.primary()).arg(&before).status().unwrap().success());

    fs::write(world.primary().join("large"), noise(2, 60 << 20)).unwrap();
    for _ in 0..2 {
        let output = world.run(["backup", "home"]).expect(1);
        assert!(output.stderr.to_lowercase().contains("space") || output.stderr.contains("full"), "{}", output.stderr);
        assert_eq!(world.points("home").len(), 1, "no point of a backup that did not succeed");
    }
    tree::assert_same(&before, &world.restore_source("home", "files", "restored"));

    disk.grow("256m");
    let _ = world.run(["backup", "home"]).expect(0);
    assert_eq!(world.points("home").len(), 2);
    tree::assert_same(&world.primary(), &world.restore_source("home", "files", "restored-large"));
    let _ = world.run(["verify", "home", "--read-data"]).expect(0);
    let _ = world.restic(["check", "--read-data"]).expect(0);
}
