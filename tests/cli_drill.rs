//! Drills through the program: numbers against what really happened, failures that stay failures, evidence that holds.

#![allow(clippy::disallowed_methods, reason = "the test compares with the machine's clock")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Field, Output, World, orders};
use jiff::Timestamp;
use serde_json::Value;

/// A shop with files and orders, backed up once while orders come in; `more` is the end of its policy.
fn shop(objectives: &str, more: &str) -> World {
    let world = World::new();
    let primary = world.primary();
    fs::create_dir(primary.join("tree")).unwrap();
    fs::write(primary.join("tree/canary-of-the-drill"), "alive").unwrap();
    orders::make(&primary.join("orders.db"));
    let text = format!(
        "{}[[source]]\nname = \"files\"\nkind = \"files\"\npaths = [\"{base}/tree\"]\n\
         [[source]]\nname = \"orders\"\nkind = \"sqlite\"\npath = \"{base}/orders.db\"\n\
         beacon = {{ sql = \"select max(at) from orders\" }}\n{more}",
        world.policy_head("shop", objectives),
        base = primary.display(),
    );
    world.write_policy("shop", &text);
    world.write_script("start.sh", "#!/bin/sh\nset -eu\ncat files/canary-of-the-drill > started\n");
    let writer = orders::Writer::start(&primary.join("orders.db"));
    let _ = world.run(["backup", "shop"]).expect(0);
    writer.stop();
    world
}

const ORDERS_ALONE: &str = "[[plan.drill.step]]\nrestore = \"orders\"\n\
    [[plan.drill.check]]\nsql = \"select count(*) from orders\"\non = \"orders\"\nexpect = \"> 0\"\n";
const EVERYTHING: &str = "[[plan.drill.step]]\nname = \"f\"\nrestore = \"files\"\n\
    [[plan.drill.step]]\nname = \"o\"\nrestore = \"orders\"\n\
    [[plan.drill.step]]\nname = \"s\"\nscript = \"start.sh\"\nafter = [\"f\", \"o\"]\n\
    [[plan.drill.check]]\nsql = \"select sum(balance) from accounts\"\non = \"orders\"\nexpect = \"1000\"\n\
    [[plan.drill.check]]\nfile = \"started\"\n";
const HOUR: &str = "{ rpo = \"1h\", rto = \"15m\" }";

fn drill(world: &World, code: i32) -> Value {
    world.run(["drill", "shop", "--json"]).expect(code).json()
}

fn report_of(drill: &Value) -> Value {
    assert!(Path::new(&drill.text("report_html")).is_file());
    serde_json::from_slice(&fs::read(drill.text("report")).unwrap()).unwrap()
}

#[test]
fn the_rpo_is_the_true_loss() {
    let world = shop(HOUR, ORDERS_ALONE);
    std::thread::sleep(Duration::from_millis(1500));
    let before = Timestamp::now();
    let drilled = drill(&world, 0);
    let after = Timestamp::now();
    assert_eq!(drilled["passed"], true);

    let restored = world.restore_source("shop", "orders", "restored");
    let database = common::files_below(&restored).into_iter().find(|path| path.ends_with("orders.db")).unwrap();
    orders::assert_whole(&database);
    let newest = orders::newest(&database);
    let loss = |incident: Timestamp| incident.duration_since(newest).as_secs_f64();
    let rpo = drilled.number("rpo_seconds");
    assert!(rpo >= 1.5, "{rpo}: nothing was written for 1.5 s before the incident");
    assert!(
        (loss(before) - 0.01..=loss(after) + 0.01).contains(&rpo),
        "{rpo} not in {}..{}",
        loss(before),
        loss(after)
    );
    let source = &report_of(&drilled)["sources"][0];
    assert_eq!(source.text("method"), "beacon");
}

#[test]
fn the_rto_contains_a_check_of_known_length() {
    let world = shop(HOUR, "[[plan.drill.step]]\nrestore = \"files\"\n[[plan.drill.check]]\ncommand = \"sleep 2\"\n");
    let begin = Instant::now();
    let drilled = drill(&world, 0);
    let whole = begin.elapsed().as_secs_f64();
    let rto = drilled.number("rto_seconds");
    assert!(rto >= 2.0 && rto <= whole, "{rto} s in a drill of {whole} s");
}

