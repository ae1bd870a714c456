//! The first thing a newcomer runs.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Field, Output, World};
use serde_json::Value;

fn quickstart(world: &World, directory: &Path, more: &[&str]) -> Output {
    let mut command = world.bare_command();
    command.arg("quickstart").arg(directory).args(more);
    Output::of(command)
}

fn assert_paths(document: &Value) {
    let paths = ["policy", "dr", "repository", "repository_password_file", "drill_report", "drill_report_html"];
    for key in paths.into_iter().chain(["policies", "state"]) {
        let path = document.text(key);
        assert!(Path::new(&path).is_absolute() && Path::new(&path).exists(), "{key}: {path}");
    }
}

#[test]
fn it_backs_up_archives_drills_and_continues() {
    let world = World::new();
    let directory = world.path("demo [1]");
    let document = quickstart(&world, &directory, &["--json"]).expect(0).json();
    assert_paths(&document);
    assert_eq!(document["passed"], true);
    assert!(document.number("rpo_seconds") >= 0.0 && document.number("rto_seconds") > 0.0);
    let points = document["points"].as_array().unwrap();
    assert_eq!(points.len(), 10, "five sources, a PostgreSQL cluster among them, two backups");
    assert!(points.iter().all(|point| point["state"] == "complete"), "{points:#?}");
    let archive = &document["archives"][0];
    let file = archive.text("location");
    assert!(file.starts_with(directory.join("cold").to_str().unwrap()));
    assert_eq!(fs::metadata(&file).unwrap().len(), archive["bytes"].as_u64().unwrap());
    let password = document.text("repository_password_file");
    assert_eq!(fs::metadata(&password).unwrap().permissions().mode() & 0o777, 0o600);

    fs::copy(&password, world.password_file()).unwrap();
    std::os::unix::fs::symlink(document.text("dr"), world.dr()).unwrap();
    let _ = world.restic(["check", "--read-data"]).expect(0);

    let again = quickstart(&world, &directory, &["--json"]).expect(0).json();
    assert_eq!(again["points"].as_array().unwrap().len(), 15);
    assert_ne!(again["drill"], document["drill"]);
    assert_paths(&again);
}

#[test]
fn it_tells_people_what_happened_and_three_commands() {
    let world = World::new();
    let output = quickstart(&world, &world.path("demo"), &[]).expect(0).says(&["RPO", "RTO", "passed"]);
    let text = output.text();
    let commands: Vec<&str> = text.lines().skip_while(|line| *line != "Try next:").skip(1).collect();
    assert_eq!(commands.len(), 3, "{text}");
    for command in commands {
        let mut shell = std::process::Command::new("sh");
        shell.arg("-c").arg(command).env("HOME", world.path("home"));
        let _ = Output::of(shell).expect(0);
    }
    assert!(!output.stderr.contains('\r') && !output.stderr.contains('\x1b'), "no progress bars without a terminal");
}

#[test]
fn somebody_elses_directory_is_refused() {
    let world = World::new();
    let directory = world.path("mine");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("thesis"), "precious").unwrap();
    let _ = quickstart(&world, &directory, &[]).expect(2).says(&["not empty"]);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
}

#[test]
fn a_killed_one_is_completed_by_the_next() {
    let world = World::new();
    let directory = world.path("demo");
    for milliseconds in [60, 400, 1500] {
        let mut command = world.bare_command();
        let mut child =
            command.arg("quickstart").arg(&directory).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(milliseconds) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        child.wait().unwrap();
    }
    // A command that the killed one had started may still be at work; it says so and is waited for.
    common::wait_until("a quickstart after the killed ones", || {
        let output = quickstart(&world, &directory, &["--json"]);
        assert!(matches!(output.code, Some(0 | 5)), "{output:?}");
        output.code == Some(0)
    });
}
