//! Removing what no snapshot needs, in two phases, so that nobody who works at the same time loses anything.
//!
//! *Mark*: under a shared lock that only one prune at a time holds, packs that no snapshot needs (and packs out of which the used part was copied) are taken out
//! of the index and listed as to be deleted, in index files of their own. A backup that begins now stores such blobs again;
//! one that began before notices at its commit and puts the packs back. *Sweep*: in a later call, after a margin by the
//! store's clock and under an exclusive lock, everything is looked at anew; a marked pack that is needed again goes back
//! into the index, and only the rest is deleted. One call does one of the two.
//!
//! Nothing has to be remembered between calls: a prune that was killed anywhere is continued by the next one, which looks
//! at what is there.

mod execute;
mod plan;
mod survey;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::RepositoryError;
use super::index_file::{self, INDEXES};
use super::lock::{self, LockGuard};
use super::tree::BlobId;
use super::{Inner, Repository};
use crate::ground::Progress;

pub use plan::{Decision, PackFacts, PackState, Rules, Verdict, decide};
use survey::Survey;

/// What one call of a prune does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Mark,
    Sweep,
}

/// One pack that a prune does something about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackLine {
    pub pack: String,
    /// As stored.
    pub bytes: u64,
    /// Bytes in it that no snapshot needs.
    pub unused: u64,
    pub decision: Decision,
    pub why: String,
}

/// What a prune would do or has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneReport {
    pub phase: Phase,
    pub snapshots: u64,
    /// Stored packs, and their bytes.
    pub packs: u64,
    pub bytes: u64,
    /// Bytes of blobs that snapshots need.
    pub used_bytes: u64,
    /// All but the packs that are kept as they are.
    pub lines: Vec<PackLine>,
}

impl PruneReport {
    /// Number and bytes of the packs with this decision.
    pub fn total(&self, decision: Decision) -> (u64, u64) {
        let lines = self.lines.iter().filter(|line| line.decision == decision);
        lines.fold((0, 0), |(count, bytes), line| (count + 1, bytes + line.bytes))
    }
}

impl Repository {
    /// What [`Repository::prune`] would do now; touches nothing and takes no lock. Ages are counted to `now`, which a prune
    /// itself takes from the store.
    ///
    /// # Errors
    /// As [`Repository::prune`].
    pub fn plan_prune(
        &self,
        rules: &Rules,
        now: Timestamp,
        progress: &dyn Progress,
    ) -> Result<PruneReport, RepositoryError> {
        let phase = phase_due(&self.inner, rules, Some(now))?;
        let survey = Survey::make(&self.inner, progress)?;
        let facts = survey.facts(&self.inner, Some(now))?;
        Ok(report(&survey, phase, &facts, &decide(&facts, rules)))
    }

    /// Marks, or sweeps what was marked long enough ago. Continues what an earlier call left when it was killed.
    ///
    /// # Errors
    /// Locked when somebody uses the repository in a way that forbids it; damaged when an index file, a snapshot or a
    /// directory cannot be read or a pack is lost: then nothing is removed.
    pub fn prune(
        &self,
        rules: &Rules,
        now: Timestamp,
        progress: &dyn Progress,
    ) -> Result<PruneReport, RepositoryError> {
        let guard = lock::acquire_for_prune(&self.inner, now)?;
        let store_time = guard.store_time()?;
        match phase_due(&self.inner, rules, store_time)? {
            Phase::Mark => self.prune_under(&guard, Phase::Mark, rules, now, progress),
            Phase::Sweep => {
                drop(guard);
                let guard = lock::acquire(&self.inner, true, now)?;
                self.prune_under(&guard, Phase::Sweep, rules, now, progress)
            }
        }
    }

    fn prune_under(
        &self,
        guard: &LockGuard,
        phase: Phase,
        rules: &Rules,
        now: Timestamp,
        progress: &dyn Progress,
    ) -> Result<PruneReport, RepositoryError> {
        let inner: &Arc<Inner> = &self.inner;
        if phase == Phase::Mark {
            execute::refuse_foreign(guard, now)?;
        }
        // Before the survey: what comes while it is made is younger than the plan.
        let store_time = guard.store_time()?;
        let survey = Survey::make(inner, progress)?;
        let facts = survey.facts(inner, store_time)?;
        let verdicts = decide(&facts, rules);
        let work = execute::Work { inner, guard, survey: &survey, verdicts: &verdicts, now, progress };
        match phase {
            Phase::Mark => work.mark()?,
            Phase::Sweep => work.sweep()?,
        }
        Ok(report(&survey, phase, &facts, &verdicts))
    }
}

/// A sweep when some mark is older than the margin, else a mark.
fn phase_due(inner: &Inner, rules: &Rules, now: Option<Timestamp>) -> Result<Phase, RepositoryError> {
    let loaded = index_file::load(inner, false)?;
    let Some(now) = now else { return Ok(Phase::Mark) };
    let marked: std::collections::HashSet<BlobId> = loaded.marked.iter().map(|(pack, _)| *pack).collect();
    for object in loaded.objects.iter().filter(|object| object.marks.iter().any(|pack| marked.contains(pack))) {
        let since = inner.store.modified(&format!("{INDEXES}{}", object.id))?;
        if since.is_some_and(|since| now.duration_since(since) > rules.margin) {
            return Ok(Phase::Sweep);
        }
    }
    Ok(Phase::Mark)
}

/// Decisions that the other phase carries out are left out: they are not what this call does.
fn report(survey: &Survey, phase: Phase, facts: &[PackFacts], verdicts: &[Verdict]) -> PruneReport {
    let shown = |decision| match decision {
        Decision::Keep => false,
        Decision::Delete => phase == Phase::Sweep,
        Decision::Mark | Decision::Repack => phase == Phase::Mark,
        Decision::Wait | Decision::PutBack => true,
    };
    let line = |((pack, facts), verdict): ((&survey::StoredPack, &PackFacts), &Verdict)| PackLine {
        pack: pack.id.to_string(),
        bytes: facts.size,
        unused: facts.unused,
        decision: verdict.decision,
        why: verdict.why.to_owned(),
    };
    let all = survey.packs.iter().zip(facts).zip(verdicts);
    PruneReport {
        phase,
        snapshots: survey.snapshots.len() as u64,
        packs: facts.iter().filter(|pack| pack.size > 0).count() as u64,
        bytes: facts.iter().map(|pack| pack.size).sum(),
        used_bytes: facts.iter().map(|pack| pack.used).sum(),
        lines: all.filter(|((_, facts), verdict)| shown(verdict.decision) && facts.size > 0).map(line).collect(),
    }
}