#[test]
fn a_passing_drill_tests_everything_and_leaves_nothing() {
    let world = shop(HOUR, EVERYTHING);
    let drilled = drill(&world, 0);
    let report = report_of(&drilled);
    assert_eq!(report["passed"], true);
    assert_eq!(report["clean_up"]["left"], Value::Array(vec![]));
    let canaries: Vec<PathBuf> =
        common::files_below(&world.path("")).into_iter().filter(|path| path.ends_with("canary-of-the-drill")).collect();
    assert_eq!(canaries, [world.primary().join("tree/canary-of-the-drill")]);

    let number = drilled["drill"].to_string().trim_matches('"').to_owned();
    let drills = world.run(["drills", "shop", "--json"]).expect(0).list("drills");
    assert_eq!(drills.len(), 1);
    assert_eq!(drills[0]["drill"], drilled["drill"]);
    let told = world.run(["report", &number, "--format", "json"]).expect(0).json();
    assert_eq!(told["rpo_seconds"], drilled["rpo_seconds"]);
    let html = world.run(["report", &number, "--format", "html"]).expect(0).text();
    assert!(html.contains("<html") && html.contains("shop"));
    for outside in ["src=\"http", "href=\"http", "url(http", "<script src", "@import"] {
        assert!(!html.contains(outside), "the page is self-contained: {outside}");
    }
    let _ = world.run(["report", "999"]).expect(2);
}

#[test]
fn a_failing_check_fails_the_drill_and_stays_on_record() {
    let more = EVERYTHING.replace("expect = \"1000\"", "expect = \"1001\"");
    let world = shop(HOUR, &more);
    let drilled = drill(&world, 1);
    assert_eq!(drilled["passed"], false);
    let report = report_of(&drilled);
    let check = report["checks"].as_array().unwrap().iter().find(|check| check["kind"] == "sql").unwrap().clone();
    assert_eq!(check["passed"], false);
    assert!(check.to_string().contains("1001") && check.to_string().contains("1000"), "expected and actual: {check:#}");
    assert_eq!(world.run(["drills", "shop", "--json"]).expect(0).list("drills").len(), 1);
}

#[test]
fn a_broken_script_and_an_unrestorable_plan_fail_the_drill() {
    let world = shop(HOUR, EVERYTHING);
    world.write_script("start.sh", "#!/bin/sh\necho the server does not start >&2\nexit 7\n");
    let _ = world.run(["backup", "shop"]).expect(0);
    let drilled = drill(&world, 1);
    assert_eq!(drilled["passed"], false);
    let report = report_of(&drilled).to_string();
    assert!(report.contains("the server does not start"), "{report}");
}

#[test]
fn a_missed_objective_is_told_apart_from_a_failure() {
    let more = format!("{ORDERS_ALONE}[[plan.drill.check]]\ncommand = \"sleep 2\"\n");
    let world = shop("{ rpo = \"1h\", rto = \"1s\" }", &more);
    let drilled = drill(&world, 4);
    assert_eq!(drilled["passed"], true);
    assert!(drilled.number("rto_seconds") > 1.0);

    let world = shop("{ rpo = \"1s\", rto = \"15m\" }", ORDERS_ALONE);
    std::thread::sleep(Duration::from_millis(1200));
    assert!(drill(&world, 4).number("rpo_seconds") > 1.0);
}

#[test]
fn a_drill_runs_dark_or_says_that_this_is_not_proven() {
    let world = shop(HOUR, EVERYTHING);
    let probe = format!(
        "#!/bin/sh\nif test -e '{}/tree/canary-of-the-drill'; then exit 9; fi\n: > started\n",
        world.primary().display()
    );
    world.write_script("start.sh", &probe);
    let _ = world.run(["backup", "shop"]).expect(0);
    let output = world.run(["drill", "shop", "--json"]);
    let isolation = report_of(&output.json())["isolation"].clone();
    if isolation["proven"] == true {
        assert_eq!(output.code, Some(0), "the script did not see the primary: {output:?}");
    } else {
        common::skip(&format!("no isolation on this machine: {isolation}"));
        assert!(!isolation["not_proven"].as_array().unwrap().is_empty());
    }
}

#[test]
fn a_dry_run_of_a_drill_does_nothing() {
    let world = shop(HOUR, EVERYTHING);
    let _ = world.run(["drill", "shop", "--dry-run"]).expect(0).says(&["start.sh"]);
    assert!(world.run(["drills", "shop", "--json"]).expect(0).list("drills").is_empty());
}

/// The second program, built on demand: it belongs to another package.
fn verifier() -> PathBuf {
    let directory = Path::new(env!("CARGO_BIN_EXE_lifeboat")).parent().unwrap();
    let target = directory.parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--locked", "--offline"]);
    build.args(["--package", "lifeboat-verify", "--target-dir"]).arg(target);
    if directory.ends_with("release") {
        build.arg("--release");
    }
    let _ = Output::of(build).expect(0);
    directory.join("lifeboat-verify")
}

#[test]
fn the_second_program_agrees_and_notices_an_altered_report() {
    let world = shop(HOUR, EVERYTHING);
    let drilled = drill(&world, 0);
    let verify = |report: &Path| {
        let mut command = Command::new(verifier());
        command.arg(report).arg("--ledger").arg(world.dr().join("ledger"));
        Output::of(command)
    };
    let path = PathBuf::from(drilled.text("report"));
    let _ = verify(&path).expect(0);

    let mut report = report_of(&drilled);
    report["rpo_seconds"] = Value::from(0.001);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&path, serde_json::to_vec_pretty(&report).unwrap()).unwrap();
    let _ = verify(&path).expect(1);
}
