//! Sources of kind `repository`: the snapshots of a repository that restic made get recovery points, retention apart from
//! it, verification and drills, and that repository is never written to.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::{Field, Output, World, noise, tree};
use lifeboat::ground::Secret;
use lifeboat::repository::{KeyStrength, Repository, fuzzing};
use lifeboat::site::local::LocalStore;
use lifeboat::site::{ObjectStore, PutMode};
use serde_json::Value;

const PASSWORD: &str = "an old restic password";

/// A world with an existing repository that restic fills, and a policy whose source `old` is that. Its key is a cheap one:
/// restic's own take half a second at each opening.
fn world(keys: &str) -> World {
    let world = World::new();
    fs::write(password_file(&world), PASSWORD).unwrap();
    let store = Arc::new(LocalStore::new(repository(&world)));
    Repository::create(store, &Secret::new(PASSWORD), KeyStrength::Random).unwrap();
    write_policy(&world, keys, "");
    world
}

/// As [`world`], with a repository that restic made.
fn world_of_restic() -> World {
    let world = World::new();
    fs::write(password_file(&world), PASSWORD).unwrap();
    let _ = restic(&world, &["init"]).expect(0);
    write_policy(&world, "", "");
    world
}

fn repository(world: &World) -> PathBuf {
    world.path("restic-repo")
}

fn password_file(world: &World) -> PathBuf {
    world.path("restic.password")
}

fn write_policy(world: &World, keys: &str, more: &str) {
    let head = world.policy_head("shop", "{ rto = \"15m\" }");
    let (repository, password) = (repository(world), password_file(world));
    let source = format!(
        "[[source]]\nname = \"old\"\nkind = \"repository\"\npath = \"{}\"\npassword = \"file:{}\"\n{keys}",
        repository.display(),
        password.display()
    );
    world.write_policy("shop", &format!("{head}{source}{more}"));
}

fn restic(world: &World, arguments: &[&str]) -> Output {
    Output::of(restic_command(world, arguments))
}

fn restic_command(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new("restic");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", world.path("home"));
    command.env("TMPDIR", world.tmp()).env("TZ", "UTC").arg("--no-cache").arg("--repo").arg(repository(world));
    command.arg("--password-file").arg(password_file(world)).args(arguments).stdin(Stdio::null());
    command.current_dir(world.path(""));
    command
}

/// Backs the primary directory up with restic, dated so; the snapshot's id.
fn snapshot(world: &World, time: &str, more: &[&str]) -> String {
    let primary = world.primary();
    let time = format!("{time} 12:00:00");
    let arguments =
        [&["backup", "--json", "--host", "web1", "--time", &time, primary.to_str().unwrap()], more].concat();
    let said = restic(world, &arguments).expect(0).text();
    let summary: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let short = summary.text("snapshot_id");
    let all: Vec<Value> = serde_json::from_slice(&restic(world, &["snapshots", "--json"]).expect(0).stdout).unwrap();
    all.iter().map(|snapshot| snapshot.text("id")).find(|id| id.starts_with(&short)).unwrap()
}

/// Two snapshots, and copies of what was in them.
fn two_snapshots(world: &World) -> [(String, PathBuf); 2] {
    let primary = world.primary();
    fs::create_dir(primary.join("www")).unwrap();
    fs::write(primary.join("www/index.html"), "first").unwrap();
    fs::write(primary.join("large"), noise(1, 300_000)).unwrap();
    std::os::unix::fs::symlink("large", primary.join("link")).unwrap();
    let first = (snapshot(world, "2026-01-02", &[]), copy(world, "first"));
    fs::write(primary.join("www/index.html"), "second").unwrap();
    fs::write(primary.join("www/new"), noise(2, 200_000)).unwrap();
    [first, (snapshot(world, "2026-01-03", &["--tag", "nightly"]), copy(world, "second"))]
}

fn copy(world: &World, name: &str) -> PathBuf {
    let target = world.path(name);
    assert!(Command::new("cp").arg("-a").arg(world.primary()).arg(&target).status().unwrap().success());
    target
}

fn point_of(snapshot: &str) -> String {
    format!("old-{}", &snapshot[..16])
}

