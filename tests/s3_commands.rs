//! The whole program with its DR site in a bucket.
#![cfg(feature = "aws")]

#[path = "common/s3/mod.rs"]
mod bucket_server;
mod common;

use std::fs;
use std::path::Path;

use bucket_server::{ACCESS, Fault, Proxy, Request, SECRET, server};
use common::World;

/// A world whose commands have credentials for the server.
fn world() -> World {
    let mut world = World::new();
    world.set_variable("AWS_ACCESS_KEY_ID", ACCESS);
    world.set_variable("AWS_SECRET_ACCESS_KEY", SECRET);
    world.set_variable("AWS_EC2_METADATA_DISABLED", "true");
    world.set_variable("LIFEBOAT_S3_BUDGET", "20");
    world
}

fn fill(directory: &Path) {
    fs::create_dir_all(directory.join("deep/er")).unwrap();
    for number in 0..40 {
        fs::write(directory.join(format!("deep/er/{number}.txt")), format!("{number} ").repeat(200)).unwrap();
    }
    fs::write(directory.join("top.txt"), "top\n").unwrap();
}

/// `init` for a system in a bucket of its own name.
fn init(world: &World, system: &str, bucket: &str, endpoint: &str) {
    let primary = world.primary();
    let dr = format!("s3://{bucket}/dr/{system}");
    let _ = world
        .run(["init", "--system", system, "--dr", &dr, "--endpoint", endpoint, "--files", primary.to_str().unwrap()])
        .expect(0);
}

fn same(left: &Path, right: &Path) -> bool {
    std::process::Command::new("diff").arg("-r").arg(left).arg(right).status().unwrap().success()
}

#[test]
fn a_system_lives_in_a_bucket_from_its_first_backup_to_a_new_machine() {
    let bucket = "whole-life";
    server().bucket(bucket);
    let world = world();
    fill(&world.primary());
    init(&world, "shop", bucket, &server().endpoint());
    let status = world.run(["status", "shop", "--json"]);
    let all = |output: &common::Output| format!("{}{}", output.stderr, output.text());
    assert!(status.code == Some(4) && !all(&status).contains("cannot"), "{}", all(&status));
    let _ = world.run(["backup", "shop"]).expect(0);
    fs::write(world.primary().join("second.txt"), "second\n").unwrap();
    let _ = world.run(["backup", "shop"]).expect(0);
    let points = world.points("shop");
    assert_eq!(points.len(), 2);
    assert!(points[1]["bytes"].as_u64().unwrap() > 0);
    let listed = world.run(["ls", points[1]["id"].as_str().unwrap()]).expect(0);
    assert!(!listed.text().is_empty());
    let target = world.restore_source("shop", "files", "restored");
    assert!(same(&world.primary(), &target));
    let _ = world.run(["verify", "shop", "--read-data"]).expect(0);
    let drill = world.run(["drill", "shop", "--json"]).expect(0);
    assert!(drill.text().contains(&format!("s3://{bucket}/dr/shop/reports/000001/report.json")), "{}", drill.text());

    let machine = self::world();
    let from = format!("s3://{bucket}/dr/shop");
    let password = format!("file:{}", world.policies().join("shop.password").display());
    let endpoint = server().endpoint();
    let rebuilt =
        machine.run(["rebuild", "--from", &from, "--endpoint", &endpoint, "--repository-password", &password]);
    assert!(rebuilt.expect(0).text().contains("2 recovery points"));
    let target = machine.restore_source("shop", "files", "restored");
    assert!(same(&world.primary(), &target));
    let _ = machine.run(["drill", "shop"]).expect(0);
}

#[test]
fn restic_reads_the_bucket() {
    let bucket = "restic-reads";
    server().bucket(bucket);
    let world = world();
    fill(&world.primary());
    init(&world, "shop", bucket, &server().endpoint());
    let _ = world.run(["backup", "shop"]).expect(0);
    let restic = std::process::Command::new("restic")
        .args(["--no-cache", "--password-file"])
        .arg(world.policies().join("shop.password"))
        .args(["-r", &format!("s3:{}/{bucket}/dr/shop/repository", server().endpoint()), "check", "--read-data"])
        .env("AWS_ACCESS_KEY_ID", ACCESS)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .output()
        .unwrap();
    assert!(restic.status.success(), "{}", String::from_utf8_lossy(&restic.stderr));
}

/// What a host may do that puts and does not read, as docs/s3.md has it.
fn put_only(request: &Request) -> Option<Fault> {
    let key = request.key();
    let Some(inner) = key.split_once("/repository/").map(|(_, inner)| inner) else {
        return (request.method == "DELETE").then_some(Fault::Answer(403, "AccessDenied"));
    };
    let begins = |names: &[&str]| names.iter().any(|name| inner.starts_with(name));
    let allowed = match request.method.as_str() {
        "GET" | "HEAD" => inner == "config" || begins(&["keys/", "index/"]),
        "PUT" => true,
        "DELETE" => begins(&["locks/"]),
        _ => false,
    };
    (!allowed).then_some(Fault::Answer(403, "AccessDenied"))
}

