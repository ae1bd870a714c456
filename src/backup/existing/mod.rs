//! Source kind `repository`: the snapshots of an existing restic repository become recovery points where they are.
//!
//! No data is read, none is stored again, and nothing is written into that repository. A snapshot becomes a point only
//! when everything that its tree refers to was seen to be stored there; one of which something is missing is named
//! instead. The oldest come first, so that the sequence of points is that of their data.
//!
//! A point's id is made of the source's name and the snapshot's id, so that a backup that was killed and continued, or run
//! again, meets what it made before.

mod check;

use std::collections::HashSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use check::{Checked, ExistingCheck, check};

use super::outcome::SourceOutcome;
use super::run::{Attempted, failed, read_until_good};
use crate::engine::Run;
use crate::engine::existing::open;
use crate::engine::system::System;
use crate::ground::{Failure, Result, blocking, byte_path};
use crate::policy::{ExistingRepository, Source};
use crate::repository::{BlobId, BlobReader, Inspection, Repository, RepositoryError, Snapshot};
use crate::site::records::{PointRecord, PointState, RECORD_FORMAT};

/// Snapshots without a point that are named one by one in the sentence of a run.
const NAMED_MAX: usize = 20;

/// A snapshot of which everything is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Proven {
    snapshot: String,
    time: Timestamp,
    tree: String,
    roots: Vec<String>,
    host: String,
    entries: u64,
    bytes: u64,
    clock_suspect: Option<String>,
}

/// What a look at the repository gave; the journal's memory of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Found {
    /// Oldest first.
    proven: Vec<Proven>,
    /// Snapshots that get no point, and why: the first few, `refused_count` has the whole number.
    refused: Vec<String>,
    refused_count: u64,
    /// Snapshots that had their points before this run.
    known: u64,
}

impl Found {
    fn refuse(&mut self, why: String) {
        self.refused_count += 1;
        if self.refused.len() < NAMED_MAX {
            self.refused.push(why);
        }
    }

    /// One sentence on what got no point.
    fn trouble(&self) -> Option<String> {
        let more = self.refused_count.saturating_sub(self.refused.len() as u64);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        (self.refused_count > 0).then(|| format!("{}{more}", self.refused.join("; ")))
    }
}

/// Makes a recovery point of every snapshot that the source means and that has none yet. `own` is the system's repository.
///
/// # Errors
/// When the journal or the DR site cannot be written.
pub(super) async fn take_over(
    run: &Run,
    system: &System,
    own: &Repository,
    source: &Source,
    existing: &ExistingRepository,
) -> Result<Vec<SourceOutcome>> {
    let name = &source.name;
    let read = async || {
        let (run, system, own) = (run.clone(), system.clone(), own.clone());
        let (source, existing) = (source.clone(), existing.clone());
        blocking(move || look(&run, &system, &own, &source, &existing)).await
    };
    // What an earlier process saw may have been forgotten and pruned there since.
    let recorded = |proven: &Proven| system.dr.point(&point_id(name, &proven.snapshot)).map(|point| point.is_some());
    let good = |found: &Found| found.proven.iter().try_fold(true, |all, proven| Ok(all && recorded(proven)?));
    let (found, undone) = read_until_good(run, system, source, read, good).await?;
    let undone = undone.map(|error| SourceOutcome::HookFailed { error });
    let found = match found {
        Attempted::Done(found) => found,
        Attempted::Failed(error) => return Ok([failed(source, error)].into_iter().chain(undone).collect()),
    };
    let records: Vec<PointRecord> =
        run.step(&format!("record {name}"), || async { record(run, system, source, &found) }).await?;
    let mut outcomes = Vec::new();
    if records.is_empty() && found.known > 0 {
        outcomes.push(SourceOutcome::NothingNew { source: name.clone(), points: found.known });
    }
    for record in records {
        // Outside of the step, as for every point.
        system.catalog.put_point(&record)?;
        outcomes.push(SourceOutcome::Point(Box::new(record)));
    }
    outcomes.extend(found.trouble().map(|error| failed(source, error)));
    outcomes.extend(undone);
    Ok(outcomes)
}

