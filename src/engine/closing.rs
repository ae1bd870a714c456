//! How every run ends: its journal to the DR site, its entry into the ledger, and only then "finished" here.
//!
//! A kill in between leaves the run unfinished; the next command closes it again, and each part finds itself done.

use std::collections::BTreeMap;

use lifeboat_verify::chain::{DrillMark, ENTRY_FORMAT, Entry, Outcome, PointMark};
use lifeboat_verify::report::journal_bytes;

use super::Run;
use super::system::System;
use crate::ground::Result;

/// What a run's ledger entry says beyond its frame.
#[derive(Debug, Clone)]
pub struct Closing {
    pub outcome: Outcome,
    /// One sentence.
    pub summary: String,
    /// Points by id with the SHA-256 of their record.
    pub points: BTreeMap<String, String>,
    /// Ids of archives.
    pub archives: Vec<String>,
    pub drill: Option<DrillMark>,
    /// Journal bytes that were stored as evidence already; otherwise the whole journal is taken.
    pub journal: Option<Vec<u8>>,
}

impl Closing {
    /// A closing without points, archives and drill.
    pub fn new(outcome: Outcome, summary: impl Into<String>) -> Self {
        Self {
            outcome,
            summary: summary.into(),
            points: BTreeMap::new(),
            archives: Vec::new(),
            drill: None,
            journal: None,
        }
    }
}

/// Closes a run of `kind`.
///
/// # Errors
/// When the DR site or the catalog cannot be written; the run stays unfinished.
pub async fn close(run: &Run, system: &System, kind: &str, closing: Closing) -> Result<()> {
    let journal = run
        .step("store journal", || async {
            let journal = match &closing.journal {
                Some(journal) => journal.clone(),
                None => journal_bytes(&run.events()?),
            };
            system.dr.put_evidence(&format!("runs/{}.jsonl", run.id()), &journal)
        })
        .await?;
    if let Err(damage) = system.ledger().latest_time() {
        system.progress.warn(&format!("{damage}; `lifeboat ledger verify` tells more"));
    }
    run.step("enter in ledger", || async {
        system.ledger().append_once(run.id(), |number, previous| Entry {
            format: ENTRY_FORMAT,
            number,
            previous,
            at: run.now(),
            system: system.policy.system.clone(),
            run: run.id().to_owned(),
            kind: kind.to_owned(),
            outcome: closing.outcome,
            started: run.created(),
            finished: run.now(),
            policy: system.policy.hash(),
            host: system.host.clone(),
            summary: closing.summary.clone(),
            points: marks(&closing.points),
            archives: closing.archives.clone(),
            drill: closing.drill.clone(),
            journal_sha256: Some(journal.clone()),
        })
    })
    .await?;
    run.finish(outcome_word(closing.outcome), &closing.summary)
}

fn marks(records: &BTreeMap<String, String>) -> Vec<PointMark> {
    let mark = |(id, sha256): (&String, &String)| PointMark { id: id.clone(), record_sha256: sha256.clone() };
    records.iter().map(mark).collect()
}

/// The ledger's word for an outcome, as its JSON has it.
fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Partial => "partial",
        Outcome::Failed => "failed",
        Outcome::Missed => "missed",
        Outcome::Skipped => "skipped",
        Outcome::Cancelled => "cancelled",
    }
}
