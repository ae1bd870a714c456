//! Pack files: sealed blobs one after the other, then the sealed header, then its length in four bytes.

use super::compression;
use super::crypto::{self, OVERHEAD, SealKey};
use super::error::RepositoryError;
use super::tree::BlobId;
use super::{BlobKind, Inner};

/// Directory of the pack files.
pub(super) const PACKS: &str = "data/";
/// Bytes of the header's length at the end of a pack.
const LENGTH_FIELD: u64 = 4;
/// Largest header that is read, in bytes: 400,000 blobs, as restic has it.
const HEADER_LIMIT: u64 = 16 << 20;

/// Where a pack is stored: below the first two digits of its name.
pub(super) fn key_of(pack: &BlobId) -> String {
    let name = pack.to_string();
    format!("{PACKS}{}/{name}", &name[..2])
}

/// One blob in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackEntry {
    pub(super) kind: BlobKind,
    pub(super) id: BlobId,
    pub(super) offset: u32,
    /// Sealed, as stored.
    pub(super) length: u32,
    /// Plain length of a compressed blob, 0 for one that is not compressed.
    pub(super) uncompressed: u32,
}

impl PackEntry {
    /// Bytes of its entry in the header.
    fn header_bytes(&self) -> u64 {
        if self.uncompressed == 0 { 37 } else { 41 }
    }
}

/// Bytes of the plain text of a blob of this stored length; `uncompressed` is 0 for one that is not compressed.
pub(super) fn plain_length(length: u32, uncompressed: u32) -> u64 {
    if uncompressed == 0 { u64::from(length).saturating_sub(OVERHEAD as u64) } else { u64::from(uncompressed) }
}

/// Size of the pack that holds exactly these blobs.
pub(super) fn size_of(entries: &[PackEntry]) -> u64 {
    entries.iter().map(|entry| u64::from(entry.length)).sum::<u64>() + header_size(entries)
}

/// Bytes of the sealed header of these blobs, with its length.
pub(super) fn header_size(entries: &[PackEntry]) -> u64 {
    entries.iter().map(PackEntry::header_bytes).sum::<u64>() + OVERHEAD as u64 + LENGTH_FIELD
}

/// The header of a pack, sealed, with the length after it.
pub(super) fn seal_header(entries: &[PackEntry], key: &SealKey) -> Result<Vec<u8>, RepositoryError> {
    let mut header = Vec::with_capacity(entries.len() * 41);
    for entry in entries {
        let compressed = u8::from(entry.uncompressed != 0) << 1;
        header.push(compressed | u8::from(entry.kind == BlobKind::Tree));
        header.extend_from_slice(&entry.length.to_le_bytes());
        if entry.uncompressed != 0 {
            header.extend_from_slice(&entry.uncompressed.to_le_bytes());
        }
        header.extend_from_slice(&entry.id.0);
    }
    let mut sealed = key.seal(&header)?;
    let length = u32::try_from(sealed.len()).map_err(|_| RepositoryError::machine("a pack has too many blobs"))?;
    sealed.extend_from_slice(&length.to_le_bytes());
    Ok(sealed)
}