/// Sixteen digits tell any two snapshots apart, and their beginning is how restic shows them.
fn point_id(source: &str, snapshot: &str) -> String {
    format!("{source}-{}", snapshot.get(..16).unwrap_or(snapshot))
}

fn look(
    run: &Run,
    system: &System,
    own: &Repository,
    source: &Source,
    existing: &ExistingRepository,
) -> Result<Attempted<Found>> {
    system.progress.begin(&format!("looking for snapshots in {}", existing.path), None);
    let found = open(&source.name, existing).and_then(|repository| {
        if repository.id() == own.id() {
            return Err(Failure::wrong_input(format!("{} is this system's own repository", existing.path)));
        }
        find(run, system, &repository, source, existing)
    });
    system.progress.end();
    // That repository failed, not the run: other sources have nothing to do with it.
    Ok(found.map_or_else(|failure| Attempted::Failed(failure.in_one_line()), Attempted::Done))
}

fn find(
    run: &Run,
    system: &System,
    repository: &Repository,
    source: &Source,
    existing: &ExistingRepository,
) -> Result<Found> {
    let mut found = Found::default();
    let (mut snapshots, damaged) = repository.readable_snapshots()?;
    damaged.into_iter().for_each(|why| found.refuse(why));
    snapshots.retain(|snapshot| is_meant(snapshot, existing));
    if snapshots.is_empty() && found.refused_count == 0 {
        return Err(Failure::failed(format!(
            "the repository in {} holds no snapshot{}",
            existing.path,
            wanted(existing)
        ))
        .hint("`restic snapshots` lists what it holds"));
    }
    let known = Known::of(system, source, run)?;
    let all = snapshots.len();
    snapshots.retain(|snapshot| !known.holds(snapshot));
    found.known = (all - snapshots.len()) as u64;
    if !snapshots.is_empty() {
        prove_all(run, system, repository, &snapshots, &mut found)?;
    }
    if found.proven.is_empty() && found.refused_count + found.known == 0 {
        return Err(Failure::failed(format!(
            "the repository in {} holds no snapshot{}",
            existing.path,
            wanted(existing)
        ))
        .hint("`restic snapshots` lists what it holds"));
    }
    Ok(found)
}

fn prove_all(
    run: &Run,
    system: &System,
    repository: &Repository,
    snapshots: &[Snapshot],
    found: &mut Found,
) -> Result<()> {
    let mut inspection = repository.inspection()?;
    for snapshot in snapshots {
        match prove(run, system, &mut inspection, snapshot) {
            Ok(proven) => found.proven.push(proven),
            // It was listed a moment ago: others have forgotten it meanwhile.
            Err(_) if matches!(repository.snapshot(&snapshot.id), Err(RepositoryError::Damaged(_))) => {
                if !repository.is_there()? {
                    return Err(Failure::failed("the repository has gone while it was looked at")
                        .hint("look whether its disk is still mounted"));
                }
            }
            Err(error) => {
                let short = snapshot.id.get(..8).unwrap_or_default();
                found.refuse(format!("the snapshot {short} of {} is not whole: {error}", snapshot.time));
            }
        }
    }
    Ok(())
}

fn is_meant(snapshot: &Snapshot, existing: &ExistingRepository) -> bool {
    let of_host = existing.host.as_ref().is_none_or(|host| snapshot.hostname == *host);
    of_host && existing.tags.iter().all(|tag| snapshot.tags.contains(tag))
}

fn wanted(existing: &ExistingRepository) -> String {
    let host = existing.host.iter().map(|host| format!(" of the host {host:?}"));
    let tags = existing.tags.iter().map(|tag| format!(" with the tag {tag:?}"));
    host.chain(tags).collect::<Vec<_>>().join(" and")
}

/// Snapshots that had their points before.
struct Known {
    snapshots: HashSet<String>,
    /// What stays of a snapshot when `restic tag` gives it another id.
    contents: HashSet<(String, Timestamp)>,
}

impl Known {
    /// Points that this very run made belong to its outcome, in whichever process it made them.
    fn of(system: &System, source: &Source, run: &Run) -> Result<Self> {
        let mut points = system.catalog.points(&system.policy.system)?;
        points.retain(|point| point.is_elsewhere() && point.source == source.name && point.run != run.id());
        let contents = points.iter().map(|point| (point.tree.clone(), point.data_time)).collect();
        Ok(Self { snapshots: points.into_iter().map(|point| point.snapshot).collect(), contents })
    }

