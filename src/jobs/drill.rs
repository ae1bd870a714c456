//! Drill runs: carry the plan out, then turn the journal into the report and enter both into the ledger.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use lifeboat_verify::chain::{DrillMark, Outcome};
use lifeboat_verify::events::Isolated;
use lifeboat_verify::report::{Report, from_journal, journal_bytes};
use serde::{Deserialize, Serialize};

use super::unfinished;
use crate::catalog::DrillRow;
use crate::engine::Run;
use crate::engine::closing::{Closing, close};
use crate::engine::system::{System, repository_password, secrets_of};
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result};
use crate::policy::{self, Policy};
use crate::recovery::drill::{DrillContext, drill as carry_out};
use crate::report::html;
use crate::site::dr::report_directory;

/// The kind's word in catalog and ledger.
pub const KIND: &str = "drill";

/// The evidence is the journal up to this step.
const KEEP_EVIDENCE: &str = "keep evidence";

/// What a drill is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillRequest {
    pub plan: String,
    /// "Had it happened then."
    pub at: Option<Timestamp>,
    /// Gap-free within the system, from 1.
    pub number: u64,
    /// SHA-256 of the policy that is carried out, hex; a continued drill goes on with the same.
    pub policy: String,
    /// Who asked: a user's name.
    pub identity: String,
}

/// A drill that was carried out to its end, whatever its verdict.
#[derive(Debug, Clone)]
pub struct DrillDone {
    pub run: String,
    pub report: Report,
    pub report_json: PathBuf,
    pub report_html: PathBuf,
}

/// The policy in force at the DR site: a drill carries out what is stored there, never what lies beside the primary.
///
/// # Errors
/// Wrong input when no backup was made yet.
pub fn policy_in_force(system: &System) -> Result<Policy> {
    let in_force = system.dr.policy_in_force()?.ok_or_else(|| {
        Failure::wrong_input(format!("the DR site of {:?} holds no policy yet", system.policy.system))
            .hint("make a first backup with `lifeboat backup`")
    })?;
    stored_policy(system, &in_force.policy)
}

fn stored_policy(system: &System, hash: &str) -> Result<Policy> {
    let text = system.dr.policy_text(hash)?;
    Ok(policy::parse("the policy stored at the DR site", &text)?)
}

/// The number of the next drill.
pub fn next_number(system: &System) -> Result<u64> {
    let known = system.catalog.drills(&system.policy.system)?.iter().map(|drill| drill.drill).max().unwrap_or(0);
    let begun = unfinished(system, KIND)?.len() as u64;
    let stored = system.dr.report_numbers()?.into_iter().max().unwrap_or(0);
    Ok(known.max(stored) + begun + 1)
}

/// Carries out a new drill.
pub async fn drill(system: &System, policy: Policy, request: &DrillRequest, isolated: Isolated) -> Result<DrillDone> {
    let run = Run::begin(&system.catalog, system.clock.as_ref(), &system.policy.system, KIND, request)?;
    perform(&run, system, policy, request, isolated).await
}

/// Continues interrupted drills and starts nothing new.
pub async fn continue_interrupted(system: &System, isolated: &Isolated) -> Result<Vec<DrillDone>> {
    let mut done = Vec::new();
    for row in unfinished(system, KIND)? {
        let run = Run::resume(&system.catalog, system.clock.as_ref(), row)?;
        system.progress.warn(&format!("continuing the drill run {} that was interrupted", run.id()));
        match continue_one(&run, system, isolated).await {
            Ok(drill) => done.push(drill),
            // It stays to be continued; what was asked for now is tried all the same.
            Err(failure) => system.progress.warn(&format!("the drill {} could not be continued: {failure}", run.id())),
        }
    }
    Ok(done)
}

async fn continue_one(run: &Run, system: &System, isolated: &Isolated) -> Result<DrillDone> {
    let request: DrillRequest = run.input()?;
    let policy = stored_policy(system, &request.policy)?;
    perform(run, system, policy, &request, isolated.clone()).await
}

async fn perform(
    run: &Run,
    system: &System,
    policy: Policy,
    request: &DrillRequest,
    isolated: Isolated,
) -> Result<DrillDone> {
    let repository = system.open_repository()?;
    let _reading = repository.lock_shared(system.clock.now())?;
    let in_force = system.dr.policy_in_force()?;
    let (points, damaged) = system.dr.points()?;
    damaged.iter().for_each(|sentence| system.progress.warn(sentence));
    let scripts = in_force.map(|in_force| system.dr.scripts(&in_force)).transpose()?.unwrap_or_default();
    // Evidence lies unencrypted: whose password is not known cannot be masked in it.
    repository_password(&policy.dr).resolve()?;
    let context = DrillContext {
        repository: repository.clone(),
        points,
        secrets: secrets_of(&policy),
        policy,
        scripts,
        target: system.state.drill_target(run.id()),
        isolation: isolated,
        clock: Arc::new(run.clone()),
        progress: Arc::clone(&system.progress),
        drill_number: request.number,
        at: request.at,
        plan_name: request.plan.clone(),
        trigger: "command".to_owned(),
        identity: request.identity.clone(),
        host: system.host.clone(),
    };
    carry_out(run, context).await?;
    report(run, system, request).await
}

/// The evidence is what the journal said at the moment the plan ended; it is stored before anything is derived from it.
async fn report(run: &Run, system: &System, request: &DrillRequest) -> Result<DrillDone> {
    let directory = report_directory(request.number);
    let journal: String = run
        .step(KEEP_EVIDENCE, || async {
            let events: Vec<_> = run.events()?.into_iter().take_while(|event| event.step != KEEP_EVIDENCE).collect();
            let journal = journal_bytes(&events);
            system.dr.put_evidence(&format!("{directory}/events.jsonl"), &journal)?;
            String::from_utf8(journal).or_fail(|| "the journal is not text".to_owned())
        })
        .await?;
    let report = from_journal(run.id(), journal.as_bytes()).or_fail(|| "cannot make the drill's report".to_owned())?;
    let report_sha256: String = run
        .step("write report", || async {
            let events = lifeboat_verify::report::read_journal(journal.as_bytes())
                .or_fail(|| "cannot read the evidence".to_owned())?;
            system.dr.put_evidence(&format!("{directory}/report.html"), html(&report, &events).as_bytes())?;
            system.dr.put_evidence(&format!("{directory}/report.json"), &report.to_bytes())
        })
        .await?;
    enter(run, system, &report, report_sha256, journal.into_bytes()).await?;
    let place = PathBuf::from(system.dr.describe()).join(&directory);
    Ok(DrillDone {
        run: run.id().to_owned(),
        report,
        report_json: place.join("report.json"),
        report_html: place.join("report.html"),
    })
}

async fn enter(run: &Run, system: &System, report: &Report, report_sha256: String, journal: Vec<u8>) -> Result<()> {
    let verdict = report.verdict.overall.word().to_owned();
    system.catalog.put_drill(&DrillRow::of(report))?;
    let outcome = if report.passed { Outcome::Done } else { Outcome::Failed };
    let mut closing = Closing::new(outcome, format!("drill {}: {verdict}", report.drill));
    closing.journal = Some(journal);
    closing.drill = Some(DrillMark {
        number: report.drill,
        report_sha256,
        passed: report.passed,
        rpo_seconds: report.rpo_seconds,
        rto_seconds: report.rto_seconds,
    });
    close(run, system, KIND, closing).await
}