/// Every path below a directory with its mode, times and bytes.
fn photograph(directory: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    let mut seen = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let bytes = if metadata.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        seen.insert(path, (metadata.mode(), metadata.mtime(), metadata.mtime_nsec(), bytes));
    }
    seen
}

fn restored(world: &World, arguments: &[&str], name: &str) -> PathBuf {
    let target = world.path(name);
    let _ = world.run([&["restore", "shop", "--to", target.to_str().unwrap()], arguments].concat()).expect(0);
    target
}

/// The largest pack of data.
fn largest_pack(world: &World) -> PathBuf {
    let packs = common::files_below(&repository(world).join("data"));
    packs.into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap()
}

#[test]
fn snapshots_get_points_where_they_are_and_all_that_points_can_do() {
    let world = world_of_restic();
    let cold = world.path("cold");
    let archive =
        format!("[retention]\narchive = {{ which = \"all\", to = \"directory\", path = \"{}\" }}\n", cold.display());
    write_policy(&world, "", &archive);
    let [(first, first_tree), (second, second_tree)] = two_snapshots(&world);
    let before = photograph(&repository(&world));

    let points = world.run(["backup", "shop", "--json"]).expect(0).list("points");
    let seen: Vec<_> =
        points.iter().map(|point| (point.text("id"), point.text("data_time"), point.text("host"))).collect();
    let expected = [(&first, "2026-01-02T12:00:00Z"), (&second, "2026-01-03T12:00:00Z")];
    let expected = expected.map(|(id, time)| (point_of(id), time.to_owned(), "web1".to_owned()));
    assert_eq!(seen, expected, "oldest first");
    assert_eq!((points[0]["sequence"].as_u64(), points[1]["sequence"].as_u64()), (Some(1), Some(2)));
    assert!(points.iter().all(|point| point.number("added_bytes") == 0.0 && point["kind"] == "repository"));
    assert_eq!(points[0].number("bytes"), 300_005.0);
    assert!(common::files_below(&world.dr().join("repository/data")).is_empty(), "nothing is uploaded");
    assert!(common::files_below(&world.dr().join("repository/snapshots")).is_empty());

    tree::assert_same(&second_tree, &restored(&world, &["--source", "old"], "newest"));
    tree::assert_same(&first_tree, &restored(&world, &["--point", &point_of(&first)], "older"));
    let one = restored(&world, &["--source", "old", "--path", "www/new"], "one");
    assert_eq!(fs::read(one.join("www/new")).unwrap(), noise(2, 200_000));
    let index = world.primary().join("www/index.html");
    let index = index.to_str().unwrap();
    assert_eq!(world.run(["cat", &point_of(&first), index]).expect(0).text(), "first");
    let _ = world.run(["ls", &point_of(&second)[..12]]).expect(0);
    let found = world.run(["find", "shop", "new", "--json"]).expect(0).list("matches");
    assert_eq!(found.iter().map(|found| found.text("point")).collect::<Vec<_>>(), [point_of(&second)]);
    let _ = world.run(["diff", &point_of(&first), &point_of(&second)]).expect(0).says(&["M    ", "+    "]);
    let _ = world.run(["archive", "shop", "--point", &point_of(&first)]).expect(0);
    assert_eq!(common::files_below(&cold).len(), 1);
    let drill = world.run(["drill", "shop", "--json"]).expect(0).json();
    assert_eq!(drill["passed"], true);
    for arguments in [&["verify", "shop"][..], &["verify", "shop", "--read-data"]] {
        let document = world.run([arguments, &["--json"]].concat()).expect(0).json();
        assert_eq!(document["existing"][0]["snapshots"], 2, "{document:#}");
    }
    let _ = world.run(["status", "shop"]).expect(0).says(&[&point_of(&second)]);
    let _ = world.run(["ledger", "verify", "shop"]).expect(0);
    let inside = repository(&world).join("restored");
    let restore = ["restore", "shop", "--to", inside.to_str().unwrap()];
    let _ = world.run(restore).expect(2).says(&["lies inside an existing repository"]);
    assert_eq!(photograph(&repository(&world)), before, "nothing was written into it, not even a lock");
}

