//! Checks existing repositories, and whether the snapshots of the points that lie in them are still there.

use std::collections::{BTreeMap, HashSet};

use crate::engine::existing::open;
use crate::engine::system::System;
use crate::ground::{Failure, Result};
use crate::policy::Source;
use crate::repository::{Repository, RepositoryError, VerifyDepth, VerifyReport};
use crate::site::records::PointRecord;

/// So often a repository that others prune meanwhile is checked before what was found is believed.
const ATTEMPTS_MAX: u32 = 3;

/// One existing repository.
#[derive(Debug, Clone)]
pub struct Checked {
    pub source: String,
    pub path: String,
    /// Its damage names the source. That of one that could not be opened says so.
    pub report: VerifyReport,
}

/// What was found of all existing repositories.
#[derive(Debug, Clone, Default)]
pub struct ExistingCheck {
    pub checked: Vec<Checked>,
    /// Points whose snapshots others have forgotten, or whose repository the policy names no more: a sentence each.
    pub forgotten: Vec<String>,
}

/// Checks the existing repositories of a system's policy.
///
/// # Errors
/// When the points cannot be listed. What is wrong with a repository is in the report.
pub fn check(system: &System, depth: VerifyDepth) -> Result<ExistingCheck> {
    let (mut points, _) = system.dr.points()?;
    points.retain(PointRecord::is_elsewhere);
    let mut found = ExistingCheck::default();
    for source in &system.policy.sources {
        let Some(existing) = source.existing() else { continue };
        let mut report = VerifyReport::default();
        let named = |error: RepositoryError| Failure::from(error).context(&source.name);
        let looked = open(&source.name, existing).and_then(|repository| {
            report = verify(system, &repository, depth).map_err(named)?;
            found.forgotten.extend(forgotten(&repository, source, &points).map_err(named)?);
            Ok(())
        });
        report.damage.iter_mut().for_each(|damage| *damage = format!("{}: {damage}", source.name));
        report.damage.extend(looked.err().map(|failure| failure.message));
        found.checked.push(Checked { source: source.name.clone(), path: existing.path.clone(), report });
    }
    found.forgotten.extend(without_source(system, &points));
    Ok(found)
}

/// Nothing keeps others from pruning while it is read: damage that was found meanwhile is looked for again.
fn verify(system: &System, repository: &Repository, depth: VerifyDepth) -> Result<VerifyReport, RepositoryError> {
    let mut attempt = 1;
    loop {
        let names = repository.index_names()?;
        let report = repository.verify(depth, system.progress.as_ref())?;
        if report.damage.is_empty() || attempt == ATTEMPTS_MAX || repository.index_names()? == names {
            return Ok(report);
        }
        attempt += 1;
    }
}

/// A snapshot that was only given other tags has another id and the same tree.
fn forgotten(repository: &Repository, source: &Source, points: &[PointRecord]) -> Result<Vec<String>, RepositoryError> {
    let (snapshots, _) = repository.readable_snapshots()?;
    let (ids, trees): (HashSet<String>, HashSet<String>) =
        snapshots.into_iter().map(|snapshot| (snapshot.id, snapshot.tree.to_string())).unzip();
    let mut lost: Vec<&PointRecord> = points.iter().filter(|point| point.source == source.name).collect();
    lost.retain(|point| !ids.contains(&point.snapshot) && !trees.contains(&point.tree));
    let sentence = |point: &&PointRecord| {
        format!(
            "{}: the snapshot {} of the recovery point {} is not in the repository any more: it was forgotten there, or \
             lost, and a prune there removes its data",
            source.name,
            point.snapshot.get(..8).unwrap_or_default(),
            point.id
        )
    };
    Ok(lost.iter().map(sentence).collect())
}

fn without_source(system: &System, points: &[PointRecord]) -> Vec<String> {
    let is_named = |name: &str| system.policy.source(name).is_some_and(|source| source.existing().is_some());
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for point in points.iter().filter(|point| !is_named(&point.source)) {
        *counts.entry(&point.source).or_default() += 1;
    }
    let sentence = |(source, count): (&str, u64)| {
        format!(
            "{source}: {count} recovery points lie in an existing repository, and the policy has no source {source:?} of \
             kind `repository` any more"
        )
    };
    counts.into_iter().map(sentence).collect()
}
