//! From raw events to the report: the one place where the numbers are made.

use std::collections::HashSet;

use super::findings;
use super::journal::{Attempt, Journal, journal_bytes, plain_name, read_journal, seconds_between};
use super::sources::{oldest, skew_seconds, source_rows, unrestored};
use super::{
    CheckRow, Deficiency, ObjectiveSeconds, ObjectiveVerdict, Overall, REPORT_FORMAT, Report, ReportError, STEP_CHECK,
    STEP_CLEAN_UP, STEP_DECLARE, STEP_ISOLATE, STEP_PLAN, STEP_RECOVERED_TO, Severity, SourceRow, StepOutcome, StepRow,
    Verdict, sha256_hex,
};
use crate::events::{Checked, CleanedUp, Declared, Event, Isolated, StepOutput};

/// The report of the events of a run. `run` is left empty ([`Report::with_run`]); `events_sha256` is that of
/// [`journal_bytes`].
///
/// # Errors
/// Events that contradict themselves or declare no incident.
pub fn summarize(events: &[Event]) -> Result<Report, ReportError> {
    compute(events, sha256_hex(&journal_bytes(events)))
}

/// The report of a stored journal.
///
/// # Errors
/// As [`summarize`], and a line that is not an event.
pub fn from_journal(run: &str, journal: &[u8]) -> Result<Report, ReportError> {
    Ok(compute(&read_journal(journal)?, sha256_hex(journal))?.with_run(run))
}

fn compute(events: &[Event], events_sha256: String) -> Result<Report, ReportError> {
    let journal = Journal::build(events)?;
    let declared = declared_of(&journal)?;
    let sources = source_rows(&journal, declared);
    let steps = step_rows(&journal, declared);
    let checks = check_rows(&journal, declared);
    let (isolation, clean_up) = (isolated_of(&journal), cleaned_of(&journal));
    let facts = Facts { journal: &journal, declared, sources: &sources, steps: &steps, checks: &checks };
    let mut deficiencies = findings::failures(&facts);
    let numbers = numbers(&facts, deficiencies.is_empty());
    deficiencies.extend(findings::missed_objectives(declared, &numbers));
    deficiencies.extend(findings::findings(&facts, isolation.as_ref(), clean_up.as_ref()));
    let overall = overall(&deficiencies, &facts);
    Ok(Report {
        passed: !deficiencies.iter().any(|deficiency| deficiency.severity == Severity::Failure),
        verdict: Verdict { overall, rpo: numbers.rpo_verdict, rto: numbers.rto_verdict },
        rpo_seconds: numbers.rpo_seconds,
        rto_seconds: numbers.rto_seconds,
        rpo_source: numbers.rpo_source,
        rpo_method: numbers.rpo_method,
        rto_check: numbers.rto_check,
        skew_seconds: skew_seconds(&sources),
        not_tested: findings::not_tested(&facts, isolation.as_ref()),
        assumptions: findings::assumptions(&facts),
        interruptions: journal.interruptions.clone(),
        sources,
        steps,
        checks,
        isolation,
        clean_up,
        deficiencies,
        events_sha256,
        ..frame(declared, &journal)
    })
}

/// A report with what was declared, and nothing measured yet.
fn frame(declared: &Declared, journal: &Journal) -> Report {
    let objectives =
        ObjectiveSeconds { rpo_seconds: declared.rpo_objective_seconds, rto_seconds: declared.rto_objective_seconds };
    let not_measured = ObjectiveVerdict::NotMeasured;
    Report {
        format: REPORT_FORMAT,
        drill: declared.drill,
        system: declared.system.clone(),
        plan: declared.plan.clone(),
        run: String::new(),
        passed: false,
        verdict: Verdict { overall: Overall::Aborted, rpo: not_measured, rto: not_measured },
        rpo_seconds: None,
        rto_seconds: None,
        rpo_source: None,
        rpo_method: None,
        rto_check: None,
        skew_seconds: None,
        objectives,
        t0: declared.t0,
        at: declared.at,
        started: journal.started,
        finished: journal.finished,
        provider: declared.provider.clone(),
        simulated: declared.provider == "simulated",
        trigger: declared.trigger.clone(),
        identity: declared.identity.clone(),
        host: declared.host.clone(),
        tool_version: declared.tool_version.clone(),
        policy: declared.policy.clone(),
        sources: Vec::new(),
        steps: Vec::new(),
        checks: Vec::new(),
        isolation: None,
        clean_up: None,
        interruptions: Vec::new(),
        deficiencies: Vec::new(),
        not_tested: Vec::new(),
        assumptions: Vec::new(),
        events_sha256: String::new(),
    }
}

