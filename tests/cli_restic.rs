//! An independent program reads what lifeboat wrote.

mod common;

use std::fs;
use std::process::Stdio;

use common::{World, noise, orders, tree};
use serde_json::Value;

#[test]
fn restic_checks_and_restores_what_lifeboat_wrote() {
    let world = World::new();
    tree::make_awkward(&world.primary());
    world.write_files_policy("home");
    for round in 0..3 {
        fs::write(world.primary().join("changing"), noise(round, 100_000)).unwrap();
        let _ = world.run(["backup", "home"]).expect(0);
    }
    let _ = world.restic(["check", "--read-data"]).expect(0);
    let snapshots: Vec<Value> =
        serde_json::from_slice(&world.restic(["snapshots", "--json"]).expect(0).stdout).unwrap();
    assert_eq!(snapshots.len(), 3);
    let primary = world.primary();
    assert_eq!(snapshots[0]["paths"], Value::from(vec![primary.to_str().unwrap()]));

    let target = world.path("by-restic");
    let _ = world.restic(["restore", "latest", "--target", target.to_str().unwrap()]).expect(0);
    let restored = target.join(primary.strip_prefix("/").unwrap());
    // Older restic versions keep a link target that is not UTF-8 only in part, and make no holes unless asked.
    let excused = |line: &String| line.starts_with("link-not-utf8: ") || line.contains(": holes lost");
    let lines: Vec<String> = tree::differences(&primary, &restored).into_iter().filter(|line| !excused(line)).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn restic_reads_databases_images_and_logs_too() {
    let world = World::new();
    let base = world.primary();
    orders::make(&base.join("orders.db"));
    fs::write(base.join("disk.img"), noise(1, 3 << 20)).unwrap();
    fs::create_dir(base.join("logs")).unwrap();
    fs::write(base.join("logs/app.log"), "2026-11-22T10:00:00Z started\n").unwrap();
    let sources = format!(
        "[[source]]\nname = \"orders\"\nkind = \"sqlite\"\npath = \"{0}/orders.db\"\n\
         [[source]]\nname = \"disk\"\nkind = \"image\"\npath = \"{0}/disk.img\"\n\
         [[source]]\nname = \"logs\"\nkind = \"logs\"\npaths = [\"{0}/logs/*.log\"]\n",
        base.display()
    );
    world.write_policy("all", &format!("{}{sources}", world.policy_head("all", "{ rpo = \"1h\" }")));
    let _ = world.run(["backup", "all"]).expect(0);
    let _ = world.restic(["check", "--read-data"]).expect(0);
    let snapshots: Vec<Value> =
        serde_json::from_slice(&world.restic(["snapshots", "--json"]).expect(0).stdout).unwrap();
    assert_eq!(snapshots.len(), 3);
    for (number, snapshot) in snapshots.iter().enumerate() {
        let target = world.path(format!("snapshot-{number}"));
        let _ =
            world.restic(["restore", snapshot["id"].as_str().unwrap(), "--target", target.to_str().unwrap()]).expect(0);
        let files = common::files_below(&target);
        assert_eq!(files.len(), 1, "{files:?}");
        if files[0].ends_with("orders.db") {
            orders::assert_whole(&files[0]);
        } else {
            let original = std::path::Path::new("/").join(files[0].strip_prefix(&target).unwrap());
            assert!(fs::read(&files[0]).unwrap() == fs::read(&original).unwrap(), "{}", original.display());
        }
    }
}

#[test]
fn a_lock_of_restic_is_honoured_and_none_stays_behind() {
    let world = World::new();
    fs::write(world.primary().join("file"), noise(1, 30 << 20)).unwrap();
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    let locks = world.dr().join("repository/locks");
    assert!(common::files_below(&locks).is_empty(), "no lock stays behind");

    // A check takes the exclusive lock; it is stopped while it holds it.
    let mut check = world.restic_command(["check", "--read-data"]).stdout(Stdio::null()).spawn().unwrap();
    let process = rustix::process::Pid::from_child(&check);
    // restic writes the lock under a longer, temporary name first.
    let is_lock = |path: &std::path::PathBuf| path.file_name().is_some_and(|name| name.len() == 64);
    common::wait_until("restic's lock", || common::files_below(&locks).iter().any(is_lock));
    rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
    let output = world.run(["backup", "home"]);
    rustix::process::kill_process(process, rustix::process::Signal::CONT).unwrap();
    let _ = output.expect(5).says(&["lock"]);
    assert!(check.wait().unwrap().success());

    let _ = world.run(["backup", "home"]).expect(0);
    let _ = world.restic(["check"]).expect(0);
}
