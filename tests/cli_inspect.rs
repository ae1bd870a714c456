//! Looking without changing: points, ls, find, cat, status.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use common::{Field, World, noise};

fn backed_up() -> World {
    let world = World::new();
    fs::create_dir_all(world.primary().join("sub/deeper")).unwrap();
    fs::write(world.primary().join("sub/deeper/settings.toml"), "a = 1\n").unwrap();
    fs::write(world.primary().join("sub/blob"), noise(1, 3_000_000)).unwrap();
    fs::write(world.primary().join(OsStr::from_bytes(b"odd-\xff")), "odd").unwrap();
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    world
}

#[test]
fn points_have_the_promised_keys() {
    let world = backed_up();
    let _ = world.run(["backup", "home"]).expect(0);
    let points = world.points("home");
    assert_eq!(points.len(), 2);
    for point in &points {
        assert_eq!(point.text("source"), "files");
        assert_eq!(point.text("state"), "complete");
        assert_eq!(point["held"], false);
        assert_eq!(point.text("id"), format!("files-{}", point.text("run")));
        assert!(point.number("bytes") >= 3_000_000.0);
        let time = |key| point.text(key).parse::<jiff::Timestamp>().unwrap();
        assert!(time("data_time") <= time("available_time"));
        assert!(point.text("available_time").ends_with('Z'), "times are UTC");
    }
    let at = points[0].text("available_time");
    let earlier = world.run(["points", "home", "--at", &at, "--source", "files", "--json"]).expect(0).list("points");
    assert_eq!(earlier.first().unwrap().text("id"), points[0].text("id"));
    assert!(!earlier.iter().any(|point| point.text("id") == points[1].text("id")), "not yet available at {at}");
    let _ = world.run(["points", "home"]).expect(0).says(&[&points[0].text("id"), &points[1].text("id")]);
}

#[test]
fn a_point_can_be_listed_searched_and_read() {
    let world = backed_up();
    let point = world.newest_point("home", "files");
    let folder = world.primary().join("sub");
    let listed = world.run(["ls", &point, folder.to_str().unwrap()]).expect(0).says(&["blob", "deeper"]);
    assert!(!listed.text().contains("odd-"), "only what is in the folder");
    let _ = world.run(["ls", &point, world.primary().to_str().unwrap()]).expect(0).says(&["odd-\\xff", "sub"]);
    let _ = world.run(["ls", &point, "--json"]).expect(0).json();

    let _ = world.run(["find", "home", "**/*.toml"]).expect(0).says(&["settings.toml", &point]);
    let found = world.run(["find", "home", "**/no-such-thing"]).expect(0);
    assert!(!found.text().contains("settings.toml"));

    let blob = world.run(["cat", &point, folder.join("blob").to_str().unwrap()]).expect(0);
    assert!(blob.stdout == noise(1, 3_000_000), "byte for byte");
    let _ = world.run(["cat", &point, folder.join("settings.tom").to_str().unwrap()]).expect(2);
    let _ = world.run(["cat", &point, folder.to_str().unwrap()]).expect(2);
    let _ = world.run(["ls", "files-20200101T000000Z-0000"]).expect(2);
}

#[test]
fn status_tells_health_against_the_objective() {
    let world = World::new();
    fs::write(world.primary().join("file"), "x").unwrap();
    let head = world.policy_head("home", "{ rpo = \"2s\" }");
    let source =
        format!("[[source]]\nname = \"files\"\nkind = \"files\"\npaths = [\"{}\"]\n", world.primary().display());
    world.write_policy("home", &format!("{head}{source}"));
    let of = |document: &serde_json::Value| document["systems"][0].clone();

    let before = of(&world.run(["status", "home", "--json"]).expect(4).json());
    assert_eq!((before.text("system"), &before["healthy"]), ("home".to_owned(), &false.into()));

    let _ = world.run(["backup", "home"]).expect(0);
    let output = world.run(["status", "home", "--json"]);
    let fresh = of(&output.json());
    // A slow machine may already be beyond the two seconds; the age it tells decides.
    let age = fresh["sources"][0].number("age_seconds");
    assert_eq!(fresh["healthy"], age <= 2.0, "{fresh:#}");
    assert_eq!(output.code, Some(if age <= 2.0 { 0 } else { 4 }));
    assert_eq!(fresh["sources"][0].text("source"), "files");
    assert_eq!(fresh["sources"][0].text("last_point"), world.newest_point("home", "files"));
    assert!(fresh["incidents"].is_array());

    std::thread::sleep(Duration::from_millis(2_200));
    let late = of(&world.run(["status", "--json"]).expect(4).json());
    assert_eq!(late["healthy"], false);
    assert!(late["sources"][0].number("age_seconds") > 2.0);
}

#[test]
fn looking_changes_nothing() {
    let world = backed_up();
    let point = world.newest_point("home", "files");
    let objects = || common::files_below(&world.dr());
    let before = objects();
    for arguments in [
        vec!["points", "home"],
        vec!["ls", &point],
        vec!["find", "home", "*"],
        vec!["status"],
        vec!["drills"],
        vec!["check"],
    ] {
        let _ = world.run(arguments).expect(0);
    }
    // restic's own lock files may come and go; nothing may stay.
    assert_eq!(objects(), before);
}
