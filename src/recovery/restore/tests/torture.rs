//! One of every awkward object there is, restored with and without privileges.

use super::*;

fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

fn access_acl() -> Vec<u8> {
    acl(&[(1, 6, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)])
}

fn default_acl() -> Vec<u8> {
    acl(&[(1, 7, u32::MAX), (2, 5, 1234), (4, 5, u32::MAX), (16, 5, u32::MAX), (32, 0, u32::MAX)])
}

fn capability() -> Vec<u8> {
    [0x0200_0001u32, 0x400, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn xattr(name: &str, value: impl AsRef<[u8]>) -> (Vec<u8>, Vec<u8>) {
    (name.as_bytes().to_vec(), value.as_ref().to_vec())
}

fn plain_files(fake: &mut Fake) -> Vec<Node> {
    let zeros = vec![0; 40_000];
    let noise: Vec<u8> = (0..70_000u32).map(|number| (number * 7 % 251) as u8).collect();
    vec![
        fake.file("empty", &[]),
        fake.file("small", &[b"content"]),
        fake.file("several-blobs", &[&noise, b"middle", &noise, b"end"]),
        fake.file("shares-blobs", &[b"middle", &noise]),
        fake.file("holes", &[&noise, &zeros, b"x", &zeros]),
        fake.file("only-zeros", &[&zeros, &zeros]),
        fake.file(b"not-utf8-\xff\xfe", &[b"a"]),
        fake.file("new\nline", &[b"b"]),
        fake.file("n".repeat(255), &[b"c"]),
        fake.file("-rf", &[b"d"]),
        fake.file("quote'\" \\x41 $(id)", &[b"e"]),
        fake.file(".hidden", &[b"f"]),
        fake.file("...", &[b"g"]),
        fake.file("Case", &[b"upper"]),
        fake.file("case", &[b"lower"]),
        fake.file("\u{e9}", &[b"composed"]),
        fake.file("e\u{301}", &[b"decomposed"]),
        fake.file("lost+found", &[b"not a directory here"]),
        Node { modified: time("1901-12-14T00:00:00.5Z"), ..fake.file("before-1970", &[b"h"]) },
        Node { modified: time("1969-12-31T23:59:59.999999999Z"), ..fake.file("just-before-1970", &[b"i"]) },
        Node { modified: time("2400-01-01T00:00:00.000000001Z"), ..fake.file("far-future", &[b"j"]) },
        Node { mode: 0, ..fake.file("mode-0000", &[b"k"]) },
        Node { mode: 0o444, ..fake.file("read-only", &[b"l"]) },
        Node { mode: 0o1644, ..fake.file("sticky-file", &[b"m"]) },
        Node {
            xattrs: vec![xattr("user.binary", b"\0\xff"), xattr("user.empty", b"")],
            ..fake.file("xattrs", &[b"n"])
        },
        Node { xattrs: vec![xattr("system.posix_acl_access", access_acl())], mode: 0o640, ..fake.file("acl", &[b"o"]) },
    ]
}

fn links_and_directories(fake: &mut Fake) -> Vec<Node> {
    let several = |node: Node, inode| Node { links: 2, inode, ..node };
    let linked = several(fake.file("linked", &[b"one content, two names"]), 77);
    let locked = fake.file("inside", &[b"p"]);
    let other_name = Node { name: b"other-name".to_vec(), ..linked.clone() };
    let deeper = fake.directory("deeper", vec![other_name]);
    let default = xattr("system.posix_acl_default", default_acl());
    vec![
        linked,
        deeper,
        fake.directory("empty-directory", Vec::new()),
        Node { mode: 0o500, ..fake.directory("no-writing", vec![locked.clone()]) },
        Node { mode: 0o1777, ..fake.directory("sticky", Vec::new()) },
        Node { xattrs: vec![xattr("user.on", "directory")], ..fake.directory("directory-xattr", vec![locked.clone()]) },
        Node { xattrs: vec![default], ..fake.directory("default-acl", vec![locked.clone()]) },
        Node { modified: time("1980-01-01T00:00:00Z"), ..fake.directory("old-directory", vec![locked]) },
        symlink("relative", "small"),
        symlink("dangling", "nowhere/at/all"),
        symlink("absolute", "/etc/passwd"),
        symlink("climbing", "../../../etc/passwd"),
        symlink("to-itself", "to-itself"),
        symlink("not-utf8-target", b"\xff\xfe"),
        symlink("long-target", "t".repeat(4_000)),
        Node { modified: time("1960-05-05T05:05:05.000000005Z"), ..symlink("old-link", "x") },
        several(symlink("link-a", "two names"), 78),
        several(symlink("link-b", "two names"), 78),
        node("fifo", NodeKind::Fifo),
        several(node("fifo-a", NodeKind::Fifo), 79),
        several(node("fifo-b", NodeKind::Fifo), 79),
        node("socket", NodeKind::Socket),
    ]
}

/// What only a privileged restore brings back whole.
fn privileged_ones(fake: &mut Fake) -> Vec<Node> {
    let mut nodes = vec![
        Node { mode: 0o4755, ..fake.file("set-uid", &[b"q"]) },
        Node { mode: 0o2755, ..fake.file("set-gid", &[b"r"]) },
        Node { mode: 0o2775, ..fake.directory("set-gid-directory", Vec::new()) },
        Node { uid: 4321, gid: 1234, ..fake.file("other-owner", &[b"s"]) },
        Node { uid: 4321, gid: 1234, mode: 0o6755, ..fake.file("other-owner-set-id", &[b"t"]) },
        Node { uid: 4321, gid: 1234, ..symlink("other-owner-link", "x") },
        Node { uid: 4321, gid: 1234, ..fake.directory("other-owner-directory", Vec::new()) },
        Node { xattrs: vec![xattr("security.capability", capability())], ..fake.file("capable", &[b"u"]) },
        Node { xattrs: vec![xattr("trusted.x", "y")], ..fake.file("trusted", &[b"v"]) },
        Node { xattrs: vec![xattr("trusted.x", "y")], ..symlink("trusted-link", "x") },
        Node { xattrs: vec![xattr("trusted.x", "y")], ..node("trusted-fifo", NodeKind::Fifo) },
        Node { device: 0x0103, ..node("null", NodeKind::CharacterDevice) },
        Node { device: 0xfff0_0705, ..node("large-numbers", NodeKind::BlockDevice) },
    ];
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    nodes
}

fn everything(fake: &mut Fake) -> Vec<Node> {
    let mut nodes = plain_files(fake);
    nodes.extend(links_and_directories(fake));
    nodes.extend(privileged_ones(fake));
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    nodes
}

fn assert_linked(target: &Path) {
    for (one, other) in [("linked", "deeper/other-name"), ("link-a", "link-b"), ("fifo-a", "fifo-b")] {
        let inode = |name| fs::symlink_metadata(target.join(name)).unwrap().ino();
        assert_eq!(inode(one), inode(other), "{one} and {other} are one object");
    }
}

fn round_trip_as_root(sandbox: &Sandbox) {
    let mut fake = Fake::default();
    let nodes = everything(&mut fake);
    let request = fake.shop(nodes.clone());
    let summary = run(&fake, &request, &sandbox.target()).unwrap();
    assert_eq!(summary.missing, Vec::new());
    assert_exact(&fake, &sandbox.target(), &nodes);
    assert_linked(&sandbox.target());
    let unsafe_links = ["/srv/shop/absolute -> /etc/passwd", "/srv/shop/climbing -> ../../../etc/passwd"];
    assert_eq!(summary.unsafe_links, unsafe_links);
    // All entries but the socket, with the two in subdirectories and the target itself.
    let below = 1 + 4;
    assert_eq!(summary.entries, nodes.len() as u64 - 1 + below + 1);
}

#[test]
fn root_brings_everything_back() {
    if !is_root() {
        eprintln!("skipped: only root can make these objects");
        return;
    }
    round_trip_as_root(&Sandbox::new());
    round_trip_as_root(&Sandbox::on_disk());
}

/// Runs as a user without any rights, in a thread of its own: identities belong to threads on Linux.
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    use rustix::fs::{Gid, Uid};
    let (user, group) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(group, group, group).unwrap();
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// The names that cannot be exact without privileges.
const LEFT_OUT: [&str; 13] = [
    "capable",
    "large-numbers",
    "null",
    "other-owner",
    "other-owner-directory",
    "other-owner-link",
    "other-owner-set-id",
    "set-gid",
    "set-gid-directory",
    "set-uid",
    "trusted",
    "trusted-fifo",
    "trusted-link",
];

fn assert_only_the_privileged_is_missing(fake: &Fake, summary: &RestoreSummary, target: &Path, nodes: &[Node]) {
    let named: Vec<_> = summary.missing.iter().map(|missing| missing.path.trim_start_matches("/srv/shop/")).collect();
    assert_eq!(named, LEFT_OUT, "{:#?}", summary.missing);
    assert_eq!(summary.missing_count, LEFT_OUT.len() as u64);
    for node in nodes.iter().filter(|node| node.kind != NodeKind::Socket) {
        let path = target.join(std::ffi::OsStr::from_bytes(&node.name));
        let left_out = LEFT_OUT.iter().any(|name| name.as_bytes() == node.name);
        if left_out && matches!(node.kind, NodeKind::BlockDevice | NodeKind::CharacterDevice) {
            assert!(fs::symlink_metadata(&path).is_err());
        } else if left_out {
            let (seen, wanted) = (look(&path), expected(fake, node));
            assert_eq!((&seen.content, seen.modified), (&wanted.content, wanted.modified));
            assert_eq!(seen.mode & 0o6000, 0, "no set-id bits on {}", path.display());
            assert!(seen.xattrs.is_empty());
        } else {
            assert_eq!(look(&path), expected(fake, node));
        }
    }
    assert_linked(target);
}

#[test]
fn without_privileges_all_that_is_left_out_is_named() {
    if !is_root() {
        eprintln!("skipped: only root can compare both");
        return;
    }
    let sandbox = Sandbox::new();
    let mut fake = Fake::default();
    let nodes = everything(&mut fake);
    let request = RestoreRequest { privileged: false, ..fake.shop(nodes.clone()) };
    let summary = run(&fake, &request, &sandbox.target()).unwrap();
    assert_only_the_privileged_is_missing(&fake, &summary, &sandbox.target(), &nodes);
}

#[test]
fn another_user_gets_the_same_and_nothing_more() {
    if !is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let sandbox = Sandbox::new();
    std::os::unix::fs::chown(sandbox.path(), Some(65_534), Some(65_534)).unwrap();
    let (fake, nodes, summary) = as_nobody(|| {
        let mut fake = Fake::default();
        let nodes = everything(&mut fake);
        let request = RestoreRequest { privileged: false, ..fake.shop(nodes.clone()) };
        let summary = run(&fake, &request, &sandbox.target()).unwrap();
        (fake, nodes, summary)
    });
    assert_only_the_privileged_is_missing(&fake, &summary, &sandbox.target(), &nodes);
}

#[test]
fn a_user_who_claims_privileges_is_told_what_the_system_refused() {
    if !is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let sandbox = Sandbox::new();
    std::os::unix::fs::chown(sandbox.path(), Some(65_534), Some(65_534)).unwrap();
    as_nobody(|| {
        let mut fake = Fake::default();
        let foreign = Node { uid: 0, gid: 0, mode: 0o4755, ..fake.file("root-set-uid", &[b"x"]) };
        let request = RestoreRequest { privileged: true, ..fake.shop(vec![foreign]) };
        let summary = run(&fake, &request, &sandbox.target()).unwrap();
        assert_eq!(summary.missing_count, 1);
        assert!(summary.missing[0].reason.contains("owner 0:0 could not be set"), "{:?}", summary.missing);
        assert!(summary.missing[0].reason.contains("set-id bits were left out"));
        assert_eq!(look(&sandbox.target().join("root-set-uid")).mode, 0o755);
    });
}

#[test]
fn inherited_access_rights_do_not_stay() {
    if !is_root() {
        eprintln!("skipped: attributes are compared as root");
        return;
    }
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.target()).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(sandbox.target(), "system.posix_acl_default", &default_acl(), flags).unwrap();
    let mut fake = Fake::default();
    let inside = fake.file("inside", &[b"x"]);
    let nodes =
        vec![fake.file("file", &[b"x"]), fake.directory("directory", vec![inside]), node("fifo", NodeKind::Fifo)];
    let request = fake.shop(nodes.clone());
    let summary = run(&fake, &request, &sandbox.target()).unwrap();
    assert_eq!(summary.missing, Vec::new());
    assert_exact(&fake, &sandbox.target(), &nodes);
    assert_eq!(xattrs(&sandbox.target()), Vec::new());
}

#[test]
fn a_user_gets_directories_that_forbid_everything_with_all_that_is_in_them() {
    if !is_root() {
        eprintln!("skipped: only root can become another user and look inside");
        return;
    }
    let sandbox = Sandbox::new();
    std::os::unix::fs::chown(sandbox.path(), Some(65_534), Some(65_534)).unwrap();
    let (fake, nodes) = as_nobody(|| {
        let mut fake = Fake::default();
        // More than are held open: they are opened again to get their attributes.
        let mut inside = Vec::new();
        for number in 0..300 {
            let file = fake.file("file", &[b"x"]);
            inside.push(Node { mode: 0o000, ..fake.directory(format!("{number:03}"), vec![file]) });
        }
        let nodes = vec![Node { mode: 0o000, ..fake.directory("closed", inside) }];
        let request = RestoreRequest { privileged: false, ..fake.shop(nodes.clone()) };
        let summary = run(&fake, &request, &sandbox.target()).unwrap();
        assert_eq!(summary.missing, Vec::new());
        (fake, nodes)
    });
    assert_exact(&fake, &sandbox.target(), &nodes);
}

#[test]
fn a_user_restores_into_a_directory_of_his_own_that_forbids_writing() {
    if !is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let sandbox = Sandbox::new();
    std::os::unix::fs::chown(sandbox.path(), Some(65_534), Some(65_534)).unwrap();
    as_nobody(|| {
        let mut fake = Fake::default();
        let file = fake.file("file", &[b"new"]);
        let nodes = vec![Node { mode: 0o555, ..fake.directory("closed", vec![file]) }];
        let request = RestoreRequest { privileged: false, overwrite: true, ..fake.shop(nodes.clone()) };
        for _ in 0..2 {
            assert_eq!(run(&fake, &request, &sandbox.target()).unwrap().missing, Vec::new());
            assert_exact(&fake, &sandbox.target(), &nodes);
        }
    });
}
