//! One step of a plan: restore, script, wait.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lifeboat_verify::events::{Restored, StepOutput};
use tokio::time::{Instant, sleep};

use super::DrillContext;
use super::databases;
use super::measure::Measured;
use super::plan::OWN_DIRECTORY;
use super::remove::remove_tree;
use super::restore::{RestoreRequest, RestoreSummary, restore};
use super::scripts::{self, ScriptCall};
use super::surroundings::{RestoredSource, Surroundings, run_mark, step_mark};
use crate::engine::existing::PointReaders;
use crate::ground::byte_path::unescape_path;
use crate::ground::failure::OrFail;
use crate::ground::reaper;
use crate::ground::{Failure, Progress, Result, durable_file};
use crate::policy::{SourceKind, Step, StepAction};
use crate::repository::BlobId;
use crate::site::records::PointRecord;

/// Most entries that are named in the evidence of a restore.
const NAMED: usize = 100;

/// Where restored data comes from.
pub(super) trait Restorer: Send + Sync {
    /// Writes a point into an empty or absent directory. Blocks.
    fn restore(&self, point: &PointRecord, target: &Path) -> Result<RestoreSummary>;
}

/// Restores from the repositories that hold the points: the DR site's own, or an existing one.
pub(super) struct FromRepository {
    readers: PointReaders,
    progress: Arc<dyn Progress>,
}

impl FromRepository {
    pub(super) fn new(readers: PointReaders, progress: Arc<dyn Progress>) -> Self {
        Self { readers, progress }
    }
}

impl Restorer for FromRepository {
    fn restore(&self, point: &PointRecord, target: &Path) -> Result<RestoreSummary> {
        let request = RestoreRequest {
            tree: tree(point)?,
            roots: roots(point)?,
            only: Vec::new(),
            overwrite: false,
            privileged: rustix::process::geteuid().is_root(),
        };
        restore(&self.readers.of(point)?, &request, target, self.progress.as_ref())
    }
}

fn tree(point: &PointRecord) -> Result<BlobId> {
    let bytes = hex::decode(&point.tree).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(BlobId).ok_or_else(|| damaged(point, "its tree is no SHA-256"))
}

/// The point's roots as paths.
///
/// # Errors
/// When the record holds a text that is no escaped path.
pub(super) fn roots(point: &PointRecord) -> Result<Vec<PathBuf>> {
    let path = |root: &String| unescape_path(root).ok_or_else(|| damaged(point, "one of its roots is no path"));
    point.roots.iter().map(path).collect()
}

fn damaged(point: &PointRecord, why: &str) -> Failure {
    Failure::failed(format!("the record of the recovery point {} is damaged: {why}", point.id))
}

/// What the steps of one drill share.
pub(super) struct StepContext {
    pub context: Arc<DrillContext>,
    pub surroundings: Arc<Surroundings>,
    pub restorer: Arc<dyn Restorer>,
    /// Point of each source, as journalled.
    pub chosen: BTreeMap<String, String>,
}

/// Performs the effect of one step; `position` is its place in the plan, `name` its name in the journal.
pub(super) async fn perform(shared: Arc<StepContext>, step: Step, position: usize, name: String) -> Result<StepOutput> {
    match step.action {
        StepAction::Restore { source, to } => {
            let began = Instant::now();
            let limit = step.timeout;
            let work = move || restore_step(&shared, &source, &to, Place { position, step: &name }, limit);
            let restored = tokio::task::spawn_blocking(work).await.or_fail(|| "the restore broke off".into())??;
            in_time(began.elapsed(), step.timeout)?;
            Ok(StepOutput::Restored(restored))
        }
        StepAction::Script { file, args } => {
            let content = shared.context.scripts.get(&file).cloned().ok_or_else(|| {
                Failure::failed(format!("the script {file} is not at the DR site"))
                    .hint("back up once more to store it")
            })?;
            let call = ScriptCall { step: name, file, content, args, timeout: step.timeout };
            Ok(StepOutput::Script(scripts::run(call, &shared.surroundings).await?))
        }
        StepAction::Wait { duration } => {
            sleep(duration).await;
            Ok(StepOutput::Waited { seconds: duration.as_secs_f64() })
        }
    }
}

/// A restore is not broken off: half a tree would prove nothing and its threads would write into the clean-up.
fn in_time(taken: Duration, limit: Duration) -> Result<()> {
    if taken <= limit {
        return Ok(());
    }
    let (taken, limit) = (taken.as_secs_f64(), limit.as_secs_f64());
    Err(Failure::failed(format!("the restore took {taken:.1} s, longer than its {limit:.1} s")))
}

/// A step's place in the plan and its name in the journal.
#[derive(Clone, Copy)]
struct Place<'a> {
    position: usize,
    step: &'a str,
}