/// Reads the plain text of a header. The error says what is wrong with it.
pub(super) fn parse_header(mut header: &[u8]) -> Result<Vec<PackEntry>, String> {
    let mut entries = Vec::with_capacity(header.len() / 37);
    let mut offset = 0_u32;
    while let Some((&tag, rest)) = header.split_first() {
        let kind = if tag & 1 == 0 { BlobKind::Data } else { BlobKind::Tree };
        if tag > 3 {
            return Err(format!("it names a blob of the unknown type {tag}"));
        }
        let cut = || "it ends in the middle of an entry".to_owned();
        let (length, rest) = take_u32(rest).ok_or_else(cut)?;
        let (uncompressed, rest) = if tag & 2 == 0 { (0, rest) } else { take_u32(rest).ok_or_else(cut)? };
        let (id, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        entries.push(PackEntry { kind, id: BlobId(*id), offset, length, uncompressed });
        offset = offset.checked_add(length).ok_or("its blobs are longer than a pack can be")?;
        header = rest;
    }
    Ok(entries)
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

/// Opens the header at the end of a whole pack or of its tail; `size` is that of the whole pack.
pub(super) fn open_header(key: &SealKey, tail: &[u8], size: u64) -> Result<Vec<PackEntry>, String> {
    let (rest, length) = tail.split_last_chunk().ok_or("it is too short")?;
    let length = u64::from(u32::from_le_bytes(*length));
    if length > HEADER_LIMIT || length > rest.len() as u64 {
        return Err(format!("its header cannot have {length} bytes"));
    }
    let mut header = rest[rest.len() - length as usize..].to_vec();
    let plain = key.open(&mut header).ok_or("its header was altered")?;
    let entries = parse_header(plain)?;
    if size_of(&entries) != size {
        return Err("its header does not describe all of it".to_owned());
    }
    Ok(entries)
}

/// The blobs of a pack that is held in memory.
pub(super) fn entries_of(key: &SealKey, pack: &[u8]) -> Result<Vec<PackEntry>, String> {
    open_header(key, pack, pack.len() as u64)
}

/// Reads the header of a stored pack of this size, its tail only. What is wrong with it is said without its name.
pub(super) fn read_header(inner: &Inner, pack: &BlobId, size: u64) -> Result<Vec<PackEntry>, RepositoryError> {
    let object = key_of(pack);
    let damaged = |why: &str| RepositoryError::Damaged(why.to_owned());
    let fetch = |bytes: u64| inner.store.get_range(&object, size.saturating_sub(bytes)..size);
    let field = fetch(LENGTH_FIELD)?;
    let length = field.first_chunk().map(|bytes| u64::from(u32::from_le_bytes(*bytes)));
    let length = length.filter(|length| *length <= HEADER_LIMIT && length + LENGTH_FIELD <= size);
    let length = length.ok_or_else(|| damaged("the length of its header makes no sense"))?;
    open_header(&inner.key, &fetch(length + LENGTH_FIELD)?, size).map_err(|why| damaged(&why))
}

/// Opens one sealed blob and checks its hash. The error says what is wrong with it.
pub(super) fn open_blob(key: &SealKey, entry: &PackEntry, mut sealed: Vec<u8>) -> Result<Vec<u8>, String> {
    let opened = key.open(&mut sealed).ok_or("its bytes were altered")?.len();
    let plain = if entry.uncompressed == 0 {
        sealed.copy_within(OVERHEAD / 2..OVERHEAD / 2 + opened, 0);
        sealed.truncate(opened);
        sealed
    } else {
        let text = &sealed[OVERHEAD / 2..OVERHEAD / 2 + opened];
        compression::decompress_exactly(text, entry.uncompressed as usize)?
    };
    if crypto::sha256(&plain) == entry.id.0 { Ok(plain) } else { Err("its content does not match its name".to_owned()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_entries() -> impl Strategy<Value = Vec<PackEntry>> {
        let one = (any::<bool>(), any::<[u8; 32]>(), 0..1000_u32, prop_oneof![Just(0_u32), 1..9000_u32]);
        proptest::collection::vec(one, 0..20).prop_map(|list| {
            let mut offset = 0;
            let place = |(tree, id, length, uncompressed)| {
                let kind = if tree { BlobKind::Tree } else { BlobKind::Data };
                let entry = PackEntry { kind, id: BlobId(id), offset, length, uncompressed };
                offset += length;
                entry
            };
            list.into_iter().map(place).collect()
        })
    }

    proptest! {
        #[test]
        fn headers_survive(entries in any_entries()) {
            let key = SealKey::generate().unwrap();
            let mut pack = vec![0; entries.iter().map(|entry| entry.length as usize).sum()];
            pack.extend(seal_header(&entries, &key).unwrap());
            prop_assert_eq!(pack.len() as u64, size_of(&entries));
            prop_assert_eq!(entries_of(&key, &pack).unwrap(), entries);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = parse_header(&bytes);
            prop_assert!(entries_of(&SealKey::generate().unwrap(), &bytes).is_err());
        }
    }

    #[test]
    fn lengths_that_overflow_are_an_error() {
        let mut header = vec![0; 74];
        header[1..5].fill(0xff);
        header[38..42].fill(0xff);
        assert!(parse_header(&header).is_err());
    }
}
