//! From what the kernel says of an entry to the repository's node: mode, owner, times, links, xattrs.
//!
//! POSIX ACLs and capabilities are extended attributes and need nothing of their own. Everything is asked of an open
//! file descriptor, never of a path, so that a renamed directory cannot put one file's attributes on another.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use jiff::Timestamp;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::repository::{Node, NodeKind};

/// Years the repository's format can write: RFC 3339 has four digits.
const SECOND_MIN: i64 = -62_167_219_200;
const SECOND_MAX: i64 = 253_402_300_799;

/// Attempts to read a list or value that grows between the question for its length and the read.
const XATTR_ATTEMPTS_MAX: usize = 5;

/// Names of users and groups as this host's own files have them; looked up once.
#[derive(Debug, Default)]
pub(super) struct OwnerNames {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl OwnerNames {
    /// Reads `/etc/passwd` and `/etc/group`; accounts of directory services keep their number alone.
    pub fn of_this_host() -> Self {
        let read = |path| std::fs::read(path).map(|text| parse_accounts(&text)).unwrap_or_default();
        Self { users: read("/etc/passwd"), groups: read("/etc/group") }
    }

    fn user(&self, uid: u32) -> &str {
        self.users.get(&uid).map_or("", String::as_str)
    }

    fn group(&self, gid: u32) -> &str {
        self.groups.get(&gid).map_or("", String::as_str)
    }
}

/// `name:password:number:...`, one a line; the first line of a number counts, as for the C library.
fn parse_accounts(text: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in String::from_utf8_lossy(text).lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(number)) = (fields.next(), fields.nth(1).and_then(|number| number.parse().ok())) {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// What an entry is; `None` for a type that Linux does not have.
pub(super) fn kind_of(stat: &Stat) -> Option<NodeKind> {
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => NodeKind::File,
        FileType::Directory => NodeKind::Directory,
        FileType::Symlink => NodeKind::Symlink,
        FileType::BlockDevice => NodeKind::BlockDevice,
        FileType::CharacterDevice => NodeKind::CharacterDevice,
        FileType::Fifo => NodeKind::Fifo,
        FileType::Socket => NodeKind::Socket,
        FileType::Unknown => return None,
    })
}

/// A node with all that `stat` says; content, link target and xattrs are still to come.
pub(super) fn node_of(name: &[u8], kind: NodeKind, stat: &Stat, owners: &OwnerNames) -> Node {
    let is_device = matches!(kind, NodeKind::BlockDevice | NodeKind::CharacterDevice);
    Node {
        name: name.to_vec(),
        kind,
        mode: stat.st_mode & 0o7777,
        modified: timestamp(stat.st_mtime, stat.st_mtime_nsec),
        // As restic does by default: reading a file must not make its directory differ.
        accessed: timestamp(stat.st_mtime, stat.st_mtime_nsec),
        changed: timestamp(stat.st_ctime, stat.st_ctime_nsec),
        uid: stat.st_uid,
        gid: stat.st_gid,
        user: owners.user(stat.st_uid).to_owned(),
        group: owners.group(stat.st_gid).to_owned(),
        inode: stat.st_ino,
        device_id: stat.st_dev,
        size: if kind == NodeKind::File { size_of(stat) } else { 0 },
        links: links_of(stat),
        link_target: None,
        device: if is_device { stat.st_rdev } else { 0 },
        xattrs: Vec::new(),
        content: Vec::new(),
        subtree: None,
    }
}

/// Whether a file's node is what [`node_of`] would make of this now, name, content and extended attributes aside.
pub(super) fn is_described_by(stat: &Stat, node: &Node, owners: &OwnerNames) -> bool {
    let modified = timestamp(stat.st_mtime, stat.st_mtime_nsec);
    kind_of(stat) == Some(NodeKind::File)
        && node.kind == NodeKind::File
        && (node.modified, node.accessed) == (modified, modified)
        && node.changed == timestamp(stat.st_ctime, stat.st_ctime_nsec)
        && (node.inode, node.device_id, node.size) == (stat.st_ino, stat.st_dev, size_of(stat))
        && (node.links, node.mode) == (links_of(stat), stat.st_mode & 0o7777)
        && (node.uid, node.gid) == (stat.st_uid, stat.st_gid)
        && (node.user.as_str(), node.group.as_str()) == (owners.user(stat.st_uid), owners.group(stat.st_gid))
        && (node.link_target.as_deref(), node.device, node.subtree) == (None, 0, None)
}

