//! Objects that are not in packs: index, snapshots, locks. Sealed JSON, in version 2 compressed behind a 0x02 byte
//! (older ones are plain JSON), named by the SHA-256 of what is stored.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Inner;
use super::compression;
use super::crypto::sha256;
use super::error::RepositoryError;
use super::tree::BlobId;
use crate::site::{PutMode, StoreErrorKind};

/// First byte of a compressed object.
const COMPRESSED: u8 = 2;

/// Ids with sizes, and the names that the format does not know.
pub(super) type Listing = (Vec<(BlobId, u64)>, Vec<String>);

/// All objects in a directory such as `index/`; what another program is about to write there is none yet.
pub(super) fn list(inner: &Inner, directory: &str) -> Result<Listing, RepositoryError> {
    let (mut known, mut foreign) = (Vec::new(), Vec::new());
    for object in inner.store.list(directory)? {
        let name = object.key.rsplit('/').next().unwrap_or_default();
        match BlobId::from_hex(name) {
            Some(id) => known.push((id, object.size)),
            None if is_being_written(name) => {}
            None => foreign.push(object.key),
        }
    }
    Ok((known, foreign))
}

/// restic writes an object below a longer name, `ID-tmp-NUMBER`, before it gets its own.
fn is_being_written(name: &str) -> bool {
    name.split_once("-tmp-").is_some_and(|(id, _)| BlobId::from_hex(id).is_some())
}

/// Loads one object and checks its name, its seal and its form.
pub(super) fn load<T: DeserializeOwned>(inner: &Inner, directory: &str, id: &BlobId) -> Result<T, RepositoryError> {
    let key = format!("{directory}{id}");
    let mut bytes = inner.store.get(&key).map_err(|error| RepositoryError::on_required(error, &key))?;
    let damaged = |why: &str| RepositoryError::Damaged(format!("{key} is damaged: {why}"));
    if sha256(&bytes) != id.0 {
        return Err(damaged("its bytes do not match its name"));
    }
    let plain = inner.key.open(&mut bytes).ok_or_else(|| damaged("it was not sealed with this repository's key"))?;
    let json = decode(plain).map_err(|why| damaged(&why))?;
    serde_json::from_slice(&json).map_err(|error| damaged(&format!("{error}")))
}

/// Saves one object under its name and returns that. An equal object that is there already is success.
pub(super) fn save(inner: &Inner, directory: &str, object: &impl Serialize) -> Result<(BlobId, u64), RepositoryError> {
    let failed =
        |error: &dyn std::fmt::Display| RepositoryError::machine(format!("cannot encode {directory}: {error}"));
    let mut json = serde_json::to_vec(object).map_err(|error| failed(&error))?;
    if inner.config.version >= 2 {
        let compressed = compression::compress(&json).map_err(|error| failed(&error))?;
        json.clear();
        json.push(COMPRESSED);
        json.extend_from_slice(&compressed);
    }
    let sealed = inner.key.seal(&json)?;
    let id = BlobId(sha256(&sealed));
    put_named(inner, &format!("{directory}{id}"), &sealed)?;
    Ok((id, sealed.len() as u64))
}

/// Puts an object whose name is the hash of its bytes. One of that name that is there already counts only when it has
/// these bytes: an attempt that was cut short may have left it.
pub(super) fn put_named(inner: &Inner, key: &str, bytes: &[u8]) -> Result<(), RepositoryError> {
    match inner.store.put(key, bytes, PutMode::CreateNew) {
        Err(error) if error.kind == StoreErrorKind::AlreadyExists => replace_unless_equal(inner, key, bytes),
        other => Ok(other?),
    }
}

fn replace_unless_equal(inner: &Inner, key: &str, bytes: &[u8]) -> Result<(), RepositoryError> {
    match inner.store.get(key) {
        Ok(stored) if stored == bytes => Ok(()),
        // A host that may put but not read: the name is the hash of the bytes, and only our own puts have made it.
        Err(error) if error.kind == StoreErrorKind::Denied => Ok(()),
        _ => Ok(inner.store.put(key, bytes, PutMode::Replace)?),
    }
}

/// The JSON of an object, whichever way it was encoded. The error says what is wrong with it.
pub(super) fn decode(plain: &[u8]) -> Result<Vec<u8>, String> {
    match plain.first() {
        Some(&COMPRESSED) => compression::decompress(&plain[1..]),
        Some(b'{' | b'[') => Ok(plain.to_vec()),
        _ => Err("its encoding is unknown".to_owned()),
    }
}
