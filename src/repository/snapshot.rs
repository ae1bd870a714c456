//! Snapshot objects: which tree, of which paths, when, by whom.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::RepositoryError;
use super::tree::BlobId;
use super::{Inner, unpacked};
use crate::site::StoreErrorKind;

/// Directory of the snapshots.
pub(super) const SNAPSHOTS: &str = "snapshots/";

/// A snapshot as the format has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Hex id; empty until saved.
    pub id: String,
    pub time: Timestamp,
    pub tree: BlobId,
    /// Escaped paths.
    pub paths: Vec<String>,
    pub hostname: String,
    pub username: String,
    pub uid: u32,
    pub gid: u32,
    pub tags: Vec<String>,
    pub parent: Option<String>,
}

/// Stored form, fields in restic's order. `excludes`, `original`, `program_version` and `summary` are ignored.
#[derive(Debug, Serialize, Deserialize)]
struct SnapshotJson {
    time: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<BlobId>,
    tree: BlobId,
    paths: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    hostname: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    uid: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    gid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<String>>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Snapshot {
    fn from_json(id: &BlobId, json: SnapshotJson) -> Self {
        Self {
            id: id.to_string(),
            time: json.time,
            tree: json.tree,
            paths: json.paths.unwrap_or_default(),
            hostname: json.hostname,
            username: json.username,
            uid: json.uid,
            gid: json.gid,
            tags: json.tags.unwrap_or_default(),
            parent: json.parent.map(|parent| parent.to_string()),
        }
    }

    fn to_json(&self) -> SnapshotJson {
        SnapshotJson {
            time: self.time,
            parent: self.parent.as_deref().and_then(BlobId::from_hex),
            tree: self.tree,
            paths: Some(self.paths.clone()),
            hostname: self.hostname.clone(),
            username: self.username.clone(),
            uid: self.uid,
            gid: self.gid,
            tags: (!self.tags.is_empty()).then(|| self.tags.clone()),
        }
    }
}

/// Reads the JSON of the snapshot with this id.
pub(super) fn parse(id: &BlobId, json: &[u8]) -> Result<Snapshot, serde_json::Error> {
    serde_json::from_slice(json).map(|json| Snapshot::from_json(id, json))
}

/// Loads one snapshot.
pub(super) fn load(inner: &Inner, id: &BlobId) -> Result<Snapshot, RepositoryError> {
    unpacked::load(inner, SNAPSHOTS, id).map(|json| Snapshot::from_json(id, json))
}

/// Loads all, oldest first; the first that cannot be read is the error.
pub(super) fn load_all(inner: &Inner) -> Result<Vec<Snapshot>, RepositoryError> {
    let (ids, foreign) = unpacked::list(inner, SNAPSHOTS)?;
    if let Some(key) = foreign.first() {
        return Err(RepositoryError::Damaged(format!("{key} has no name that the format knows")));
    }
    let mut snapshots = Vec::with_capacity(ids.len());
    for (id, _) in ids {
        match load(inner, &id) {
            Ok(snapshot) => snapshots.push(snapshot),
            // Removed since the listing: somebody withdrew or forgot it.
            Err(RepositoryError::Damaged(_)) if inner.store.size(&format!("{SNAPSHOTS}{id}"))?.is_none() => {}
            Err(error) => return Err(error),
        }
    }
    snapshots.sort_by(|left, right| (left.time, &left.id).cmp(&(right.time, &right.id)));
    Ok(snapshots)
}

/// Loads all that can be read, oldest first, and a sentence for each that cannot; the listing is complete, or an error.
pub(super) fn load_readable(inner: &Inner) -> Result<(Vec<Snapshot>, Vec<String>), RepositoryError> {
    let (ids, foreign) = unpacked::list(inner, SNAPSHOTS)?;
    let mut damage: Vec<String> =
        foreign.iter().map(|key| format!("{key} has no name that the format knows")).collect();
    let mut snapshots = Vec::new();
    for (id, _) in ids {
        match load(inner, &id) {
            Ok(snapshot) => snapshots.push(snapshot),
            // As above.
            Err(RepositoryError::Damaged(_)) if inner.store.size(&format!("{SNAPSHOTS}{id}"))?.is_none() => {}
            Err(error) => damage.push(error.to_string()),
        }
    }
    snapshots.sort_by(|left, right| (left.time, &left.id).cmp(&(right.time, &right.id)));
    Ok((snapshots, damage))
}

/// Looks for one with a tag among those that may be read: a host that may put and not read has its own in its cache.
pub(super) fn find(inner: &Inner, tag: &str) -> Result<Option<Snapshot>, RepositoryError> {
    for (id, _) in unpacked::list(inner, SNAPSHOTS)?.0 {
        match load(inner, &id) {
            Ok(snapshot) if snapshot.tags.iter().any(|own| own == tag) => return Ok(Some(snapshot)),
            Ok(_) => {}
            // One that cannot be read, perhaps the very one, must not stop a run: a second snapshot costs little.
            Err(RepositoryError::Store(error)) if error.kind != StoreErrorKind::Denied => return Err(error.into()),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Saves one and returns its id.
pub(super) fn save(inner: &Inner, snapshot: &Snapshot) -> Result<String, RepositoryError> {
    unpacked::save(inner, SNAPSHOTS, &snapshot.to_json()).map(|(id, _)| id.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_restic_writes_is_read() {
        let id = BlobId([1; 32]);
        let text = format!(
            r#"{{"time":"2024-05-06T07:08:09.123456789+02:00","tree":"{id}","paths":["/srv"],"hostname":"web",
            "username":"root","uid":1,"gid":2,"excludes":["*.tmp"],"tags":["a"],"parent":"{id}","original":"{id}",
            "program_version":"restic 0.17.0","summary":{{"files_new":1}}}}"#
        );
        let snapshot = Snapshot::from_json(&id, serde_json::from_str(&text).unwrap());
        assert_eq!(snapshot.time, "2024-05-06T05:08:09.123456789Z".parse().unwrap());
        assert_eq!((snapshot.tree, snapshot.parent), (id, Some(id.to_string())));
        assert_eq!((snapshot.paths, snapshot.tags), (vec!["/srv".to_owned()], vec!["a".to_owned()]));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            prop_assert!(serde_json::from_slice::<SnapshotJson>(&bytes).is_err());
        }
    }
}
