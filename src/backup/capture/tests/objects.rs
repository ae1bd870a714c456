//! Everything a file system has is kept.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, makedev, mknodat, setxattr, utimensat};

use super::fake::{FakeStore, files, missing};
use crate::policy::SourceKind;
use crate::repository::{Node, NodeKind};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn capture(root: &Path) -> (FakeStore<'static>, super::super::Captured) {
    let store = FakeStore::default();
    let captured = store.capture(&files(&[root], &[]), None).unwrap();
    assert_eq!(missing(&captured), []);
    (store, captured)
}

fn set_times(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[test]
fn modes_owners_and_times_before_1970_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("old");
    fs::write(&path, "x").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o6751)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(&path, Some(4_000_000_000), Some(1)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o6751)).unwrap();
    }
    set_times(&path, -86_400, 999_999_999);
    fs::create_dir(root.path().join("sticky")).unwrap();
    fs::set_permissions(root.path().join("sticky"), Permissions::from_mode(0o1777)).unwrap();
    let (store, captured) = capture(root.path());
    let node = store.node(&captured, &path);
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(node.mode, 0o6751);
    assert_eq!((node.uid, node.gid), (metadata.uid(), metadata.gid()));
    assert_eq!(node.modified, Timestamp::new(-86_400, 999_999_999).unwrap());
    assert_eq!(node.accessed, node.modified, "reading does not move the access time");
    assert_eq!(store.node(&captured, &root.path().join("sticky")).mode, 0o1777);
    assert_eq!(fs::metadata(&path).unwrap().atime(), -86_400);
}

#[test]
fn names_of_owners_come_from_this_host() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), "x").unwrap();
    let (store, captured) = capture(root.path());
    if is_root() {
        let node = store.node(&captured, &root.path().join("a"));
        assert_eq!((node.user.as_str(), node.group.as_str()), ("root", "root"));
    }
}

#[test]
fn names_and_targets_need_not_be_text() {
    let root = tempfile::tempdir().unwrap();
    let odd = root.path().join(OsStr::from_bytes(b"odd \xff\n"));
    let long = root.path().join("l".repeat(255));
    fs::write(&odd, "odd").unwrap();
    fs::write(&long, "long").unwrap();
    symlink(OsStr::from_bytes(b"../\xfe nowhere"), root.path().join("link")).unwrap();
    let (store, captured) = capture(root.path());
    assert_eq!(store.content(&store.node(&captured, &odd)), b"odd");
    assert_eq!(store.content(&store.node(&captured, &long)), b"long");
    let link = store.node(&captured, &root.path().join("link"));
    assert_eq!((link.kind, link.link_target.as_deref()), (NodeKind::Symlink, Some(&b"../\xfe nowhere"[..])));
    assert_eq!(link.content, []);
}

#[test]
fn a_long_link_target_is_whole() {
    let root = tempfile::tempdir().unwrap();
    let target = "t/".repeat(2000);
    symlink(&target, root.path().join("link")).unwrap();
    let (store, captured) = capture(root.path());
    assert_eq!(store.node(&captured, &root.path().join("link")).link_target, Some(target.into_bytes()));
}

#[test]
fn empty_directories_and_files_are_entries() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("empty")).unwrap();
    fs::write(root.path().join("nothing"), "").unwrap();
    let (store, captured) = capture(root.path());
    assert_eq!(store.names(&captured, &root.path().join("empty")), [""; 0]);
    assert_eq!(store.content(&store.node(&captured, &root.path().join("nothing"))), b"");
    assert_eq!((captured.entries, captured.bytes), (3, 0));
}

#[test]
fn hard_links_are_read_once_and_counted_once() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), "shared").unwrap();
    fs::create_dir(root.path().join("d")).unwrap();
    fs::hard_link(root.path().join("a"), root.path().join("d/b")).unwrap();
    let (store, captured) = capture(root.path());
    let (a, b): (Node, Node) =
        (store.node(&captured, &root.path().join("a")), store.node(&captured, &root.path().join("d/b")));
    assert_eq!((a.inode, a.device_id, a.links), (b.inode, b.device_id, 2));
    assert_eq!(a.content, b.content);
    assert_eq!(store.contents_read.into_inner(), 1);
    assert_eq!((captured.entries, captured.bytes), (4, 6));
}

#[test]
fn sparse_files_keep_their_logical_content() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("sparse");
    let file = File::create(&path).unwrap();
    file.set_len(3_000_001).unwrap();
    file.write_at(b"middle", 1_234_567).unwrap();
    file.write_at(b"!", 2_999_999).unwrap();
    let (store, captured) = capture(root.path());
    let content = store.content(&store.node(&captured, &path));
    assert!(content == fs::read(&path).unwrap());
    assert!(content.len() == 3_000_001 && &content[1_234_567..1_234_573] == b"middle");
}

