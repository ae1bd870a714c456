//! Trees and nodes as the repository format has them (restic `doc/design.rst`, "Trees and Data").

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// SHA-256 of a blob's plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobId(pub [u8; 32]);

/// What each character is worth as a lower-case hexadecimal digit; 255 for none. A look at a table, since an index and
/// trees have an id for every blob.
const DIGITS: [u8; 256] = {
    let mut digits = [u8::MAX; 256];
    let mut digit = 0;
    while digit < 16 {
        digits[b"0123456789abcdef"[digit] as usize] = digit as u8;
        digit += 1;
    }
    digits
};

impl BlobId {
    /// The id of a plain text.
    pub fn of(plain: &[u8]) -> Self {
        Self(super::crypto::sha256(plain))
    }

    /// From 64 hexadecimal digits, lower case as the format writes them.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let (mut bytes, mut wrong) = ([0; 32], 0);
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (DIGITS[usize::from(pair[0])], DIGITS[usize::from(pair[1])]);
            *byte = high << 4 | low;
            wrong |= high | low;
        }
        (wrong <= 0xf).then_some(Self(bytes))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::BlobId;

    proptest! {
        #[test]
        fn ids_survive_as_digits_and_one_wrong_digit_is_seen(bytes: [u8; 32], at in 0..64_usize, other: char) {
            let text = BlobId(bytes).to_string();
            prop_assert_eq!(BlobId::from_hex(&text), Some(BlobId(bytes)));
            let mut characters: Vec<char> = text.chars().collect();
            characters[at] = other;
            let changed: String = characters.into_iter().collect();
            let is_digit = matches!(other, '0'..='9' | 'a'..='f');
            prop_assert_eq!(BlobId::from_hex(&changed).is_some(), is_digit);
            prop_assert_eq!(BlobId::from_hex(&text[1..]), None);
            prop_assert_eq!(BlobId::from_hex(&text.replace(['a', 'b', 'c'], "A")).is_some(), !text.contains(['a', 'b', 'c']));
        }
    }
}
