//! A drill report and its arithmetic.
//!
//! Everything in a [`Report`] but the run's id is computed from the raw events of the run by [`summarize`]; the same
//! function runs when the report is written and when somebody verifies it.

mod findings;
mod journal;
mod sources;
mod summary;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::events::{CleanedUp, Isolated};

pub use journal::{journal_bytes, read_journal};
pub use summary::{from_journal, summarize};

/// Version of `report.json`; a newer one is refused with a sentence.
pub const REPORT_FORMAT: u32 = 1;

/// Step that declares the incident.
pub const STEP_DECLARE: &str = "declare";
/// Step that hides the primary.
pub const STEP_ISOLATE: &str = "isolate";
/// Step that removes what the drill made.
pub const STEP_CLEAN_UP: &str = "clean up";
/// Before the name of a plan's step: the step that executes it. `declare` may list either name.
pub const STEP_PLAN: &str = "step: ";
/// Before a source's name: the step that reads how new its restored data is.
pub const STEP_RECOVERED_TO: &str = "recovered to: ";
/// Before a check's name: the step that tries it. `declare` may list either name.
pub const STEP_CHECK: &str = "check: ";

/// A drill report. Times are UTC; durations are seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_FORMAT`].
    pub format: u32,
    /// Gap-free number of the drill within the system, from 1.
    pub drill: u64,
    pub system: String,
    pub plan: String,
    /// Id of the run; the one field that is not computed from the events.
    pub run: String,
    /// Every step of the plan succeeded, every declared check passed, something was restored.
    pub passed: bool,
    pub verdict: Verdict,
    /// Data that would have been lost: that of the oldest source. `None` when not measured.
    pub rpo_seconds: Option<f64>,
    /// From `t0` to the last passing check. `None` unless the drill passed.
    pub rto_seconds: Option<f64>,
    /// Source that decides the RPO.
    pub rpo_source: Option<String>,
    /// How its age was read: `beacon`, `newest entry` or `snapshot time`.
    pub rpo_method: Option<String>,
    /// Check that ends the RTO.
    pub rto_check: Option<String>,
    /// Spread between the newest and the oldest restored source.
    pub skew_seconds: Option<f64>,
    pub objectives: ObjectiveSeconds,
    /// The incident was declared; the RTO counts from here.
    pub t0: Timestamp,
    /// The assumed moment of the incident; the RPO counts back from here. Equal to `t0` unless asked otherwise.
    pub at: Timestamp,
    /// First event.
    pub started: Timestamp,
    /// Last event.
    pub finished: Timestamp,
    /// `local` or `aws`.
    pub provider: String,
    /// True for a run on a modelled cloud; such a run is never a drill.
    pub simulated: bool,
    pub trigger: String,
    pub identity: String,
    pub host: String,
    pub tool_version: String,
    /// SHA-256 of the policy, hex.
    pub policy: String,
    /// One row per restore.
    pub sources: Vec<SourceRow>,
    /// One row per attempt, in order of their start; then what was not reached.
    pub steps: Vec<StepRow>,
    /// Declared checks in plan order.
    pub checks: Vec<CheckRow>,
    pub isolation: Option<Isolated>,
    pub clean_up: Option<CleanedUp>,
    /// Times the run was taken up again by another process.
    pub interruptions: Vec<Interruption>,
    /// What went wrong, in order of weight.
    pub deficiencies: Vec<Deficiency>,
    /// What this drill does not prove, a sentence each.
    pub not_tested: Vec<String>,
    /// What the numbers take for granted, a sentence each.
    pub assumptions: Vec<String>,
    /// SHA-256 of the raw events as stored, hex.
    pub events_sha256: String,
}

/// The verdict and its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub overall: Overall,
    pub rpo: ObjectiveVerdict,
    pub rto: ObjectiveVerdict,
}

/// The verdict in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overall {
    #[serde(rename = "passed")]
    Passed,
    #[serde(rename = "passed with findings")]
    PassedWithFindings,
    #[serde(rename = "passed, objective missed")]
    ObjectiveMissed,
    #[serde(rename = "failed")]
    Failed,
    /// Ended before its end, without a failed step or check.
    #[serde(rename = "aborted")]
    Aborted,
}

impl Overall {
    /// The words used in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::PassedWithFindings => "passed with findings",
            Self::ObjectiveMissed => "passed, objective missed",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        }
    }
}

/// A number against its objective; equal is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectiveVerdict {
    #[serde(rename = "met")]
    Met,
    #[serde(rename = "missed")]
    Missed,
    #[serde(rename = "no objective")]
    NoObjective,
    #[serde(rename = "not measured")]
    NotMeasured,
}

