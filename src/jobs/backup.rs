//! Backup runs.

use std::collections::BTreeMap;

use lifeboat_verify::events::EventKind;

use super::unfinished;
use crate::backup::outcome::{self, SourceOutcome};
use crate::backup::run::{self, BackupRequest};
use crate::engine::Run;
use crate::engine::closing::{Closing, close};
use crate::engine::system::{System, repository_password};
use crate::ground::{Failure, Result, sha256_hex};
use crate::policy::Policy;
use crate::repository::{LockGuard, Repository};
use crate::site::records::record_bytes;

/// The kind's word in catalog and ledger.
pub const KIND: &str = "backup";

/// A backup run that was carried out to its end.
#[derive(Debug, Clone)]
pub struct BackupDone {
    pub run: String,
    pub outcomes: Vec<SourceOutcome>,
    /// True when an earlier process had begun it.
    pub continued: bool,
    /// True when a source had been read before this process began: its point may be older than the command.
    began_reading: bool,
}

/// Continues what was interrupted, then backs up; all runs that were carried out, the asked one last.
///
/// An interrupted run of the same request that had not read anything yet *is* the asked one.
///
/// # Errors
/// Failed when the DR site cannot be written (the run stays to be continued).
pub async fn backup(system: &System, request: &BackupRequest) -> Result<Vec<BackupDone>> {
    let repository = system.open_or_create_repository()?;
    let mut done = continue_with(system, &repository, Some(request)).await?;
    let asked_is_done = done.last().is_some_and(|last| !last.began_reading && covers(last, system, request));
    if !asked_is_done {
        let lock = repository.lock_shared(system.clock.now())?;
        let run = Run::begin(&system.catalog, system.clock.as_ref(), &system.policy.system, KIND, request)?;
        done.push(perform(&run, system, &repository, &lock, request, None).await?);
    }
    Ok(done)
}

/// Continues interrupted backup runs and starts nothing new.
pub async fn continue_interrupted(system: &System) -> Result<Vec<BackupDone>> {
    let repository = system.open_or_create_repository()?;
    continue_with(system, &repository, None).await
}

async fn continue_with(
    system: &System,
    repository: &Repository,
    asked: Option<&BackupRequest>,
) -> Result<Vec<BackupDone>> {
    let mut done = Vec::new();
    for row in unfinished(system, KIND)? {
        let lock = repository.lock_shared(system.clock.now())?;
        let run = Run::resume(&system.catalog, system.clock.as_ref(), row)?;
        system.progress.warn(&format!("continuing the backup run {} that was interrupted", run.id()));
        let began_reading =
            run.events()?.iter().any(|event| event.kind == EventKind::Succeeded && event.step.starts_with("read "));
        let request = run.input::<BackupRequest>();
        let is_the_asked_one = !began_reading && request.as_ref().ok() == asked;
        let performed = match request {
            Ok(request) => perform(&run, system, repository, &lock, &request, Some(began_reading)).await,
            Err(failure) => Err(failure),
        };
        match performed {
            Ok(performed) => done.push(performed),
            // Another run beside it would fail in the same way, and both would have to be continued.
            Err(failure) if is_the_asked_one => return Err(failure),
            // It stays to be continued; what was asked for now is tried all the same.
            Err(failure) => system.progress.warn(&format!("the run {} could not be continued: {failure}", run.id())),
        }
    }
    Ok(done)
}

fn covers(done: &BackupDone, system: &System, request: &BackupRequest) -> bool {
    let made: Vec<&str> = done
        .outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            SourceOutcome::Point(point) => Some(point.source.as_str()),
            SourceOutcome::Failed { source, .. } | SourceOutcome::NothingNew { source, .. } => Some(source.as_str()),
            SourceOutcome::HookFailed { .. } => None,
        })
        .collect();
    let wanted = |name: &String| request.sources.is_empty() || request.sources.contains(name);
    system
        .policy
        .sources
        .iter()
        .map(|source| &source.name)
        .filter(|name| wanted(name))
        .all(|name| made.contains(&name.as_str()))
}

/// `began_reading` is for a continued run: whether a process before this one has read a source.
async fn perform(
    run: &Run,
    system: &System,
    repository: &Repository,
    lock: &LockGuard,
    request: &BackupRequest,
    began_reading: Option<bool>,
) -> Result<BackupDone> {
    let outcomes = run::backup(run, system, repository, lock, request).await?;
    let (outcome, summary) = outcome::summarize(&outcomes);
    let mut closing = Closing::new(outcome, summary);
    closing.points = point_marks(&outcomes)?;
    close(run, system, KIND, closing).await?;
    let (continued, began_reading) = (began_reading.is_some(), began_reading.unwrap_or(false));
    Ok(BackupDone { run: run.id().to_owned(), outcomes, continued, began_reading })
}

fn point_marks(outcomes: &[SourceOutcome]) -> Result<BTreeMap<String, String>> {
    let mut marks = BTreeMap::new();
    for outcome in outcomes {
        if let SourceOutcome::Point(point) = outcome {
            marks.insert(point.id.clone(), sha256_hex(&record_bytes(point)?));
        }
    }
    Ok(marks)
}

/// What can be judged before anything is opened or made.
///
/// # Errors
/// Wrong input when a source is unknown or the repository's password cannot be had.
pub fn check_request(policy: &Policy, request: &BackupRequest) -> Result<()> {
    for name in &request.sources {
        if policy.source(name).is_none() {
            let known: Vec<&str> = policy.sources.iter().map(|source| source.name.as_str()).collect();
            return Err(Failure::wrong_input(format!("the system {:?} has no source {name:?}", policy.system))
                .hint(format!("its sources are: {}", known.join(", "))));
        }
    }
    repository_password(&policy.dr).resolve().map(|_| ())
}
