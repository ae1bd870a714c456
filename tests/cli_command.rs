//! What a command writes is a source: whole when it ended well, and otherwise nothing.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{Field, World};

/// A system with one source of kind `command` that runs this shell script.
fn world(script: &str, keys: &str) -> World {
    let world = World::new();
    let program = world.path("dump.sh");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
    let head = world.policy_head("shop", "{ rpo = \"1h\", rto = \"15m\" }");
    let program = program.display();
    let source = format!("[[source]]\nname = \"ldap\"\nkind = \"command\"\nrun = [\"{program}\", \"one two\"]\n");
    world.write_policy("shop", &format!("{head}{source}file = \"ldap.ldif\"\n{keys}"));
    world
}

fn restored(world: &World, name: &str) -> Vec<u8> {
    fs::read(world.restore_source("shop", "ldap", name).join("ldap.ldif")).unwrap()
}

#[test]
fn what_it_writes_comes_back_and_the_drill_looks_at_it() {
    let world = world("printf '%s|' \"$1\"; seq 1 200000", "");
    let _ = world.run(["backup", "shop"]).expect(0);
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(restored(&world, "first"), format!("one two|{expected}").into_bytes());
    let second = world.run(["backup", "shop", "--json"]).expect(0).json();
    assert!(second["points"][0].number("added_bytes") < 20_000.0, "nothing of it was new: {second}");
    assert_eq!(world.points("shop")[0]["kind"], "command");
    let drill = world.run(["drill", "shop", "--json"]).expect(0).json();
    assert_eq!(drill["passed"], true);
}

#[test]
fn its_environment_is_clean_and_its_secrets_are_nowhere() {
    let mut world = world(
        "env; echo \"the password is $PGPASSWORD\" >&2; tr '\\0' ' ' < /proc/$$/cmdline >&2",
        "environment = [\"PGPASSWORD=env:SHOP_PASSWORD\"]\n",
    );
    world.set_variable("SHOP_PASSWORD", "hunter2hunter2");
    let output = world.run(["backup", "shop"]).expect(0);
    assert!(output.stderr.contains("the password is ***"), "{}", output.stderr);
    assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
    let seen = String::from_utf8(restored(&world, "seen")).unwrap();
    let mut names: Vec<&str> = seen.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.retain(|name| *name != "PWD" && *name != "_" && *name != "SHLVL" && *name != "OLDPWD");
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LANG", "LIFEBOAT_RUN", "LIFEBOAT_STEP", "PATH", "PGPASSWORD", "TMPDIR"]);
    for file in common::files_below(&world.dr()).into_iter().chain(common::files_below(&world.state())) {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{}", file.display());
    }
}

#[test]
fn one_that_fails_leaves_no_point_and_a_sentence() {
    for (script, keys, words) in [
        ("seq 1 100000; echo no such table >&2; exit 3", "", ["exit code 3", "no such table"]),
        ("seq 1 100000; kill -9 $$", "", ["signal 9", "it wrote no errors"]),
        ("echo begun >&2; sleep 60", "timeout = \"1s\"\n", ["took longer than 1 s", "begun"]),
        // What it leaves behind holds the pipes open.
        ("setsid sleep 61 & echo begun >&2; sleep 60", "timeout = \"1s\"\n", ["took longer than 1 s", "begun"]),
    ] {
        let world = world(script, keys);
        let _ = world.run(["backup", "shop"]).expect(1).says(&words);
        assert_eq!(world.points("shop"), Vec::<serde_json::Value>::new(), "{script}");
        let _ = world.run(["verify", "shop", "--read-data"]).expect(0);
    }
    let world = world("exit 0", "");
    fs::remove_file(world.path("dump.sh")).unwrap();
    let _ = world.run(["backup", "shop"]).expect(1).says(&["dump.sh cannot be started", "No such file"]);
}

#[test]
fn what_it_tells_of_the_repositorys_password_is_masked() {
    let world = world("echo correct horse battery staple >&2; exit 1", "");
    // One that people chose, in place of the random one of other tests.
    fs::write(world.password_file(), "correct horse battery staple\n").unwrap();
    let output = world.run(["backup", "shop"]).expect(1);
    assert!(output.stderr.contains("***") && !output.stderr.contains("battery"), "{}", output.stderr);
    for file in common::files_below(&world.dr()).into_iter().chain(common::files_below(&world.state())) {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"battery"), "{}", file.display());
    }
}

#[test]
fn one_that_writes_nothing_or_leaves_a_daemon_behind_succeeds_with_a_warning() {
    let world = world("setsid sleep 62 >/dev/null & true", "");
    let _ = world.run(["backup", "shop"]).expect(0).says(&["wrote nothing"]);
    assert_eq!(restored(&world, "empty"), b"");
}

#[test]
fn a_source_that_fails_costs_no_other() {
    let world = world("exit 4", "");
    let policy = world.policies().join("shop.toml");
    fs::write(world.primary().join("file"), "content").unwrap();
    let more = format!("[[source]]\nname = \"files\"\nkind = \"files\"\npaths = [\"{}\"]\n", world.primary().display());
    fs::write(&policy, fs::read_to_string(&policy).unwrap() + &more).unwrap();
    let _ = world.run(["backup", "shop"]).expect(3).says(&["exit code 4"]);
    assert_eq!(world.points("shop").len(), 1);
}
