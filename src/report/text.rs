//! The short summary that `lifeboat drill` prints to people.

use std::fmt::Write;

use lifeboat_verify::report::{ObjectiveVerdict, Report, Severity};

use super::clean::clean;
use super::humane;

/// A drill in at most a screen: verdict, numbers, what was restored, what went wrong, what was not tested.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(&mut out, report);
    clean(&out)
}

fn write_all(out: &mut String, report: &Report) -> std::fmt::Result {
    let verdict = report.verdict.overall.word().to_uppercase();
    writeln!(out, "Drill {} of {}: {verdict}", report.drill, report.system)?;
    writeln!(out, "plan {}, incident declared {}", report.plan, humane::moment(report.t0))?;
    if report.at != report.t0 {
        writeln!(out, "as if it had happened at {}", humane::moment(report.at))?;
    }
    writeln!(out)?;
    let by = [report.rpo_source.as_deref(), report.rpo_method.as_deref()].map(Option::unwrap_or_default).join(", ");
    let by = if report.rpo_source.is_some() { by } else { String::new() };
    write_number(out, "RPO", report.rpo_seconds, report.objectives.rpo_seconds, report.verdict.rpo, &by)?;
    let by = report.rto_check.as_deref().unwrap_or_default();
    write_number(out, "RTO", report.rto_seconds, report.objectives.rto_seconds, report.verdict.rto, by)?;
    if let (Some(skew), true) = (report.skew_seconds, report.sources.len() > 1) {
        writeln!(out, "  skew {} between the newest and the oldest source", humane::duration(skew))?;
    }
    write_sources(out, report)?;
    write_checks(out, report)?;
    for (severity, title) in
        [(Severity::Failure, "failed"), (Severity::Objective, "objective missed"), (Severity::Finding, "findings")]
    {
        let of_it = report.deficiencies.iter().filter(|deficiency| deficiency.severity == severity);
        write_list(out, title, of_it.map(|deficiency| deficiency.sentence.as_str()))?;
    }
    write_list(out, "not tested", report.not_tested.iter().map(String::as_str))
}

fn write_number(
    out: &mut String,
    name: &str,
    seconds: Option<f64>,
    objective: Option<f64>,
    verdict: ObjectiveVerdict,
    by: &str,
) -> std::fmt::Result {
    let value = seconds.map_or_else(|| "not measured".to_owned(), humane::duration);
    let objective =
        objective.map_or_else(|| "no objective".to_owned(), |s| format!("objective {}", humane::duration(s)));
    let verdict = match verdict {
        ObjectiveVerdict::Met => "met",
        ObjectiveVerdict::Missed => "MISSED",
        ObjectiveVerdict::NoObjective | ObjectiveVerdict::NotMeasured => "",
    };
    let line = format!("  {name}  {value:<14} {objective:<22} {verdict:<7} {by}");
    writeln!(out, "{}", line.trim_end())
}

fn write_sources(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.sources.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nrestored:")?;
    let width = report.sources.iter().map(|row| row.source.chars().count()).max().unwrap_or(0).min(32);
    for row in &report.sources {
        let size = format!("{} in {}", humane::bytes(row.bytes), entries(row.entries));
        let age = humane::duration(row.rpo_seconds);
        let missing = if row.missing_count > 0 {
            format!(", {} missing", humane::count(row.missing_count))
        } else {
            String::new()
        };
        writeln!(out, "  {:<width$}  {size}{missing}; data of {} ago ({})", row.source, age, row.method)?;
    }
    Ok(())
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{} entries", humane::count(count)) }
}

fn write_checks(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.checks.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nchecks:")?;
    for row in &report.checks {
        let word = match (row.tried, row.passed) {
            (_, true) => "passed",
            (true, false) => "FAILED",
            (false, false) => "not tried",
        };
        let after = row.seconds.map(|seconds| format!(" after {}", humane::duration(seconds))).unwrap_or_default();
        writeln!(out, "  {word:<9}  {}{after}", row.check)?;
    }
    Ok(())
}

fn write_list<'a>(out: &mut String, title: &str, sentences: impl Iterator<Item = &'a str>) -> std::fmt::Result {
    for (index, sentence) in sentences.enumerate() {
        if index == 0 {
            writeln!(out, "\n{title}:")?;
        }
        writeln!(out, "  - {sentence}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lifeboat_verify::report::summarize;

    use super::super::samples;
    use super::*;

    fn of(drill: samples::Drill) -> String {
        text(&summarize(&drill.events()).expect("well-formed"))
    }

    #[test]
    fn a_passed_drill() {
        insta::assert_snapshot!(of(samples::passed()));
    }

    #[test]
    fn a_failed_step() {
        insta::assert_snapshot!(of(samples::failed_step()));
    }

    #[test]
    fn a_failed_check() {
        insta::assert_snapshot!(of(samples::failed_check()));
    }

    #[test]
    fn a_partial_restore() {
        insta::assert_snapshot!(of(samples::partial()));
    }

    #[test]
    fn an_interrupted_drill() {
        insta::assert_snapshot!(of(samples::interrupted()));
    }

    #[test]
    fn over_its_objectives() {
        insta::assert_snapshot!(of(samples::over_objective()));
    }
}
