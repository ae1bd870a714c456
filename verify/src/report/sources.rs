//! What was restored, and how old it was.

use std::collections::HashSet;

use super::SourceRow;
use super::journal::{Journal, plain_name, seconds_between};
use crate::events::{Declared, RecoveredTo, Restored, StepOutput};

/// One row per restore, in order of their start.
pub(super) fn source_rows(journal: &Journal, declared: &Declared) -> Vec<SourceRow> {
    let restores = journal.evidence().filter_map(|(step, evidence)| match evidence {
        StepOutput::Restored(restored) => Some((step, restored)),
        _ => None,
    });
    restores.map(|(step, restored)| row(declared, step, restored, measured(journal, &restored.source))).collect()
}

fn measured<'j>(journal: &'j Journal, source: &str) -> Option<&'j RecoveredTo> {
    journal.evidence().find_map(|(_, evidence)| match evidence {
        StepOutput::RecoveredTo(recovered) if recovered.source == source => Some(recovered),
        _ => None,
    })
}

fn row(declared: &Declared, step: &str, restored: &Restored, measured: Option<&RecoveredTo>) -> SourceRow {
    let recovered_to = measured.map_or(restored.data_time, |measured| measured.time);
    let age = seconds_between(recovered_to, declared.at);
    SourceRow {
        step: plain_name(step).to_owned(),
        source: restored.source.clone(),
        kind: restored.kind.clone(),
        point: restored.point.clone(),
        run: restored.run.clone(),
        data_time: restored.data_time,
        available_time: restored.available_time,
        tree: restored.tree.clone(),
        bytes: restored.bytes,
        entries: restored.entries,
        to: restored.to.clone(),
        recovered_to,
        method: measured.map_or("snapshot time", |measured| &measured.method).to_owned(),
        detail: measured.map_or("not measured: taken from the recovery point", |measured| &measured.detail).to_owned(),
        assumed: measured.is_none(),
        rpo_seconds: age.max(0.0),
        clock_suspect: age < 0.0 || restored.data_time > restored.available_time,
        missing: restored.missing.clone(),
        missing_count: restored.missing_count,
    }
}

/// The row that decides the RPO of the system: the oldest, the first of equals.
pub(super) fn oldest(rows: &[SourceRow]) -> Option<&SourceRow> {
    rows.iter().reduce(|oldest, row| if row.rpo_seconds > oldest.rpo_seconds { row } else { oldest })
}

/// Spread between the newest and the oldest restored source.
pub(super) fn skew_seconds(rows: &[SourceRow]) -> Option<f64> {
    let oldest = rows.iter().map(|row| row.recovered_to).min()?;
    let newest = rows.iter().map(|row| row.recovered_to).max()?;
    Some(seconds_between(oldest, newest))
}

/// Sources of the policy that nothing was restored of.
pub(super) fn unrestored<'a>(rows: &[SourceRow], declared: &'a Declared) -> Vec<&'a str> {
    let restored: HashSet<&str> = rows.iter().map(|row| row.source.as_str()).collect();
    declared.sources.iter().map(String::as_str).filter(|source| !restored.contains(source)).collect()
}
