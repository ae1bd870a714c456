//! What two points differ in, through the program; and single files out of a point.

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use common::{Field, World, noise};
use serde_json::Value;

/// Two points: between them one thing of each kind happened.
fn changed_world() -> (World, String, String) {
    let world = World::new();
    let at = |name: &str| world.primary().join(name);
    for directory in ["same/deep", "gone", "kind"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    for (name, content) in [
        ("same/deep/file", &b"same"[..]),
        ("gone/file", b"gone away"),
        ("content", b"old"),
        ("mode", b"mode"),
        ("type", b"a file"),
        ("strange\nname", b""),
    ] {
        fs::write(at(name), content).unwrap();
    }
    symlink("here", at("link")).unwrap();
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    let first = world.newest_point("home", "files");
    fs::remove_dir_all(at("gone")).unwrap();
    fs::create_dir(at("new")).unwrap();
    fs::write(at("new/file"), "quite new").unwrap();
    fs::write(at("content"), "new content").unwrap();
    fs::set_permissions(at("mode"), Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(at("type")).unwrap();
    fs::create_dir(at("type")).unwrap();
    fs::write(at("type/below"), "below").unwrap();
    fs::remove_file(at("link")).unwrap();
    symlink("there", at("link")).unwrap();
    let _ = world.run(["backup", "home"]).expect(0);
    let second = world.newest_point("home", "files");
    assert_ne!(first, second);
    (world, first, second)
}

#[test]
fn each_kind_of_change_is_told_apart() {
    let (world, first, second) = changed_world();
    let primary = world.primary();
    let path = |name: &str| primary.join(name).display().to_string();
    let printed = world.run(["diff", &first, &second]).expect(0).text();
    let (lines, summary) = printed.split_once("\n\n").unwrap();
    let mut lines: Vec<&str> = lines.lines().collect();
    assert!(lines.is_sorted_by_key(|line| line[5..].trim_end_matches('/').replace('/', "\0")), "{lines:#?}");
    lines.retain(|line| !line.starts_with("U    ") || line.ends_with("mode"));
    let wanted = [
        format!("M    {}", path("content")),
        format!("-    {}/", path("gone")),
        format!("-    {}", path("gone/file")),
        format!("M    {}", path("link")),
        format!("U    {}", path("mode")),
        format!("+    {}/", path("new")),
        format!("+    {}", path("new/file")),
        format!("T    {}/", path("type")),
        format!("+    {}", path("type/below")),
    ];
    assert_eq!(lines, wanted);
    let summary: Vec<String> = summary.split_whitespace().map(str::to_owned).collect();
    assert_eq!(summary[..7], ["Files:", "2", "added,", "1", "removed,", "2", "changed"]);
    // new/file, type/below and the content; gone/file, the old content and the file that is a directory now.
    assert_eq!(summary[summary.len() - 6..], ["Added:", "25", "B", "Removed:", "18", "B"]);
}

#[test]
fn the_document_says_the_same_and_either_way_round() {
    let (world, first, second) = changed_world();
    let paths =
        |list: &Value| -> Vec<String> { list.as_array().unwrap().iter().map(|entry| entry.text("path")).collect() };
    let there = world.run(["diff", &first, &second, "--json"]).expect(0).json();
    let back = world.run(["diff", &second, &first, "--json"]).expect(0).json();
    assert_eq!(paths(&there["added"]), paths(&back["removed"]));
    assert_eq!(paths(&there["removed"]), paths(&back["added"]));
    assert_eq!(paths(&there["changed"]), paths(&back["changed"]));
    assert_eq!(there["summary"]["added_bytes"], back["summary"]["removed_bytes"]);
    let changed = there["changed"].as_array().unwrap();
    let of = |name: &str| changed.iter().find(|entry| entry.text("path").ends_with(name)).unwrap();
    assert_eq!(
        (of("/mode").text("what").as_str(), &of("/mode")["attributes"]),
        ("metadata", &serde_json::json!(["mode"]))
    );
    assert_eq!((of("/content").text("what").as_str(), of("/content").number("size")), ("content", 11.0));
    assert_eq!((of("/type").text("what").as_str(), of("/type").text("kind_before").as_str()), ("type", "file"));
    let same = world.run(["diff", &first, &first, "--json"]).expect(0).json();
    assert!(["added", "removed", "changed"].iter().all(|key| same[key].as_array().unwrap().is_empty()), "{same:#}");
}

#[test]
fn a_path_narrows_it_and_what_cannot_be_compared_gets_a_sentence() {
    let (world, first, second) = changed_world();
    let at = |name: &str| world.primary().join(name).display().to_string();
    let diff = |path: &str| world.run(["diff", &first, &second, path]);
    assert!(diff(&at("gone")).expect(0).text().starts_with(&format!(
        "-    {}/\n-    {}\n\n",
        at("gone"),
        at("gone/file")
    )));
    assert!(diff(&at("content")).expect(0).text().starts_with(&format!("M    {}\n\n", at("content"))));
    assert!(diff(&at("same")).expect(0).text().starts_with("\nFiles:"));
    let _ = diff(&at("never")).expect(2).says(&["is in neither of the two"]);
    let _ = world.run(["diff", &first, "files-nothing"]).expect(2).says(&["no recovery point"]);

    let head = world.policy_head("home", "{ rpo = \"1h\" }");
    let source = |name: &str| {
        format!("[[source]]\nname = \"{name}\"\nkind = \"files\"\npaths = [\"{}\"]\n", world.primary().display())
    };
    world.write_policy("home", &format!("{head}{}{}", source("files"), source("twin")));
    let _ = world.run(["backup", "home", "--source", "twin"]).expect(0);
    let twin = world.newest_point("home", "twin");
    let _ = world.run(["diff", &second, &twin]).expect(2).says(&["different sources"]);
}

#[test]
fn restic_sees_the_same_differences() {
    let (world, first, second) = changed_world();
    let points = world.points("home");
    let snapshot = |id: &str| points.iter().find(|point| point["id"] == *id).unwrap().text("snapshot");
    let output = world.restic(["diff", &snapshot(&first), &snapshot(&second)]).expect(0);
    let letters = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.get(1..5) == Some("    ") && line.contains("/primary/"));
        // Here restic is silent: on metadata, to which it counts a link's target, and on what lies below a directory
        // that took a file's place.
        let lines =
            lines.filter(|line| !line.starts_with('U') && !line.ends_with("/link") && !line.contains("/type/b"));
        let mut lines: Vec<String> = lines.map(|line| line.trim_end_matches('/').to_owned()).collect();
        lines.sort();
        lines
    };
    let ours = letters(&world.run(["diff", &first, &second]).expect(0).text());
    assert_eq!(ours, letters(&output.text()));
    assert_eq!(ours.len(), 6);
}

