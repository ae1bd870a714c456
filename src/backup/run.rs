//! One backup run: every source becomes a recovery point, each on its own; one that fails does not stop the others.
//!
//! Order of writes: packs, index, snapshot, and last the point's record. A kill between any two leaves the old state,
//! and the run is continued under the same id without a second snapshot or point.

use std::sync::Arc;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::capture::{self, CaptureContext, Captured, Earlier};
use super::existing;
use super::hooks::{self, Around};
use super::outcome::SourceOutcome;
use super::snapshots;
use crate::engine::Run;
use crate::engine::system::{System, secrets_of};
use crate::ground::progress::WarningsOnly;
use crate::ground::reaper::{self, Belonging};
use crate::ground::{Failure, Result, blocking, byte_path, output};
use crate::policy::Source;
use crate::repository::{BlobId, LockGuard, Repository, Snapshot};
use crate::site::records::{Database, FullRead, Missing, PointRecord, PointState, RECORD_FORMAT};

/// What a backup is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRequest {
    /// Names of the sources; empty means all of the policy.
    pub sources: Vec<String>,
}

/// What the read of a source gave; the journal's memory of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SourceRead {
    data_time: Timestamp,
    clock_suspect: Option<String>,
    tree: String,
    roots: Vec<String>,
    entries: u64,
    bytes: u64,
    added_bytes: u64,
    #[serde(default)]
    read_bytes: Option<u64>,
    #[serde(default)]
    full_read: Option<FullRead>,
    missing: Vec<Missing>,
    missing_count: u64,
    #[serde(default)]
    database: Option<Database>,
    parent: Option<String>,
}

/// A step's outcome that lets the run go on when one source fails.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Attempted<T> {
    Done(T),
    Failed(String),
}

/// Backs up the sources asked for, under the caller's shared lock of the repository.
///
/// # Errors
/// When the journal or the DR site cannot be written; the run is then unfinished and the next command continues it.
pub async fn backup(
    run: &Run,
    system: &System,
    repository: &Repository,
    lock: &LockGuard,
    request: &BackupRequest,
) -> Result<Vec<SourceOutcome>> {
    // Not a step: a continued run must put in force what its points will name.
    system.dr.put_policy_in_force(&system.policy.text, &system.scripts, run.now())?;
    let mut troubles = if run.is_continued() { hooks::pay_owed(run, system).await? } else { Vec::new() };
    for attempt in 1.. {
        let around = Around::new(run, system, system.policy.hooks.as_ref(), None, attempt);
        let read = numbered("all sources read", attempt);
        if around.has_begun()? && !run.has_succeeded(&read)? {
            continue;
        }
        let refused = around.before().await?;
        let outcomes = back_up_sources(run, system, repository, lock, request, refused.as_deref()).await;
        if outcomes.is_ok() && system.policy.hooks.is_some() {
            run.step(&read, || async { Ok(()) }).await?;
        }
        troubles.extend(around.after().await?);
        let mut outcomes = outcomes?;
        troubles.sort_unstable();
        troubles.dedup();
        outcomes.extend(troubles.into_iter().map(|error| SourceOutcome::HookFailed { error }));
        return Ok(outcomes);
    }
    Err(Failure::failed("the backup was tried too often"))
}

fn wanted<'a>(system: &'a System, request: &'a BackupRequest) -> impl Iterator<Item = &'a Source> {
    let all = request.sources.is_empty();
    system.policy.sources.iter().filter(move |source| all || request.sources.contains(&source.name))
}

pub(super) fn failed(source: &Source, error: String) -> SourceOutcome {
    SourceOutcome::Failed { source: source.name.clone(), error }
}

/// The name of a step in its try of this number.
pub(super) fn numbered(step: &str, attempt: u32) -> String {
    if attempt == 1 { step.to_owned() } else { format!("{step} ({attempt})") }
}

/// All sources; when they may not be read, and why, only those that were recorded before that.
async fn back_up_sources(
    run: &Run,
    system: &System,
    repository: &Repository,
    lock: &LockGuard,
    request: &BackupRequest,
    refused: Option<&str>,
) -> Result<Vec<SourceOutcome>> {
    let mut outcomes = Vec::new();
    for source in wanted(system, request) {
        match refused {
            Some(why) if !run.has_succeeded(&format!("record {}", source.name))? => {
                outcomes.push(failed(source, why.to_owned()));
            }
            _ => outcomes.extend(back_up_source(run, system, repository, lock, source).await?),
        }
    }
    Ok(outcomes)
}