fn reads_of_data(proxy: &Proxy) -> usize {
    let data = |request: &&Request| request.method != "PUT" && request.key().contains("/repository/data/");
    proxy.take_log().iter().filter(data).count()
}

#[test]
fn a_host_that_may_put_and_not_read_makes_incremental_backups_from_its_cache() {
    let bucket = "put-only";
    server().bucket(bucket);
    let proxy = Proxy::start(server().port);
    proxy.rule(put_only);
    let world = world();
    fill(&world.primary());
    init(&world, "shop", bucket, &proxy.endpoint());
    let _ = world.run(["backup", "shop"]).expect(0);
    std::thread::sleep(std::time::Duration::from_millis(2200));
    fs::write(world.primary().join("second.txt"), "second\n").unwrap();
    // An unchanged file that cannot be read any more proves that it is not read.
    let second = world.run(["backup", "shop"]).expect(0);
    assert!(!second.stderr.contains("read again"), "{}", second.stderr);
    let newest = world.points("shop").pop().unwrap();
    assert!(newest["added_bytes"].as_u64().is_none_or(|bytes| bytes < 8_000), "{newest}");
    assert_eq!(reads_of_data(&proxy), 0, "nothing of data was asked for");

    // Without the cache all files are read again, which is said, and the next backup has a cache again.
    fs::remove_dir_all(world.state().join("cache")).unwrap();
    let third = world.run(["backup", "shop"]).expect(0);
    assert!(third.stderr.contains("files are read again"), "{}", third.stderr);
    assert!(third.stderr.contains("s3:GetObject"), "{}", third.stderr);
    assert!(reads_of_data(&proxy) > 0);
    let fourth = world.run(["backup", "shop"]).expect(0);
    assert!(!fourth.stderr.contains("read again"), "{}", fourth.stderr);
    assert_eq!(world.points("shop").len(), 4);
    let locks = server().keys(bucket, "dr/shop/repository/locks/");
    assert_eq!(locks, Vec::<String>::new(), "its own locks it removes");

    // Reading back is refused to it in a sentence, and works for who may.
    let refused = world.run(["restore", "shop", "--to", world.path("refused").to_str().unwrap()]);
    assert!(refused.code != Some(0) && refused.stderr.contains("access denied"), "{}", refused.stderr);
    proxy.rule(|_| None);
    let target = world.restore_source("shop", "files", "restored");
    assert!(same(&world.primary(), &target));
    let _ = world.run(["verify", "shop", "--read-data"]).expect(0);
}

#[test]
fn a_backup_through_a_line_that_breaks_is_whole() {
    let bucket = "broken-line";
    server().bucket(bucket);
    let proxy = Proxy::start(server().port);
    let mut count = 0;
    proxy.rule(move |request| {
        count += 1;
        let faults = [Fault::CutAfter, Fault::Answer(503, "SlowDown"), Fault::CutBefore, Fault::HalfBody];
        (count % 5 == 0 && !request.is_listing()).then(|| faults[count / 5 % 4])
    });
    let world = world();
    fill(&world.primary());
    init(&world, "shop", bucket, &proxy.endpoint());
    let _ = world.run(["backup", "shop"]).expect(0);
    let _ = world.run(["backup", "shop"]).expect(0);
    proxy.rule(|_| None);
    let _ = world.run(["verify", "shop", "--read-data"]).expect(0);
    let _ = world.run(["ledger", "verify", "shop"]).expect(0);
    assert_eq!(world.points("shop").len(), 2);
    assert_eq!(server().keys(bucket, "dr/shop/ledger/").len(), 2);
    let target = world.restore_source("shop", "files", "restored");
    assert!(same(&world.primary(), &target));
}

#[test]
fn what_is_wrong_with_the_bucket_is_said_and_nothing_starts() {
    let world = world();
    fill(&world.primary());
    init(&world, "shop", "no-such-bucket", &server().endpoint());
    let failed = world.run(["backup", "shop"]);
    assert!(failed.code != Some(0) && failed.stderr.contains("there is no bucket no-such-bucket"), "{}", failed.stderr);

    let mut stranger = World::new();
    stranger.set_variable("AWS_ACCESS_KEY_ID", "somebody");
    stranger.set_variable("AWS_SECRET_ACCESS_KEY", "else-and-not-to-be-shown");
    stranger.set_variable("AWS_EC2_METADATA_DISABLED", "true");
    fill(&stranger.primary());
    let bucket = "other-hands";
    server().bucket(bucket);
    init(&stranger, "shop", bucket, &server().endpoint());
    let failed = stranger.run(["backup", "shop"]);
    assert!(failed.code != Some(0) && failed.stderr.contains("does not accept these credentials"), "{}", failed.stderr);
    assert!(!failed.stderr.contains("not-to-be-shown"), "{}", failed.stderr);
    stranger.clear_variables();
    stranger.set_variable("AWS_EC2_METADATA_DISABLED", "true");
    let failed = stranger.run(["backup", "shop"]);
    assert!(failed.code != Some(0) && failed.stderr.contains("no credentials"), "{}", failed.stderr);
    assert_eq!(server().keys(bucket, ""), Vec::<String>::new());
}
