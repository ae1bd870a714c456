//! How every run ends: its journal to the DR site, its entry into the ledger, and only then "finished" here.
//!
//! A kill in between leaves the run unfinished; the next command closes it again, and each part finds itself done.

use std::collections::BTreeMap;

use lifeboat_verify::chain::{ArchiveMark, DrillMark, Entry, PointMark};
use lifeboat_verify::events::Event;

use super::Run;
use super::system::System;
use crate::ground::Result;
use crate::ground::failure::OrFail;

/// What a run's ledger entry says beyond its frame.
#[derive(Debug, Clone, Default)]
pub struct Closing {
    /// `done`, `partial` or `failed`.
    pub outcome: &'static str,
    /// One sentence.
    pub summary: String,
    /// Points by id with the SHA-256 of their record.
    pub points: BTreeMap<String, String>,
    /// Archives by id with the SHA-256 of their record.
    pub archives: BTreeMap<String, String>,
    pub drill: Option<DrillMark>,
}

/// Closes a run of `kind`.
///
/// # Errors
/// When the DR site or the catalog cannot be written; the run stays unfinished.
pub async fn close(run: &Run, system: &System, kind: &str, closing: Closing) -> Result<()> {
    let journal = run
        .step("store journal", || async {
            let lines = journal_lines(&run.events()?)?;
            system.dr.put_evidence(&format!("runs/{}.jsonl", run.id()), &lines)
        })
        .await?;
    run.step("enter in ledger", || async {
        system.ledger().append_once(run.id(), |number, previous| Entry {
            number,
            previous,
            system: system.policy.system.clone(),
            run: run.id().to_owned(),
            kind: kind.to_owned(),
            outcome: closing.outcome.to_owned(),
            at: run.now(),
            started: run.created(),
            finished: run.now(),
            policy: system.policy.hash(),
            host: system.host.clone(),
            summary: closing.summary.clone(),
            points: marks(&closing.points, |id, record_sha256| PointMark { id, record_sha256 }),
            archives: marks(&closing.archives, |id, record_sha256| ArchiveMark { id, record_sha256 }),
            drill: closing.drill.clone(),
            journal_sha256: Some(journal.clone()),
            ..Entry::blank()
        })
    })
    .await?;
    run.finish(closing.outcome, &closing.summary)
}

fn marks<T>(records: &BTreeMap<String, String>, mark: impl Fn(String, String) -> T) -> Vec<T> {
    records.iter().map(|(id, sha256)| mark(id.clone(), sha256.clone())).collect()
}

/// A journal as it is stored: one JSON object a line.
pub fn journal_lines(events: &[Event]) -> Result<Vec<u8>> {
    let mut lines = Vec::new();
    for event in events {
        serde_json::to_writer(&mut lines, event).or_fail(|| "cannot write the journal as JSON".to_owned())?;
        lines.push(b'\n');
    }
    Ok(lines)
}
