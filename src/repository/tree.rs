//! Trees and nodes as the repository format has them (restic `doc/design.rst`, "Trees and Data").

use jiff::Timestamp;

/// SHA-256 of a blob's plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobId(pub [u8; 32]);

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    File,
    Directory,
    Symlink,
    BlockDevice,
    CharacterDevice,
    Fifo,
    Socket,
}

/// One entry of a directory, all metadata kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Bytes without `/` and NUL, not `.` or `..`, 1..=255 bytes: checked when a tree is read.
    pub name: Vec<u8>,
    pub kind: NodeKind,
    /// Permission bits with set-uid, set-gid and sticky as in `st_mode & 0o7777`.
    pub mode: u32,
    pub modified: Timestamp,
    pub accessed: Timestamp,
    pub changed: Timestamp,
    pub uid: u32,
    pub gid: u32,
    pub user: String,
    pub group: String,
    pub inode: u64,
    pub device_id: u64,
    /// Bytes, files only.
    pub size: u64,
    pub links: u64,
    pub link_target: Option<Vec<u8>>,
    /// Device number of a block or character device.
    pub device: u64,
    /// Name and value, sorted by name; POSIX ACLs and capabilities are xattrs (`system.posix_acl_access`, `security.capability`).
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Content of a file in order.
    pub content: Vec<BlobId>,
    /// Tree of a directory.
    pub subtree: Option<BlobId>,
}
