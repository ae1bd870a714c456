//! The hash chain of the ledger: every run of a system, good or bad, one entry each.
//!
//! Each entry carries the SHA-256 of the exact stored bytes of the entry before it. Changing, dropping, inserting or
//! reordering an entry therefore breaks the chain at the entry after it. What a chain alone cannot show is a changed
//! last entry or a cut-off end: for those somebody has to have noted the head hash elsewhere
//! ([`verify_chain_with_head`]).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Version of the entries' format; a newer one is refused with a sentence.
pub const ENTRY_FORMAT: u32 = 1;

/// What the first entry has in `previous`: 64 zeros.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All of it.
    Done,
    /// Some source, file or attribute is missing.
    Partial,
    /// Tried and not succeeded; a drill that did not pass.
    Failed,
    /// Should have happened and did not.
    Missed,
    /// Left out on purpose; the summary says why.
    Skipped,
    /// Ended by a person.
    Cancelled,
}

/// A recovery point the run made or used, bound to the bytes of its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointMark {
    /// The point's id.
    pub id: String,
    /// SHA-256 of the stored point record, hex.
    pub record_sha256: String,
}

/// A drill's result, bound to the bytes of its report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillMark {
    /// Gap-free number of the drill within the system, from 1.
    pub number: u64,
    /// SHA-256 of the stored `report.json`, hex.
    pub report_sha256: String,
    pub passed: bool,
    pub rpo_seconds: Option<f64>,
    pub rto_seconds: Option<f64>,
}

/// One run in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// [`ENTRY_FORMAT`].
    pub format: u32,
    /// From 1, gap-free.
    pub number: u64,
    /// SHA-256 of the previous entry's exact stored bytes, hex; [`GENESIS`] for the first.
    pub previous: String,
    /// When the entry was written.
    pub at: Timestamp,
    pub system: String,
    pub run: String,
    /// `backup`, `drill`, `restore`, `archive`, `rebuild`, ...
    pub kind: String,
    pub outcome: Outcome,
    /// When the run began.
    pub started: Timestamp,
    /// When the run ended.
    pub finished: Timestamp,
    /// SHA-256 of the policy in force, hex.
    pub policy: String,
    /// Host that executed the run.
    pub host: String,
    /// One sentence.
    pub summary: String,
    #[serde(default)]
    pub points: Vec<PointMark>,
    /// Ids of archives the run made or used.
    #[serde(default)]
    pub archives: Vec<String>,
    #[serde(default)]
    pub drill: Option<DrillMark>,
    /// SHA-256 of the run's stored step journal, hex.
    #[serde(default)]
    pub journal_sha256: Option<String>,
}

impl Entry {
    /// The canonical bytes to store: indented JSON with the fields in the order above, and a newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        super::json_bytes(self)
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// Not JSON, not an entry, or of a newer format; the message does not name the entry.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let entry: Self = serde_json::from_slice(bytes).map_err(|error| format!("is not a ledger entry: {error}"))?;
        if entry.format != ENTRY_FORMAT {
            return Err(format!("has format {}, this version reads format {ENTRY_FORMAT}", entry.format));
        }
        Ok(entry)
    }
}

/// SHA-256 of an entry's exact stored bytes, hex: what the next entry carries in `previous`.
pub fn entry_hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A drill as the chain has it.
#[derive(Debug, Clone, PartialEq)]
pub struct DrillEntry {
    /// Number of the ledger entry.
    pub entry: u64,
    pub run: String,
    pub journal_sha256: Option<String>,
    pub mark: DrillMark,
}

/// What an intact chain says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChainSummary {
    /// Number of entries, which is the number of the last.
    pub entries: u64,
    /// The system, when there is an entry.
    pub system: Option<String>,
    /// Hash of the last entry's bytes: worth noting somewhere else.
    pub head: Option<String>,
    /// When the last entry was written.
    pub last_at: Option<Timestamp>,
    /// Every drill, in ledger order.
    pub drills: Vec<DrillEntry>,
}

