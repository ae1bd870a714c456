//! Repair runs.

use lifeboat_verify::chain::Outcome;
use serde::{Deserialize, Serialize};

use super::unfinished;
use crate::backup::snapshots;
use crate::engine::Run;
use crate::engine::closing::{Closing, close};
use crate::engine::system::System;
use crate::ground::{Result, blocking};
use crate::repository::Repository;
use crate::repository::repair::RepairReport;

/// The kind's word in catalog and ledger.
pub const KIND: &str = "repair";

/// What a repair is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairRequest {
    /// Judge packs by their headers, without reading the data.
    pub headers_only: bool,
}

/// What a repair run did.
#[derive(Debug, Clone)]
pub struct RepairDone {
    pub run: String,
    pub report: RepairReport,
}

/// Repairs; an interrupted repair of the same request is continued and is then the asked one.
///
/// # Errors
/// Busy when anybody uses the repository; failed when it cannot be read or written.
pub async fn repair(system: &System, request: RepairRequest) -> Result<RepairDone> {
    let repository = system.open_repository()?;
    let mut done = continue_with(system, &repository).await?;
    if let Some((_, last)) = done.pop().filter(|(continued, _)| *continued == request) {
        return Ok(last);
    }
    let run = Run::begin(&system.catalog, system.clock.as_ref(), &system.policy.system, KIND, &request)?;
    perform(&run, system, &repository, request).await
}

/// Continues interrupted repair runs and starts nothing new.
///
/// # Errors
/// As [`repair`].
pub async fn continue_interrupted(system: &System) -> Result<Vec<RepairDone>> {
    let done = continue_with(system, &system.open_repository()?).await?;
    Ok(done.into_iter().map(|(_, done)| done).collect())
}

async fn continue_with(system: &System, repository: &Repository) -> Result<Vec<(RepairRequest, RepairDone)>> {
    let mut done = Vec::new();
    for row in unfinished(system, KIND)? {
        let run = Run::resume(&system.catalog, system.clock.as_ref(), row)?;
        system.progress.warn(&format!("continuing the repair run {} that was interrupted", run.id()));
        let request: RepairRequest = run.input()?;
        done.push((request, perform(&run, system, repository, request).await?));
    }
    Ok(done)
}

async fn perform(run: &Run, system: &System, repository: &Repository, request: RepairRequest) -> Result<RepairDone> {
    let repaired = run
        .step("repair", || async {
            let (repository, system) = (repository.clone(), system.clone());
            blocking(move || {
                // First, so that what these points lack is found, too.
                let written = snapshots::write_again(&system, &repository)?;
                let mut report =
                    repository.repair(request.headers_only, system.clock.now(), system.progress.as_ref())?;
                report.damage.splice(0..0, written);
                Ok(report)
            })
            .await
        })
        .await;
    match repaired {
        Ok(report) => {
            let outcome = if report.losses.is_empty() { Outcome::Done } else { Outcome::Partial };
            close(run, system, KIND, Closing::new(outcome, summary(&report))).await?;
            Ok(RepairDone { run: run.id().to_owned(), report })
        }
        Err(failure) => {
            close(run, system, KIND, Closing::new(Outcome::Failed, failure.message.clone())).await?;
            Err(failure)
        }
    }
}

fn summary(report: &RepairReport) -> String {
    format!(
        "{} objects damaged or lost; {} blobs salvaged, {} lost; {} losses in recovery points",
        report.damage.len(),
        report.salvaged_blobs,
        report.lost_blobs,
        report.losses.len() as u64 + report.more_losses
    )
}