impl ObjectiveVerdict {
    /// The words used in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::NoObjective => "no objective",
            Self::NotMeasured => "not measured",
        }
    }
}

/// What was promised; `None` when the policy sets none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ObjectiveSeconds {
    pub rpo_seconds: Option<f64>,
    pub rto_seconds: Option<f64>,
}

/// One restored source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceRow {
    /// The plan's step that restored it.
    pub step: String,
    pub source: String,
    /// Source kind's word.
    pub kind: String,
    pub point: String,
    /// Run that made the point.
    pub run: String,
    /// What the backup says the data is true of.
    pub data_time: Timestamp,
    /// When the DR copy was complete and verified.
    pub available_time: Timestamp,
    /// Root tree, hex: the content hash at capture.
    pub tree: String,
    pub bytes: u64,
    pub entries: u64,
    /// Directory below the drill's target.
    pub to: String,
    /// What the data itself says it is true of.
    pub recovered_to: Timestamp,
    /// `beacon`, `newest entry` or `snapshot time`.
    pub method: String,
    /// What was read.
    pub detail: String,
    /// True when `recovered_to` was not measured but taken from `data_time`.
    pub assumed: bool,
    /// `at - recovered_to`, never below 0.
    pub rpo_seconds: f64,
    /// True when a time in this row is later than it can be.
    pub clock_suspect: bool,
    /// What was not restored exactly, at most 100 named.
    pub missing: Vec<String>,
    pub missing_count: u64,
}

/// How an attempt of a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepOutcome {
    #[serde(rename = "succeeded")]
    Succeeded,
    #[serde(rename = "failed")]
    Failed,
    /// The process died under it; a later process took the run up.
    #[serde(rename = "interrupted")]
    Interrupted,
    /// Started, and no end is recorded.
    #[serde(rename = "unfinished")]
    Unfinished,
    #[serde(rename = "not reached")]
    NotReached,
}

impl StepOutcome {
    /// The words used in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Unfinished => "unfinished",
            Self::NotReached => "not reached",
        }
    }
}

/// One attempt of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRow {
    /// Name of the plan's step or check; for everything else the name in the events.
    pub name: String,
    /// `restore`, `script`, `wait`, `check`, `recovered to`, `declare`, `isolate`, `clean up`, `plan step` or `engine`.
    pub kind: String,
    /// From 1; 0 for a step that was not reached.
    pub attempt: u32,
    pub outcome: StepOutcome,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    pub seconds: Option<f64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckRow {
    pub check: String,
    /// `command`, `http`, `tcp`, `sql` or `file`; empty when it was not tried.
    pub kind: String,
    pub asked: String,
    pub expected: String,
    /// What came, or why it could not be tried.
    pub actual: String,
    pub passed: bool,
    /// False when there is no record of it or it could not be tried at all.
    pub tried: bool,
    pub attempts: u32,
    pub decided_at: Option<Timestamp>,
    /// `decided_at - t0`.
    pub seconds: Option<f64>,
}

/// The run was taken up again after the process before it died.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interruption {
    /// Last sign of life of the process before.
    pub last_event: Timestamp,
    pub continued: Timestamp,
    pub seconds: f64,
}

/// Weight of a deficiency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The drill did not pass because of it.
    Failure,
    /// Passed, but an objective was missed.
    Objective,
    /// To be looked into.
    Finding,
}

impl Severity {
    /// The word used in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Objective => "objective",
            Self::Finding => "finding",
        }
    }
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deficiency {
    pub severity: Severity,
    /// The step, check or source.
    pub subject: String,
    /// One sentence.
    pub sentence: String,
}

/// Why events do not make a report.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReportError {
    #[error("line {line} of the events is not an event: {why}")]
    Line { line: usize, why: String },
    #[error("the events are not gap-free: after event {} comes event {found}", expected.saturating_sub(1))]
    Sequence { expected: u64, found: u64 },
    #[error("event {seq} of step \"{step}\" {why}")]
    Contradiction { seq: u64, step: String, why: String },
    #[error("the events hold no declared incident: no step \"declare\" with its evidence succeeded")]
    NotDeclared,
}

impl Report {
    /// The same report under the run's id.
    #[must_use]
    pub fn with_run(mut self, run: &str) -> Self {
        run.clone_into(&mut self.run);
        self
    }

    /// The canonical bytes of `report.json`.
    pub fn to_bytes(&self) -> Vec<u8> {
        super::json_bytes(self)
    }
}

/// SHA-256 of stored bytes, hex: of `report.json` for the ledger, of the events for the report.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
