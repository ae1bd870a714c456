//! Layout, selection and the state of the target before the restore.

use super::*;
use crate::ground::FailureKind;

fn two_files(fake: &mut Fake) -> Vec<Node> {
    let deep = fake.file("deep.txt", &[b"deep"]);
    let other = fake.file("other.txt", &[b"other"]);
    let inner = fake.directory("inner", vec![deep, other]);
    vec![fake.directory("a", vec![inner]), fake.file("top.txt", &[b"top"])]
}

#[test]
fn the_contents_of_a_single_root_come_directly_into_the_target_with_its_attributes() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let nodes = two_files(&mut fake);
    let request = fake.shop(nodes.clone());
    let summary = run(&fake, &request, &sandbox.target()).unwrap();
    assert_eq!(summary.missing, Vec::new());
    assert_exact(&fake, &sandbox.target(), &nodes);
    assert_eq!((summary.entries, summary.bytes), (6, 12));
    assert_eq!(look(&sandbox.target()), expected(&fake, &fake.directory_named("shop")));
}

impl Fake {
    fn directory_named(&self, name: &str) -> Node {
        self.trees.values().flatten().find(|node| node.name == name.as_bytes()).unwrap().clone()
    }
}

#[test]
fn a_single_file_comes_under_its_own_name() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let image = fake.file("disk.img", &[b"bytes"]);
    let srv = fake.directory("srv", vec![image]);
    let tree = fake.tree(vec![srv]);
    let summary = run(&fake, &request(tree, &["/srv/disk.img"]), &sandbox.target()).unwrap();
    assert_eq!(fs::read(sandbox.target().join("disk.img")).unwrap(), b"bytes");
    assert_eq!(summary.entries, 1);
}

#[test]
fn several_roots_come_under_their_absolute_paths_and_parents_keep_their_attributes() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let files = vec![fake.file("one", &[b"1"])];
    let shop = fake.directory("shop", files);
    let srv = Node { mode: 0o711, ..fake.directory("srv", vec![shop]) };
    let passwd = fake.file("passwd", &[b"2"]);
    let etc = fake.directory("etc", vec![passwd]);
    let nodes = vec![etc, srv];
    let tree = fake.tree(nodes.clone());
    run(&fake, &request(tree, &["/etc/passwd", "/srv/shop"]), &sandbox.target()).unwrap();
    assert_exact(&fake, &sandbox.target(), &nodes);
}

#[test]
fn a_root_of_slash_is_the_tree_itself() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let nodes = two_files(&mut fake);
    let tree = fake.tree(nodes.clone());
    run(&fake, &request(tree, &["/"]), &sandbox.target()).unwrap();
    assert_exact(&fake, &sandbox.target(), &nodes);
}