#[test]
fn cat_streams_a_large_file_in_little_memory() {
    let world = World::new();
    let file = world.primary().join("large");
    let length = if common::is_long() { 1 << 30 } else { 128 << 20 };
    fs::write(&file, noise(1, length)).unwrap();
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    let point = world.newest_point("home", "files");
    let mut child = world.command(["cat", &point, file.to_str().unwrap()]).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut wanted = fs::File::open(&file).unwrap();
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut most = 0;
    for _ in 0..length >> 20 {
        use std::io::Read;
        output.read_exact(&mut left).unwrap();
        wanted.read_exact(&mut right).unwrap();
        assert!(left == right, "the bytes differ");
        most = most.max(peak_memory(child.id()));
    }
    assert!(child.wait().unwrap().success());
    assert!(most > 0 && most < 100 << 20, "{most} bytes of memory");
}

/// Peak resident memory of a running process, without the key derivation's share: that ends before the first byte, but
/// the kernel's high-water mark remembers it, so the present size is what is looked at.
fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[test]
fn cat_of_damaged_content_fails_and_says_how_far_it_came() {
    let world = World::new();
    let file = world.primary().join("large");
    fs::write(&file, noise(1, 64 << 20)).unwrap();
    world.write_files_policy("home");
    let _ = world.run(["backup", "home"]).expect(0);
    let point = world.newest_point("home", "files");
    let packs = common::files_below(&world.dr().join("repository/data"));
    let largest = packs.into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    fs::remove_file(largest).unwrap();
    let output = world.run(["cat", &point, file.to_str().unwrap()]).expect(1);
    assert!(output.stdout.len() < 64 << 20);
    assert!(fs::read(&file).unwrap().starts_with(&output.stdout), "what came out is what was saved");
    let said = format!("only {} of the {} bytes", output.stdout.len(), 64 << 20);
    let _ = output.says(&[&said]);
}

#[test]
fn several_paths_are_restored_and_nothing_else() {
    let (world, _, _) = changed_world();
    let primary = world.primary();
    let target = world.path("restored");
    let at = |name: &str| primary.join(name).display().to_string();
    let (same, new, content) = (at("same"), at("new/file"), at("content"));
    let _ = world
        .run([
            "restore",
            "home",
            "--source",
            "files",
            "--path",
            &same,
            "--path",
            &new,
            "--path",
            &content,
            "--to",
            target.to_str().unwrap(),
        ])
        .expect(0);
    let restored: Vec<_> = common::files_below(&target)
        .into_iter()
        .map(|path| path.strip_prefix(&target).unwrap().display().to_string())
        .collect();
    assert_eq!(restored, ["content", "new/file", "same/deep/file"]);
    assert_eq!(fs::read(target.join("content")).unwrap(), b"new content");
}
