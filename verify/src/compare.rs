//! Recomputes a stored report from its raw events and compares every field.

use serde_json::Value;
use thiserror::Error;

use crate::chain::{ChainSummary, DrillEntry};
use crate::report::{REPORT_FORMAT, Report, ReportError, from_journal, sha256_hex};

/// Why a report is not what its evidence says.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("the report is not a drill report: {0}")]
    NotAReport(String),
    #[error("the report has format {found}; this version verifies format {REPORT_FORMAT}")]
    Format { found: String },
    #[error("the raw events are refused: {0}")]
    Events(#[from] ReportError),
    #[error(
        "the raw events have SHA-256 {actual}, the report names {named}: these are not the events it was made from"
    )]
    EventsHash { named: String, actual: String },
    #[error("the report says {field} = {claimed}, the raw events give {computed}")]
    Field { field: String, claimed: String, computed: String },
    #[error("the ledger is of system {ledger}, the report is of system {report}")]
    OtherSystem { ledger: String, report: String },
    #[error("the ledger holds no entry of drill {0}")]
    NotInLedger(u64),
    #[error("the ledger holds drill {drill} {count} times")]
    SeveralTimes { drill: u64, count: usize },
    #[error("ledger entry {entry} of drill {drill} says {what} = {claimed}, here it is {actual}")]
    LedgerDiffers { entry: u64, drill: u64, what: &'static str, claimed: String, actual: String },
    #[error("the ledger has no entry of drill {0}, though later drills have theirs: a drill left no record")]
    DrillMissing(u64),
}

/// The run that a stored report names, to find its events by.
///
/// # Errors
/// The bytes are no JSON object with a `run`.
pub fn run_of(report: &[u8]) -> Result<String, Refusal> {
    let report = parse(report)?;
    match report.get("run") {
        Some(Value::String(run)) => Ok(run.clone()),
        _ => Err(Refusal::NotAReport("it names no run".to_owned())),
    }
}

/// Recomputes the report from the stored events and compares all of it.
///
/// # Errors
/// The first difference, in words.
pub fn compare(report: &[u8], events: &[u8]) -> Result<Report, Refusal> {
    let claimed = parse(report)?;
    let format = claimed.get("format").cloned().unwrap_or_default();
    if format.as_u64() != Some(u64::from(REPORT_FORMAT)) {
        return Err(Refusal::Format { found: format.to_string() });
    }
    let named = claimed.get("events_sha256").and_then(Value::as_str).unwrap_or("none");
    let actual = sha256_hex(events);
    if named != actual {
        return Err(Refusal::EventsHash { named: named.to_owned(), actual });
    }
    let computed = from_journal(&run_of(report)?, events)?;
    // Through bytes and back, so that numbers of both sides went the same way.
    let expected = parse(&computed.to_bytes())?;
    match first_difference("", &claimed, &expected) {
        None => Ok(computed),
        Some((field, claimed, computed)) => Err(Refusal::Field { field, claimed, computed }),
    }
}

fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    match serde_json::from_slice(bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Refusal::NotAReport("it is no JSON object".to_owned())),
        Err(error) => Err(Refusal::NotAReport(error.to_string())),
    }
}

/// Path of the first difference, what is claimed there and what was computed.
fn first_difference(path: &str, claimed: &Value, computed: &Value) -> Option<(String, String, String)> {
    match (claimed, computed) {
        (Value::Object(left), Value::Object(right)) => {
            let keys = right.keys().chain(left.keys().filter(|key| !right.contains_key(*key)));
            let field = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            keys.into_iter().find_map(|key| compare_optional(&field(key), left.get(key), right.get(key)))
        }
        (Value::Array(left), Value::Array(right)) => {
            let length = left.len().max(right.len());
            (0..length).find_map(|i| compare_optional(&format!("{path}[{i}]"), left.get(i), right.get(i)))
        }
        _ if claimed == computed => None,
        _ => Some((path.to_owned(), claimed.to_string(), computed.to_string())),
    }
}

fn compare_optional(path: &str, left: Option<&Value>, right: Option<&Value>) -> Option<(String, String, String)> {
    let text = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    match (left, right) {
        (Some(left), Some(right)) => first_difference(path, left, right),
        _ => Some((path.to_owned(), text(left), text(right))),
    }
}

/// Looks the report up in an intact chain: its exact bytes, run, events and numbers, and that no drill is missing.
///
/// # Errors
/// The first difference, in words.
pub fn compare_with_ledger(report: &Report, bytes: &[u8], chain: &ChainSummary) -> Result<DrillEntry, Refusal> {
    if let Some(system) = chain.system.as_ref().filter(|system| **system != report.system) {
        return Err(Refusal::OtherSystem { ledger: system.clone(), report: report.system.clone() });
    }
    let found: Vec<&DrillEntry> = chain.drills.iter().filter(|drill| drill.mark.number == report.drill).collect();
    let entry = match found.as_slice() {
        [] => return Err(Refusal::NotInLedger(report.drill)),
        [entry] => *entry,
        several => return Err(Refusal::SeveralTimes { drill: report.drill, count: several.len() }),
    };
    let shown = |seconds: Option<f64>| seconds.map_or_else(|| "none".to_owned(), |seconds| format!("{seconds} s"));
    let mark = &entry.mark;
    let journal = entry.journal_sha256.as_ref().unwrap_or(&report.events_sha256);
    let pairs = [
        ("run", entry.run.clone(), report.run.clone()),
        ("report SHA-256", mark.report_sha256.clone(), sha256_hex(bytes)),
        ("events SHA-256", journal.clone(), report.events_sha256.clone()),
        ("passed", mark.passed.to_string(), report.passed.to_string()),
        ("RPO", shown(mark.rpo_seconds), shown(report.rpo_seconds)),
        ("RTO", shown(mark.rto_seconds), shown(report.rto_seconds)),
    ];
    for (what, claimed, actual) in pairs {
        if claimed != actual {
            let (entry, drill) = (entry.entry, report.drill);
            return Err(Refusal::LedgerDiffers { entry, drill, what, claimed, actual });
        }
    }
    match chain.missing_drills().first() {
        Some(&missing) => Err(Refusal::DrillMissing(missing)),
        None => Ok(entry.clone()),
    }
}