fn restored_with(only: &[&str]) -> Result<Vec<String>, Failure> {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let nodes = two_files(&mut fake);
    let only = only.iter().map(PathBuf::from).collect();
    let request = RestoreRequest { only, ..fake.shop(nodes) };
    let result = run(&fake, &request, &sandbox.target());
    if result.is_err() {
        assert!(!sandbox.target().exists(), "a refused request leaves nothing");
    }
    result?;
    let output =
        Command::new("find").arg(sandbox.target()).args(["-mindepth", "1", "-printf", "%P\n"]).output().unwrap();
    let mut lines: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

#[test]
fn a_selection_keeps_its_relative_position() {
    let deep = ["a", "a/inner", "a/inner/deep.txt"];
    assert_eq!(restored_with(&["a/inner/deep.txt"]).unwrap(), deep);
    assert_eq!(restored_with(&["/srv/shop/a/inner/deep.txt"]).unwrap(), deep);
    assert_eq!(restored_with(&["./a//inner/deep.txt"]).unwrap(), deep);
    let whole = ["a", "a/inner", "a/inner/deep.txt", "a/inner/other.txt"];
    assert_eq!(restored_with(&["a", "a/inner/deep.txt"]).unwrap(), whole);
    assert_eq!(restored_with(&["a/inner/deep.txt", "a/inner/other.txt"]).unwrap(), whole);
    assert_eq!(restored_with(&["top.txt"]).unwrap(), ["top.txt"]);
    assert_eq!(restored_with(&["/srv"]).unwrap().len(), 5);
    assert_eq!(restored_with(&["/srv/shop"]).unwrap().len(), 5);
}

#[test]
fn what_names_nothing_is_wrong_input_and_nothing_is_written() {
    for nothing in ["a/missing", "/etc/passwd", "top.txt/below", "a/../top.txt", "/srv/shop2"] {
        let failure = restored_with(&["top.txt", nothing]).unwrap_err();
        assert_eq!(failure.kind, FailureKind::WrongInput, "{nothing}");
        assert!(failure.message.contains(nothing), "{}", failure.message);
    }
}

#[test]
fn a_used_target_is_refused_and_an_empty_one_is_taken() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let nodes = two_files(&mut fake);
    let request = fake.shop(nodes.clone());
    fs::create_dir(sandbox.target()).unwrap();
    fs::write(sandbox.target().join("mine"), "mine").unwrap();
    let failure = run(&fake, &request, &sandbox.target()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::WrongInput);
    assert!(failure.hints[0].contains("--overwrite"));
    assert_eq!(fs::read_dir(sandbox.target()).unwrap().count(), 1);
    fs::remove_file(sandbox.target().join("mine")).unwrap();
    run(&fake, &request, &sandbox.target()).unwrap();
    assert_exact(&fake, &sandbox.target(), &nodes);
}

#[test]
fn a_fresh_file_system_is_empty_and_a_target_may_be_reached_through_a_link() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let saved = fake.directory("lost+found", Vec::new());
    let nodes = vec![fake.file("file", &[b"x"]), saved];
    let request = fake.shop(nodes.clone());
    fs::create_dir_all(sandbox.path().join("disk/lost+found")).unwrap();
    std::os::unix::fs::symlink("disk", sandbox.target()).unwrap();
    assert_eq!(run(&fake, &request, &sandbox.target()).unwrap().missing, Vec::new());
    assert_exact(&fake, &sandbox.path().join("disk"), &nodes);
}

#[test]
fn a_target_that_is_no_directory_is_wrong_input() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let request = RestoreRequest { overwrite: true, ..fake.shop(Vec::new()) };
    fs::write(sandbox.target(), "a file").unwrap();
    assert_eq!(run(&fake, &request, &sandbox.target()).unwrap_err().kind, FailureKind::WrongInput);
    assert_eq!(run(&fake, &request, &sandbox.target().join("below")).unwrap_err().kind, FailureKind::WrongInput);
    let dangling = sandbox.path().join("dangling");
    std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
    assert_eq!(run(&fake, &request, &dangling).unwrap_err().kind, FailureKind::WrongInput);
    assert!(!sandbox.path().join("nowhere").exists());
}

#[test]
fn overwriting_replaces_names_and_touches_nothing_else() {
    let sandbox = Sandbox::new();
    let target = sandbox.target();
    let outside = sandbox.path().join("outside");
    fs::write(&outside, "outside").unwrap();
    fs::create_dir_all(target.join("a/inner")).unwrap();
    fs::write(target.join("extra"), "stays").unwrap();
    fs::hard_link(&outside, target.join("top.txt")).unwrap();
    std::os::unix::fs::symlink(&outside, target.join("a/inner/deep.txt")).unwrap();
    fs::write(target.join("a/inner/also-extra"), "stays").unwrap();
    let mut fake = Fake::default();
    let nodes = two_files(&mut fake);
    let request = RestoreRequest { overwrite: true, ..fake.shop(nodes) };
    for _ in 0..2 {
        let summary = run(&fake, &request, &target).unwrap();
        assert_eq!(summary.missing, Vec::new());
        assert_eq!(fs::read(target.join("top.txt")).unwrap(), b"top");
        assert_eq!(look(&target.join("a/inner/deep.txt")).content, b"deep");
        assert_eq!(fs::read(target.join("extra")).unwrap(), b"stays");
        assert_eq!(fs::read_dir(target.join("a/inner")).unwrap().count(), 3, "no temporary name stays");
        assert_eq!(fs::read_dir(&target).unwrap().count(), 3);
        assert_eq!(fs::read(&outside).unwrap(), b"outside");
    }
    assert_eq!(fs::metadata(&outside).unwrap().nlink(), 1, "the name was replaced, the other file was not written to");
}

