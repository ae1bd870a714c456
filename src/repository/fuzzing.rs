//! A narrow door for fuzzers and for the tests of robustness: every parser of stored bytes, and sealing, so that a test can
//! store what only a hostile writer who knows the password would. No part of the interface; nothing in the program
//! uses it.
//!
//! Always compiled rather than behind a feature: the tests run against the very library that is shipped.

use super::config::Config;
use super::error::RepositoryError;
use super::index::IndexBuilder;
use super::index_file::IndexFile;
use super::pack::{self, PackEntry};
use super::tree::BlobId;
use super::{Repository, compression, index_file, key, lock, quote, snapshot, tree_json, unpacked};

/// Reads the plain text of a `config`; true when it is accepted.
pub fn config(plain: &[u8]) -> bool {
    Config::parse(plain).is_ok()
}

/// Reads a key object as stored, and the same bytes as the master key inside one.
pub fn key(stored: &[u8]) -> bool {
    key::check_form(stored).is_ok() | key::check_master(stored).is_ok()
}

/// Reads the plain text of a pack's header and computes with what it says.
pub fn pack_header(plain: &[u8]) -> bool {
    let Ok(entries) = pack::parse_header(plain) else { return false };
    let plain_bytes = entries.iter().map(|entry| pack::plain_length(entry.length, entry.uncompressed)).max();
    pack::size_of(&entries) >= entries.len() as u64 && plain_bytes.is_none_or(|bytes| bytes <= u64::from(u32::MAX))
}

/// Reads an index file, builds an index of it and looks everything up.
pub fn index(json: &[u8]) -> bool {
    let Ok(file) = serde_json::from_slice::<IndexFile>(json) else { return false };
    let mut builder = IndexBuilder::default();
    for (pack, entries) in index_file::compact(file.packs) {
        builder.add(pack, entries);
    }
    let mut index = builder.build();
    let packs = index.by_pack();
    packs.iter().for_each(|(_, entries)| {
        pack::size_of(entries);
    });
    let known = |entry: &PackEntry| index.locations(entry.kind, &entry.id).next().is_some();
    let found = packs.iter().flat_map(|(_, entries)| entries).all(known);
    index.forget_lost_packs(&packs.iter().map(|(id, _)| (*id, 1 << 20)).collect());
    found
}

/// Reads a directory. What is read must be written and read again as the same.
pub fn tree(plain: &[u8]) -> bool {
    let Ok(nodes) = tree_json::decode(plain) else { return false };
    let again = tree_json::encode(nodes.clone()).and_then(|plain| tree_json::decode(&plain));
    again.is_ok_and(|again| again.iter().map(|node| &node.name).eq(nodes.iter().map(|node| &node.name)))
}

/// Reads the JSON of a snapshot.
pub fn snapshot(json: &[u8]) -> bool {
    snapshot::parse(&BlobId([0; 32]), json).is_ok()
}

/// Reads the JSON of a lock.
pub fn lock(json: &[u8]) -> bool {
    lock::parses(json)
}

/// Reads the plain text of an object outside packs: JSON, or zstd behind a byte that says so.
pub fn unpacked(plain: &[u8]) -> bool {
    unpacked::decode(plain).is_ok()
}

/// Reads a zstd text that is said to hold so many bytes.
pub fn compressed(text: &[u8], length: usize) -> bool {
    compression::decompress_exactly(text, length).is_ok()
}

/// Reads a name as trees hold it.
pub fn name(text: &str) -> bool {
    quote::unquote(text).is_some()
}

/// Seals bytes as the repository does.
pub fn seal(repository: &Repository, plain: &[u8]) -> Result<Vec<u8>, RepositoryError> {
    repository.inner.key.seal(plain)
}

/// Opens what was sealed; `None` when it was altered.
pub fn open(repository: &Repository, mut sealed: Vec<u8>) -> Option<Vec<u8>> {
    repository.inner.key.open(&mut sealed).map(|plain| plain.to_vec())
}
