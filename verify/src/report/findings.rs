//! What went wrong, what was not tested, and what the numbers take for granted.

use super::journal::plain_name;
use super::sources::unrestored;
use super::summary::{Facts, Numbers, plan_step_failure};
use super::{
    Deficiency, ObjectiveVerdict, STEP_CLEAN_UP, STEP_ISOLATE, STEP_RECOVERED_TO, Severity, SourceRow, StepOutcome,
};
use crate::events::{CleanedUp, Declared, Isolated};

fn deficiency(severity: Severity, subject: &str, sentence: impl Into<String>) -> Deficiency {
    Deficiency { severity, subject: subject.to_owned(), sentence: sentence.into() }
}

/// Everything that keeps the drill from passing. What was declared and left no event counts as not reached.
pub(super) fn failures(facts: &Facts) -> Vec<Deficiency> {
    let mut found = Vec::new();
    let mut fail = |subject: &str, sentence: String| found.push(deficiency(Severity::Failure, subject, sentence));
    if let Some(attempt) = facts.journal.latest(STEP_ISOLATE)
        && attempt.outcome == StepOutcome::Failed
    {
        let why = attempt.error.as_deref().unwrap_or("no reason recorded");
        fail(STEP_ISOLATE, format!("The primary site could not be hidden from the drill: {why}"));
    }
    for step in &facts.declared.steps {
        if let Some(why) = plan_step_failure(facts.journal, step) {
            let step = plain_name(step);
            fail(step, format!("Step \"{step}\" {why}"));
        }
    }
    for row in facts.steps.iter().filter(|row| row.name.starts_with(STEP_RECOVERED_TO)) {
        // A continued drill may have measured in a later attempt what an earlier one could not.
        let latest = facts.journal.latest(&row.name).map(|attempt| attempt.attempt);
        if row.outcome == StepOutcome::Failed && latest == Some(row.attempt) {
            let why = row.error.as_deref().unwrap_or("no reason recorded");
            fail(&row.name, format!("How new the restored data is could not be measured: {why}"));
        }
    }
    for check in facts.checks.iter().filter(|check| !check.passed) {
        let name = &check.check;
        fail(
            name,
            match check.tried {
                true => format!("Check \"{name}\" expected {}, and got {}", check.expected, check.actual),
                false => format!("Check \"{name}\": {}", check.actual),
            },
        );
    }
    if facts.checks.is_empty() {
        fail(&facts.declared.plan, "The plan has no check: nothing shows that what was restored works".to_owned());
    }
    if facts.sources.is_empty() {
        fail(
            &facts.declared.plan,
            "No recovery point was restored: nothing shows that the backups are usable".to_owned(),
        );
    }
    found
}

/// Objectives that the measured numbers miss.
pub(super) fn missed_objectives(declared: &Declared, numbers: &Numbers) -> Vec<Deficiency> {
    let missed = |word, verdict, seconds: Option<f64>, objective: Option<f64>| {
        (verdict == ObjectiveVerdict::Missed).then(|| {
            let (seconds, objective) = (seconds.unwrap_or_default(), objective.unwrap_or_default());
            let sentence = format!("{word} is {seconds:.3} s, the objective is {objective:.3} s");
            deficiency(Severity::Objective, word, sentence)
        })
    };
    let rpo = missed("RPO", numbers.rpo_verdict, numbers.rpo_seconds, declared.rpo_objective_seconds);
    let rto = missed("RTO", numbers.rto_verdict, numbers.rto_seconds, declared.rto_objective_seconds);
    rpo.into_iter().chain(rto).collect()
}

/// What has to be looked into although it does not keep the drill from passing.
pub(super) fn findings(facts: &Facts, isolation: Option<&Isolated>, clean_up: Option<&CleanedUp>) -> Vec<Deficiency> {
    let mut found: Vec<Deficiency> =
        facts.sources.iter().flat_map(|row| source_findings(facts.declared, row)).collect();
    let mut add = |subject: &str, sentence: String| found.push(deficiency(Severity::Finding, subject, sentence));
    if isolation.is_none() && facts.journal.latest(STEP_ISOLATE).is_none_or(|a| a.outcome != StepOutcome::Failed) {
        add(STEP_ISOLATE, "There is no record that the primary site was hidden from the drill".to_owned());
    }
    match clean_up {
        None => add(STEP_CLEAN_UP, "There is no record that the drill removed what it had made".to_owned()),
        Some(clean_up) if !clean_up.left.is_empty() => {
            add(STEP_CLEAN_UP, format!("The drill left behind: {}", clean_up.left.join(", ")));
        }
        Some(_) => {}
    }
    for jump in &facts.journal.clock_jumps {
        let (seconds, seq) = (jump.back_seconds, jump.after_seq);
        add("clock", format!("The clock ran back by {seconds:.3} s after event {seq}: times and the RTO are suspect"));
    }
    if facts.declared.at > facts.declared.t0 {
        add("clock", "The assumed moment of the incident is later than its declaration".to_owned());
    }
    if facts.checks.iter().any(|check| check.seconds.is_some_and(|seconds| seconds < 0.0)) {
        add("clock", "A check was decided before the incident was declared: the clock is suspect".to_owned());
    }
    found
}