/// A drill that was continued in another process is only as dark as the least hidden of them.
fn isolated_of(journal: &Journal) -> Option<Isolated> {
    let isolated = journal.evidence().filter_map(|(_, evidence)| match evidence {
        StepOutput::Isolated(isolated) => Some(isolated),
        _ => None,
    });
    isolated.min_by_key(|isolated| isolated.proven).cloned()
}

fn cleaned_of(journal: &Journal) -> Option<CleanedUp> {
    journal.evidence().find_map(|(_, evidence)| match evidence {
        StepOutput::CleanedUp(cleaned) => Some(cleaned.clone()),
        _ => None,
    })
}

/// What findings are drawn from.
pub(super) struct Facts<'a> {
    pub journal: &'a Journal<'a>,
    pub declared: &'a Declared,
    pub sources: &'a [SourceRow],
    pub steps: &'a [StepRow],
    pub checks: &'a [CheckRow],
}

fn declared_of<'j>(journal: &'j Journal) -> Result<&'j Declared, ReportError> {
    journal
        .evidence()
        .find_map(|(_, evidence)| match evidence {
            StepOutput::Declared(declared) => Some(declared),
            _ => None,
        })
        .ok_or(ReportError::NotDeclared)
}

/// RPO and RTO with what decided them.
pub(super) struct Numbers {
    pub rpo_seconds: Option<f64>,
    pub rpo_source: Option<String>,
    pub rpo_method: Option<String>,
    pub rpo_verdict: ObjectiveVerdict,
    pub rto_seconds: Option<f64>,
    pub rto_check: Option<String>,
    pub rto_verdict: ObjectiveVerdict,
}

fn numbers(facts: &Facts, passed: bool) -> Numbers {
    // A step that did not succeed may have been the restore of an older source: then the age of the system is unknown.
    let all_steps = facts.declared.steps.iter().all(|step| plan_step_failure(facts.journal, step).is_none());
    let rpo_known = all_steps || unrestored(facts.sources, facts.declared).is_empty();
    let deciding = oldest(facts.sources).filter(|_| rpo_known);
    let last = if passed { last_decided(facts.checks) } else { None };
    let rpo_seconds = deciding.map(|row| row.rpo_seconds);
    let rto_seconds = last.and_then(|check| check.seconds).map(|seconds| seconds.max(0.0));
    Numbers {
        rpo_verdict: against(rpo_seconds, facts.declared.rpo_objective_seconds),
        rpo_seconds,
        rpo_source: deciding.map(|row| row.source.clone()),
        rpo_method: deciding.map(|row| row.method.clone()),
        rto_verdict: against(rto_seconds, facts.declared.rto_objective_seconds),
        rto_seconds,
        rto_check: last.map(|check| check.check.clone()),
    }
}

fn last_decided(checks: &[CheckRow]) -> Option<&CheckRow> {
    checks.iter().filter(|check| check.passed).max_by_key(|check| check.decided_at)
}

fn against(seconds: Option<f64>, objective: Option<f64>) -> ObjectiveVerdict {
    match (seconds, objective) {
        (None, _) => ObjectiveVerdict::NotMeasured,
        (Some(_), None) => ObjectiveVerdict::NoObjective,
        (Some(seconds), Some(objective)) if seconds <= objective => ObjectiveVerdict::Met,
        _ => ObjectiveVerdict::Missed,
    }
}

