//! Damage of every kind, mended as far as it can be, and restic as the judge.

mod common;

use std::fs;
use std::path::PathBuf;

use common::{World, files_below, noise};

fn world() -> World {
    let world = World::new();
    world.write_files_policy("shop");
    for number in 0..6 {
        fs::write(world.primary().join(format!("file{number}")), noise(number, 200_000)).unwrap();
    }
    let _ = world.run(["backup", "shop"]).expect(0);
    world
}

/// The largest pack: it holds files.
fn data_pack(world: &World) -> PathBuf {
    let packs = files_below(&world.dr().join("repository/data"));
    packs.into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap()
}

fn flip(path: &PathBuf, from_end: Option<usize>) {
    let mut bytes = fs::read(path).unwrap();
    let at = from_end.map_or(bytes.len() / 2, |back| bytes.len() - back);
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn restored_files(world: &World, name: &str) -> usize {
    let target = world.restore_source("shop", "files", name);
    let files = files_below(&target);
    (0..6).filter(|number| files.iter().any(|file| fs::read(file).unwrap() == noise(*number, 200_000))).count()
}

#[test]
fn a_flipped_byte_costs_one_file_which_is_named_and_the_next_backup_heals_it() {
    let world = world();
    flip(&data_pack(&world), None);
    let told = world.run(["repair", "shop", "--json"]).expect(3).json();
    let losses = told["losses"].as_array().unwrap();
    assert_eq!(losses.len(), 1, "{told}");
    assert!(losses[0]["path"].as_str().unwrap().contains("/file"), "{told}");
    assert!(losses[0]["point"].as_str().unwrap().starts_with("files-"), "{told}");
    for number in 0..6 {
        // Read again: what was not changed would be taken from the point before.
        let path = world.primary().join(format!("file{number}"));
        fs::write(&path, noise(number, 200_000)).unwrap();
    }
    let _ = world.run(["backup", "shop"]).expect(0);
    let _ = world.run(["repair", "shop"]).expect(0);
    let _ = world.restic(["check", "--read-data"]).expect(0);
    assert_eq!(restored_files(&world, "back"), 6);
    let first = world.points("shop")[0]["id"].as_str().unwrap().to_owned();
    let target = world.path("first");
    let _ = world.run(["restore", "shop", "--point", &first, "--to", target.to_str().unwrap()]).expect(0);
}

#[test]
fn an_index_that_is_lost_is_made_anew() {
    let world = world();
    for index in files_below(&world.dr().join("repository/index")) {
        fs::remove_file(index).unwrap();
    }
    let _ = world.run(["repair", "shop", "--headers-only"]).expect(0);
    let _ = world.restic(["check", "--read-data"]).expect(0);
    assert_eq!(restored_files(&world, "back"), 6);
}

#[test]
fn damaged_index_files_and_pack_headers_cost_nothing() {
    let world = world();
    flip(&data_pack(&world), Some(20));
    let _ = world.run(["repair", "shop"]).expect(0);
    let _ = world.restic(["check", "--read-data"]).expect(0);
    flip(&files_below(&world.dr().join("repository/index"))[0], None);
    let _ = world.run(["repair", "shop"]).expect(0);
    let _ = world.restic(["check", "--read-data"]).expect(0);
    assert_eq!(restored_files(&world, "back"), 6);
}

#[test]
fn a_damaged_configuration_gets_a_sentence() {
    let world = world();
    flip(&world.dr().join("repository/config"), None);
    let output = world.command(["repair", "shop"]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("config") && told.contains("from a copy of the repository"), "{told}");
}

#[test]
fn a_point_without_its_snapshot_stops_a_prune_until_repair_writes_it_again() {
    let world = world();
    for damage in ["flipped", "removed"] {
        let snapshot = files_below(&world.dr().join("repository/snapshots")).remove(0);
        match damage {
            "flipped" => flip(&snapshot, None),
            _ => fs::remove_file(&snapshot).unwrap(),
        }
        let _ = world.run(["verify", "shop"]).expect(1);
        let packs = files_below(&world.dr().join("repository/data"));
        for arguments in [&["prune", "shop"][..], &["prune", "shop", "--dry-run"]] {
            let output = world.command(arguments).output().unwrap();
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{damage}: {told}");
            assert!(
                told.contains("has lost its snapshot") && told.contains("lifeboat repair shop"),
                "{damage}: {told}"
            );
        }
        assert_eq!(files_below(&world.dr().join("repository/data")), packs);
        let told = world.run(["repair", "shop", "--json"]).expect(0).json();
        let told = told["damage"].to_string();
        assert!(told.contains("it was written again"), "{damage}: {told}");
        let _ = world.run(["verify", "shop", "--read-data"]).expect(0);
        let _ = world.restic(["check", "--read-data"]).expect(0);
        let _ = world.run(["prune", "shop"]).expect(0);
        assert_eq!(restored_files(&world, damage), 6);
        if damage == "flipped" {
            // As if the repair had been killed after it wrote the new one.
            fs::write(&snapshot, "half of it").unwrap();
            let _ = world.run(["prune", "shop"]).expect(1);
            let _ = world.run(["repair", "shop"]).expect(0);
            let _ = world.run(["prune", "shop"]).expect(0);
            assert!(!snapshot.exists());
        }
    }
}

#[test]
fn status_knows_of_damage_until_a_look_as_thorough_finds_none() {
    let world = world();
    let _ = world.run(["status", "shop"]).expect(0);
    flip(&data_pack(&world), None);
    let _ = world.run(["verify", "shop", "--read-data"]).expect(1);
    let _ = world.run(["status", "shop"]).expect(4).says(&["NOT HEALTHY", "found damage", "lifeboat repair"]);
    // The structure alone is whole.
    let _ = world.run(["verify", "shop"]).expect(0);
    let _ = world.run(["status", "shop"]).expect(4);
    for number in 0..6 {
        let path = world.primary().join(format!("file{number}"));
        fs::write(&path, noise(number, 200_000)).unwrap();
    }
    let _ = world.run(["repair", "shop"]).expect(3);
    let _ = world.run(["backup", "shop"]).expect(0);
    // The damaged pack still lies there until a prune takes it away, and nothing needs it.
    let _ = world.run(["verify", "shop", "--read-data"]).expect(0).says(&["that nothing needs"]);
    let status = world.run(["status", "shop", "--json"]).expect(0).json();
    assert_eq!(status["systems"][0]["verification"]["percent_read"], 100, "{status}");
}

#[test]
fn a_site_that_lost_what_it_says_of_itself_gets_it_again() {
    let world = world();
    let marker = world.dr().join("lifeboat.json");
    let original = fs::read(&marker).unwrap();
    fs::remove_file(&marker).unwrap();
    for command in ["points", "backup", "verify"] {
        let _ = world.run([command, "shop"]).expect(1).says(&["has lost its lifeboat.json", "lifeboat repair"]);
    }
    let _ = world.run(["repair", "shop"]).expect(0).says(&["written again"]);
    // Under the id by which this machine knows it.
    assert_eq!(fs::read(&marker).unwrap(), original);
    let _ = world.run(["backup", "shop"]).expect(0);
    fs::write(&marker, &original[..original.len() / 2]).unwrap();
    let _ = world.run(["status", "shop"]).expect(1).says(&["lifeboat.json", "lifeboat repair"]);
    fs::remove_dir_all(world.state()).unwrap();
    fs::remove_dir_all(world.policies()).unwrap();
    let password = format!("file:{}", world.password_file().display());
    let dr = world.dr().display().to_string();
    let _ = world.run(["rebuild", "--from", &dr, "--repository-password", &password]).expect(0);
    assert_eq!(restored_files(&world, "back"), 6);
}

#[test]
fn a_damaged_stored_policy_is_found_and_the_next_backup_puts_it_back() {
    let world = world();
    let stored = files_below(&world.dr().join("policies")).pop().unwrap();
    flip(&stored, None);
    let _ = world.run(["verify", "shop"]).expect(1).says(&["policies/", "is damaged"]);
    let dr = world.dr().display().to_string();
    let _ = world.run(["rebuild", "--from", &dr]).expect(1).says(&["is damaged", "lifeboat init"]);
    let _ = world.run(["backup", "shop"]).expect(0);
    let _ = world.run(["verify", "shop"]).expect(0);
}
