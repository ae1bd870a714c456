//! Trees with everything a backup tends to lose, and a comparison that notices.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use sha2::{Digest, Sha256};

use super::{is_root, noise};

/// Makes a tree of awkward objects in an existing directory; as root also devices, owners, capabilities and ACLs.
pub fn make_awkward(root: &Path) {
    make_plain(root);
    make_names(root);
    make_links(root);
    make_modes(root);
    make_attributes(root);
    if is_root() {
        make_privileged(root);
    }
    make_times(root);
}

fn make_plain(root: &Path) {
    fs::create_dir_all(root.join("deep/er/and/deeper/still")).unwrap();
    fs::create_dir(root.join("empty-directory")).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("deep/er/and/deeper/still/leaf"), "leaf\n").unwrap();
    fs::write(root.join("large"), noise(1, 5 << 20)).unwrap();
    fs::write(root.join("zeros"), vec![0; 300_000]).unwrap();
    for number in 0..200 {
        let directory = root.join(format!("many/{:02}", number % 10));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("file-{number}")), format!("content {number}\n")).unwrap();
    }
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    sparse.write_all_at(&noise(2, 70_000), 7 << 20).unwrap();
    let hole = File::create(root.join("only-a-hole")).unwrap();
    hole.set_len((3 << 20) + 17).unwrap();
}

fn make_names(root: &Path) {
    let long = "n".repeat(255);
    let names: [&[u8]; 8] = [
        b"not-utf8-\xff\xfe",
        b"new\nline",
        b"-leading-dash",
        b"back\\slash \"quoted\"",
        b" space ",
        "cr\u{e8}me".as_bytes(),
        b"star*[glob]?",
        long.as_bytes(),
    ];
    for name in names {
        fs::write(root.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let directory = root.join(OsStr::from_bytes(b"directory-\xc3\x28"));
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("inside"), "x").unwrap();
}

fn make_links(root: &Path) {
    symlink("deep/er", root.join("link-relative")).unwrap();
    symlink("no/such/thing", root.join("link-dangling")).unwrap();
    symlink("/etc/hostname", root.join("link-absolute")).unwrap();
    symlink(OsStr::from_bytes(b"to-\xff"), root.join("link-not-utf8")).unwrap();
    for name in ["many/00/hard-1", "deep/hard-2"] {
        fs::hard_link(root.join("large"), root.join(name)).unwrap();
    }
    fs::hard_link(root.join("empty"), root.join("empty-again")).unwrap();
    rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
}

fn make_modes(root: &Path) {
    for mode in [0o400, 0o755, 0o666, 0o4755, 0o2755, 0o1777] {
        let path = root.join(format!("mode-{mode:o}"));
        fs::write(&path, format!("{mode:o}")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    if is_root() {
        fs::write(root.join("mode-0"), "").unwrap();
        fs::set_permissions(root.join("mode-0"), Permissions::from_mode(0o000)).unwrap();
    }
    fs::create_dir(root.join("sticky")).unwrap();
    fs::set_permissions(root.join("sticky"), Permissions::from_mode(0o1777)).unwrap();
    fs::create_dir(root.join("read-only")).unwrap();
    fs::write(root.join("read-only/inside"), "x").unwrap();
    fs::set_permissions(root.join("read-only"), Permissions::from_mode(0o555)).unwrap();
}

/// Sets an extended attribute where the file system keeps such ones.
fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    match rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()) {
        Err(rustix::io::Errno::OPNOTSUPP) => super::skip(&format!("this file system keeps no {name}")),
        result => result.unwrap(),
    }
}

fn make_attributes(root: &Path) {
    set_attribute(&root.join("large"), "user.binary", &[0, 1, 2, 255]);
    set_attribute(&root.join("empty"), "user.empty", b"");
    set_attribute(&root.join("empty-directory"), "user.on-directory", b"yes");
    set_attribute(&root.join("mode-755"), "user.big", &noise(3, 2000));
}

fn make_privileged(root: &Path) {
    fs::write(root.join("owned"), "owned").unwrap();
    chown(root.join("owned"), Some(12_345), Some(54_321)).unwrap();
    std::os::unix::fs::lchown(root.join("link-dangling"), Some(12_345), Some(54_321)).unwrap();
    chown(root.join("empty-directory"), Some(4_000_000_000), Some(7)).unwrap();
    fs::set_permissions(root.join("owned"), Permissions::from_mode(0o6711)).unwrap();
    for (name, kind, major) in [("character", FileType::CharacterDevice, 1), ("block", FileType::BlockDevice, 7)] {
        let device = rustix::fs::makedev(major, 3);
        if let Err(error) = rustix::fs::mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o600), device) {
            super::skip(&format!("cannot make a {name} device here: {error}"));
        }
    }
    // cap_net_bind_service, permitted and effective.
    let capability: Vec<u8> = [0x0200_0001_u32, 1 << 10, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    set_attribute(&root.join("mode-755"), "security.capability", &capability);
    set_attribute(&root.join("mode-666"), "system.posix_acl_access", &acl());
    set_attribute(&root.join("sticky"), "system.posix_acl_default", &acl());
}

