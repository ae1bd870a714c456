//! How the sources of a backup ended, and the run's sentence for it.

use lifeboat_verify::chain::Outcome;

use crate::ground::Failure;
use crate::site::records::{PointRecord, PointState};

/// One end of a run: a source's, or a hook's.
#[derive(Debug, Clone)]
pub enum SourceOutcome {
    /// A point was made; it may be partial.
    Point(Box<PointRecord>),
    /// Every snapshot of an existing repository has its point already: so many.
    NothingNew { source: String, points: u64 },
    /// No point was made, or not every one that there should be, and why.
    Failed { source: String, error: String },
    /// A hook that undoes something did not end well: a sentence that names it. The points are none the worse.
    HookFailed { error: String },
}

/// The points and failures of a run in one sentence, and the ledger's word for it.
pub fn summarize(outcomes: &[SourceOutcome]) -> (Outcome, String) {
    let points = outcomes.iter().filter(|outcome| matches!(outcome, SourceOutcome::Point(_))).count();
    let partial = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, SourceOutcome::Point(point) if point.state == PointState::Partial))
        .count();
    let hooks = outcomes.iter().filter(|outcome| matches!(outcome, SourceOutcome::HookFailed { .. })).count();
    let unchanged = outcomes.iter().filter(|outcome| matches!(outcome, SourceOutcome::NothingNew { .. })).count();
    let failed = outcomes.len() - points - hooks - unchanged;
    let outcome = match (points + unchanged, failed + partial + hooks) {
        (0, _) => Outcome::Failed,
        (_, 0) => Outcome::Done,
        _ => Outcome::Partial,
    };
    let mut summary = format!("{points} recovery points, {partial} of them partial; {failed} sources failed");
    if hooks > 0 {
        summary.push_str(&format!("; {hooks} hooks failed"));
    }
    if unchanged > 0 {
        summary.push_str(&format!("; {unchanged} sources with nothing new"));
    }
    let rewritten: u64 = outcomes.iter().map(rewritten_logs).sum();
    if rewritten > 0 {
        summary.push_str(&format!("; the full read of logs found {rewritten} that earlier points hold wrongly"));
    }
    (outcome, summary)
}

/// Logs that a full read of this run found to be wrong in earlier points.
fn rewritten_logs(outcome: &SourceOutcome) -> u64 {
    match outcome {
        SourceOutcome::Point(point) => point.full_read.as_ref().map_or(0, |full_read| full_read.rewritten_count),
        SourceOutcome::NothingNew { .. } | SourceOutcome::Failed { .. } | SourceOutcome::HookFailed { .. } => 0,
    }
}

/// The failure of a run in which no source gave a point.
pub fn nothing_backed_up(outcomes: &[SourceOutcome]) -> Failure {
    let reasons: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            SourceOutcome::Failed { source, error } => Some(format!("{source}: {error}")),
            SourceOutcome::HookFailed { error } => Some(error.clone()),
            SourceOutcome::Point(_) | SourceOutcome::NothingNew { .. } => None,
        })
        .collect();
    Failure::failed(format!("nothing was backed up: {}", reasons.join("; ")))
}
