//! Several programs and several hosts on one repository.

mod common;

use std::fs;
use std::process::Stdio;

use common::{World, files_below, noise, wait_until};

fn world() -> World {
    let world = World::new();
    world.write_files_policy("shop");
    fs::write(world.primary().join("file"), noise(1, 100_000)).unwrap();
    world
}

#[test]
fn a_crash_blocks_nobody_and_restic_is_waited_for() {
    let mut world = world();
    let _ = world.run(["backup", "shop"]).expect(0);
    let locks = world.dr().join("repository/locks");
    fs::write(world.primary().join("file"), noise(2, 100_000)).unwrap();
    world.set_variable("LIFEBOAT_KILL_AT", "12");
    assert!(world.command(["backup", "shop"]).output().unwrap().status.code().is_none());
    world.clear_variables();
    assert_eq!(files_below(&locks).len(), 1, "the killed backup left its lock");
    let _ = world.run(["repair", "shop"]).expect(0);
    assert!(files_below(&locks).is_empty(), "an exclusive lock was to be had at once");
    let mut restic = world.restic_command(["backup", "--stdin"]);
    let mut restic = restic.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("restic's lock", || !files_below(&locks).is_empty());
    let refused = world.command(["prune", "shop"]).output().unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(5), "{told}");
    assert!(told.contains("another program is using the repository"), "{told}");
    let _ = world.run(["backup", "shop"]).expect(0);
    restic.kill().unwrap();
    restic.wait().unwrap();
    let _ = world.run(["prune", "shop"]).expect(0);
    let _ = world.restic(["check"]).expect(0);
}

#[test]
fn several_hosts_write_to_one_repository_at_once() {
    let world = world();
    let hosts: Vec<_> = (0..4)
        .map(|host| {
            let mut command = world.bare_command();
            command.arg("--policies").arg(world.policies()).arg("--state").arg(world.path(format!("state{host}")));
            command.args(["backup", "shop"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for host in hosts {
        let output = host.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let points = world.points("shop");
    assert_eq!(points.len(), 4);
    for point in points {
        let id = point["id"].as_str().unwrap();
        let target = world.path(id);
        let _ = world.run(["restore", "shop", "--point", id, "--to", target.to_str().unwrap()]).expect(0);
        assert!(files_below(&target).iter().any(|file| fs::read(file).unwrap() == noise(1, 100_000)));
    }
    let _ = world.restic(["check", "--read-data"]).expect(0);
    let _ = world.run(["ledger", "verify", "shop"]).expect(0);
}
