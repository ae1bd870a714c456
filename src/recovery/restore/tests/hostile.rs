//! Hostile trees and hostile targets: nothing outside the target changes, and what is not restored is named.

use super::*;
use crate::ground::FailureKind;

/// What must come of a case.
enum Expect {
    /// Nothing is named.
    Exact,
    /// So many entries are named, one of them with this text in its reason.
    Named(u64, &'static str),
    /// The restore as a whole fails, with this text.
    Fails(&'static str),
}
use Expect::{Exact, Fails, Named};

type Build = fn(&mut Fake) -> Vec<Node>;

/// Entries of the point's root, and what must come of them in a fresh target.
const TREES: &[(&str, Build, Expect)] = &[
    ("name ..", |fake| vec![fake.file("..", &[b"x"])], Named(1, "lead out")),
    ("name .", |fake| vec![fake.file(".", &[b"x"])], Named(1, "lead out")),
    ("name empty", |fake| vec![fake.file("", &[b"x"])], Named(1, "empty")),
    ("name with slash", |fake| vec![fake.file("a/b", &[b"x"])], Named(1, "slash")),
    ("name that climbs", |fake| vec![fake.file("../outside/file", &[b"x"])], Named(1, "slash")),
    ("name absolute", |fake| vec![fake.file("/abs", &[b"x"])], Named(1, "slash")),
    ("name with NUL", |fake| vec![fake.file("a\0b", &[b"x"])], Named(1, "NUL")),
    ("name of 256 bytes", |fake| vec![fake.file("x".repeat(256), &[b"x"])], Named(1, "255")),
    (".. overlong in UTF-8", |fake| vec![fake.file(b"\xc0\xae\xc0\xae", &[b"x"])], Exact),
    ("directory ..", |fake| in_directory(fake, "..", "file"), Named(1, "lead out")),
    ("directory with slash", |fake| in_directory(fake, "../outside", "file"), Named(1, "slash")),
    ("symlink ..", |_| vec![symlink("..", "/")], Named(1, "lead out")),
    ("fifo with slash", |_| vec![node("../f", NodeKind::Fifo)], Named(1, "slash")),
    ("one name twice", |fake| vec![fake.file("a", &[b"1"]), fake.file("a", &[b"2"])], Named(1, "twice")),
    ("file, then directory", |fake| then_directory(fake, fake_file), Named(1, "twice")),
    ("directory, then symlink", directory_then_symlink, Named(1, "twice")),
    ("symlink, then directory", |fake| then_directory(fake, |_| symlink("a", "../outside")), Named(1, "twice")),
    ("symlink, then a file below it", |fake| then_directory(fake, |_| symlink("a", "/")), Named(1, "twice")),
    (
        "symlink, then file of its name",
        |fake| vec![symlink("a", "../outside/file"), fake.file("a", &[b"x"])],
        Named(1, "twice"),
    ),
    ("fifo, then file", |fake| vec![node("a", NodeKind::Fifo), fake.file("a", &[b"x"])], Named(1, "twice")),
    ("two links chained", |_| vec![symlink("a", "b"), symlink("b", "../outside")], Exact),
    ("link to itself", |_| vec![symlink("a", "a")], Exact),
    ("link to /proc/self/root", |_| vec![symlink("a", "/proc/self/root")], Exact),
    (
        "link to /proc/self/cwd, file below",
        |fake| then_directory(fake, |_| symlink("a", "/proc/self/cwd")),
        Named(1, "twice"),
    ),
    ("link without target", |_| vec![node("a", NodeKind::Symlink)], Named(1, "no target")),
    ("link with empty target", |_| vec![symlink("a", "")], Named(1, "no target")),
    ("link target with NUL", |_| vec![symlink("a", "x\0y")], Named(1, "NUL")),
    ("link target of 5,000 bytes", |_| vec![symlink("a", "x".repeat(5_000))], Named(1, "cannot be created")),
    ("hard link to a symlink", hard_link_to_symlink, Exact),
    ("hard link of another kind", hard_link_of_another_kind, Named(1, "by itself")),
    ("hard link to a missing entry", |fake| vec![Node { links: 2, ..fake.file("a", &[b"x"]) }], Exact),
    ("hard link across kinds of owner", hard_link_other_owner, Named(1, "by itself")),
    ("hard link to a refused name", hard_link_to_refused, Named(1, "lead out")),
    ("many objects of one inode", many_of_one_inode, Named(99, "by itself")),
    (
        "file with a link target",
        |fake| vec![Node { link_target: Some(b"/etc".to_vec()), ..fake.file("a", &[b"x"]) }],
        Named(1, "ignored"),
    ),
    (
        "file with a subtree",
        |fake| {
            let subtree = Some(fake.tree(Vec::new()));
            vec![Node { subtree, ..fake.file("a", &[b"x"]) }]
        },
        Named(1, "ignored"),
    ),
    (
        "directory with content",
        |fake| {
            let content = vec![fake.blob(b"x")];
            vec![Node { content, ..fake.directory("a", Vec::new()) }]
        },
        Named(1, "ignored"),
    ),
    (
        "directory without a subtree",
        |_| vec![Node { mode: 0o755, ..node("a", NodeKind::Directory) }],
        Named(1, "no list"),
    ),
    ("unsorted entries", |fake| vec![fake.file("b", &[b"x"]), fake.file("a", &[b"x"])], Exact),
    ("tree within itself", tree_within_itself, Named(1, "contain itself")),
    ("tree within itself, further down", tree_within_itself_deeper, Named(1, "contain itself")),
    ("ten million million entries", |fake| bomb(fake, 44, Vec::new()), Fails("not genuine")),
    (
        "more bytes than numbers go",
        |fake| {
            let file = vec![fake.file("f", &[&[1; 4096]])];
            bomb(fake, 60, file)
        },
        Fails("not genuine"),
    ),
    ("size short", |fake| vec![Node { size: 1, ..fake.file("a", &[b"four"]) }], Named(1, "where its entry says 1")),
    ("size long", |fake| vec![Node { size: 5, ..fake.file("a", &[b"four"]) }], Named(1, "where its entry says 5")),
    ("size huge", |fake| vec![Node { size: u64::MAX, ..fake.file("a", &[b"four"]) }], Named(1, "where its entry says")),
    (
        "content not in the repository",
        |_| vec![Node { content: vec![BlobId([9; 32])], size: 1, ..node("a", NodeKind::File) }],
        Named(1, "missing"),
    ),
    ("xattr of 64 KiB + 1", |fake| vec![with_xattr(fake, b"user.a", &[1; 65_537])], Named(1, "64 KiB")),
    ("xattr name empty", |fake| vec![with_xattr(fake, b"", b"x")], Named(1, "name is empty")),
    ("xattr name with NUL", |fake| vec![with_xattr(fake, b"user.a\0b", b"x")], Named(1, "could not be set")),
    (
        "xattr name of 256 bytes",
        |fake| vec![with_xattr(fake, &[b"user.".as_slice(), &[b'a'; 251]].concat(), b"x")],
        Named(1, "could not be set"),
    ),
    ("xattr of no namespace", |fake| vec![with_xattr(fake, b"strange", b"x")], Named(1, "could not be set")),
    (
        "xattr of an unknown namespace",
        |fake| vec![with_xattr(fake, b"system.strange", b"x")],
        Named(1, "could not be set"),
    ),
    (
        "capability malformed",
        |fake| vec![with_xattr(fake, b"security.capability", b"x")],
        Named(1, "security.capability"),
    ),
    ("ACL malformed", |fake| vec![with_xattr(fake, b"system.posix_acl_access", b"x")], Named(1, "could not be set")),
    (
        "default ACL on a file",
        |fake| vec![with_xattr(fake, b"system.posix_acl_default", b"\x02\0\0\0x")],
        Named(1, "could not be set"),
    ),
    (
        "user xattr on a symlink",
        |_| vec![Node { xattrs: vec![(b"user.a".to_vec(), b"x".to_vec())], ..symlink("a", "b") }],
        Named(1, "could not be set"),
    ),
    (
        "mode with unknown bits",
        |fake| vec![Node { mode: 0o170_644, ..fake.file("a", &[b"x"]) }],
        Named(1, "unknown bits"),
    ),
    ("uid 2^32-1", |fake| vec![Node { uid: u32::MAX, ..fake.file("a", &[b"x"]) }], Named(1, "not a usable number")),
    (
        "uid 2^32-1 with set-uid",
        |fake| vec![Node { uid: u32::MAX, mode: 0o4755, ..fake.file("a", &[b"x"]) }],
        Named(1, "set-id bits"),
    ),
    ("gid 2^32-1 on a symlink", |_| vec![Node { gid: u32::MAX, ..symlink("a", "b") }], Named(1, "not a usable number")),
    ("device 0:0", |_| vec![node("a", NodeKind::CharacterDevice)], Exact),
    (
        "device number beyond 32 bits",
        |_| vec![Node { device: u64::MAX, ..node("a", NodeKind::BlockDevice) }],
        Named(1, "device"),
    ),
    ("socket", |_| vec![node("a", NodeKind::Socket)], Exact),
];

fn fake_file(fake: &mut Fake) -> Node {
    fake.file("a", &[b"x"])
}

fn in_directory(fake: &mut Fake, name: &str, file: &str) -> Vec<Node> {
    let file = fake.file(file, &[b"changed"]);
    vec![fake.directory(name, vec![file])]
}

fn then_directory(fake: &mut Fake, first: fn(&mut Fake) -> Node) -> Vec<Node> {
    let mut nodes = vec![first(fake)];
    nodes.extend(in_directory(fake, "a", "file"));
    nodes
}

fn directory_then_symlink(fake: &mut Fake) -> Vec<Node> {
    let mut nodes = in_directory(fake, "a", "file");
    nodes.push(symlink("a", "../outside"));
    nodes
}

fn several(node: Node) -> Node {
    Node { links: 2, inode: 5, ..node }
}

fn hard_link_to_symlink(_: &mut Fake) -> Vec<Node> {
    vec![several(symlink("a", "../outside/file")), several(symlink("b", "../outside/file"))]
}

fn hard_link_of_another_kind(fake: &mut Fake) -> Vec<Node> {
    vec![several(fake.file("a", &[b"x"])), several(symlink("b", "../outside/file"))]
}

fn hard_link_other_owner(fake: &mut Fake) -> Vec<Node> {
    vec![several(fake.file("a", &[b"x"])), several(Node { mode: 0o600, ..fake.file("b", &[b"x"]) })]
}

fn hard_link_to_refused(fake: &mut Fake) -> Vec<Node> {
    vec![several(fake.file("..", &[b"x"])), several(fake.file("b", &[b"x"]))]
}

fn many_of_one_inode(fake: &mut Fake) -> Vec<Node> {
    (0..100).map(|number| several(fake.file(format!("{number:03}"), &[&[number]]))).collect()
}

fn tree_within_itself(fake: &mut Fake) -> Vec<Node> {
    let node = fake.directory("again", Vec::new());
    fake.trees.insert(node.subtree.unwrap(), vec![node.clone()]);
    vec![node]
}

fn tree_within_itself_deeper(fake: &mut Fake) -> Vec<Node> {
    let top = fake.directory("top", Vec::new());
    let middle = fake.directory("middle", vec![top.clone()]);
    fake.trees.insert(top.subtree.unwrap(), vec![middle]);
    vec![top]
}

/// A tree whose directories all hold the next one twice: few stored bytes, endless entries.
fn bomb(fake: &mut Fake, levels: usize, mut nodes: Vec<Node>) -> Vec<Node> {
    for _ in 0..levels {
        let one = fake.directory("a", nodes);
        nodes = vec![one.clone(), Node { name: b"b".to_vec(), ..one }];
    }
    nodes
}

fn with_xattr(fake: &mut Fake, name: &[u8], value: &[u8]) -> Node {
    Node { xattrs: vec![(name.to_vec(), value.to_vec())], ..fake.file("a", &[b"x"]) }
}

/// Everything beside the target, with inode, times and content.
fn outside(sandbox: &Sandbox) -> Vec<(PathBuf, u64, i64, u64, Seen)> {
    let mut found = Vec::new();
    let mut todo = vec![sandbox.path().join("outside")];
    while let Some(path) = todo.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push((path.clone(), metadata.ino(), metadata.ctime_nsec(), metadata.nlink(), look(&path)));
    }
    found
}

fn prepare(sandbox: &Sandbox) {
    fs::create_dir_all(sandbox.path().join("outside/inner")).unwrap();
    fs::write(sandbox.path().join("outside/file"), "outside").unwrap();
    fs::write(sandbox.path().join("outside/inner/file"), "outside").unwrap();
}

fn judge(case: &str, result: Result<RestoreSummary, Failure>, expect: &Expect) {
    match (result, expect) {
        (Ok(summary), Exact) => assert_eq!(summary.missing, Vec::new(), "{case}"),
        (Ok(summary), Named(count, text)) => {
            assert_eq!(summary.missing_count, *count, "{case}: {:?}", summary.missing);
            assert!(
                summary.missing.iter().any(|missing| missing.reason.contains(text)),
                "{case}: {:?}",
                summary.missing
            );
        }
        (Err(failure), Fails(text)) => assert!(failure.message.contains(text), "{case}: {failure}"),
        (result, _) => panic!("{case}: {result:?}"),
    }
}

#[test]
fn hostile_trees_change_nothing_outside() {
    for (case, build, expect) in TREES {
        if !is_root() && (case.contains("device") || case.contains("capability")) {
            continue;
        }
        let sandbox = Sandbox::new();
        prepare(&sandbox);
        let before = outside(&sandbox);
        let mut fake = Fake::default();
        let nodes = build(&mut fake);
        // An innocent neighbour must come through every time.
        let neighbour = fake.file("zz-neighbour", &[b"innocent"]);
        let request = fake.shop(nodes.into_iter().chain([neighbour]).collect());
        let result = run(&fake, &request, &sandbox.target());
        if result.is_ok() {
            assert_eq!(fs::read(sandbox.target().join("zz-neighbour")).unwrap(), b"innocent", "{case}");
        }
        judge(case, result, expect);
        assert_eq!(outside(&sandbox), before, "{case}");
        let beside = fs::read_dir(sandbox.path()).unwrap().count();
        assert!(beside <= 2, "{case}: something new lies beside the target");
    }
}

type Arrange = fn(&Path, &Path);

/// What stands in the target before an overwriting restore of `a/inner/file` and `top`; and what must come of it.
const TARGETS: &[(&str, Arrange, Expect)] = &[
    (
        "symlink at the leaf",
        |target, outside| {
            dirs(target, "a/inner");
            link(outside.join("file"), target.join("a/inner/file"))
        },
        Exact,
    ),
    (
        "symlink at the parent",
        |target, outside| {
            dirs(target, "a");
            link(outside.join("inner"), target.join("a/inner"))
        },
        Exact,
    ),
    (
        "symlink at the first directory",
        |target, outside| {
            dirs(target, "");
            link(outside.to_owned(), target.join("a"))
        },
        Exact,
    ),
    (
        "relative symlink at the parent",
        |target, _| {
            dirs(target, "a");
            link("../../outside/inner".into(), target.join("a/inner"))
        },
        Exact,
    ),
    (
        "dangling symlink at the leaf",
        |target, outside| {
            dirs(target, "");
            link(outside.join("new"), target.join("top"))
        },
        Exact,
    ),
    (
        "hard link from outside at the leaf",
        |target, outside| {
            dirs(target, "");
            fs::hard_link(outside.join("file"), target.join("top")).unwrap()
        },
        Exact,
    ),
    (
        "fifo at the leaf",
        |target, _| {
            dirs(target, "");
            fifo(&target.join("top"))
        },
        Exact,
    ),
    (
        "fifo where a directory belongs",
        |target, _| {
            dirs(target, "");
            fifo(&target.join("a"))
        },
        Exact,
    ),
    (
        "socket at the leaf",
        |target, _| {
            dirs(target, "");
            drop(std::os::unix::net::UnixListener::bind(target.join("top")).unwrap())
        },
        Exact,
    ),
    ("directory at the leaf", |target, _| dirs(target, "top/with/content"), Named(1, "never deletes")),
    ("empty directory at the leaf", |target, _| dirs(target, "top"), Named(1, "never deletes")),
    (
        "file where a directory belongs",
        |target, _| {
            dirs(target, "");
            fs::write(target.join("a"), "x").unwrap()
        },
        Exact,
    ),
    (
        "directory without any right",
        |target, _| {
            dirs(target, "a/inner");
            forbid(&target.join("a/inner"))
        },
        Exact,
    ),
    (
        "read-only file at the leaf",
        |target, _| {
            dirs(target, "");
            fs::write(target.join("top"), "x").unwrap();
            forbid(&target.join("top"))
        },
        Exact,
    ),
    (
        "temporary name already taken by a link",
        |target, outside| {
            dirs(target, "");
            fs::write(target.join("top"), "x").unwrap();
            for n in 0..9 {
                link(outside.join("file"), target.join(format!(".lifeboat-restore-{}-{n}", std::process::id())))
            }
        },
        Exact,
    ),
];

fn dirs(target: &Path, below: &str) {
    fs::create_dir_all(target.join(below)).unwrap();
}

fn link(to: PathBuf, at: PathBuf) {
    std::os::unix::fs::symlink(to, at).unwrap();
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
}

fn forbid(path: &Path) {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
}

#[test]
fn hostile_targets_change_nothing_outside() {
    for (case, arrange, expect) in TARGETS {
        let sandbox = Sandbox::new();
        prepare(&sandbox);
        arrange(&sandbox.target(), &sandbox.path().join("outside"));
        let mut before = outside(&sandbox);
        let mut fake = Fake::default();
        let inner = in_directory(&mut fake, "inner", "file");
        let nodes = vec![fake.directory("a", inner), fake.file("top", &[b"top"])];
        let request = RestoreRequest { overwrite: true, ..fake.shop(nodes) };
        let result = run(&fake, &request, &sandbox.target());
        judge(case, result, expect);
        let mut after = outside(&sandbox);
        if case.contains("hard link") {
            // Its name in the target is gone: that is all that may be seen of it.
            for list in [&mut before, &mut after] {
                list.iter_mut().for_each(|entry| (entry.2, entry.3) = (0, 0));
            }
        }
        assert_eq!(after, before, "{case}");
        assert_eq!(look(&sandbox.target().join("a/inner/file")).content, b"changed", "{case}");
    }
}

#[test]
fn a_root_that_is_a_symlink_or_missing_is_not_followed() {
    let sandbox = Sandbox::new();
    prepare(&sandbox);
    let mut fake = Fake::default();
    let tree = fake.tree(vec![symlink("srv", sandbox.path().join("outside").as_os_str().as_bytes())]);
    let failure = run(&fake, &request(tree, &["/srv/file"]), &sandbox.target()).unwrap_err();
    assert!(failure.message.contains("does not hold its own root"), "{failure}");
    assert!(!sandbox.target().exists());
    assert_eq!(run(&fake, &request(tree, &["/srv"]), &sandbox.target()).unwrap().entries, 1);
    assert!(look(&sandbox.target().join("srv")).kind == NodeKind::Symlink);
}

#[test]
fn a_point_whose_root_tree_is_gone_fails_as_a_whole() {
    let sandbox = Sandbox::new();
    let fake = Fake::default();
    let failure = run(&fake, &request(BlobId([3; 32]), &["/srv"]), &sandbox.target()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Failed);
    assert!(!sandbox.target().exists());
}

#[test]
fn times_beyond_what_the_file_system_keeps_are_named() {
    for sandbox in [Sandbox::new(), Sandbox::on_disk()] {
        let mut fake = Fake::default();
        let mut nodes = Vec::new();
        for (name, time) in [("a", Timestamp::MIN), ("b", Timestamp::MAX), ("c", Timestamp::UNIX_EPOCH)] {
            nodes.push(Node { modified: time, accessed: time, ..fake.file(name, &[b"x"]) });
        }
        let request = fake.shop(nodes.clone());
        let summary = run(&fake, &request, &sandbox.target()).unwrap();
        for node in nodes {
            let name = String::from_utf8(node.name.clone()).unwrap();
            let kept = look(&sandbox.target().join(&name)).modified == node.modified.as_nanosecond();
            let named = summary.missing.iter().any(|missing| missing.path == format!("/srv/shop/{name}"));
            assert_eq!(kept, !named, "{name}: {:?}", summary.missing);
        }
    }
}
