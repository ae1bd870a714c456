//! Trees and nodes as the repository format has them (restic `doc/design.rst`, "Trees and Data").

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// SHA-256 of a blob's plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobId(pub [u8; 32]);

impl BlobId {
    /// The id of a plain text.
    pub fn of(plain: &[u8]) -> Self {
        Self(super::crypto::sha256(plain))
    }

    /// From 64 hexadecimal digits, lower case as the format writes them.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(Self(bytes))
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for BlobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut digits = [0; 64];
        let text = hex::encode_to_slice(self.0, &mut digits).ok().and_then(|()| std::str::from_utf8(&digits).ok());
        serializer.serialize_str(text.unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for BlobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hex;
        impl de::Visitor<'_> for Hex {
            type Value = BlobId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 hexadecimal digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<BlobId, E> {
                BlobId::from_hex(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Hex)
    }
}

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
