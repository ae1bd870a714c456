//! Prune runs.

use std::collections::BTreeMap;

use lifeboat_verify::chain::Outcome;
use serde::{Deserialize, Serialize};

use super::unfinished;
use crate::backup::snapshots;
use crate::engine::Run;
use crate::engine::closing::{Closing, close};
use crate::engine::system::System;
use crate::ground::{Failure, Result, blocking};
use crate::repository::Repository;
use crate::repository::prune::{Decision, Phase, PruneReport, Rules};

/// The kind's word in catalog and ledger.
pub const KIND: &str = "prune";

/// Number and bytes of packs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    pub packs: u64,
    pub bytes: u64,
}

/// What a prune run did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneDone {
    pub run: String,
    pub phase: Phase,
    /// Snapshots that were asked what they need.
    pub snapshots: u64,
    /// Packs that were stored before, and what of them is needed.
    pub stored: Amount,
    pub used_bytes: u64,
    pub done: BTreeMap<Decision, Amount>,
    /// Leftovers of killed writes that were removed.
    pub leftovers: Vec<String>,
}

impl PruneDone {
    fn of(run: &str, report: &PruneReport, leftovers: Vec<String>) -> Self {
        Self {
            run: run.to_owned(),
            phase: report.phase,
            snapshots: report.snapshots,
            stored: Amount { packs: report.packs, bytes: report.bytes },
            used_bytes: report.used_bytes,
            done: amounts(report),
            leftovers,
        }
    }

    /// How many packs had this decision.
    pub fn amount(&self, decision: Decision) -> Amount {
        self.done.get(&decision).copied().unwrap_or_default()
    }

    fn summary(&self) -> String {
        let packs = |decision| self.amount(decision).packs;
        match self.phase {
            Phase::Mark => format!(
                "marked {} packs to be deleted, {} of them after copying what is used; put {} back; {} wait",
                packs(Decision::Mark) + packs(Decision::Repack),
                packs(Decision::Repack),
                packs(Decision::PutBack),
                packs(Decision::Wait)
            ),
            Phase::Sweep => format!(
                "deleted {} packs that were marked before; put {} back; {} wait",
                packs(Decision::Delete),
                packs(Decision::PutBack),
                packs(Decision::Wait)
            ),
        }
    }
}

/// Totals of a report by decision.
pub fn amounts(report: &PruneReport) -> BTreeMap<Decision, Amount> {
    let mut amounts: BTreeMap<Decision, Amount> = BTreeMap::new();
    for line in &report.lines {
        let amount = amounts.entry(line.decision).or_default();
        amount.packs += 1;
        amount.bytes += line.bytes;
    }
    amounts
}

/// What a prune would do now; touches nothing.
///
/// # Errors
/// As [`prune`].
pub fn plan(system: &System) -> Result<PruneReport> {
    let repository = system.open_repository()?;
    snapshots::insist(system, &repository)?;
    Ok(repository.plan_prune(&Rules::default(), system.clock.now(), system.progress.as_ref())?)
}

/// Prunes; an interrupted prune is continued and is then the asked one.
///
/// # Errors
/// Busy when somebody uses the repository in a way that forbids it; failed when something cannot be read: nothing is
/// removed then.
pub async fn prune(system: &System) -> Result<PruneDone> {
    let repository = system.open_repository()?;
    if let Some(done) = continue_with(system, &repository).await?.pop() {
        return Ok(done);
    }
    let run = Run::begin(&system.catalog, system.clock.as_ref(), &system.policy.system, KIND, &())?;
    perform(&run, system, &repository).await
}

/// Continues interrupted prune runs and starts nothing new.
///
/// # Errors
/// As [`prune`].
pub async fn continue_interrupted(system: &System) -> Result<Vec<PruneDone>> {
    continue_with(system, &system.open_repository()?).await
}

async fn continue_with(system: &System, repository: &Repository) -> Result<Vec<PruneDone>> {
    let mut done = Vec::new();
    for row in unfinished(system, KIND)? {
        let run = Run::resume(&system.catalog, system.clock.as_ref(), row)?;
        system.progress.warn(&format!("continuing the prune run {} that was interrupted", run.id()));
        done.push(perform(&run, system, repository).await?);
    }
    Ok(done)
}

async fn perform(run: &Run, system: &System, repository: &Repository) -> Result<PruneDone> {
    match work(run, system, repository).await {
        Ok(done) => {
            close(run, system, KIND, Closing::new(Outcome::Done, done.summary())).await?;
            Ok(done)
        }
        Err(failure) => {
            close(run, system, KIND, Closing::new(Outcome::Failed, failure.message.clone())).await?;
            Err(failure)
        }
    }
}

/// One step: a prune looks at what is there, so that one that was killed is continued by doing it again.
async fn work(run: &Run, system: &System, repository: &Repository) -> Result<PruneDone> {
    let report: PruneDone = run
        .step("prune", || async {
            let (repository, system, id) = (repository.clone(), system.clone(), run.id().to_owned());
            blocking(move || {
                let now = system.clock.now();
                snapshots::insist(&system, &repository)?;
                let report = repository.prune(&Rules::default(), now, system.progress.as_ref())?;
                Ok(PruneDone::of(&id, &report, Vec::new()))
            })
            .await
        })
        .await?;
    let leftovers = run
        .step("clear leftovers", || async {
            let store = std::sync::Arc::clone(system.dr.store());
            blocking(move || store.sweep().map_err(Failure::from)).await
        })
        .await?;
    Ok(PruneDone { leftovers, ..report })
}