fn overall(deficiencies: &[Deficiency], facts: &Facts) -> Overall {
    let has = |severity| deficiencies.iter().any(|deficiency| deficiency.severity == severity);
    if has(Severity::Failure) {
        if was_aborted(facts) { Overall::Aborted } else { Overall::Failed }
    } else if has(Severity::Objective) {
        Overall::ObjectiveMissed
    } else if has(Severity::Finding) {
        Overall::PassedWithFindings
    } else {
        Overall::Passed
    }
}

/// Something declared did not come to its end, and nothing that was tried explains it.
fn was_aborted(facts: &Facts) -> bool {
    let steps = facts.declared.steps.iter().map(|step| facts.journal.plan_step(step));
    let checks = facts.declared.checks.iter().map(|check| facts.journal.check(check));
    let ends: Vec<Option<StepOutcome>> = steps.chain(checks).map(|end| end.map(|attempt| attempt.outcome)).collect();
    let failed = facts.journal.attempts.iter().any(|attempt| has_failed(facts.journal, attempt));
    let open = |end: &Option<StepOutcome>| !matches!(end, Some(StepOutcome::Succeeded | StepOutcome::Failed));
    !failed && ends.iter().any(open)
}

/// Whether this is the attempt that counts, and it failed or its evidence says so.
fn has_failed(journal: &Journal, attempt: &Attempt) -> bool {
    let counts = journal.latest(attempt.step).is_some_and(|latest| std::ptr::eq(latest, attempt));
    counts && (attempt.outcome == StepOutcome::Failed || contradiction(attempt).is_some())
}

/// Why a plan's step does not count as succeeded; `None` when it does.
pub(super) fn plan_step_failure(journal: &Journal, step: &str) -> Option<String> {
    let Some(attempt) = journal.plan_step(step) else { return Some("was not reached".to_owned()) };
    match attempt.outcome {
        StepOutcome::Succeeded if !has_plan_evidence(attempt) => Some("succeeded but left no evidence".to_owned()),
        StepOutcome::Succeeded => contradiction(attempt).map(|why| format!("failed: {why}")),
        StepOutcome::Failed => Some(format!("failed: {}", attempt.error.as_deref().unwrap_or("no reason recorded"))),
        _ => Some("started and did not end".to_owned()),
    }
}

fn has_plan_evidence(attempt: &Attempt) -> bool {
    let evidence = attempt.evidence.as_ref();
    evidence.is_some_and(|e| matches!(e, StepOutput::Restored(_) | StepOutput::Script(_) | StepOutput::Waited { .. }))
}

/// Why an attempt that ended well has failed all the same.
fn contradiction(attempt: &Attempt) -> Option<String> {
    match &attempt.evidence {
        Some(StepOutput::Checked(checked)) if !checked.passed => {
            Some(format!("expected {}, got {}", checked.expected, checked.actual))
        }
        Some(StepOutput::Script(script)) if script.exit_code != 0 => {
            Some(format!("{} ended with exit code {}", script.file, script.exit_code))
        }
        _ => None,
    }
}

fn step_rows(journal: &Journal, declared: &Declared) -> Vec<StepRow> {
    let planned: HashSet<&str> = declared.steps.iter().map(String::as_str).collect();
    let mut rows: Vec<StepRow> = journal.attempts.iter().map(|attempt| step_row(attempt, &planned)).collect();
    let unreached_steps = declared.steps.iter().filter(|step| journal.plan_step(step).is_none());
    rows.extend(unreached_steps.map(|step| not_reached(plain_name(step), "plan step")));
    let unreached_checks = declared.checks.iter().filter(|check| journal.check(check).is_none());
    rows.extend(unreached_checks.map(|check| not_reached(plain_name(check), "check")));
    rows
}

fn not_reached(name: &str, kind: &str) -> StepRow {
    StepRow {
        name: name.to_owned(),
        kind: kind.to_owned(),
        attempt: 0,
        outcome: StepOutcome::NotReached,
        started: None,
        finished: None,
        seconds: None,
        error: None,
    }
}