fn restore_step(shared: &StepContext, source: &str, to: &str, place: Place<'_>, limit: Duration) -> Result<Restored> {
    let point = chosen_point(shared, source)?;
    let target = &shared.surroundings.target;
    let directory = target.join(to);
    forget_earlier_attempt(shared, target, &directory, place)?;
    let summary = shared.restorer.restore(point, &directory)?;
    whole(point, &summary)?;
    if let Some(link) = summary.unsafe_links.first() {
        let count = summary.unsafe_links.len();
        shared
            .context
            .progress
            .warn(&format!("{count} symlinks of {source} lead out of the target, for instance {link}"));
    }
    let known = known(shared, point, directory)?;
    // Known before it runs, so that the clean-up ends it however this ends.
    shared.surroundings.add_restored(source, known.clone());
    databases::bring_up(&known, &shared.surroundings, place.step, limit)?;
    Ok(evidence(point, summary, to))
}

/// Attributes that may not be set here are a finding; content that the repository lost means that the point cannot be
/// restored, and a drill exists to show that.
fn whole(point: &PointRecord, summary: &RestoreSummary) -> Result<()> {
    const NAMED_HERE: usize = 5;
    if summary.damaged_count == 0 {
        return Ok(());
    }
    let named = summary.missing.iter().take(NAMED_HERE).map(|missing| format!("{}: {}", missing.path, missing.reason));
    let named: Vec<String> = named.collect();
    let count = summary.damaged_count;
    Err(Failure::failed(format!("{count} entries of {} are lost in the repository: {}", point.id, named.join("; ")))
        .hint("`lifeboat verify --read-data` shows all damage"))
}

fn chosen_point<'a>(shared: &'a StepContext, source: &str) -> Result<&'a PointRecord> {
    let Some(id) = shared.chosen.get(source) else {
        let at = shared.context.at.map(|at| format!(" that was usable at {at}")).unwrap_or_default();
        return Err(Failure::failed(format!("there is no recovery point of `{source}`{at}"))
            .hint(format!("`lifeboat points {}` lists what there is", shared.context.policy.system)));
    };
    let found = shared.context.points.iter().find(|point| point.id == *id);
    found.ok_or_else(|| Failure::failed(format!("the recovery point {id} was chosen but is not there any more")))
}

/// Empties the directory when this very step began before and its process died; a mark tells so. Without the mark,
/// what lies there is not ours to delete, and the restore refuses it.
fn forget_earlier_attempt(shared: &StepContext, target: &Path, directory: &Path, place: Place<'_>) -> Result<()> {
    let mark = target.join(OWN_DIRECTORY).join("restoring").join(place.position.to_string());
    if std::fs::symlink_metadata(&mark).is_ok() {
        // Its server outlived it.
        let marks = vec![run_mark(&shared.surroundings.run), step_mark(place.step)];
        reaper::end(&reaper::Belonging { marks, groups: None });
        if let Some(left) = remove_tree(directory).first() {
            return Err(Failure::failed(format!("an earlier attempt's directory cannot be emptied: {left}")));
        }
        return Ok(());
    }
    let write = || -> std::io::Result<()> {
        durable_file::create_directories(mark.parent().unwrap_or(target))?;
        durable_file::replace(&mark, b"", 0o600)
    };
    write().or_fail(|| format!("cannot write {}", mark.display()))
}

fn evidence(point: &PointRecord, summary: RestoreSummary, to: &str) -> Restored {
    let absent = point.missing.iter().map(|missing| format!("{}: {} (at the backup)", missing.path, missing.reason));
    let lost = summary.missing.iter().map(|missing| format!("{}: {}", missing.path, missing.reason));
    Restored {
        source: point.source.clone(),
        kind: point.kind.clone(),
        point: point.id.clone(),
        run: point.run.clone(),
        data_time: point.data_time,
        available_time: point.available_time,
        tree: point.tree.clone(),
        bytes: summary.bytes,
        entries: summary.entries,
        to: to.to_owned(),
        missing: lost.chain(absent).take(NAMED).collect(),
        missing_count: summary.missing_count + point.missing_count,
    }
}

/// A restored point as scripts and checks know it.
fn known(shared: &StepContext, point: &PointRecord, directory: PathBuf) -> Result<RestoredSource> {
    let programs = match shared.context.policy.source(&point.source).map(|source| &source.kind) {
        Some(SourceKind::Postgres(cluster)) => cluster.programs.as_ref().map(PathBuf::from),
        Some(SourceKind::Mysql(server)) => server.programs.as_ref().map(PathBuf::from),
        _ => None,
    };
    let (kind, database) = (point.kind.clone(), point.database.clone());
    Ok(RestoredSource { kind, directory, roots: roots(point)?, database, programs })
}

/// Makes a restored source known to scripts and checks, and says how it is to be measured.
pub(super) fn restored(shared: &StepContext, restored: &Restored) -> Result<(Measured, RestoredSource)> {
    let directory = shared.surroundings.target.join(&restored.to);
    let known = known(shared, chosen_point(shared, &restored.source)?, directory.clone())?;
    shared.surroundings.add_restored(&restored.source, known.clone());
    let source = shared.context.policy.sources.iter().find(|source| source.name == restored.source);
    let measured = Measured {
        source: restored.source.clone(),
        beacon: source.and_then(|source| source.beacon.clone()),
        directory,
        data_time: restored.data_time,
        available_time: restored.available_time,
        t0: shared.surroundings.t0,
    };
    Ok((measured, known))
}