async fn back_up_source(
    run: &Run,
    system: &System,
    repository: &Repository,
    lock: &LockGuard,
    source: &Source,
) -> Result<Vec<SourceOutcome>> {
    let name = &source.name;
    if let Some(existing) = source.existing() {
        return existing::take_over(run, system, repository, source, existing).await;
    }
    let read = async || read_source(run, system, repository, source).await;
    let (read, undone) = read_until_good(run, system, source, read, |done| {
        let recorded = system.dr.point(&point_id(name, run.id()))?.is_some();
        Ok(recorded || repository.is_whole(&blob_id(&done.tree)?)?)
    })
    .await?;
    let undone = undone.map(|error| SourceOutcome::HookFailed { error });
    let read = match read {
        Attempted::Done(read) => read,
        Attempted::Failed(error) => return Ok([failed(source, error)].into_iter().chain(undone).collect()),
    };
    let point = point_id(name, run.id());
    let snapshot = run
        .step(&format!("snapshot {name}"), || async {
            snapshot_once(run, repository, lock, &draft_snapshot(run, system, source, &point, &read)?, &point)
        })
        .await?;
    let record =
        run.step(&format!("record {name}"), || async { record_point(run, system, source, &read, &snapshot) }).await?;
    // Outside of the step: the catalog is a cache, and a continued run must enter the point all the same.
    system.catalog.put_point(&record)?;
    Ok([SourceOutcome::Point(Box::new(record))].into_iter().chain(undone).collect())
}

/// Reads the source between its hooks, or takes what a process before this one read: that only when it is `good` still.
/// Between a kill and the next start its lock counted for nothing, and a prune by others may have removed what was read.
/// Also gives the trouble of the hook that comes after.
pub(super) async fn read_until_good<T: Serialize + DeserializeOwned>(
    run: &Run,
    system: &System,
    source: &Source,
    read: impl AsyncFn() -> Result<Attempted<T>>,
    good: impl Fn(&T) -> Result<bool>,
) -> Result<(Attempted<T>, Option<String>)> {
    for attempt in 1.. {
        let step = numbered(&format!("read {}", source.name), attempt);
        let around = Around::new(run, system, source.hooks.as_ref(), Some(&source.name), attempt);
        let earlier = run.has_succeeded(&step)?;
        if around.has_begun()? && !earlier {
            continue;
        }
        if let Some(trouble) = around.before().await? {
            return Ok((Attempted::Failed(trouble), around.after().await?));
        }
        let done = run.step(&step, || read()).await;
        let undone = around.after().await?;
        let done = done?;
        match &done {
            Attempted::Done(found) if earlier && !good(found)? => {}
            _ => return Ok((done, undone)),
        }
    }
    Err(Failure::failed(format!("the source {} was read too often", source.name)))
}

async fn read_source(
    run: &Run,
    system: &System,
    repository: &Repository,
    source: &Source,
) -> Result<Attempted<SourceRead>> {
    let (run, system, repository, source) = (run.clone(), system.clone(), repository.clone(), source.clone());
    blocking(move || read_source_blocking(&run, &system, &repository, &source)).await
}

fn read_source_blocking(
    run: &Run,
    system: &System,
    repository: &Repository,
    source: &Source,
) -> Result<Attempted<SourceRead>> {
    let earlier = newest_point(system, source)?;
    let scratch = system.state.fresh_scratch(run.id())?;
    let marks = [("LIFEBOAT_RUN", run.id().to_owned()), ("LIFEBOAT_STEP", format!("read {}", source.name))];
    if run.is_continued() {
        // A command that outlived the process which read from it.
        let marks = marks.iter().map(|(name, value)| format!("{name}={value}")).collect();
        reaper::end(&Belonging { marks, groups: None });
    }
    // Capture reports the bytes that it reads; the writer would count them again.
    let progress = Arc::new(WarningsOnly(Arc::clone(&system.progress)));
    let (reader, writer) = repository.reader_and_writer(progress)?;
    let data_time = run.now();
    let clock_suspect = system.clock_suspect(data_time);
    system.progress.begin(&format!("backing up {}", source.name), earlier.as_ref().map(|point| point.bytes));
    let captured = capture::capture(
        source,
        &CaptureContext {
            writer: &writer,
            now: data_time,
            reader: &reader,
            earlier: earlier.as_ref().and_then(earlier_tree),
            scratch: &scratch,
            marks: &marks,
            progress: system.progress.as_ref(),
        },
    );
    system.progress.end();
    let removed = std::fs::remove_dir_all(&scratch);
    let captured = match captured {
        Ok(captured) => captured,
        Err(failure) => {
            // When it is the repository that fails, this fails too, and the run is continued later; the source failed
            // only when the repository is well.
            writer.finish()?;
            // A command may have written a password, and this goes to the DR site.
            let secrets = secrets_of(&system.policy);
            return Ok(Attempted::Failed(output::mask_text(&failure.in_one_line(), &secrets)));
        }
    };
    if let Err(error) = removed {
        system.progress.warn(&format!("cannot remove the scratch directory {}: {error}", scratch.display()));
    }
    let summary = writer.finish()?;
    let parent = earlier.map(|point| point.snapshot);
    Ok(Attempted::Done(SourceRead::new(data_time, clock_suspect, captured, summary.added_bytes, parent)))
}

