//! Restore runs. They take no lock: an operator at 3 a.m. does not wait for the nightly backup.

use std::path::PathBuf;

use jiff::Timestamp;
use lifeboat_verify::chain::Outcome;
use serde::{Deserialize, Serialize};

use super::unfinished;
use crate::engine::Run;
use crate::engine::closing::{Closing, close};
use crate::engine::lock::SystemLock;
use crate::engine::system::System;
use crate::ground::failure::OrFail;
use crate::ground::{Failure, FailureKind, Result, byte_path};
use crate::recovery::browse::tree_id;
use crate::recovery::points::points_at;
use crate::recovery::restore::{self, RestoreRequest, RestoreSummary};
use crate::repository::Repository;
use crate::site::records::{Missing, PointRecord};

/// The kind's word in catalog and ledger.
pub const KIND: &str = "restore";

/// What a restore is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreWish {
    /// Ids of the points: one, or one of each source.
    pub points: Vec<String>,
    /// True when each point goes into a directory named after its source.
    pub below_source: bool,
    /// Escaped, absolute.
    pub target: String,
    /// Escaped.
    pub only: Vec<String>,
    pub overwrite: bool,
    pub privileged: bool,
}

/// One restored point.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Restored {
    pub point: String,
    pub source: String,
    pub entries: u64,
    pub bytes: u64,
    pub missing: Vec<Missing>,
    pub missing_count: u64,
    pub unsafe_links: Vec<String>,
}

/// What to restore: one point by id, or the newest of each source, or of one, at a time.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub point: Option<String>,
    pub source: Option<String>,
    pub at: Option<Timestamp>,
}

/// Chooses the points.
///
/// # Errors
/// Wrong input when a name means nothing, or there is no point at that time.
pub fn choose(system: &System, selection: &Selection) -> Result<Vec<PointRecord>> {
    let points = system.catalog.points(&system.policy.system)?;
    if let Some(id) = &selection.point {
        let found = points.into_iter().find(|point| point.id == *id).ok_or_else(|| no_point(system, id))?;
        if selection.source.as_ref().is_some_and(|source| *source != found.source) {
            return Err(Failure::wrong_input(format!("the point {id} is of the source {:?}", found.source)));
        }
        return Ok(vec![found]);
    }
    let mut sources: Vec<&str> = system.policy.sources.iter().map(|source| source.name.as_str()).collect();
    if let Some(source) = &selection.source {
        let recorded = points.iter().any(|point| point.source == *source);
        if !recorded && !sources.contains(&source.as_str()) {
            return Err(Failure::wrong_input(format!(
                "the system {:?} has no source {source:?}",
                system.policy.system
            ))
            .hint(format!("its sources are: {}", sources.join(", "))));
        }
        sources = vec![source];
    }
    let chosen: Vec<PointRecord> =
        sources.iter().filter_map(|source| points_at(&points, source, selection.at).cloned()).collect();
    if chosen.is_empty() {
        let when = selection.at.map_or_else(String::new, |at| format!(" at {at}"));
        return Err(Failure::wrong_input(format!("there is no recovery point to restore{when}"))
            .hint("`lifeboat points` lists what there is"));
    }
    Ok(chosen)
}

fn no_point(system: &System, id: &str) -> Failure {
    Failure::wrong_input(format!("the system {:?} has no recovery point {id:?}", system.policy.system))
        .hint("`lifeboat points` lists them")
}