#[test]
fn a_backup_again_makes_no_point_twice_and_one_of_what_is_new() {
    let world = world("");
    let _ = world.run(["backup", "shop"]).expect(1).says(&["holds no snapshot", "restic snapshots"]);
    let [(first, _), (second, second_tree)] = two_snapshots(&world);
    let _ = world.run(["backup", "shop"]).expect(0);
    let _ = world.run(["backup", "shop"]).expect(0).says(&["nothing new", "2 snapshots"]);
    assert_eq!(world.points("shop").len(), 2);

    // Another id of the same snapshot, and one that comes late.
    let _ = restic(&world, &["tag", "--add", "kept", &first]).expect(0);
    let _ = world.run(["backup", "shop"]).expect(0).says(&["nothing new"]);
    let _ = world.run(["verify", "shop"]).expect(0);
    fs::write(world.primary().join("www/index.html"), "from before").unwrap();
    let earlier = snapshot(&world, "2025-12-24", &[]);
    let points = world.run(["backup", "shop", "--json"]).expect(0).list("points");
    assert_eq!(points.iter().map(|point| point.text("id")).collect::<Vec<_>>(), [point_of(&earlier)]);
    assert_eq!(points[0]["sequence"], 3);
    tree::assert_same(&second_tree, &restored(&world, &["--source", "old"], "newest"));
    let status = world.run(["status", "shop", "--json"]).expect(0).json();
    assert_eq!(status["systems"][0]["sources"][0]["last_point"], point_of(&second));

    // One that is dated in the future is taken and told of.
    let ahead = snapshot(&world, "2999-01-01", &[]);
    let _ = world.run(["backup", "shop"]).expect(0).says(&["is dated 2999-01-01", &point_of(&ahead)]);
}

#[test]
fn only_the_snapshots_that_are_meant_get_points() {
    let world = world("host = \"web1\"\ntags = [\"nightly\"]\n");
    let [_, (second, _)] = two_snapshots(&world);
    let _ = snapshot(&world, "2026-01-04", &["--tag", "nightly", "--host", "web2"]);
    let points = world.run(["backup", "shop", "--json"]).expect(0).list("points");
    assert_eq!(points.iter().map(|point| point.text("id")).collect::<Vec<_>>(), [point_of(&second)]);
    write_policy(&world, "host = \"db7\"\n", "");
    let _ = world.run(["backup", "shop"]).expect(1).says(&["no snapshot of the host \"db7\""]);
}

#[test]
fn a_relative_backup_restores_what_it_holds() {
    let world = world("");
    fs::create_dir(world.primary().join("www")).unwrap();
    fs::write(world.primary().join("www/index.html"), "relative").unwrap();
    // restic notes the absolute path and stores the relative one.
    let _ = restic(&world, &["backup", "primary"]).expect(0);
    let _ = world.run(["backup", "shop"]).expect(0);
    tree::assert_same(&world.primary(), &restored(&world, &["--source", "old"], "restored"));
    assert_eq!(world.run(["drill", "shop", "--json"]).expect(0).json()["passed"], true);

    let mut command = restic_command(&world, &["backup", "."]);
    command.current_dir(world.primary());
    let _ = Output::of(command).expect(0);
    let _ = world.run(["backup", "shop"]).expect(0);
    let target = restored(&world, &["--source", "old"], "directly");
    assert_eq!(fs::read(target.join("www/index.html")).unwrap(), b"relative");
}

