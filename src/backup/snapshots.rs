//! The snapshots of recovery points. A point's record names everything to restore it, but restic, prune and repair know a
//! snapshot only: without it a prune would take what the point needs. Points that lie in an existing repository are not
//! meant: their snapshots are another program's.

use std::collections::HashSet;

use crate::engine::system::System;
use crate::ground::{Failure, Result};
use crate::repository::{BlobId, Repository, RepositoryError, Snapshot};
use crate::site::records::PointRecord;

/// Tags by which a snapshot is known to be a point's.
pub(super) fn tags(system: &str, source: &str, run: &str, point: &str) -> Vec<String> {
    vec![
        "lifeboat".to_owned(),
        format!("system={system}"),
        format!("source={source}"),
        format!("run={run}"),
        format!("point={point}"),
    ]
}

/// Points of which no snapshot can be read.
///
/// # Errors
/// When points or snapshots cannot be listed.
pub fn points_without(system: &System, repository: &Repository) -> Result<Vec<PointRecord>> {
    // In this order a point that is made meanwhile has its snapshot.
    let (mut points, _) = system.dr.points()?;
    let (snapshots, _) = repository.readable_snapshots()?;
    let trees: HashSet<String> = snapshots.into_iter().map(|snapshot| snapshot.tree.to_string()).collect();
    points.retain(|point| !point.is_elsewhere() && !trees.contains(&point.tree));
    Ok(points)
}

/// Refuses to remove anything while a point has no snapshot.
///
/// # Errors
/// Failed when there is such a point; as [`points_without`].
pub fn insist(system: &System, repository: &Repository) -> Result<()> {
    let without = points_without(system, repository)?;
    let Some(first) = without.first() else { return Ok(()) };
    let others = match without.len() - 1 {
        0 => String::new(),
        others => format!(", like {others} others,"),
    };
    Err(Failure::failed(format!(
        "the recovery point {}{others} has lost its snapshot: a prune would delete what it needs",
        first.id
    ))
    .hint(format!("`lifeboat repair {}` writes it again", system.policy.system)))
}

/// Writes the snapshots of points again that have lost theirs, and removes what is left of damaged ones; a sentence for
/// each. One that was killed in between is continued by doing it again.
///
/// # Errors
/// When something cannot be listed, read for now, written or removed.
pub fn write_again(system: &System, repository: &Repository) -> Result<Vec<String>> {
    let (points, _) = system.dr.points()?;
    let (snapshots, _) = repository.readable_snapshots()?;
    let (ids, mut trees): (HashSet<String>, HashSet<String>) =
        snapshots.into_iter().map(|snapshot| (snapshot.id, snapshot.tree.to_string())).unzip();
    let mut told = Vec::new();
    for point in points.iter().filter(|point| !point.is_elsewhere() && !ids.contains(&point.snapshot)) {
        match repository.snapshot(&point.snapshot) {
            Ok(_) => continue,
            Err(RepositoryError::Damaged(_)) => {}
            // A store that does not answer has lost nothing.
            Err(error) => return Err(error.into()),
        }
        let written = trees.insert(point.tree.clone());
        if written {
            repository.save_snapshot(&snapshot_of(point)?)?;
        }
        let removed = repository.remove_damaged_snapshot(&point.snapshot)?;
        if written || removed {
            let what = if removed { "was damaged" } else { "was gone" };
            told.push(format!("the snapshot of the recovery point {} {what}; it was written again", point.id));
        }
    }
    Ok(told)
}

fn snapshot_of(point: &PointRecord) -> Result<Snapshot> {
    let tree = BlobId::from_hex(&point.tree);
    let tree = tree.ok_or_else(|| Failure::failed(format!("the record of {} names no tree", point.id)))?;
    Ok(Snapshot {
        id: String::new(),
        time: point.data_time,
        tree,
        paths: point.roots.clone(),
        hostname: point.host.clone(),
        username: String::new(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        tags: tags(&point.system, &point.source, &point.run, &point.id),
        parent: None,
    })
}