fn source_findings(declared: &Declared, row: &SourceRow) -> Vec<Deficiency> {
    let mut found = Vec::new();
    let mut add = |sentence: String| found.push(deficiency(Severity::Finding, &row.source, sentence));
    let source = &row.source;
    if row.missing_count > 0 {
        add(format!("Source \"{source}\" was restored without {} of its entries", row.missing_count));
    }
    if row.available_time > declared.at {
        add(format!("Point {} became available only after the assumed moment of the incident", row.point));
    }
    if row.recovered_to > declared.at {
        add(format!("Source \"{source}\" holds data from after the incident: a clock is suspect, its RPO counts as 0"));
    }
    if row.data_time > row.available_time {
        add(format!("Point {} was available before its own data time: a clock is suspect", row.point));
    }
    if row.assumed {
        add(format!("How new the restored data of \"{source}\" is was not measured; the point's own time was taken"));
    }
    found
}

/// What the drill does not prove.
pub(super) fn not_tested(facts: &Facts, isolation: Option<&Isolated>) -> Vec<String> {
    let mut sentences = Vec::new();
    for source in unrestored(facts.sources, facts.declared) {
        sentences.push(format!("Source \"{source}\" is in the policy and was not restored by this drill"));
    }
    for row in facts.steps.iter().filter(|row| row.outcome == StepOutcome::NotReached) {
        let what = if row.kind == "check" { "Check" } else { "Step" };
        sentences.push(format!("{what} \"{}\" was not reached", row.name));
    }
    match isolation {
        Some(isolation) => sentences.extend(isolation_gaps(isolation)),
        None => sentences.push("That the drill did without the primary site is not proven".to_owned()),
    }
    for row in facts.sources.iter().filter(|row| row.missing_count > 0) {
        let (count, named) = (row.missing_count, row.missing.len());
        sentences.push(format!("{count} entries of \"{}\" were not restored exactly; {named} are named", row.source));
    }
    sentences
}

fn isolation_gaps(isolation: &Isolated) -> Vec<String> {
    let mut sentences = Vec::new();
    if !isolation.proven {
        sentences.push("That the drill did without the primary site is not proven".to_owned());
    }
    sentences.extend(isolation.not_proven.iter().cloned());
    sentences
}

/// What the numbers take for granted.
pub(super) fn assumptions(facts: &Facts) -> Vec<String> {
    let mut sentences = vec![
        "Times are those of the wall clock of the host that ran the drill, and of the hosts that made the points"
            .to_owned(),
    ];
    if facts.declared.at != facts.declared.t0 {
        let sentence = "The incident is assumed to have happened before the drill: the RPO counts back from that \
                        moment, the RTO counts from the start of the drill";
        sentences.push(sentence.to_owned());
    }
    if facts.sources.iter().any(|row| row.method == "snapshot time") {
        let sentence = "Where the method is \"snapshot time\", the age of the data is what the backup recorded, not what \
                        the data itself testifies to";
        sentences.push(sentence.to_owned());
    }
    if facts.sources.iter().any(|row| row.method == "newest entry") {
        let sentence = "Where the method is \"newest entry\", the source is assumed to be written all the time";
        sentences.push(sentence.to_owned());
    }
    for row in facts.sources.iter().filter(|row| row.kind == "repository") {
        sentences.push(format!(
            "\"{}\" was restored from an existing repository, which is not at the DR site: it is assumed to outlive the \
             primary site",
            row.source
        ));
    }
    if !facts.journal.interruptions.is_empty() {
        let sentence = "The drill was interrupted and continued; the RTO includes the time in which nothing ran";
        sentences.push(sentence.to_owned());
    }
    let unmeasured = |row: &&super::StepRow| row.kind == "recovered to" && row.outcome == StepOutcome::Failed;
    for row in facts.steps.iter().filter(unmeasured) {
        let source = row.name.strip_prefix(STEP_RECOVERED_TO).unwrap_or(&row.name);
        sentences.push(format!("An attempt to read the age of \"{source}\" failed; see the step timeline"));
    }
    sentences
}