#[test]
fn what_is_missing_or_damaged_there_is_told_and_gets_no_point() {
    let world = world("");
    let _ = two_snapshots(&world);
    let _ = world.run(["backup", "shop"]).expect(0);
    let pack = largest_pack(&world);
    let whole = fs::read(&pack).unwrap();
    fs::set_permissions(&pack, PermissionsExt::from_mode(0o600)).unwrap();

    let mut flipped = whole.clone();
    flipped[1_000] ^= 1;
    fs::write(&pack, &flipped).unwrap();
    let _ = world.run(["verify", "shop"]).expect(0);
    let _ =
        world.run(["verify", "shop", "--read-data"]).expect(1).says(&["damage: old: data/", "large", "restic's own"]);
    let _ = world.run(["status", "shop"]).expect(4).says(&["found damage"]);
    assert_eq!(world.run(["drill", "shop", "--json"]).expect(1).json()["passed"], false);

    fs::remove_file(&pack).unwrap();
    let _ = world.run(["verify", "shop"]).expect(1).says(&["damage: old: data/", "is missing"]);
    // A snapshot that says the same as before in a new directory: what it needs is gone.
    fs::write(world.primary().join("more"), "more").unwrap();
    let third = snapshot(&world, "2026-01-05", &[]);
    let short = &third[..8];
    let _ = world.run(["backup", "shop"]).expect(3).says(&[&format!("the snapshot {short}"), "is not whole", "large"]);
    assert_eq!(world.points("shop").len(), 2);

    fs::write(&pack, &whole).unwrap();
    let _ = world.run(["backup", "shop"]).expect(0);
    assert_eq!(world.points("shop").len(), 3);
    let _ = world.run(["verify", "shop", "--read-data"]).expect(0);
}

#[test]
fn a_point_whose_snapshot_was_forgotten_is_told() {
    let world = world("");
    let [(first, _), (_, second_tree)] = two_snapshots(&world);
    let _ = world.run(["backup", "shop"]).expect(0);
    let _ = restic(&world, &["forget", &first]).expect(0);
    let document =
        world.run(["verify", "shop", "--json"]).expect(3).says(&["forgotten: old", &point_of(&first)]).json();
    assert_eq!(document["forgotten"].as_array().unwrap().len(), 1);
    assert_eq!(document["damage"], Value::Array(Vec::new()));
    let _ = restored(&world, &["--point", &point_of(&first)], "still there");

    let _ = restic(&world, &["prune", "--max-unused", "0"]).expect(0);
    let target = world.path("gone");
    let words = ["is gone", "the existing repository of old", &first[..8], "forgotten and pruned"];
    let restore = ["restore", "shop", "--point", &point_of(&first), "--to", target.to_str().unwrap()];
    let _ = world.run(restore).expect(1).says(&words);
    let found = world.run(["find", "shop", "new"]).expect(3).says(&words[..3]).text();
    assert!(found.contains("www/new"), "{found}");
    tree::assert_same(&second_tree, &restored(&world, &["--source", "old"], "newest"));

    // The source leaves the policy: its points are told of, and cannot be reached.
    fs::write(world.primary().join("file"), "x").unwrap();
    world.write_files_policy("shop");
    let _ = world.run(["verify", "shop"]).expect(3).says(&["no source \"old\" of kind `repository` any more"]);
    let newest = world.newest_point("shop", "old");
    let _ = world.run(["ls", &newest]).expect(2).says(&["put the source back into the policy"]);
}

#[test]
fn the_systems_own_repository_and_the_other_one_are_not_confused() {
    let world = world("");
    let files =
        format!("[[source]]\nname = \"files\"\nkind = \"files\"\npaths = [\"{}\"]\n", world.primary().display());
    write_policy(&world, "", &files);
    let [_, (_, second_tree)] = two_snapshots(&world);
    let _ = world.run(["backup", "shop"]).expect(0);
    assert_eq!(world.points("shop").len(), 3);
    let _ = world.run(["prune", "shop"]).expect(0);
    let _ = world.run(["repair", "shop"]).expect(0);
    let own: Vec<Value> = serde_json::from_slice(&world.restic(["snapshots", "--json"]).expect(0).stdout).unwrap();
    assert_eq!(own.len(), 1, "the other one's snapshots are not written here");
    let both = restored(&world, &[], "both");
    tree::assert_same(&second_tree, &both.join("old"));
    tree::assert_same(&world.primary(), &both.join("files"));

    // A new machine has the DR site, the passwords, and reaches the existing repository under its path.
    let points = world.points("shop");
    fs::remove_dir_all(world.state()).unwrap();
    fs::remove_dir_all(world.policies()).unwrap();
    let _ = world.run(["rebuild", "--from", world.dr().to_str().unwrap()]).expect(0);
    assert_eq!(world.points("shop"), points);
    tree::assert_same(&second_tree, &restored(&world, &["--source", "old"], "on a new machine"));
    assert_eq!(world.run(["drill", "shop", "--json"]).expect(0).json()["passed"], true);

    // Without the other one, the rest comes back, and what is not there is said.
    fs::rename(repository(&world), world.path("elsewhere")).unwrap();
    let target = world.path("in part");
    let restore = ["restore", "shop", "--to", target.to_str().unwrap()];
    let _ = world.run(restore).expect(3).says(&["old is not restored", "no directory that can be reached"]);
    tree::assert_same(&world.primary(), &target.join("files"));
    let _ = world.run(["verify", "shop"]).expect(1).says(&["damage: the existing repository of old"]);
    assert_eq!(world.run(["drill", "shop", "--json"]).expect(1).json()["passed"], false);
}

