//! Restore runs. They take no lock of the system: an operator at 3 a.m. does not wait for the nightly backup. One whose
//! process died is never continued on its own, since nobody asked for it again: it is entered as interrupted.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use lifeboat_verify::chain::Outcome;
use lifeboat_verify::events::EventKind;
use serde::{Deserialize, Serialize};

use super::unfinished;
use crate::engine::Run;
use crate::engine::closing::{Closing, close};
use crate::engine::existing::PointReaders;
use crate::engine::lock::SystemLock;
use crate::engine::system::System;
use crate::ground::{Failure, FailureKind, Result, blocking, byte_path};
use crate::policy::Source;
use crate::recovery::browse::{self, tree_id};
use crate::recovery::points::points_at;
use crate::recovery::restore::{self, RestoreRequest, RestoreSummary};
use crate::repository::BlobReader;
use crate::site::records::{Missing, PointRecord, PointState};

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

/// What was chosen.
#[derive(Debug, Clone)]
pub struct Chosen {
    pub points: Vec<PointRecord>,
    /// Sources of the policy that have no point at that time.
    pub without_point: Vec<String>,
}

/// Chooses the points.
///
/// # Errors
/// Wrong input when a name means nothing, or there is no point at that time.
pub fn choose(system: &System, selection: &Selection) -> Result<Chosen> {
    let points = system.catalog.points(&system.policy.system)?;
    if let Some(id) = &selection.point {
        let found = points.into_iter().find(|point| point.id == *id).ok_or_else(|| no_point(system, id))?;
        if selection.source.as_ref().is_some_and(|source| *source != found.source) {
            return Err(Failure::wrong_input(format!("the point {id} is of the source {:?}", found.source)));
        }
        return Ok(Chosen { points: vec![found], without_point: Vec::new() });
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
    let mut chosen = Chosen { points: Vec::new(), without_point: Vec::new() };
    for source in sources {
        match points_at(&points, source, selection.at) {
            Some(point) => chosen.points.push(point.clone()),
            None => chosen.without_point.push(source.to_owned()),
        }
    }
    if chosen.points.is_empty() {
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

/// Restores. Nothing is entered anywhere when the wish itself is wrong.
///
/// # Errors
/// Wrong input when the target is not empty without `overwrite` or a path names nothing; failed when the target cannot
/// be written.
pub async fn restore(system: &System, points: &[PointRecord], wish: &RestoreWish) -> Result<(String, Vec<Restored>)> {
    let repository = system.open_repository()?;
    require_outside_backups(system, wish)?;
    if !wish.overwrite {
        require_empty(wish)?;
    }
    let readers = PointReaders::new(repository.clone(), &system.policy);
    let parts = parts(&readers, points, wish)?;
    require_reachable(&readers, &parts)?;
    warn_of_partial(system, &parts);
    end_interrupted(system).await?;
    let run = Run::begin(&system.catalog, system.clock.as_ref(), &system.policy.system, KIND, wish)?;
    let _lock = lock(system, run.id())?;
    let _reading = repository.lock_shared(system.clock.now()).map_err(|error| {
        // A DR site that cannot be written to must not stop a restore.
        system.progress.warn(&format!("restoring without a lock in the repository: {error}"));
    });
    match restore_parts(&run, system, &readers, &parts, wish).await {
        Ok(restored) => {
            let incomplete = restored.iter().any(|point| point.missing_count > 0);
            let outcome = if incomplete { Outcome::Partial } else { Outcome::Done };
            let summary = format!("restored {} recovery points to {}", restored.len(), wish.target);
            finish(&run, system, Ending { outcome, summary }).await;
            Ok((run.id().to_owned(), restored))
        }
        Err(failure) => {
            finish(&run, system, Ending { outcome: Outcome::Failed, summary: failure.message.clone() }).await;
            Err(failure)
        }
    }
}

/// A point and which paths of it; none means all.
struct Part {
    point: PointRecord,
    only: Vec<PathBuf>,
}

/// Which point holds which of the paths asked for: judged before anything is written.
fn parts(readers: &PointReaders, points: &[PointRecord], wish: &RestoreWish) -> Result<Vec<Part>> {
    let only: Vec<PathBuf> = wish.only.iter().map(path_of).collect::<Result<_>>()?;
    if only.is_empty() {
        return Ok(points.iter().map(|point| Part { point: point.clone(), only: Vec::new() }).collect());
    }
    let mut parts: Vec<Part> = points.iter().map(|point| Part { point: point.clone(), only: Vec::new() }).collect();
    for path in only {
        let (mut found, mut unreachable) = (false, None);
        for part in &mut parts {
            match readers.of(&part.point).and_then(|reader| holds(&reader, &part.point, &path)) {
                Ok(true) => {
                    part.only.push(path.clone());
                    found = true;
                }
                Ok(false) => {}
                // An existing repository that is not there must not keep others from giving what they hold.
                Err(failure) if part.point.is_elsewhere() => unreachable = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
        if !found {
            let nowhere = Failure::wrong_input(format!("{} is in no chosen recovery point", path.display()))
                .hint("`lifeboat find` looks for names, `lifeboat ls` shows what is there");
            return Err(unreachable.unwrap_or(nowhere));
        }
    }
    parts.retain(|part| !part.only.is_empty());
    Ok(parts)
}

/// When all that is asked for lies in existing repositories and none can be opened, that is said before anything begins.
fn require_reachable(readers: &PointReaders, parts: &[Part]) -> Result<()> {
    let mut first = None;
    for part in parts {
        match part.point.is_elsewhere().then(|| readers.of(&part.point)) {
            Some(Err(failure)) => first = first.or(Some(failure)),
            _ => return Ok(()),
        }
    }
    first.map_or(Ok(()), Err)
}

fn holds(reader: &BlobReader, point: &PointRecord, path: &Path) -> Result<bool> {
    let absolute = match point.roots.as_slice() {
        [root] if path.is_relative() => path_of(root)?.join(path),
        _ => path.to_owned(),
    };
    match browse::resolve(reader, &tree_id(&point.tree)?, absolute.as_os_str().as_bytes()) {
        Ok(_) => Ok(true),
        Err(failure) if failure.kind == FailureKind::WrongInput => Ok(false),
        Err(failure) => Err(failure),
    }
}

fn path_of(text: &String) -> Result<PathBuf> {
    byte_path::unescape_path(text).ok_or_else(|| Failure::failed(format!("the record holds no path: {text}")))
}

async fn restore_parts(
    run: &Run,
    system: &System,
    readers: &PointReaders,
    parts: &[Part],
    wish: &RestoreWish,
) -> Result<Vec<Restored>> {
    let (mut restored, mut failed) = (Vec::new(), Vec::new());
    for part in parts {
        let step = format!("restore {}", part.point.source);
        match run.step(&step, || restore_part(system, readers, part, wish)).await {
            Ok(done) => restored.push(done),
            Err(failure) => failed.push((part, failure)),
        }
    }
    // What hits one point must not cost the others; what hits all of them is told as it is.
    if restored.is_empty() {
        return failed.into_iter().next().map_or(Ok(restored), |(_, failure)| Err(failure));
    }
    for (part, failure) in failed {
        system.progress.warn(&format!("the source {} is not restored: {failure}", part.point.source));
        restored.push(nothing_of(&part.point, failure.message));
    }
    Ok(restored)
}

/// A point that could not be restored beside others that could.
fn nothing_of(point: &PointRecord, reason: String) -> Restored {
    let path = point.roots.first().cloned().unwrap_or_else(|| "/".to_owned());
    Restored {
        point: point.id.clone(),
        source: point.source.clone(),
        entries: 0,
        bytes: 0,
        missing: vec![Missing { path, reason }],
        missing_count: 1,
        unsafe_links: Vec::new(),
    }
}

/// A point that is not whole is restored as it is; nobody should take it for whole.
fn warn_of_partial(system: &System, points: &[Part]) {
    for Part { point, .. } in points.iter().filter(|part| part.point.state == PointState::Partial) {
        let first = point.missing.first().map(|missing| format!(", first {}: {}", missing.path, missing.reason));
        system.progress.warn(&format!(
            "the recovery point {} is partial, {} entries were not or not exactly stored{}",
            point.id,
            point.missing_count,
            first.unwrap_or_default()
        ));
    }
}

fn lock(system: &System, run: &str) -> Result<SystemLock> {
    let name = format!("{}-restore-{run}", system.policy.system);
    SystemLock::take(&system.state.locks(), &name, "restore", system.clock.now())
}

/// Enters the restores whose process died: how they ended when that is known, else as interrupted.
///
/// # Errors
/// When the catalog cannot be read. A ledger that cannot be written is left for the next time.
pub async fn end_interrupted(system: &System) -> Result<()> {
    for row in unfinished(system, KIND)? {
        let Ok(_lock) = lock(system, &row.id) else { continue };
        let run = Run::resume(&system.catalog, system.clock.as_ref(), row)?;
        let ended = run.events()?.into_iter().find(|event| event.step == ENDED && event.kind == EventKind::Succeeded);
        let ending = ended.and_then(|event| serde_json::from_value(event.data).ok()).unwrap_or_else(|| Ending {
            outcome: Outcome::Failed,
            summary: "interrupted; the target may be incomplete".to_owned(),
        });
        finish(&run, system, ending).await;
    }
    Ok(())
}

/// The step that notes how a restore ended, before the ledger is written.
const ENDED: &str = "ended";

/// How a restore ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ending {
    outcome: Outcome,
    summary: String,
}

/// A restore into the DR site, or into an existing repository, would bury the backups under what they hold.
fn require_outside_backups(system: &System, wish: &RestoreWish) -> Result<()> {
    let target = path_of(&wish.target)?;
    let there = target.ancestors().find_map(|ancestor| ancestor.canonicalize().ok()).unwrap_or_default();
    let existing = system.policy.sources.iter().filter_map(Source::existing);
    let existing = existing.map(|existing| (existing.path.clone(), "an existing repository"));
    for (place, what) in existing.chain([(system.dr.describe(), "the DR site")]) {
        let place = PathBuf::from(place);
        if there.starts_with(place.canonicalize().unwrap_or(place)) {
            let target = target.display();
            return Err(Failure::wrong_input(format!("the restore target {target} lies inside {what}"))
                .hint("name a directory elsewhere"));
        }
    }
    Ok(())
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

async fn restore_part(system: &System, readers: &PointReaders, part: &Part, wish: &RestoreWish) -> Result<Restored> {
    let point = &part.point;
    let request = RestoreRequest {
        tree: tree_id(&point.tree)?,
        roots: point.roots.iter().map(path_of).collect::<Result<_>>()?,
        only: part.only.clone(),
        overwrite: wish.overwrite,
        privileged: wish.privileged,
    };
    let mut target = path_of(&wish.target)?;
    if wish.below_source {
        target.push(&point.source);
    }
    let (readers, stored) = (readers.clone(), point.clone());
    let progress = std::sync::Arc::clone(&system.progress);
    progress.begin(&format!("restoring {}", point.source), Some(point.bytes));
    let work = blocking(move || {
        let reader = readers.of(&stored);
        let restored = reader.and_then(|reader| restore::restore(&reader, &request, &target, progress.as_ref()));
        progress.end();
        restored
    });
    let summary = work.await?;
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

/// The data is back, or it is not: that the ledger could not be written is said, and changes nothing about that. The
/// run then stays to be entered by a later command.
async fn finish(run: &Run, system: &System, ending: Ending) {
    let entered = async {
        let ending = run.step(ENDED, || async { Ok(ending) }).await?;
        close(run, system, KIND, Closing::new(ending.outcome, ending.summary)).await
    };
    if let Err(failure) = entered.await {
        system.progress.warn(&format!("the restore is not in the ledger: {failure}"));
    }
}
