//! The drill report as one self-contained page: no script, no external resource, printable on A4.

use lifeboat_verify::events::Event;
use lifeboat_verify::report::{ObjectiveVerdict, Overall, Report, Severity};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::clean::clean;
use super::humane;
use super::sections;
use super::timeline::timeline;

const STYLE: &str = include_str!("style.css");

/// The page. `events` are the raw events that the report was made from; what scripts printed comes out of them.
pub fn html(report: &Report, events: &[Event]) -> String {
    let title = format!("Drill {} of {}: {}", report.drill, report.system, report.verdict.overall.word());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                meta name="generator" content=(report.tool_version);
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (head(report))
                    (numbers(report))
                    (deficiencies(report))
                    (picture(report))
                    (sections::sources(report))
                    (sections::checks(report))
                    (sections::not_tested(report))
                    (sections::surroundings(report))
                    (sections::formulas(report))
                    (sections::steps(report))
                    (sections::scripts(events))
                    (sections::evidence(report, events.len()))
                }
                (sections::footer(report))
            }
        }
    };
    clean(&page.into_string())
}

fn head(report: &Report) -> Markup {
    html! {
        header {
            p class="eyebrow" { "Recovery drill report" @if report.simulated { " · SIMULATED, not a drill" } }
            h1 { (report.system) ", drill " (report.drill) }
            p class=(format!("verdict {}", tone(report.verdict.overall))) {
                span class="sign" aria-hidden="true" { (sign(report.verdict.overall)) }
                strong { (capitalised(report.verdict.overall.word())) }
            }
            p class="lead" { (conclusion(report)) }
            (particulars(report))
        }
    }
}

fn particulars(report: &Report) -> Markup {
    let site = match report.provider.as_str() {
        "local" => "local directories",
        other => other,
    };
    html! {
        dl class="particulars" {
            div { dt { "Incident declared (t0)" } dd { (humane::moment(report.t0)) } }
            @if report.at != report.t0 { div { dt { "As if it had happened" } dd { (humane::moment(report.at)) } } }
            div { dt { "Plan" } dd { (report.plan) } }
            div { dt { "Provider" } dd { (site) } }
            div { dt { "Started by" } dd { (report.trigger) ", " (report.identity) } }
            div { dt { "Host" } dd { (report.host) } }
        }
    }
}

fn tone(overall: Overall) -> &'static str {
    match overall {
        Overall::Passed => "good",
        Overall::PassedWithFindings | Overall::ObjectiveMissed => "warning",
        Overall::Failed | Overall::Aborted => "bad",
    }
}

fn sign(overall: Overall) -> &'static str {
    match overall {
        Overall::Passed => "✓",
        Overall::PassedWithFindings | Overall::ObjectiveMissed => "!",
        Overall::Failed | Overall::Aborted => "✗",
    }
}

pub(super) fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// The outcome in two sentences.
fn conclusion(report: &Report) -> String {
    let passed = report.checks.iter().filter(|check| check.passed).count();
    let checks = format!("{passed} of {}", humane::counted(report.checks.len() as u64, "check"));
    let restored = humane::counted(report.sources.len() as u64, "recovery point");
    let restored = if report.sources.len() == 1 { format!("{restored} was") } else { format!("{restored} were") };
    let what = format!("{restored} restored from the DR site; {checks} passed.");
    match (report.rpo_seconds, report.rto_seconds) {
        (Some(rpo), Some(rto)) => format!(
            "{what} A disaster at that moment would have cost the last {} of data, and the system was usable again {} after it was declared.",
            humane::duration(rpo),
            humane::duration(rto)
        ),
        _ if report.passed => what,
        _ => format!("{what} This drill does not show that the system can be recovered."),
    }
}