#[test]
fn what_is_no_repository_or_does_not_open_gets_a_sentence() {
    let world = world("");
    let [(first, _), _] = two_snapshots(&world);
    let _ = world.run(["backup", "shop"]).expect(0);
    let files =
        format!("[[source]]\nname = \"files\"\nkind = \"files\"\npaths = [\"{}\"]\n", world.primary().display());
    let ls = ["ls", &point_of(&first)];

    fs::write(password_file(&world), "hunter2hunter2\n").unwrap();
    let words = ["existing repository of old", "password does not open", "takes its password from file:"];
    let _ = world.run(["backup", "shop"]).expect(1).says(&words);
    let _ = world.run(ls).expect(2).says(&words);
    let target = world.path("nowhere");
    let _ = world.run(["restore", "shop", "--source", "old", "--to", target.to_str().unwrap()]).expect(2).says(&words);
    let _ = world.run(["verify", "shop"]).expect(1).says(&words[..2]);
    write_policy(&world, "", &files);
    let _ = world.run(["backup", "shop"]).expect(3).says(&words);
    fs::remove_file(password_file(&world)).unwrap();
    let _ = world.run(["backup", "shop"]).expect(3).says(&["cannot read the secret in the file"]);
    fs::write(password_file(&world), PASSWORD).unwrap();

    let config = repository(&world).join("config");
    let moved = world.path("config");
    fs::rename(&config, &moved).unwrap();
    let _ = world.run(["backup", "shop"]).expect(3).says(&["there is no repository in", "holds `config`"]);
    let _ = world.run(ls).expect(2).says(&["there is no repository in"]);
    fs::rename(&moved, &config).unwrap();
    let _ = world.run(ls).expect(0);

    // As a later program would make it.
    let store = LocalStore::new(repository(&world));
    let opened = Repository::open(Arc::new(store.clone()), &Secret::new(PASSWORD)).unwrap();
    let plain = String::from_utf8(fuzzing::open(&opened, store.get("config").unwrap()).unwrap()).unwrap();
    let newer = plain.replace("\"version\":2", "\"version\":3").replace("\"version\":1", "\"version\":3");
    store.put("config", &fuzzing::seal(&opened, newer.as_bytes()).unwrap(), PutMode::Replace).unwrap();
    let words = ["existing repository of old", "format version 3"];
    let _ = world.run(["backup", "shop"]).expect(3).says(&words);
    let _ = world.run(ls).expect(2).says(&words);

    // lifeboat's own repository under another name is told by its id.
    fs::remove_dir_all(repository(&world)).unwrap();
    std::os::unix::fs::symlink(world.dr().join("repository"), repository(&world)).unwrap();
    fs::copy(world.password_file(), password_file(&world)).unwrap();
    let _ = world.run(["backup", "shop"]).expect(3).says(&["is this system's own repository"]);

    for file in common::files_below(&world.dr()).into_iter().chain(common::files_below(&world.state())) {
        let bytes = fs::read(&file).unwrap();
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!holds("hunter2") && !holds(PASSWORD), "{}", file.display());
    }
}

