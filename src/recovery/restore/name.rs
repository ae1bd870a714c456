//! The one type for a name that may reach the operating system: a single path component, as bytes.

/// Longest name a Linux file system takes, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// A checked entry name: 1..=255 bytes without NUL and `/`, neither `.` nor `..`.
///
/// Everything below the target is created under an `EntryName`; there is no other way to hand a name to
/// [`super::target`]. What a tree claims is checked here again, whoever read it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct EntryName(Box<[u8]>);

impl EntryName {
    /// The name, or why it is none.
    pub(super) fn new(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.is_empty() {
            return Err("its name is empty");
        }
        if bytes == b"." || bytes == b".." {
            return Err("its name would lead out of its directory");
        }
        if bytes.contains(&b'/') || bytes.contains(&0) {
            return Err("its name holds a slash or a NUL byte");
        }
        if bytes.len() > NAME_BYTES_MAX {
            return Err("its name is longer than 255 bytes");
        }
        Ok(Self(bytes.into()))
    }

    /// The bytes, for a call relative to a directory descriptor.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_directory_are_none() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/abs", b"a\0b", b"../x", &[b'x'; 256]] {
            assert!(EntryName::new(bad).is_err(), "{bad:?}");
        }
        for good in [&b"..."[..], b".a", b"-rf", b"\xc0\xae\xc0\xae", b"\xff", b"a\nb", &[b'x'; 255]] {
            assert_eq!(EntryName::new(good).unwrap().as_bytes(), good);
        }
    }
}