#[allow(clippy::unnecessary_cast, reason = "narrower on some processors")]
fn links_of(stat: &Stat) -> u64 {
    stat.st_nlink as u64
}

/// Size in bytes.
pub(super) fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Whether nothing was written between two looks at the same open file.
pub(super) fn same_version(before: &Stat, after: &Stat) -> bool {
    (before.st_size, before.st_mtime, before.st_mtime_nsec, before.st_ctime, before.st_ctime_nsec)
        == (after.st_size, after.st_mtime, after.st_mtime_nsec, after.st_ctime, after.st_ctime_nsec)
}

/// A time of the file system, held within the years the format can write.
fn timestamp(seconds: i64, nanoseconds: u64) -> Timestamp {
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or(0);
    Timestamp::new(seconds.clamp(SECOND_MIN, SECOND_MAX), nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Whether a time of this entry lies outside of the years the format can write.
pub(super) fn time_is_clamped(stat: &Stat) -> bool {
    [stat.st_mtime, stat.st_atime].iter().any(|second| !(SECOND_MIN..=SECOND_MAX).contains(second))
}

/// Names and values.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// How an entry's extended attributes are reached.
#[derive(Clone, Copy)]
pub(super) enum XattrAccess<'a> {
    /// Opened for reading: files and directories.
    Open(BorrowedFd<'a>),
    /// Opened as a mere reference (`O_PATH`): symlinks, devices, FIFOs and sockets, which must not be opened.
    Reference(BorrowedFd<'a>),
}

/// Reads all extended attributes, sorted by name.
///
/// # Errors
/// The sentence for the list of what is missing. A file system without such attributes is no error.
pub(super) fn read_xattrs(entry: XattrAccess<'_>) -> Result<Xattrs, String> {
    let names = match sized(|buffer| entry.list(buffer)) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(error) => return Err(format!("its extended attributes cannot be listed: {error}")),
    };
    let mut xattrs = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        match entry.value(name) {
            Ok(value) => xattrs.push((name.to_vec(), value)),
            // Removed since it was listed.
            Err(Errno::NODATA) => {}
            Err(error) => {
                let name = crate::ground::byte_path::escape(name);
                return Err(format!("its extended attribute {name} cannot be read: {error}"));
            }
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

impl XattrAccess<'_> {
    fn list(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) if buffer.is_empty() => rustix::fs::flistxattr_query(fd),
            Self::Open(fd) => rustix::fs::flistxattr(fd, buffer),
            Self::Reference(fd) if buffer.is_empty() => rustix::fs::listxattr_query(by_descriptor(fd)),
            Self::Reference(fd) => rustix::fs::listxattr(by_descriptor(fd), buffer),
        }
    }

    fn value(self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        let name = name.as_c_str();
        sized(|buffer| match self {
            Self::Open(fd) if buffer.is_empty() => rustix::fs::fgetxattr_query(fd, name),
            Self::Open(fd) => rustix::fs::fgetxattr(fd, name, buffer),
            Self::Reference(fd) if buffer.is_empty() => rustix::fs::getxattr_query(by_descriptor(fd), name),
            Self::Reference(fd) => rustix::fs::getxattr(by_descriptor(fd), name, buffer),
        })
    }
}

/// The kernel's own name of a descriptor: leads to the entry itself, even when that is a symlink.
fn by_descriptor(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Asks for the length, then for the bytes, again when they grew in between.
fn sized(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    for _ in 0..XATTR_ATTEMPTS_MAX {
        let length = read(&mut [])?;
        if length == 0 {
            return Ok(Vec::new());
        }
        let mut buffer = vec![0; length];
        match read(&mut buffer) {
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error),
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    }
    Err(Errno::RANGE)
}