#[test]
fn it_may_lie_within_what_a_drill_hides_and_be_mounted_by_hooks() {
    let world = world("");
    let [(first, _), _] = two_snapshots(&world);
    let (inside, away) = (world.primary().join("restic-repo"), world.path("unmounted"));
    fs::rename(repository(&world), &away).unwrap();
    fs::write(world.primary().join("only-here"), "x").unwrap();
    let (primary, inside, away) = (world.primary(), inside.to_str().unwrap(), away.to_str().unwrap());
    let move_hooks = format!(
        "hooks = {{ before = [\"mv\", \"{away}\", \"{inside}\"], after = [\"mv\", \"{inside}\", \"{away}\"] }}\n"
    );
    let files = format!(
        "[[source]]\nname = \"files\"\nkind = \"files\"\npaths = [\"{0}\"]\nexclude = [\"{inside}\"]\n\
         [[plan.drill.step]]\nrestore = \"old\"\n\
         [[plan.drill.check]]\ncommand = \"test -f old/large && ! test -e {0}/only-here\"\n",
        primary.display()
    );
    write_policy(&world, &move_hooks, &files);
    let policy = world.policies().join("shop.toml");
    let text = fs::read_to_string(&policy).unwrap().replace(repository(&world).to_str().unwrap(), inside);
    fs::write(&policy, &text).unwrap();
    let points = world.run(["backup", "shop", "--json"]).expect(0).list("points");
    assert_eq!(points.len(), 3);
    let _ = world.run(["ls", &point_of(&first)]).expect(2).says(&["no directory that can be reached"]);
    fs::rename(away, inside).unwrap();
    let drill = world.run(["drill", "shop", "--json"]).expect(0).json();
    assert_eq!(drill["passed"], true);
}

#[test]
fn one_that_may_only_be_read_is_enough() {
    if !common::is_root() {
        return common::skip("needs root, to become another user");
    }
    let mut world = world("");
    fs::write(world.primary().join("file"), noise(3, 50_000)).unwrap();
    let user = 65_534;
    for path in [world.primary(), world.primary().join("file")] {
        std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    }
    let _ = snapshot(&world, "2026-01-02", &[]);
    world.hand_over(user);
    let shell = "chown -R 0:0 restic-repo && chmod -R a+rX,a-w restic-repo";
    assert!(Command::new("sh").args(["-c", shell]).current_dir(world.path("")).status().unwrap().success());
    let before = photograph(&repository(&world));
    let _ = world.run(["backup", "shop"]).expect(0);
    tree::assert_same(&world.primary(), &restored(&world, &["--source", "old"], "restored"));
    let _ = world.run(["verify", "shop", "--read-data"]).expect(0);
    assert_eq!(world.run(["drill", "shop", "--json"]).expect(0).json()["passed"], true);
    assert_eq!(photograph(&repository(&world)), before);
}

#[test]
fn a_backup_killed_at_every_place_makes_each_point_once() {
    if !cfg!(debug_assertions) {
        return common::skip("the places exist in debug builds only");
    }
    // Made by lifeboat, with keys that cost no time: a repository of restic's format is one whoever wrote it.
    let other = World::new();
    fs::write(other.password_file(), "0123456789abcdef".repeat(4)).unwrap();
    other.write_files_policy("other");
    for round in 0..2 {
        fs::write(other.primary().join("file"), noise(round, 10_000)).unwrap();
        let _ = other.run(["backup", "other"]).expect(0);
    }
    let mut world = World::new();
    fs::copy(other.password_file(), world.password_file()).unwrap();
    fs::copy(other.password_file(), password_file(&world)).unwrap();
    fs::rename(other.dr().join("repository"), repository(&world)).unwrap();
    write_policy(&world, "", "");
    let before = photograph(&repository(&world));
    let mut places = 0;
    for number in 1.. {
        for directory in [world.dr(), world.state()] {
            let _ = fs::remove_dir_all(directory);
        }
        world.set_variable("LIFEBOAT_KILL_AT", number.to_string());
        let killed = world.command(["backup", "shop"]).output().unwrap().status.signal() == Some(9);
        world.clear_variables();
        let _ = world.run(["backup", "shop"]).expect(0);
        let points = world.points("shop");
        let mut sequences: Vec<_> = points.iter().map(|point| point["sequence"].as_u64().unwrap()).collect();
        sequences.sort_unstable();
        assert_eq!(sequences, [1, 2], "killed at place {number}");
        let _ = world.run(["ledger", "verify", "shop"]).expect(0);
        let _ = world.run(["verify", "shop"]).expect(0);
        if !killed {
            break;
        }
        places = number;
    }
    assert!(places >= 10, "only {places} places");
    assert_eq!(photograph(&repository(&world)), before);
}