#[test]
fn extended_attributes_acls_and_capabilities_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    fs::write(&path, "x").unwrap();
    let acl = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x04\0\x01\0\0\0\x04\0\x05\0\xff\xff\xff\xff\
                \x10\0\x05\0\xff\xff\xff\xff\x20\0\x05\0\xff\xff\xff\xff";
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut wanted = vec![(&b"user.binary"[..], &b"\0\xff\n"[..]), (b"user.empty", b"")];
    if is_root() {
        wanted.insert(0, (b"security.capability", capability));
        wanted.insert(1, (b"system.posix_acl_access", acl));
    }
    for (name, value) in &wanted {
        setxattr(&path, *name, value, XattrFlags::empty()).unwrap();
        if name.starts_with(b"user") {
            setxattr(root.path(), *name, value, XattrFlags::empty()).unwrap();
        }
    }
    let (store, captured) = capture(root.path());
    let wanted: Vec<_> = wanted.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    assert_eq!(store.node(&captured, &path).xattrs, wanted);
    assert!(store.node(&captured, root.path()).xattrs.contains(&(b"user.empty".to_vec(), Vec::new())));
}

#[test]
fn devices_fifos_and_sockets_are_recorded_and_not_opened() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let mut wanted = vec![("fifo", NodeKind::Fifo, 0), ("socket", NodeKind::Socket, 0)];
    if is_root() {
        let (tape, disk) = (makedev(9, 300), makedev(7, 250));
        mknodat(CWD, at("tape"), FileType::CharacterDevice, Mode::from_raw_mode(0o600), tape).unwrap();
        mknodat(CWD, at("disk"), FileType::BlockDevice, Mode::from_raw_mode(0o600), disk).unwrap();
        symlink("nowhere", at("trusted")).unwrap();
        rustix::fs::lsetxattr(at("trusted"), "trusted.mark", b"1", XattrFlags::empty()).unwrap();
        wanted.extend([("tape", NodeKind::CharacterDevice, tape), ("disk", NodeKind::BlockDevice, disk)]);
    }
    let (store, captured) = capture(root.path());
    for (name, kind, device) in wanted {
        let node = store.node(&captured, &at(name));
        assert_eq!((node.kind, node.device, node.size), (kind, device, 0), "{name}");
    }
    if is_root() {
        let link = store.node(&captured, &at("trusted"));
        assert_eq!(link.xattrs, [(b"trusted.mark".to_vec(), b"1".to_vec())], "attributes of the link itself");
    }
}

#[test]
fn a_tree_deeper_than_the_usual_limit_of_open_files_is_whole() {
    let root = tempfile::tempdir().unwrap();
    let mut directory = root.path().to_path_buf();
    for _ in 0..1500 {
        directory.push("d");
    }
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("bottom"), "x").unwrap();
    let (_, captured) = capture(root.path());
    assert_eq!(captured.entries, 1 + 1500 + 1);
}

/// A loop device over a file, given back on drop. `None` where this host does not let us have one.
struct LoopDevice(String);

impl LoopDevice {
    fn over(file: &Path) -> Option<Self> {
        let output = std::process::Command::new("losetup").args(["--find", "--show"]).arg(file).output().ok()?;
        output.status.success().then(|| Self(String::from_utf8_lossy(&output.stdout).trim().to_owned()))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        std::process::Command::new("losetup").args(["--detach", &self.0]).status().unwrap();
    }
}

#[test]
fn a_block_device_becomes_a_file_with_its_content() {
    let root = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..2_621_440_u32).map(|index| (index / 512) as u8).collect();
    fs::write(root.path().join("backing"), &content).unwrap();
    let Some(device) = LoopDevice::over(&root.path().join("backing")) else {
        eprintln!("not tested: this host gives no loop device");
        return;
    };
    let volume = root.path().join("volume");
    symlink(&device.0, &volume).unwrap();
    let store = FakeStore::default();
    let kind = SourceKind::Image { path: volume.to_str().unwrap().to_owned() };
    let captured = store.capture(&kind, None).unwrap();
    let node = store.node(&captured, &volume);
    assert_eq!((node.kind, node.size, node.device, node.links), (NodeKind::File, 2_621_440, 0, 1));
    assert!(store.content(&node) == content);
    assert_eq!((captured.bytes, node.content.len()), (2_621_440, 20));
}

#[test]
fn many_files_in_deep_directories_arrive_with_several_readers() {
    let root = tempfile::tempdir().unwrap();
    let mut directory = root.path().to_path_buf();
    let mut bytes = 0;
    for level in 0..60 {
        directory.push(format!("level{level}"));
        fs::create_dir(&directory).unwrap();
        for number in 0..10 {
            let text = format!("{level} {number}");
            bytes += text.len() as u64;
            fs::write(directory.join(number.to_string()), text).unwrap();
        }
    }
    let store = FakeStore::default();
    let heard = super::fake::Heard::default();
    let captured = store.capture_heard(&files(&[root.path()], &[]), None, &heard, 4).unwrap();
    assert_eq!(missing(&captured), []);
    assert_eq!((captured.entries, captured.bytes), (1 + 60 + 600, bytes));
    assert_eq!(heard.bytes.into_inner(), bytes);
    assert_eq!(store.content(&store.node(&captured, &directory.join("7"))), b"59 7");
}
