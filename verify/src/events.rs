//! Raw events of a run: the step journal as it is stored at the DR site, one JSON object a line.
//!
//! The journal of a drill *is* its evidence: every number of the report is recomputed from these events alone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What happened to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Committed before the effect.
    Started,
    /// `data` is the step's output.
    Succeeded,
    /// `data` is `{"error": sentence}`.
    Failed,
    /// A process took the run up again after the one before it died; the step is `run`.
    Continued,
}

/// One line of a step journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// From 1, gap-free within the run.
    pub seq: u64,
    /// Wall clock, UTC.
    pub at: Timestamp,
    /// Step name, unique within the run; see [`StepOutput`] for the names that carry evidence.
    pub step: String,
    /// From 1; a retry is a new attempt.
    pub attempt: u32,
    pub kind: EventKind,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
}

/// Outputs of the steps that carry evidence, by the key `evidence`. Steps without it (engine housekeeping) have none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "evidence", rename_all = "snake_case")]
pub enum StepOutput {
    /// Step `declare`: the incident is declared; t0.
    Declared(Declared),
    /// Step `isolate`: what hides the primary.
    Isolated(Isolated),
    /// A plan's restore step.
    Restored(Restored),
    /// A plan's script step.
    Script(ScriptRun),
    /// A plan's wait step.
    Waited { seconds: f64 },
    /// Step `recovered to: SOURCE`: how new the restored data is.
    RecoveredTo(RecoveredTo),
    /// A check, passed or not (a check that could not be tried at all is a failed step).
    Checked(Checked),
    /// Step `clean up`.
    CleanedUp(CleanedUp),
}

/// The drill's frame: what was promised and what was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    pub t0: Timestamp,
    pub system: String,
    /// Gap-free number of the drill within the system, from 1.
    pub drill: u64,
    pub plan: String,
    /// SHA-256 of the policy, hex.
    pub policy: String,
    /// "Had it happened then": points available at this time were used. Equal to `t0` by default.
    pub at: Timestamp,
    pub rpo_objective_seconds: Option<f64>,
    pub rto_objective_seconds: Option<f64>,
    /// Every step of the plan, by name, in plan order: a step without an event was not reached.
    pub steps: Vec<String>,
    /// Every check of the plan, by name.
    pub checks: Vec<String>,
    /// Sources in the policy; those that no step restores were not tested.
    pub sources: Vec<String>,
    pub host: String,
    pub tool_version: String,
    pub trigger: String,
    pub identity: String,
    /// `local` or `aws`.
    pub provider: String,
}

/// How the drill was kept from the primary site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Isolated {
    /// `mount namespace`, `landlock` or `none`.
    pub method: String,
    /// True when the primary's paths were proven unreachable by trying.
    pub proven: bool,
    /// Primary paths that were hidden.
    pub hidden: Vec<String>,
    /// Why something is not proven, a sentence each.
    pub not_proven: Vec<String>,
}

/// One restore step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restored {
    pub source: String,
    /// Source kind's word.
    pub kind: String,
    pub point: String,
    pub run: String,
    pub data_time: Timestamp,
    pub available_time: Timestamp,
    /// Root tree, hex: the content hash at capture.
    pub tree: String,
    pub bytes: u64,
    pub entries: u64,
    /// Directory below the drill's target.
    pub to: String,
    /// What was not restored exactly, at most 100 named.
    pub missing: Vec<String>,
    pub missing_count: u64,
}

/// One script step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScriptRun {
    pub file: String,
    /// SHA-256 of the script as stored at the DR site, hex.
    pub sha256: String,
    pub exit_code: i32,
    /// The end of standard output and standard error, at most 16 KiB, secrets masked.
    pub output: String,
}

/// How new the restored data is, by the method named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveredTo {
    pub source: String,
    /// The data is true of this moment.
    pub time: Timestamp,
    /// `beacon`, `newest entry` or `snapshot time`.
    pub method: String,
    /// What was read, for instance the query and its value.
    pub detail: String,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    pub check: String,
    /// `command`, `http`, `tcp`, `sql` or `file`.
    pub kind: String,
    /// What was asked: the query, URL, path or command, secrets masked.
    pub asked: String,
    pub expected: String,
    pub actual: String,
    pub passed: bool,
    pub attempts: u32,
    /// When the deciding attempt ended: the last passing one ends the RTO.
    pub decided_at: Timestamp,
}

/// The drill's clean-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CleanedUp {
    pub created: Vec<String>,
    pub deleted: Vec<String>,
    pub left: Vec<String>,
    /// Processes of the drill that were still running and were ended.
    pub ended_processes: u64,
}