/// Restores. The same wish after an interruption is continued under the same run, into the same target.
///
/// # Errors
/// Wrong input when the target is not empty without `overwrite`; failed when it cannot be written.
pub async fn restore(system: &System, points: &[PointRecord], wish: &RestoreWish) -> Result<(String, Vec<Restored>)> {
    let repository = system.open_repository()?;
    let (run, continued, _lock) = begin_or_continue(system, wish)?;
    if !continued && !wish.overwrite {
        if let Err(refused) = require_empty(wish) {
            run.finish("refused", &refused.message)?;
            return Err(refused);
        }
    }
    let _reading = repository.lock_shared(system.clock.now()).map_err(|error| {
        // A DR site that cannot be written to must not stop a restore.
        system.progress.warn(&format!("restoring without a lock in the repository: {error}"));
    });
    let mut restored = Vec::new();
    for point in points {
        let step = format!("restore {}", point.source);
        let done = run.step(&step, || restore_point(system, &repository, point, wish, continued)).await;
        match done {
            Ok(done) => restored.push(done),
            Err(failure) if failure.kind == FailureKind::WrongInput => {
                run.finish("refused", &failure.message)?;
                return Err(failure);
            }
            Err(failure) => {
                finish(&run, system, Outcome::Failed, &failure.message).await;
                return Err(failure);
            }
        }
    }
    let incomplete = restored.iter().any(|point| point.missing_count > 0);
    let outcome = if incomplete { Outcome::Partial } else { Outcome::Done };
    finish(&run, system, outcome, &format!("restored {} recovery points to {}", restored.len(), wish.target)).await;
    Ok((run.id().to_owned(), restored))
}

fn require_empty(wish: &RestoreWish) -> Result<()> {
    let target = byte_path::unescape_path(&wish.target).unwrap_or_default();
    match std::fs::read_dir(&target).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(Failure::wrong_input(format!("the restore target {} is not empty", target.display()))
            .hint("name a new or empty directory, or give --overwrite to replace what is there")),
        Ok(false) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::wrong_input(format!("cannot restore to {}: {error}", target.display()))),
    }
}

fn begin_or_continue(system: &System, wish: &RestoreWish) -> Result<(Run, bool, SystemLock)> {
    let lock = |run: &str| {
        let name = format!("{}-restore-{run}", system.policy.system);
        SystemLock::take(&system.state.locks(), &name, "restore", system.clock.now())
    };
    for row in unfinished(system, KIND)? {
        let id = row.id.clone();
        let Ok(lock) = lock(&id) else { continue };
        if serde_json::from_str::<RestoreWish>(&row.input).is_ok_and(|input| input == *wish) {
            system.progress.warn(&format!("continuing the restore run {id} that was interrupted"));
            return Ok((Run::resume(&system.catalog, system.clock.as_ref(), row)?, true, lock));
        }
    }
    let run = Run::begin(&system.catalog, system.clock.as_ref(), &system.policy.system, KIND, wish)?;
    let lock = lock(run.id())?;
    Ok((run, false, lock))
}

async fn restore_point(
    system: &System,
    repository: &Repository,
    point: &PointRecord,
    wish: &RestoreWish,
    continued: bool,
) -> Result<Restored> {
    let unescape = |text: &String| {
        byte_path::unescape_path(text).ok_or_else(|| Failure::failed(format!("the record holds no path: {text}")))
    };
    let request = RestoreRequest {
        tree: tree_id(&point.tree)?,
        roots: point.roots.iter().map(unescape).collect::<Result<_>>()?,
        only: wish.only.iter().map(unescape).collect::<Result<_>>()?,
        overwrite: wish.overwrite || continued,
        privileged: wish.privileged,
    };
    let mut target: PathBuf = unescape(&wish.target)?;
    if wish.below_source {
        target.push(&point.source);
    }
    let (repository, progress) = (repository.clone(), std::sync::Arc::clone(&system.progress));
    progress.begin(&format!("restoring {}", point.source), Some(point.bytes));
    let work = tokio::task::spawn_blocking(move || {
        let restored = restore::restore(&repository.reader()?, &request, &target, progress.as_ref());
        progress.end();
        restored
    });
    let summary = work.await.or_fail(|| "the restore's worker thread ended unexpectedly".to_owned())??;
    Ok(restored(point, summary))
}

fn restored(point: &PointRecord, summary: RestoreSummary) -> Restored {
    Restored {
        point: point.id.clone(),
        source: point.source.clone(),
        entries: summary.entries,
        bytes: summary.bytes,
        missing: summary.missing,
        missing_count: summary.missing_count,
        unsafe_links: summary.unsafe_links,
    }
}

/// The data is back: that the ledger could not be written is said, and is no failure of the restore.
async fn finish(run: &Run, system: &System, outcome: Outcome, summary: &str) {
    if let Err(failure) = close(run, system, KIND, Closing::new(outcome, summary)).await {
        system.progress.warn(&format!("the restore is not in the ledger: {failure}"));
    }
}