impl SourceRead {
    fn new(
        data_time: Timestamp,
        clock_suspect: Option<String>,
        captured: Captured,
        added_bytes: u64,
        parent: Option<String>,
    ) -> Self {
        Self {
            data_time,
            clock_suspect,
            tree: captured.tree.to_string(),
            roots: captured.roots.iter().map(|root| byte_path::escape_path(root)).collect(),
            entries: captured.entries,
            bytes: captured.bytes,
            added_bytes,
            read_bytes: Some(captured.read_bytes),
            full_read: captured.full_read.map(|at| FullRead {
                at,
                rewritten: captured.rewritten,
                rewritten_count: captured.rewritten_count,
            }),
            missing: captured.missing,
            missing_count: captured.missing_count,
            database: captured.database,
            parent,
        }
    }
}

/// Of the same kind too: the content of a database's copy, say, is not that of the file.
fn newest_point(system: &System, source: &Source) -> Result<Option<PointRecord>> {
    let points = system.catalog.points(&system.policy.system)?;
    let same = |point: &PointRecord| point.source == source.name && point.kind == source.kind.word();
    Ok(points.into_iter().rev().find(same))
}

/// A point read under a suspect clock proves nothing about what changed since.
fn earlier_tree(point: &PointRecord) -> Option<Earlier> {
    if point.clock_suspect.is_some() {
        return None;
    }
    let full_read = point.full_read.as_ref().map(|full_read| full_read.at);
    Some(Earlier { tree: blob_id(&point.tree).ok()?, began: point.data_time, full_read })
}

pub(super) fn blob_id(text: &str) -> Result<BlobId> {
    BlobId::from_hex(text).ok_or_else(|| Failure::failed(format!("{text:?} is no blob id")))
}

/// Deterministic, so that a continued run finds what it made before.
fn point_id(source: &str, run: &str) -> String {
    format!("{source}-{run}")
}

fn draft_snapshot(run: &Run, system: &System, source: &Source, point: &str, read: &SourceRead) -> Result<Snapshot> {
    Ok(Snapshot {
        id: String::new(),
        time: read.data_time,
        tree: blob_id(&read.tree)?,
        paths: read.roots.clone(),
        hostname: system.host.clone(),
        username: String::new(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        tags: snapshots::tags(&system.policy.system, &source.name, run.id(), point),
        parent: read.parent.clone(),
    })
}

/// In a continued run, looks first for the snapshot that an attempt before the crash may have saved.
fn snapshot_once(
    run: &Run,
    repository: &Repository,
    lock: &LockGuard,
    draft: &Snapshot,
    point: &str,
) -> Result<String> {
    if run.is_continued() {
        let saved = repository.tagged_snapshot(&format!("point={point}"))?;
        if let Some(snapshot) = saved.filter(|snapshot| snapshot.tree == draft.tree) {
            return Ok(snapshot.id);
        }
    }
    let commit = repository.commit_snapshot(draft, lock, run.now());
    commit.map_err(|error| Failure::from(error).hint("run the backup again: it reads this source anew"))
}

fn record_point(run: &Run, system: &System, source: &Source, read: &SourceRead, snapshot: &str) -> Result<PointRecord> {
    let id = point_id(&source.name, run.id());
    if let Some(record) = system.dr.point(&id)? {
        return Ok(record);
    }
    let sequence =
        system.catalog.points(&system.policy.system)?.iter().map(|point| point.sequence).max().unwrap_or(0) + 1;
    let record = PointRecord {
        format: RECORD_FORMAT,
        id,
        system: system.policy.system.clone(),
        source: source.name.clone(),
        kind: source.kind.word().to_owned(),
        run: run.id().to_owned(),
        sequence,
        data_time: read.data_time,
        available_time: run.now(),
        bytes: read.bytes,
        added_bytes: read.added_bytes,
        read_bytes: read.read_bytes,
        full_read: read.full_read.clone(),
        entries: read.entries,
        state: if read.missing_count == 0 { PointState::Complete } else { PointState::Partial },
        held: false,
        missing: read.missing.clone(),
        missing_count: read.missing_count,
        snapshot: snapshot.to_owned(),
        tree: read.tree.clone(),
        roots: read.roots.clone(),
        policy: system.policy.hash(),
        host: system.host.clone(),
        clock_suspect: read.clock_suspect.clone(),
        database: read.database.clone(),
    };
    system.dr.put_point(&record)?;
    Ok(record)
}
