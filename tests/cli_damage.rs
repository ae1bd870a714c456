//! A damaged repository: the restore refuses what is damaged, names it, and brings back everything else.

mod common;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use common::{World, files_below, noise, tree};

const FILES: u64 = 12;

/// Twelve files of 2 MiB that share nothing, backed up.
fn backed_up() -> World {
    let world = World::new();
    for number in 0..FILES {
        fs::write(world.primary().join(format!("file-{number:02}")), noise(number + 1, 2 << 20)).unwrap();
    }
    fs::write(world.primary().join("small"), "small").unwrap();
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    world
}

/// The largest pack: it holds file contents.
fn largest_pack(world: &World) -> PathBuf {
    let packs = common::files_below(&world.dr().join("repository/data"));
    let pack = packs.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    fs::set_permissions(&pack, Permissions::from_mode(0o600)).unwrap();
    pack
}

fn flip_a_byte(pack: &PathBuf, at: u64) {
    let file = File::options().read(true).write(true).open(pack).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// Restores and gives the damaged files' names; everything else must be exact and each damaged one named and absent.
fn restore_in_part(world: &World) -> Vec<String> {
    let target = world.path("target");
    let output = world.run(["restore", "home", "--source", "files", "--to", target.to_str().unwrap()]).expect(3);
    let lost: Vec<String> = tree::differences(&world.primary(), &target)
        .into_iter()
        .map(|line| {
            let (name, what) = line.split_once(": ").unwrap();
            assert_eq!(what, "missing", "{name} is not left half-written");
            name.to_owned()
        })
        .collect();
    for name in &lost {
        assert!(output.stderr.contains(name.as_str()), "{name} is named in {}", output.stderr);
    }
    lost
}

#[test]
fn one_flipped_byte_costs_one_file_which_is_named() {
    let world = backed_up();
    let pack = largest_pack(&world);
    let _ = world.run(["verify", "home", "--read-data"]).expect(0);
    flip_a_byte(&pack, fs::metadata(&pack).unwrap().len() / 2);
    let _ = world.run(["verify", "home", "--read-data"]).expect(1).says(&[&name_of(&pack)[..8]]);
    assert_eq!(restore_in_part(&world).len(), 1);
}

#[test]
fn a_lost_pack_costs_its_files_alone() {
    let world = backed_up();
    let pack = largest_pack(&world);
    fs::remove_file(&pack).unwrap();
    let _ = world.run(["verify", "home"]).expect(1).says(&[&name_of(&pack)[..8]]);
    let lost = restore_in_part(&world);
    assert!(!lost.is_empty() && lost.len() < FILES as usize, "{lost:?}");
}

#[test]
fn a_cut_pack_costs_its_files_alone() {
    let world = backed_up();
    let pack = largest_pack(&world);
    let length = fs::metadata(&pack).unwrap().len();
    File::options().write(true).open(&pack).unwrap().set_len(length / 2).unwrap();
    let _ = world.run(["verify", "home", "--read-data"]).expect(1);
    let lost = restore_in_part(&world);
    assert!(!lost.is_empty() && lost.len() < FILES as usize, "{lost:?}");
}

#[test]
fn a_drill_on_damaged_data_does_not_pass() {
    let world = backed_up();
    let plan = "[[plan.drill.step]]\nrestore = \"files\"\n[[plan.drill.check]]\ncommand = \"true\"\n";
    let path = world.policies().join("home.toml");
    let policy = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{policy}{plan}")).unwrap();
    let _ = world.run(["backup", "home"]).expect(0);
    let _ = world.run(["drill", "home"]).expect(0);
    let pack = largest_pack(&world);
    flip_a_byte(&pack, fs::metadata(&pack).unwrap().len() / 2);
    let drill = world.run(["drill", "home", "--json"]).expect(1).json();
    assert_eq!(drill["passed"], false);
}

#[test]
fn what_a_lost_pack_held_is_stored_again_by_the_next_backup() {
    let world = backed_up();
    fs::remove_file(largest_pack(&world)).unwrap();
    let _ = world.run(["backup", "home"]).expect(0).says(&["stored again"]);
    tree::assert_same(&world.primary(), &world.restore_source("home", "files", "whole"));
}

/// Every small object at the DR site, damaged one at a time: the next backup and its restore work all the same.
#[test]
fn one_damaged_record_stops_neither_backup_nor_restore() {
    let world = World::new();
    fs::write(world.primary().join("file"), "content").unwrap();
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    for (number, directory) in ["points", "ledger", "repository/snapshots", "policies", "runs"].iter().enumerate() {
        let object = common::files_below(&world.dr().join(directory)).pop().unwrap();
        fs::set_permissions(&object, Permissions::from_mode(0o600)).unwrap();
        let sound = fs::read(&object).unwrap();
        flip_a_byte(&object, sound.len() as u64 / 2);
        fs::write(world.primary().join("file"), format!("content {number}")).unwrap();
        // A machine that knows nothing yet reads the damaged record; it must not mind either.
        fs::remove_dir_all(world.state()).unwrap();
        let _ = world.run(["backup", "home"]).expect(0);
        tree::assert_same(&world.primary(), &world.restore_source("home", "files", &format!("after-{number}")));
        fs::write(&object, sound).unwrap();
    }
}

fn name_of(pack: &std::path::Path) -> String {
    pack.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn a_source_that_cannot_be_restored_does_not_cost_the_others() {
    let world = World::new();
    let (first, second) = (world.primary().join("first"), world.primary().join("second"));
    for directory in [&first, &second] {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("file"), format!("of {}", directory.display())).unwrap();
    }
    let source = |name: &str, path: &Path| {
        format!("[[source]]\nname = \"{name}\"\nkind = \"files\"\npaths = [\"{}\"]\n", path.display())
    };
    let policy = world.policy_head("shop", "{ rpo = \"1h\", rto = \"15m\" }");
    world.write_policy("shop", &format!("{policy}{}", source("first", &first)));
    let _ = world.run(["backup", "shop"]).expect(0);
    let before = files_below(&world.dr().join("repository/data"));
    world.write_policy("shop", &format!("{policy}{}{}", source("first", &first), source("second", &second)));
    let _ = world.run(["backup", "shop"]).expect(0);
    // Of the first backup everything is gone: what the first source needs, and nothing of the second.
    before.iter().for_each(|pack| fs::remove_file(pack).unwrap());
    let target = world.path("back");
    let output = world.run(["restore", "shop", "--to", target.to_str().unwrap()]).expect(3);
    let _ = output.says(&["first"]);
    let back: Vec<_> = files_below(&target).into_iter().filter(|file| file.ends_with("file")).collect();
    assert_eq!(back.len(), 1, "{back:?}");
    assert_eq!(fs::read_to_string(&back[0]).unwrap(), format!("of {}", second.display()));
}