fn step_row(attempt: &Attempt, planned: &HashSet<&str>) -> StepRow {
    let contradicted = contradiction(attempt);
    StepRow {
        name: plain_name(attempt.step).to_owned(),
        kind: kind_of(attempt, planned).to_owned(),
        attempt: attempt.attempt,
        outcome: if contradicted.is_some() { StepOutcome::Failed } else { attempt.outcome },
        started: Some(attempt.started),
        finished: attempt.finished,
        seconds: attempt.finished.map(|finished| seconds_between(attempt.started, finished).max(0.0)),
        error: attempt.error.clone().or(contradicted),
    }
}

fn kind_of(attempt: &Attempt, planned: &HashSet<&str>) -> &'static str {
    match &attempt.evidence {
        Some(StepOutput::Declared(_)) => "declare",
        Some(StepOutput::Isolated(_)) => "isolate",
        Some(StepOutput::Restored(_)) => "restore",
        Some(StepOutput::Script(_)) => "script",
        Some(StepOutput::Waited { .. }) => "wait",
        Some(StepOutput::RecoveredTo(_)) => "recovered to",
        Some(StepOutput::Checked(_)) => "check",
        Some(StepOutput::CleanedUp(_)) => "clean up",
        None if attempt.step.starts_with(STEP_PLAN) || planned.contains(attempt.step) => "plan step",
        None => kind_by_name(attempt.step),
    }
}

fn kind_by_name(step: &str) -> &'static str {
    match step {
        STEP_DECLARE => "declare",
        STEP_ISOLATE => "isolate",
        STEP_CLEAN_UP => "clean up",
        _ if step.starts_with(STEP_CHECK) => "check",
        _ if step.starts_with(STEP_RECOVERED_TO) => "recovered to",
        _ => "engine",
    }
}

/// Declared checks in plan order, then those that were tried without being declared.
fn check_rows(journal: &Journal, declared: &Declared) -> Vec<CheckRow> {
    let planned: Vec<Option<&Attempt>> = declared.checks.iter().map(|name| journal.check(name)).collect();
    let known: HashSet<&str> = planned.iter().flatten().map(|attempt| attempt.step).collect();
    let extra = journal.attempts.iter().filter(|attempt| !known.contains(attempt.step));
    let extra = extra.filter_map(|attempt| Some(tried_check(declared, attempt.step, attempt.checked()?)));
    let row = |(name, attempt): (&String, &Option<&Attempt>)| match attempt.and_then(Attempt::checked) {
        Some(checked) => tried_check(declared, name, checked),
        None => untried_check(name, *attempt),
    };
    declared.checks.iter().zip(&planned).map(row).chain(extra).collect()
}

fn tried_check(declared: &Declared, name: &str, checked: &Checked) -> CheckRow {
    CheckRow {
        check: plain_name(name).to_owned(),
        kind: checked.kind.clone(),
        asked: checked.asked.clone(),
        expected: checked.expected.clone(),
        actual: checked.actual.clone(),
        passed: checked.passed,
        tried: true,
        attempts: checked.attempts,
        decided_at: Some(checked.decided_at),
        seconds: Some(seconds_between(declared.t0, checked.decided_at)),
    }
}

fn untried_check(name: &str, attempt: Option<&Attempt>) -> CheckRow {
    let actual = match attempt {
        None => "not reached".to_owned(),
        Some(Attempt { error: Some(error), .. }) => format!("could not be tried: {error}"),
        Some(Attempt { outcome: StepOutcome::Succeeded, .. }) => "succeeded but left no evidence".to_owned(),
        Some(_) => "started and did not end".to_owned(),
    };
    CheckRow {
        check: plain_name(name).to_owned(),
        kind: String::new(),
        asked: String::new(),
        expected: String::new(),
        actual,
        passed: false,
        tried: false,
        attempts: attempt.map_or(0, |attempt| attempt.attempt),
        decided_at: None,
        seconds: None,
    }
}