#[test]
fn overwriting_never_deletes_a_directory_and_says_so() {
    let sandbox = Sandbox::new();
    let target = sandbox.target();
    fs::create_dir_all(target.join("top.txt/precious")).unwrap();
    fs::write(target.join("a"), "a file where a directory belongs").unwrap();
    let mut fake = Fake::default();
    let nodes = two_files(&mut fake);
    let request = RestoreRequest { overwrite: true, ..fake.shop(nodes) };
    let summary = run(&fake, &request, &target).unwrap();
    assert_eq!(summary.missing_count, 1);
    assert_eq!(summary.missing[0].path, "/srv/shop/top.txt");
    assert!(summary.missing[0].reason.contains("never deletes a directory"));
    assert!(target.join("top.txt/precious").is_dir());
    assert_eq!(fs::read(target.join("a/inner/deep.txt")).unwrap(), b"deep");
}

#[test]
fn a_damaged_blob_loses_the_files_that_hold_it_and_no_other() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let bad = fake.file("bad", &[b"first", b"second", b"third"]);
    let linked = |name: &str, node: &Node| Node { name: name.into(), links: 2, inode: 9, ..node.clone() };
    let nodes = vec![
        bad.clone(),
        linked("bad-link-a", &bad),
        linked("bad-link-b", &bad),
        fake.file("good", &[b"first", b"third"]),
        fake.file("not-stored", &[b"lost"]),
    ];
    fake.damaged.insert(bad.content[1]);
    let lost = nodes[4].content[0];
    fake.blobs.remove(&lost);
    let request = fake.shop(nodes.clone());
    let summary = run(&fake, &request, &sandbox.target()).unwrap();
    assert_eq!(fs::read_dir(sandbox.target()).unwrap().count(), 1);
    assert_eq!(look(&sandbox.target().join("good")), expected(&fake, &nodes[3]));
    let named: Vec<_> = summary.missing.iter().map(|missing| &missing.path[10..]).collect();
    assert_eq!(named, ["bad", "bad-link-a", "bad-link-b", "not-stored"]);
    assert!(summary.missing[0].reason.contains("hash does not match"));
    assert!(summary.missing[3].reason.contains("missing in the repository"));
}

#[test]
fn a_damaged_blob_leaves_the_file_that_was_there() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let bad = fake.file("bad", &[b"first", b"second"]);
    fake.damaged.insert(bad.content[1]);
    let request = RestoreRequest { overwrite: true, ..fake.shop(vec![bad]) };
    fs::create_dir(sandbox.target()).unwrap();
    fs::write(sandbox.target().join("bad"), "the older one").unwrap();
    assert_eq!(run(&fake, &request, &sandbox.target()).unwrap().missing_count, 1);
    assert_eq!(fs::read(sandbox.target().join("bad")).unwrap(), b"the older one");
    assert_eq!(fs::read_dir(sandbox.target()).unwrap().count(), 1);
}

#[test]
fn an_unreadable_subtree_is_named_and_its_neighbours_are_restored() {
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let nodes = two_files(&mut fake);
    fake.trees.remove(&nodes[0].subtree.unwrap());
    let request = fake.shop(nodes);
    let summary = run(&fake, &request, &sandbox.target()).unwrap();
    assert_eq!(summary.missing_count, 1);
    assert_eq!(summary.missing[0].path, "/srv/shop/a");
    assert!(sandbox.target().join("top.txt").exists());
}
