//! SIGKILL before and after every entry of a run's journal, one after the other: the next command ends each run whole.
//!
//! The places are counted by the binary itself (`LIFEBOAT_KILL_AT=N`, debug builds only), so that a new step is swept
//! without a change here.

mod common;

use std::collections::HashMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;

use common::{Field, World, noise};

fn system() -> World {
    let world = World::new();
    let base = world.primary();
    for source in ["one", "two"] {
        fs::create_dir(base.join(source)).unwrap();
        fs::write(base.join(source).join("file"), noise(1, 10_000)).unwrap();
    }
    let text = format!(
        "{}[[source]]\nname = \"one\"\nkind = \"files\"\npaths = [\"{base}/one\"]\n\
         [[source]]\nname = \"two\"\nkind = \"files\"\npaths = [\"{base}/two\"]\n\
         [[plan.drill.step]]\nrestore = \"one\"\n[[plan.drill.step]]\nrestore = \"two\"\n\
         [[plan.drill.check]]\nfile = \"one/file\"\n",
        world.policy_head("shop", "{ rpo = \"1h\", rto = \"1h\" }"),
        base = base.display(),
    );
    world.write_policy("shop", &text);
    world
}

/// Runs `command` with a kill at place `number`; false when the command ended before it came there.
fn killed_at(world: &mut World, command: &[&str], number: u64) -> bool {
    world.set_variable("LIFEBOAT_KILL_AT", number.to_string());
    let output = world.command(command).output().unwrap();
    world.clear_variables();
    match output.status.signal() {
        Some(9) => true,
        other => {
            assert_eq!(other, None);
            assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
            false
        }
    }
}

/// Kills `command` at every place and continues it each time; gives how many places there are.
fn sweep(world: &mut World, command: &[&str], after_each: impl Fn(&World)) -> u64 {
    for number in 1.. {
        let killed = killed_at(world, command, number);
        let _ = world.run(command).expect(0);
        after_each(world);
        if !killed {
            return number - 1;
        }
        assert!(number < 1_000, "the sweep does not end");
    }
    unreachable!("the loop returns")
}

fn runs_by_kind(world: &World, kind: &str) -> Vec<String> {
    let mut runs = Vec::new();
    // A kill in the middle of a write leaves its temporary file, which means nothing.
    let entries = common::files_below(&world.dr().join("ledger")).into_iter();
    for path in entries.filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        let entry: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        if entry["kind"] == kind {
            assert_eq!(entry["outcome"], "done", "{entry:#}");
            runs.push(entry.text("run"));
        }
    }
    runs
}

fn assert_no_twin(values: impl Iterator<Item = String>, what: &str) {
    let mut seen: HashMap<String, u32> = HashMap::new();
    for value in values {
        *seen.entry(value).or_default() += 1;
    }
    let twins: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twins.is_empty(), "{what} more than once: {twins:?}");
}

#[test]
fn a_backup_killed_at_every_place_ends_whole() {
    if !cfg!(debug_assertions) {
        return common::skip("the places exist in debug builds only");
    }
    let mut world = system();
    let places = sweep(&mut world, &["backup", "shop"], |world| {
        let _ = world.run(["ledger", "verify", "shop"]).expect(0);
    });
    assert!(places >= 30, "only {places} places");
    assert_no_twin(runs_by_kind(&world, "backup").into_iter(), "a run is in the ledger");
    let points = world.points("shop");
    let pairs = points.iter().map(|point| format!("{} of run {}", point.text("source"), point.text("run")));
    assert_no_twin(pairs, "a source was taken");
    let snapshots = world.restic(["snapshots", "--json"]).expect(0).json();
    let snapshots: Vec<_> = snapshots.as_array().unwrap().iter().map(|snapshot| snapshot["tags"].to_string()).collect();
    assert_eq!(snapshots.len(), points.len(), "as many snapshots as points");
    assert_no_twin(snapshots.into_iter(), "a snapshot was saved");
    let _ = world.run(["verify", "shop", "--read-data"]).expect(0);
}

#[test]
fn a_drill_killed_at_every_place_ends_whole() {
    if !cfg!(debug_assertions) {
        return common::skip("the places exist in debug builds only");
    }
    let mut world = system();
    let _ = world.run(["backup", "shop"]).expect(0);
    let places = sweep(&mut world, &["drill", "shop"], |world| {
        let left = common::files_below(&world.state().join("drills"));
        assert!(left.is_empty(), "the drill left {left:?}");
    });
    assert!(places >= 30, "only {places} places");
    let _ = world.run(["ledger", "verify", "shop"]).expect(0);
    assert_no_twin(runs_by_kind(&world, "drill").into_iter(), "a run is in the ledger");
    let drills = world.run(["drills", "shop", "--json"]).expect(0).list("drills");
    let numbers: Vec<u64> = drills.iter().map(|drill| drill["drill"].as_u64().unwrap()).collect();
    let gap_free: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, gap_free);
    assert!(drills.iter().all(|drill| drill["passed"] == true));
}
