//! Records that lie at the DR site as JSON: recovery points, archives, the policy in force.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ground::{Failure, Result};
use crate::policy::EXISTING_REPOSITORY;

/// Version of the records' format; a newer one is refused with a sentence.
pub const RECORD_FORMAT: u32 = 1;

/// The record of what is in force.
pub(super) const POLICY_IN_FORCE: &str = "policy-in-force.json";
/// Below which the records of points lie.
pub(super) const POINTS: &str = "points/";

/// Whether everything that should be in a point is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PointState {
    /// Everything.
    Complete,
    /// Something is missing; `missing` names it.
    Partial,
}

/// Something that should be in a point and is not, or not exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Escaped path ([`crate::ground::byte_path::escape`]).
    pub path: String,
    /// One sentence without a full stop.
    pub reason: String,
}

/// When the logs of a source were last read whole, and what came out when this very point did so. Between such reads
/// a log that grew is read from where the point before ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullRead {
    /// Data time of the point that read everything.
    pub at: Timestamp,
    /// Files that earlier points were found to hold wrongly, by this point's own full read; this point holds them
    /// right. At most 1,000, `rewritten_count` has the whole number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewritten: Vec<Missing>,
    #[serde(default)]
    pub rewritten_count: u64,
}

/// A recovery point: what one backup of one source left at the DR site. Written last, once, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointRecord {
    pub format: u32,
    /// `SOURCE-RUN`, for instance `files-20261122T003012Z-7f3a`; in an existing repository `SOURCE-SNAPSHOT`.
    pub id: String,
    pub system: String,
    pub source: String,
    /// The source kind's word.
    pub kind: String,
    /// The run that made it.
    pub run: String,
    /// Position among all points of the system, from 1, in the order in which they were made; see
    /// [`PointRecord::compare_newness`].
    pub sequence: u64,
    /// The moment the data is true of: for files the moment the read began, in an existing repository the snapshot's.
    pub data_time: Timestamp,
    /// When the DR copy was complete and verified.
    pub available_time: Timestamp,
    /// Bytes of the data as it would be restored.
    pub bytes: u64,
    /// Bytes that had to be added to the repository.
    pub added_bytes: u64,
    /// Bytes that had to be read from the source; not known of points made before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
    /// For logs: the newest read of everything that there was, by this point or an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_read: Option<FullRead>,
    /// Entries: files, directories and all else.
    pub entries: u64,
    pub state: PointState,
    /// Kept by hand, never expired.
    pub held: bool,
    /// What is missing, at most 1,000 entries; `missing_count` has the whole number.
    pub missing: Vec<Missing>,
    pub missing_count: u64,
    /// Snapshot in the repository that holds the point, hex.
    pub snapshot: String,
    /// Root tree of the snapshot, hex: the content hash carried from capture to restore.
    pub tree: String,
    /// Escaped absolute paths whose contents come directly below the restore target when there is one.
    pub roots: Vec<String>,
    /// SHA-256 of the policy in force, hex.
    pub policy: String,
    /// Host that read the data, as the snapshot names it.
    pub host: String,
    /// Why the times may be wrong, when the clock was seen to run backwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_suspect: Option<String>,
    /// Of a database server: what it takes to ask the restored data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
}

/// What it takes to ask the restored data of a database server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Name and version, for instance `PostgreSQL 15.18`.
    pub product: String,
    /// The database that `sql` checks and beacons are asked.
    pub database: String,
    /// A role that may read everything.
    pub role: String,
}

impl PointRecord {
    /// Whether its data lies in the existing repository of its source, and its snapshot is another program's.
    pub fn is_elsewhere(&self) -> bool {
        self.kind == EXISTING_REPOSITORY
    }

    /// Which of two points of one source has the newer data. The sequence decides, whatever clocks said. Snapshots of an
    /// existing repository may come to be known in any order, so of two of them their own times do; one that is dated later
    /// than the moment it was found counts from that moment.
    pub fn compare_newness(&self, other: &Self) -> Ordering {
        if self.is_elsewhere() && other.is_elsewhere() {
            let moment = |point: &Self| (point.data_time.min(point.available_time), point.sequence);
            return moment(self).cmp(&moment(other));
        }
        self.sequence.cmp(&other.sequence)
    }
}

/// An archive: a self-contained cold object made from one point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveRecord {
    pub format: u32,
    /// `archive-POINT`.
    pub id: String,
    pub system: String,
    pub source: String,
    pub point: String,
    pub run: String,
    pub data_time: Timestamp,
    pub archived_time: Timestamp,
    /// `directory`, later Glacier and S3 classes.
    pub tier: String,
    /// Where it lies, escaped path or URL.
    pub location: String,
    /// Size of the cold object.
    pub bytes: u64,
    /// SHA-256 of the cold object, hex; read back before this record was written.
    pub sha256: String,
}

/// The policy in force and the recovery scripts that belong to it; replaced as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyInForce {
    pub format: u32,
    pub system: String,
    /// SHA-256 of the policy's text, hex; the text lies under `policies/<hash>.toml`.
    pub policy: String,
    /// File name of each script and the SHA-256 of its content; the content lies under `scripts/<hash>`.
    pub scripts: BTreeMap<String, String>,
    pub since: Timestamp,
}

/// A record's bytes as they are stored: what its SHA-256 in the ledger is of.
pub fn record_bytes<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(record)
        .map_err(|error| Failure::failed(format!("cannot write a record as JSON: {error}")))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a record.
pub(super) fn parse<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T> {
    let value: serde_json::Value = serde_json::from_slice(bytes)
        .map_err(|error| Failure::failed(format!("the record {key} at the DR site is damaged: {error}")))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if format > u64::from(RECORD_FORMAT) {
        return Err(Failure::failed(format!(
            "the record {key} at the DR site has format {format}, this lifeboat knows {RECORD_FORMAT}: use a newer lifeboat"
        )));
    }
    serde_json::from_value(value)
        .map_err(|error| Failure::failed(format!("the record {key} at the DR site cannot be read: {error}")))
}