impl ChainSummary {
    /// Drill numbers below the highest one that no entry has: a drill that left no record.
    pub fn missing_drills(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.drills.iter().map(|drill| drill.mark.number).collect();
        numbers.sort_unstable();
        let mut missing = Vec::new();
        let mut expected = 1_u64;
        for number in numbers {
            // A forged number near the end of the range must not fill the memory.
            missing.extend((expected..number).take(MISSING_DRILLS_MAX.saturating_sub(missing.len())));
            expected = expected.max(number.saturating_add(1));
        }
        missing
    }
}

/// How many missing drills are named.
const MISSING_DRILLS_MAX: usize = 1000;

/// The first thing wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChainError {
    #[error("ledger entry {expected} is missing: {}", what_comes(*expected, *found))]
    Gap { expected: u64, found: u64 },
    #[error("ledger entry {number} says that it is number {claimed}: entries were renamed or reordered")]
    Number { number: u64, claimed: u64 },
    #[error("ledger entry {number} {why}")]
    Unreadable { number: u64, why: String },
    #[error(
        "ledger entry {number} follows an entry with hash {claimed}, but {}: an entry was changed, dropped or inserted before it",
        what_is_there(*number, actual)
    )]
    Broken { number: u64, claimed: String, actual: String },
    #[error("ledger entry {number} is of system {found}, the ledger is of system {expected}")]
    OtherSystem { number: u64, expected: String, found: String },
    #[error(
        "the ledger ends with hash {actual} at entry {entries}, but its head was noted as {noted}: the last entry was changed or entries were cut off or added"
    )]
    Head { entries: u64, noted: String, actual: String },
}

fn what_comes(expected: u64, found: u64) -> String {
    if expected == 1 {
        format!("the first is entry {found}")
    } else {
        format!("after entry {} comes entry {found}", expected - 1)
    }
}

fn what_is_there(number: u64, actual: &str) -> String {
    if number == 1 { "there is none before it".to_owned() } else { format!("entry {} has hash {actual}", number - 1) }
}

/// Checks a whole chain, entries in ascending order with the number they are stored under.
///
/// # Errors
/// The first entry that is changed, dropped, inserted or out of order. A changed last entry or a cut-off end is not
/// detectable here: see [`verify_chain_with_head`].
pub fn verify_chain<B: AsRef<[u8]>>(entries: impl IntoIterator<Item = (u64, B)>) -> Result<ChainSummary, ChainError> {
    let mut summary = ChainSummary::default();
    for (number, bytes) in entries {
        append(&mut summary, number, bytes.as_ref())?;
    }
    Ok(summary)
}

/// As [`verify_chain`], and the last entry must have the hash that was noted elsewhere.
///
/// # Errors
/// As [`verify_chain`], and a head that differs.
pub fn verify_chain_with_head<B: AsRef<[u8]>>(
    entries: impl IntoIterator<Item = (u64, B)>,
    head: &str,
) -> Result<ChainSummary, ChainError> {
    let summary = verify_chain(entries)?;
    let actual = summary.head.clone().unwrap_or_else(|| GENESIS.to_owned());
    if actual == head {
        return Ok(summary);
    }
    Err(ChainError::Head { entries: summary.entries, noted: head.to_owned(), actual })
}

fn append(summary: &mut ChainSummary, number: u64, bytes: &[u8]) -> Result<(), ChainError> {
    let expected = summary.entries + 1;
    if number != expected {
        return Err(ChainError::Gap { expected, found: number });
    }
    let entry = Entry::from_bytes(bytes).map_err(|why| ChainError::Unreadable { number, why })?;
    if entry.number != number {
        return Err(ChainError::Number { number, claimed: entry.number });
    }
    let actual = summary.head.as_deref().unwrap_or(GENESIS);
    if entry.previous != actual {
        return Err(ChainError::Broken { number, claimed: entry.previous, actual: actual.to_owned() });
    }
    let system = summary.system.get_or_insert_with(|| entry.system.clone());
    if *system != entry.system {
        return Err(ChainError::OtherSystem { number, expected: system.clone(), found: entry.system });
    }
    summary.entries = number;
    summary.head = Some(entry_hash(bytes));
    summary.last_at = Some(entry.at);
    if let Some(mark) = entry.drill {
        let drill = DrillEntry { entry: number, run: entry.run, journal_sha256: entry.journal_sha256, mark };
        summary.drills.push(drill);
    }
    Ok(())
}
