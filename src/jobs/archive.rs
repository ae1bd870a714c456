//! Archive runs.

use super::unfinished;
use crate::engine::Run;
use crate::engine::closing::{Closing, close};
use crate::engine::existing::PointReaders;
use crate::engine::system::System;
use crate::ground::{Failure, Result};
use crate::lifecycle::archive::{self, ArchiveRequest};
use crate::repository::Repository;
use crate::site::records::{ArchiveRecord, PointRecord};
use lifeboat_verify::chain::Outcome;

/// The kind's word in catalog and ledger.
pub const KIND: &str = "archive";

/// Continues interrupted archive runs, then archives these points, one run each.
///
/// # Errors
/// Wrong input for a policy without a cold directory; failed when a point cannot be read or the archive not be written.
pub async fn archive(system: &System, points: &[PointRecord]) -> Result<Vec<ArchiveRecord>> {
    archive::cold_directory(system)?;
    let repository = system.open_repository()?;
    let mut records = continue_with(system, &repository).await?;
    for point in points {
        if records.iter().any(|record| record.point == point.id) {
            continue;
        }
        let request = ArchiveRequest { point: point.id.clone() };
        let run = Run::begin(&system.catalog, system.clock.as_ref(), &system.policy.system, KIND, &request)?;
        records.push(perform(&run, system, &repository, point).await?);
    }
    Ok(records)
}

/// Continues interrupted archive runs and starts nothing new.
pub async fn continue_interrupted(system: &System) -> Result<Vec<ArchiveRecord>> {
    let repository = system.open_repository()?;
    continue_with(system, &repository).await
}

async fn continue_with(system: &System, repository: &Repository) -> Result<Vec<ArchiveRecord>> {
    let points = system.catalog.points(&system.policy.system)?;
    let mut records = Vec::new();
    for row in unfinished(system, KIND)? {
        let run = Run::resume(&system.catalog, system.clock.as_ref(), row)?;
        system.progress.warn(&format!("continuing the archive run {} that was interrupted", run.id()));
        let request: ArchiveRequest = run.input()?;
        match points.iter().find(|point| point.id == request.point) {
            Some(point) => records.push(perform(&run, system, repository, point).await?),
            None => fail(&run, system, format!("the point {} is gone", request.point)).await?,
        }
    }
    Ok(records)
}

async fn perform(run: &Run, system: &System, repository: &Repository, point: &PointRecord) -> Result<ArchiveRecord> {
    let _reading = repository.lock_shared(system.clock.now())?;
    let readers = PointReaders::new(repository.clone(), &system.policy);
    match archive::archive(run, system, &readers, point).await {
        Ok(record) => {
            let summary = format!("archived {} to {}", point.id, record.location);
            let mut closing = Closing::new(Outcome::Done, summary);
            closing.archives = vec![record.id.clone()];
            close(run, system, KIND, closing).await?;
            Ok(record)
        }
        Err(failure) => {
            fail(run, system, failure.message.clone()).await?;
            Err(failure)
        }
    }
}

async fn fail(run: &Run, system: &System, why: String) -> Result<()> {
    close(run, system, KIND, Closing::new(Outcome::Failed, why)).await
}

/// The points to archive: the one named, or by the policy's rule the newest of each past period that is old enough.
///
/// # Errors
/// Wrong input when no point has the id.
pub fn point_named(system: &System, id: &str) -> Result<PointRecord> {
    let points = system.catalog.points(&system.policy.system)?;
    points.into_iter().find(|point| point.id == id).ok_or_else(|| {
        Failure::wrong_input(format!("the system {:?} has no recovery point {id:?}", system.policy.system))
            .hint("`lifeboat points` lists them")
    })
}
