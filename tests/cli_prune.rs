//! Removing what no recovery point needs, with restic looking on, and with kills at every write.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{World, directory_bytes, files_below, is_long, noise};

/// A world with two points; what only the second needs is garbage by now.
fn world_with_garbage() -> (World, Vec<u8>) {
    let world = World::new();
    world.write_files_policy("shop");
    let kept = noise(1, 300_000);
    fs::write(world.primary().join("kept.bin"), &kept).unwrap();
    let _ = world.run(["backup", "shop"]).expect(0);
    fs::write(world.primary().join("gone.bin"), noise(2, 900_000)).unwrap();
    let _ = world.run(["backup", "shop"]).expect(0);
    let point = world.newest_point("shop", "files");
    let _ = world.restic(["forget", &newest_snapshot(&world)]).expect(0);
    // A point that is still listed would keep everything.
    let record =
        files_below(&world.dr().join("points")).into_iter().find(|file| file.to_str().unwrap().contains(&point));
    fs::remove_file(record.unwrap()).unwrap();
    fs::remove_file(world.primary().join("gone.bin")).unwrap();
    age(&world.dr().join("repository"), "3 days ago");
    (world, kept)
}

fn newest_snapshot(world: &World) -> String {
    let files = files_below(&world.dr().join("repository/snapshots"));
    let newest = files.iter().max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).unwrap();
    newest.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Makes the store say that everything was stored then.
fn age(directory: &Path, when: &str) {
    for file in files_below(directory) {
        assert!(Command::new("touch").args(["-d", when]).arg(file).status().unwrap().success());
    }
}

fn data_bytes(world: &World) -> u64 {
    directory_bytes(&world.dr().join("repository/data"))
}

fn whole_for_restic(world: &World) {
    let _ = world.restic(["unlock"]).expect(0);
    let _ = world.restic(["check", "--read-data"]).expect(0);
}

#[test]
fn what_no_point_needs_is_marked_then_deleted_and_restic_agrees_all_the_time() {
    let (world, kept) = world_with_garbage();
    let before = data_bytes(&world);
    let listing = files_below(&world.dr());
    let _ = world.run(["prune", "shop", "--dry-run"]).expect(0);
    assert_eq!(files_below(&world.dr()), listing, "a dry run touches nothing");
    let _ = world.run(["prune", "shop"]).expect(0);
    assert!(data_bytes(&world) >= before, "a mark deletes no pack");
    whole_for_restic(&world);
    let _ = world.run(["prune", "shop"]).expect(0);
    assert!(data_bytes(&world) >= before, "the margin is not over");
    age(&world.dr().join("repository"), "2 days ago");
    let leftover = world.dr().join("points/.writing-abc");
    fs::write(&leftover, "half a reco").unwrap();
    age(&world.dr().join("points"), "2 days ago");
    let _ = world.run(["prune", "shop"]).expect(0);
    assert!(data_bytes(&world) + 800_000 < before, "{} of {before} bytes are left", data_bytes(&world));
    assert!(!leftover.exists());
    whole_for_restic(&world);
    let first = world.points("shop")[0]["id"].as_str().unwrap().to_owned();
    let target = world.path("back");
    let _ = world.run(["restore", "shop", "--point", &first, "--to", target.to_str().unwrap()]).expect(0);
    let back = files_below(&target);
    assert!(back.iter().any(|file| fs::read(file).unwrap() == kept), "{back:?}");
    let _ = world.run(["ledger", "verify", "shop"]).expect(0);
}

#[test]
fn a_prune_killed_at_every_write_loses_nothing_and_is_continued() {
    let (mut world, kept) = world_with_garbage();
    for phase in ["mark", "sweep"] {
        if phase == "sweep" {
            let _ = world.run(["prune", "shop"]).expect(0);
            age(&world.dr().join("repository"), "2 days ago");
        }
        let saved = world.path(format!("saved-{phase}"));
        copy(&world.dr(), &saved.join("dr"));
        copy(&world.state(), &saved.join("state"));
        let mut place = 1;
        loop {
            world.set_variable("LIFEBOAT_KILL_AT", place.to_string());
            let killed = world.command(["prune", "shop"]).output().unwrap().status.code().is_none();
            world.clear_variables();
            if !killed {
                break;
            }
            let _ = world.run(["prune", "shop"]).expect(0);
            whole_for_restic(&world);
            let locks = files_below(&world.dr().join("repository/locks"));
            let locks = locks.iter().filter(|lock| !lock.file_name().unwrap().to_str().unwrap().starts_with('.'));
            assert_eq!(locks.count(), 0, "{place}");
            place += if is_long() { 1 } else { 5 };
            for part in ["dr", "state"] {
                fs::remove_dir_all(world.path(part)).unwrap();
                copy(&saved.join(part), &world.path(part));
            }
        }
        assert!(place > 10, "{phase} has more places than {place}");
    }
    let first = world.points("shop")[0]["id"].as_str().unwrap().to_owned();
    let target = world.path("back");
    let _ = world.run(["restore", "shop", "--point", &first, "--to", target.to_str().unwrap()]).expect(0);
    assert!(files_below(&target).iter().any(|file| fs::read(file).unwrap() == kept));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}
