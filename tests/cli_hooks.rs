//! Hooks run around a backup and its sources, and what `before` did is undone whatever happens.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use common::World;

/// A system with two sources and one script as every hook: it notes who called it, then does what `script` says.
fn world(script: &str) -> World {
    let world = World::new();
    let hook = world.path("hook.sh");
    let note = world.path("noted");
    let who = "echo \"$LIFEBOAT_HOOK ${LIFEBOAT_SOURCE:-all}\"";
    fs::write(&hook, format!("#!/bin/sh\n{who} >> {}\n{script}\n", note.display())).unwrap();
    fs::set_permissions(&hook, PermissionsExt::from_mode(0o700)).unwrap();
    let hook = hook.display();
    let hooks = format!("hooks = {{ before = [\"{hook}\", \"x\"], after = [\"{hook}\", \"y\"], timeout = \"3s\" }}\n");
    let head = world.policy_head("shop", "{ rpo = \"1h\", rto = \"15m\" }");
    let mut policy = head.replacen("[primary]", &format!("{hooks}[primary]"), 1);
    for source in ["one", "two"] {
        let path = world.primary().join(source);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), source).unwrap();
        let path = path.display();
        policy += &format!("[[source]]\nname = \"{source}\"\nkind = \"files\"\npaths = [\"{path}\"]\n{hooks}");
    }
    world.write_policy("shop", &policy);
    world
}

/// What the hooks noted.
fn noted(world: &World) -> Vec<String> {
    fs::read_to_string(world.path("noted")).unwrap_or_default().lines().map(str::to_owned).collect()
}

const ALL: [&str; 6] = ["before all", "before one", "after one", "before two", "after two", "after all"];

#[test]
fn hooks_run_around_the_backup_and_each_source_with_a_clean_environment() {
    let world = world("env; echo \"$1\"");
    let _ = world.run(["backup", "shop"]).expect(0);
    assert_eq!(noted(&world), ALL);
    let journal = common::files_below(&world.dr().join("runs")).pop().unwrap();
    let journal = fs::read_to_string(journal).unwrap();
    for kept in ["LIFEBOAT_SYSTEM=shop", "LIFEBOAT_SOURCE=two", "LIFEBOAT_RUN=20", "LIFEBOAT_HOOK=after", "PATH=/usr/"]
    {
        assert!(journal.contains(kept), "{kept} in {journal}");
    }
    assert!(!journal.contains("TMPDIR"), "nothing of lifeboat's own environment: {journal}");
}

#[test]
fn a_failed_before_reads_nothing_and_is_undone() {
    let world =
        world("test \"$LIFEBOAT_HOOK ${LIFEBOAT_SOURCE:-all}\" != \"before one\" || { echo no quiet; exit 7; }");
    let told = world.run(["backup", "shop"]).expect(3);
    let _ = told.says(&["one: no recovery point", "hook \"before\" of the source one", "exit code 7", "no quiet"]);
    assert_eq!(noted(&world), ALL);
    assert_eq!(world.points("shop").len(), 1);
}

#[test]
fn a_failed_before_of_the_whole_backup_reads_nothing_at_all() {
    let world = world("test \"$LIFEBOAT_HOOK ${LIFEBOAT_SOURCE:-all}\" != \"before all\"");
    let _ = world.run(["backup", "shop"]).expect(1).says(&["hook \"before\" of the backup", "exit code 1"]);
    assert_eq!(noted(&world), ["before all", "after all"]);
}

#[test]
fn a_failed_after_costs_no_point_and_is_told() {
    let world = world("test \"$LIFEBOAT_HOOK\" = before || exit 8");
    let _ = world.run(["backup", "shop"]).expect(3).says(&["hook \"after\" of the source two", "exit code 8"]);
    assert_eq!(noted(&world), ALL);
    assert_eq!(world.points("shop").len(), 2);
    let _ = world.run(["status", "shop"]).expect(4).says(&["NOT HEALTHY", "hook \"after\" of the backup"]);
}

#[test]
fn a_hook_that_hangs_is_ended() {
    let world = world("test \"$LIFEBOAT_HOOK ${LIFEBOAT_SOURCE:-all}\" != \"before two\" || sleep 60");
    let _ = world.run(["backup", "shop"]).expect(3).says(&["two: no recovery point", "took longer than 3 s"]);
    assert_eq!(noted(&world), ALL);
}

/// Of one source or of the whole: a `before` is undone before the next one, and the last word is `after`.
fn assert_undone(noted: &[String], who: &str, place: u64) {
    let words: Vec<&str> = noted.iter().filter_map(|line| line.strip_suffix(who)).map(str::trim).collect();
    assert!(words.windows(2).all(|pair| pair != ["before", "before"]), "{who}, killed at {place}: {noted:?}");
    assert_eq!(words.last(), Some(&"after"), "{who}, killed at {place}: {noted:?}");
}

/// What was begun last is undone first.
fn assert_nested(noted: &[String], place: u64) {
    let mut open: Vec<&str> = Vec::new();
    for line in noted {
        let (word, who) = line.split_once(' ').unwrap();
        if word == "before" {
            open.push(who);
        } else if open.contains(&who) {
            assert_eq!(open.pop(), Some(who), "killed at {place}: {noted:?}");
        }
    }
    assert_eq!(open, Vec::<&str>::new(), "killed at {place}: {noted:?}");
}

#[test]
fn a_policy_without_hooks_undoes_what_one_with_hooks_began() {
    if !cfg!(debug_assertions) {
        return common::skip("the places exist in debug builds only");
    }
    let mut world = world("true");
    let _ = world.run(["backup", "shop"]).expect(0);
    let policy = fs::read_to_string(world.policies().join("shop.toml")).unwrap();
    let begun = (1..).any(|place| {
        let _ = fs::remove_file(world.path("noted"));
        world.set_variable("LIFEBOAT_KILL_AT", place.to_string());
        let killed = world.command(["backup", "shop"]).output().unwrap().status;
        world.clear_variables();
        assert_eq!(killed.signal(), Some(9), "no place between the hooks of the source one");
        let begun = noted(&world) == ALL[..2];
        if begun {
            let without: String =
                policy.lines().filter(|line| !line.starts_with("hooks")).map(|line| format!("{line}\n")).collect();
            world.write_policy("shop", &without);
        }
        let _ = world.run(["backup", "shop", "--continue"]).expect(0);
        begun
    });
    assert!(begun);
    assert_eq!(noted(&world), ["before all", "before one", "after one", "after all"]);
}

#[test]
fn a_backup_killed_anywhere_is_undone_by_the_next_command() {
    if !cfg!(debug_assertions) {
        return common::skip("the places exist in debug builds only");
    }
    let mut world = world("true");
    let _ = world.run(["backup", "shop"]).expect(0);
    let mut place = 1;
    loop {
        let _ = fs::remove_file(world.path("noted"));
        world.set_variable("LIFEBOAT_KILL_AT", place.to_string());
        let killed = world.command(["backup", "shop"]).output().unwrap().status;
        world.clear_variables();
        if killed.signal() != Some(9) {
            break;
        }
        let before = world.points("shop").len();
        let _ = world.run(["backup", "shop", "--continue"]).expect(0);
        let made = world.points("shop").len() - before;
        assert!(made <= 2, "killed at {place}: {made} more points");
        if !noted(&world).is_empty() {
            ["all", "one", "two"].iter().for_each(|who| assert_undone(&noted(&world), who, place));
            assert_nested(&noted(&world), place);
        }
        place += if common::is_long() { 1 } else { 2 };
    }
    assert!(place > 30, "only {place} places");
}