fn numbers(report: &Report) -> Markup {
    let rpo_note = match (&report.rpo_source, &report.rpo_method) {
        (Some(source), Some(method)) => format!("oldest restored source: {source} ({method})"),
        _ => "unknown: a step that did not succeed may have been the restore of older data".to_owned(),
    };
    let rto_note = match &report.rto_check {
        Some(check) => format!("from t0 to the last passing check: {check}"),
        None => "counted only when every step and every check succeeds".to_owned(),
    };
    html! {
        section class="numbers" aria-label="RPO and RTO against their objectives" {
            (number("RPO", "data lost", report.rpo_seconds, report.objectives.rpo_seconds, report.verdict.rpo, &rpo_note))
            (number("RTO", "time to recover", report.rto_seconds, report.objectives.rto_seconds, report.verdict.rto, &rto_note))
        }
    }
}

fn number(
    name: &str,
    gloss: &str,
    seconds: Option<f64>,
    objective: Option<f64>,
    verdict: ObjectiveVerdict,
    note: &str,
) -> Markup {
    let (tone, sign) = match verdict {
        ObjectiveVerdict::Met => ("good", "✓ "),
        ObjectiveVerdict::Missed => ("bad", "✗ "),
        ObjectiveVerdict::NoObjective | ObjectiveVerdict::NotMeasured => ("neutral", ""),
    };
    html! {
        div class=(format!("number {tone}")) {
            h2 { (name) " " span class="gloss" { (gloss) } }
            p class="value" { (seconds.map_or_else(|| "not measured".to_owned(), humane::duration)) }
            p class="objective" {
                @match objective {
                    Some(objective) => { "objective " (humane::duration(objective)) " " span class="chip" { (sign) (verdict.word()) } }
                    None => { span class="chip" { "no objective set" } }
                }
            }
            @if let (Some(seconds), Some(objective)) = (seconds, objective) { (gauge(seconds, objective)) }
            p class="note" { (note) }
        }
    }
}

/// How much of the objective was used; the line is the objective.
fn gauge(seconds: f64, objective: f64) -> Markup {
    let most = seconds.max(objective).max(f64::MIN_POSITIVE);
    let (used, limit) = (seconds / most * 300.0, objective / most * 300.0);
    let share = if objective > 0.0 { percent(seconds / objective) } else { "objective is 0".to_owned() };
    html! {
        svg class="gauge" viewBox="0 0 304 14" role="img" aria-label=(share) {
            rect class="rail" x="0" y="4" width=(format!("{limit:.1}")) height="6" rx="2" {}
            rect class="used" x="0" y="4" width=(format!("{:.1}", used.max(1.5))) height="6" rx="2" {}
            line class="limit" x1=(format!("{limit:.1}")) x2=(format!("{limit:.1}")) y1="0" y2="14" {}
        }
        p class="note" { (share) }
    }
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent > 0.0 && percent < 1.0 => "less than 1 % of the objective".to_owned(),
        percent => format!("{percent:.0} % of the objective"),
    }
}

fn deficiencies(report: &Report) -> Markup {
    let tone = |severity| match severity {
        Severity::Failure => "bad",
        Severity::Objective | Severity::Finding => "warning",
    };
    html! {
        section {
            h2 { "Deficiencies" }
            @if report.deficiencies.is_empty() { p { "None found." } }
            @else {
                ul class="deficiencies" {
                    @for deficiency in &report.deficiencies {
                        li class=(tone(deficiency.severity)) {
                            span class="chip" { (deficiency.severity.word()) }
                            span { (deficiency.sentence) }
                        }
                    }
                }
            }
        }
    }
}

fn picture(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Timeline" }
            figure {
                div class="scroll" { (timeline(report)) }
                figcaption {
                    "Time after t0; at the right how long each attempt took. "
                    b { "Bold and underlined" } ": the longest chain of steps, as their times suggest. Hatched: failed. "
                    "Dashed outline: did not end."
                    @if !report.interruptions.is_empty() { " Grey ground: the process had died and nothing ran." }
                }
            }
            @for gap in &report.interruptions {
                p { "Interrupted: the last sign of life was at " (humane::moment(gap.last_event)) ", the run was continued at "
                    (humane::moment(gap.continued)) ", " (humane::duration(gap.seconds)) " later. The RTO includes this time." }
            }
        }
    }
}