/// u::rw-, u:1234:r--, g::r--, m::rw-, o::r-- as the kernel writes it.
fn acl() -> Vec<u8> {
    let nobody = u32::MAX;
    let entries = [(1_u16, 6_u16, nobody), (2, 4, 1234), (4, 4, nobody), (0x10, 6, nobody), (0x20, 4, nobody)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn make_times(root: &Path) {
    let times: [(&str, i64, i64); 6] = [
        ("zeros", 1_600_000_000, 123_456_789),
        ("empty", -2, 500_000_000),
        ("link-relative", 86_400, 1),
        ("fifo", 4_102_444_800, 999_999_999),
        ("read-only", 1_000_000_000, 7),
        ("deep/er", -100_000_000, 42),
    ];
    for (name, tv_sec, tv_nsec) in times {
        let time = Timespec { tv_sec, tv_nsec: tv_nsec as _ };
        let both = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, root.join(name), &both, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// Everything that must be equal, by name.
    facts: BTreeMap<String, String>,
    /// Bytes on the disk.
    allocated: u64,
}

/// What differs between two trees, apart from the attributes of the two top directories themselves; one line each,
/// beginning with the path.
pub fn differences(expected: &Path, actual: &Path) -> Vec<String> {
    let (left, right) = (survey(expected), survey(actual));
    let mut lines = Vec::new();
    for (path, entry) in &left {
        let Some(other) = right.get(path) else {
            lines.push(format!("{}: missing", path.display()));
            continue;
        };
        for (name, value) in &entry.facts {
            let found = other.facts.get(name);
            if found != Some(value) {
                lines.push(format!("{}: {name} is {found:?}, expected {value}", path.display()));
            }
        }
        for name in other.facts.keys().filter(|name| !entry.facts.contains_key(*name)) {
            lines.push(format!("{}: has {name}, expected none", path.display()));
        }
        if other.allocated > entry.allocated + (256 << 10) {
            lines.push(format!(
                "{}: holes lost, {} bytes instead of {}",
                path.display(),
                other.allocated,
                entry.allocated
            ));
        }
    }
    let more = right.keys().filter(|path| !left.contains_key(*path));
    lines.extend(more.map(|path| format!("{}: should not be there", path.display())));
    lines
}

/// Fails the test when the trees differ in anything but access and change times.
pub fn assert_same(expected: &Path, actual: &Path) {
    let lines = differences(expected, actual);
    assert!(lines.is_empty(), "{} differs from {}:\n{}", actual.display(), expected.display(), lines.join("\n"));
}

fn survey(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut entries = BTreeMap::new();
    let mut groups: BTreeMap<(u64, u64), Vec<PathBuf>> = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for path in fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let relative = path.strip_prefix(root).unwrap().to_owned();
            if metadata.is_dir() {
                waiting.push(path.clone());
            } else if metadata.nlink() > 1 {
                groups.entry((metadata.dev(), metadata.ino())).or_default().push(relative.clone());
            }
            entries.insert(relative, Entry { facts: facts(&path, &metadata), allocated: metadata.blocks() * 512 });
        }
    }
    for mut group in groups.into_values() {
        group.sort();
        for path in &group {
            entries.get_mut(path).unwrap().facts.insert("hard links".to_owned(), format!("{group:?}"));
        }
    }
    entries
}

fn facts(path: &Path, metadata: &fs::Metadata) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut note = |name: &str, value: String| facts.insert(name.to_owned(), value);
    note("mode", format!("{:o}", metadata.mode()));
    note("owner", format!("{}:{}", metadata.uid(), metadata.gid()));
    note("mtime", format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec()));
    if metadata.is_file() {
        note("size", metadata.len().to_string());
        note("content", content_hash(path));
    }
    if metadata.is_symlink() {
        note("target", format!("{:?}", fs::read_link(path).unwrap().into_os_string().into_vec()));
    }
    if metadata.file_type().is_char_device() || metadata.file_type().is_block_device() {
        note("device", metadata.rdev().to_string());
    }
    for (name, value) in attributes(path) {
        note(&format!("attribute {name}"), hex::encode(value));
    }
    facts
}

fn content_hash(path: &Path) -> String {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return hex::encode(digest.finalize()),
            length => digest.update(&buffer[..length]),
        }
    }
}

fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 64 << 10];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else { return Vec::new() };
    let names =
        names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty() && *name != b"security.selinux");
    names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(length);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect()
}
