//! `lifeboat backup`

use clap::Args;
use serde_json::json;

use super::global::Global;
use super::{block_on, output, resume};
use crate::backup::outcome::{SourceOutcome, nothing_backed_up};
use crate::backup::run::BackupRequest;
use crate::ground::{Failure, Progress, Result};
use crate::jobs;
use crate::jobs::backup::BackupDone;
use crate::report::humane;
use crate::site::records::{PointRecord, PointState};

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The system; may be left out when there is one policy
    system: Option<String>,
    /// All systems, one after the other
    #[arg(long, conflicts_with_all = ["system", "source"])]
    all: bool,
    /// Only this source; may be given several times
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Finish what an interrupted backup left and start nothing new
    #[arg(long = "continue")]
    continue_only: bool,
}

/// Runs the command.
pub fn command(global: &Global, arguments: &Arguments) -> Result<u8> {
    if !arguments.all {
        return one_system(global, arguments, arguments.system.as_deref());
    }
    let mut worst = 0;
    for path in global.policy_paths()? {
        let outcome =
            super::global::read_policy(&path).and_then(|policy| one_system(global, arguments, Some(&policy.system)));
        let code = outcome.unwrap_or_else(|failure| {
            super::report(&failure);
            super::exit_code(failure.kind)
        });
        worst = match (worst, code) {
            (0, code) => code,
            (worst, 0) => worst,
            // Some systems are done, some are not.
            (worst, code) if worst == code => worst,
            _ => 3,
        };
    }
    Ok(worst)
}

fn one_system(global: &Global, arguments: &Arguments, system: Option<&str>) -> Result<u8> {
    let file = global.policy_of(system)?;
    let request = BackupRequest { sources: arguments.source.clone() };
    jobs::backup::check_request(&file.policy, &request)?;
    let system = global.open_or_create_system(file)?;
    if !arguments.continue_only {
        resume::other_kinds(global, &system, jobs::backup::KIND)?;
    }
    let _lock = system.lock("backup")?;
    let done = match arguments.continue_only {
        true => block_on(jobs::backup::continue_interrupted(&system))?,
        false => block_on(jobs::backup::backup(&system, &request))?,
    };
    let Some(last) = done.last() else {
        return if global.json {
            output::json(&json!({ "continued": [] })).map(|()| 0)
        } else {
            output::line("nothing was interrupted").map(|()| 0)
        };
    };
    print_result(global, &system.policy.system, &done, last)?;
    for failed in done.iter().flat_map(failures) {
        global.terminal().warn(&failed);
    }
    judge(&done)
}

fn points(done: &BackupDone) -> Vec<&PointRecord> {
    done.outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            SourceOutcome::Point(point) => Some(point.as_ref()),
            SourceOutcome::NothingNew { .. } | SourceOutcome::Failed { .. } | SourceOutcome::HookFailed { .. } => None,
        })
        .collect()
}

/// Sources without anything new, and how many points of each stand.
fn unchanged(done: &BackupDone) -> impl Iterator<Item = (&str, u64)> {
    done.outcomes.iter().filter_map(|outcome| match outcome {
        SourceOutcome::NothingNew { source, points } => Some((source.as_str(), *points)),
        _ => None,
    })
}

/// Entries named one by one.
const NAMED_MAX: usize = 20;

/// What is missing, a sentence each: sources that failed, and the first entries that a partial point lacks.
fn failures(done: &BackupDone) -> Vec<String> {
    let mut sentences = Vec::new();
    for outcome in &done.outcomes {
        match outcome {
            SourceOutcome::Failed { source, error } => sentences.push(format!("{source}: no recovery point: {error}")),
            SourceOutcome::HookFailed { error } => sentences.push(error.clone()),
            SourceOutcome::NothingNew { .. } => {}
            SourceOutcome::Point(point) => {
                let named = point.missing.iter().take(NAMED_MAX);
                sentences.extend(named.map(|entry| format!("{}: {}: {}", point.source, entry.path, entry.reason)));
                let rest = point.missing_count.saturating_sub(NAMED_MAX as u64);
                if rest > 0 {
                    sentences.push(format!("{}: and {rest} more", point.source));
                }
                sentences.extend(rewritten(point));
                sentences.extend(point.clock_suspect.iter().map(|why| format!("{}: {why}", point.source)));
            }
        }
    }
    sentences
}

/// What a full read of logs found wrong in earlier points.
fn rewritten(point: &PointRecord) -> Vec<String> {
    let Some(full_read) = &point.full_read else { return Vec::new() };
    let named = full_read.rewritten.iter().take(NAMED_MAX);
    let mut sentences: Vec<_> =
        named.map(|entry| format!("{}: {}: {}", point.source, entry.path, entry.reason)).collect();
    let rest = full_read.rewritten_count.saturating_sub(NAMED_MAX as u64);
    if rest > 0 {
        sentences.push(format!("{}: and {rest} more logs that were changed in their middle", point.source));
    }
    sentences
}

fn print_result(global: &Global, system: &str, done: &[BackupDone], last: &BackupDone) -> Result<()> {
    if global.json {
        let failed: Vec<_> = last
            .outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                SourceOutcome::Failed { source, error } => Some(json!({ "source": source, "error": error })),
                SourceOutcome::HookFailed { error } => Some(json!({ "source": null, "error": error })),
                SourceOutcome::Point(_) | SourceOutcome::NothingNew { .. } => None,
            })
            .collect();
        let unchanged: Vec<&str> = unchanged(last).map(|(source, _)| source).collect();
        let continued: Vec<&str> = done.iter().filter(|done| done.continued).map(|done| done.run.as_str()).collect();
        return output::json(&json!({
            "system": system, "run": last.run, "points": points(last), "failed": failed, "continued": continued,
            "unchanged": unchanged,
        }));
    }
    for done in done {
        let how = if done.continued { " (continued)" } else { "" };
        output::line(&format!("run {}{how}", done.run))?;
        let rows: Vec<Vec<String>> = points(done).iter().map(|point| row(point)).collect();
        if !rows.is_empty() {
            output::table(&["POINT", "STATE", "ENTRIES>", "SIZE>", "ADDED>"], &rows)?;
        }
        for (source, points) in unchanged(done) {
            output::line(&format!("{source}: nothing new, its {points} snapshots have their recovery points"))?;
        }
    }
    Ok(())
}

fn row(point: &PointRecord) -> Vec<String> {
    let state = match point.state {
        PointState::Complete => "complete".to_owned(),
        PointState::Partial => format!("partial, {} missing", point.missing_count),
    };
    let bytes = humane::bytes;
    vec![point.id.clone(), state, point.entries.to_string(), bytes(point.bytes), bytes(point.added_bytes)]
}

/// Over all runs carried out: nothing made fails, anything missing is "in part".
fn judge(done: &[BackupDone]) -> Result<u8> {
    if let Some(last) = done.last().filter(|last| points(last).is_empty() && unchanged(last).next().is_none()) {
        return Err(nothing_backed_up(&last.outcomes));
    }
    let mut code = 0;
    for done in done {
        let whole = done.outcomes.iter().all(|outcome| match outcome {
            SourceOutcome::Point(point) => point.state == PointState::Complete,
            SourceOutcome::NothingNew { .. } => true,
            SourceOutcome::Failed { .. } | SourceOutcome::HookFailed { .. } => false,
        });
        if !whole {
            code = super::exit_code(Failure::partial("").kind);
        }
    }
    Ok(code)
}