    fn holds(&self, snapshot: &Snapshot) -> bool {
        self.snapshots.contains(&snapshot.id) || self.contents.contains(&(snapshot.tree.to_string(), snapshot.time))
    }
}

fn prove(
    run: &Run,
    system: &System,
    inspection: &mut Inspection,
    snapshot: &Snapshot,
) -> Result<Proven, RepositoryError> {
    let size = inspection.size_of(&snapshot.tree)?;
    let now = run.now();
    let ahead = (snapshot.time > now).then(|| {
        format!("the snapshot is dated {}, yet the clock here reads {now}: one of the two is wrong", snapshot.time)
    });
    Ok(Proven {
        snapshot: snapshot.id.clone(),
        time: snapshot.time,
        tree: snapshot.tree.to_string(),
        roots: roots(inspection.reader(), snapshot)?,
        host: snapshot.hostname.clone(),
        entries: size.entries,
        bytes: size.bytes,
        clock_suspect: ahead.or_else(|| system.clock_suspect(now)),
    })
}

/// The snapshot's paths, escaped. One of a relative path, and one that was made on Windows, names paths that its tree does
/// not hold: then its only directory, when that is what was named, else all of the tree takes their place.
fn roots(reader: &BlobReader, snapshot: &Snapshot) -> Result<Vec<String>, RepositoryError> {
    for path in &snapshot.paths {
        if !holds(reader, snapshot.tree, path.as_bytes())? {
            let named = snapshot.paths.iter().filter_map(|path| path.rsplit('/').next());
            let root = match (&reader.read_tree(&snapshot.tree)?[..], named.collect::<Vec<_>>().as_slice()) {
                ([only], [name]) if only.name == name.as_bytes() => [b"/", &only.name[..]].concat(),
                _ => b"/".to_vec(),
            };
            return Ok(vec![byte_path::escape(&root)]);
        }
    }
    Ok(snapshot.paths.iter().map(|path| byte_path::escape(path.as_bytes())).collect())
}

fn holds(reader: &BlobReader, tree: BlobId, path: &[u8]) -> Result<bool, RepositoryError> {
    let mut tree = Some(tree);
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        let Some(directory) = tree else { return Ok(false) };
        let node = reader.read_tree(&directory)?.into_iter().find(|node| node.name == name);
        let Some(node) = node else { return Ok(false) };
        tree = node.subtree;
    }
    Ok(true)
}

/// Writes the records that are not there yet, in order; all of them.
fn record(run: &Run, system: &System, source: &Source, found: &Found) -> Result<Vec<PointRecord>> {
    let points = system.catalog.points(&system.policy.system)?;
    let mut sequence = points.iter().map(|point| point.sequence).max().unwrap_or(0);
    let mut records = Vec::with_capacity(found.proven.len());
    for proven in &found.proven {
        let record = match system.dr.point(&point_id(&source.name, &proven.snapshot))? {
            Some(record) => record,
            None => {
                let record = point(run, system, source, proven, sequence + 1);
                system.dr.put_point(&record)?;
                record
            }
        };
        sequence = sequence.max(record.sequence);
        records.push(record);
    }
    Ok(records)
}

fn point(run: &Run, system: &System, source: &Source, proven: &Proven, sequence: u64) -> PointRecord {
    PointRecord {
        format: RECORD_FORMAT,
        id: point_id(&source.name, &proven.snapshot),
        system: system.policy.system.clone(),
        source: source.name.clone(),
        kind: source.kind.word().to_owned(),
        run: run.id().to_owned(),
        sequence,
        data_time: proven.time,
        available_time: run.now(),
        bytes: proven.bytes,
        added_bytes: 0,
        read_bytes: Some(0),
        full_read: None,
        entries: proven.entries,
        state: PointState::Complete,
        held: false,
        missing: Vec::new(),
        missing_count: 0,
        snapshot: proven.snapshot.clone(),
        tree: proven.tree.clone(),
        roots: proven.roots.clone(),
        policy: system.policy.hash(),
        host: proven.host.clone(),
        clock_suspect: proven.clock_suspect.clone(),
        database: None,
    }
}
