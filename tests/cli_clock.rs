//! A clock that is set back an hour between two backups loses nothing.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Field, World};

/// The library of the `faketime` package; `scripts/test` installs it.
fn faketime_library() -> PathBuf {
    let found =
        fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path().join("faketime/libfaketimeMT.so.1"));
    let library = found.chain([PathBuf::from("/usr/lib/faketime/libfaketimeMT.so.1")]).find(|path| path.exists());
    library.expect("the package faketime is missing: scripts/test installs it")
}

fn set_back(world: &mut World, library: &Path, shift: &str) {
    world.set_variable("LD_PRELOAD", library);
    world.set_variable("FAKETIME", shift);
    world.set_variable("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    world.set_variable("NO_FAKE_STAT", "1");
}

fn content(world: &World, name: &str, choice: &[&str]) -> String {
    let target = world.path(name);
    let fixed = ["restore", "home", "--source", "files", "--to", target.to_str().unwrap()];
    let _ = world.run(fixed.iter().chain(choice)).expect(0);
    fs::read_to_string(target.join("file")).unwrap()
}

#[test]
fn an_hour_back_is_noticed_and_costs_no_point() {
    let library = faketime_library();
    let mut world = World::new();
    world.write_files_policy("home");
    fs::write(world.primary().join("file"), "first").unwrap();
    let _ = world.run(["backup", "home"]).expect(0);
    let first = world.newest_point("home", "files");

    set_back(&mut world, &library, "-3600");
    fs::write(world.primary().join("file"), "second, by a wrong clock").unwrap();
    let _ = world.run(["backup", "home"]).expect(0).says(&["clock"]);
    let points = world.run(["points", "home", "--json"]).expect(0).list("points");
    assert_eq!(points.len(), 2);
    assert_eq!(content(&world, "newest", &[]), "second, by a wrong clock", "the newest is the one made last");
    assert_eq!(content(&world, "chosen", &["--point", &first]), "first");

    world.clear_variables();
    fs::write(world.primary().join("file"), "third").unwrap();
    let _ = world.run(["backup", "home"]).expect(0);
    assert_eq!(content(&world, "third", &[]), "third");
    let points = world.run(["points", "home", "--json"]).expect(0).list("points");
    assert_eq!(points.len(), 3);
    let wrong =
        points.iter().find(|point| point.text("id") != first && content_of(&world, point).starts_with("second"));
    assert!(wrong.is_some(), "the point of the wrong clock is still there");
}

fn content_of(world: &World, point: &serde_json::Value) -> String {
    let path = world.primary().join("file");
    world.run(["cat", &point.text("id"), path.to_str().unwrap()]).expect(0).text()
}

#[test]
fn a_point_dated_in_the_future_displaces_nobody() {
    let library = faketime_library();
    let mut world = World::new();
    world.write_files_policy("home");
    fs::write(world.primary().join("file"), "by a fast clock").unwrap();
    set_back(&mut world, &library, "+86400");
    let _ = world.run(["backup", "home"]).expect(0);
    world.clear_variables();
    fs::write(world.primary().join("file"), "by the right clock").unwrap();
    let _ = world.run(["backup", "home"]).expect(0);
    assert_eq!(content(&world, "newest", &[]), "by the right clock");
}
