//! Sections of the page below the verdict: tables, formulas, evidence.

use lifeboat_verify::events::{Event, EventKind, ScriptRun, StepOutput};
use lifeboat_verify::report::{Report, SourceRow, StepOutcome, StepRow};
use maud::{Markup, html};

use super::html::capitalised;
use super::humane;

/// A table that can be scrolled sideways on a small screen.
fn table(label: &str, heads: &[&str], rows: Markup) -> Markup {
    html! {
        div class="scroll" role="region" tabindex="0" aria-label=(label) {
            table {
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody { (rows) }
            }
        }
    }
}

/// What was restored.
pub(super) fn sources(report: &Report) -> Markup {
    let heads =
        ["Source", "Recovery point", "Data time", "Usable at DR site", "Data is true of", "Data lost", "Restored"];
    html! {
        section {
            h2 { "Recovery points used" }
            @if report.sources.is_empty() { p { "No recovery point was restored." } }
            @else { (table("Recovery points used", &heads, html! { @for row in &report.sources { (source_row(row)) } })) }
            @if let (Some(skew), true) = (report.skew_seconds, report.sources.len() > 1) {
                p { "Skew: the newest and the oldest restored source are " strong { (humane::duration(skew)) } " apart." }
            }
        }
    }
}

fn source_row(row: &SourceRow) -> Markup {
    html! {
        tr {
            th scope="row" { (row.source) br; span class="note" { (row.kind) } }
            td class="code" { (row.point) }
            td { (humane::moment(row.data_time)) }
            td { (humane::moment(row.available_time)) }
            td { (humane::moment(row.recovered_to)) br;
                span class="note" { (row.method) @if row.assumed { ", assumed" } @if row.clock_suspect { ", clock suspect" } ": " (row.detail) } }
            td class="figure" { (humane::duration(row.rpo_seconds)) }
            td { (humane::bytes(row.bytes)) br;
                span class="note" { (humane::count(row.entries)) @if row.entries == 1 { " entry" } @else { " entries" } }
                @if row.missing_count > 0 { br; strong { (humane::count(row.missing_count)) " missing" } } }
        }
        @if !row.missing.is_empty() {
            tr class="continued" { td colspan="7" {
                span class="note" { "Not restored exactly:" }
                ul class="code" { @for missing in &row.missing { li { (missing) } } }
                @if row.missing_count > row.missing.len() as u64 { span class="note" { "and " (humane::count(row.missing_count - row.missing.len() as u64)) " more" } }
            } }
        }
    }
}

/// What was looked at, expected and found.
pub(super) fn checks(report: &Report) -> Markup {
    let heads = ["Check", "Asked", "Expected", "Actual", "Result", "Decided after t0"];
    let rows = html! {
        @for row in &report.checks {
            tr {
                th scope="row" { (row.check) br; span class="note" { (row.kind) } }
                td class="code" { (row.asked) }
                td class="code" { (row.expected) }
                td class="code" { (row.actual) }
                td { (result_chip(row.tried, row.passed)) @if row.attempts > 1 { br; span class="note" { (row.attempts) " attempts" } } }
                td class="figure" { (row.seconds.map_or_else(|| "–".to_owned(), humane::duration)) }
            }
        }
    };
    html! {
        section {
            h2 { "Checks" }
            @if report.checks.is_empty() { p { "The plan has no check." } } @else { (table("Checks", &heads, rows)) }
        }
    }
}

fn result_chip(tried: bool, passed: bool) -> Markup {
    let (tone, word) = match (tried, passed) {
        (_, true) => ("good", "✓ passed"),
        (true, false) => ("bad", "✗ failed"),
        (false, false) => ("bad", "– not tried"),
    };
    html! { span class=(format!("chip {tone}")) { (word) } }
}

/// What this drill does not prove.
pub(super) fn not_tested(report: &Report) -> Markup {
    html! {
        section {
            h2 { "What was not tested" }
            @if report.not_tested.is_empty() { p { "Every source of the policy was restored, every step and check was reached." } }
            @else { ul { @for sentence in &report.not_tested { li { (sentence) "." } } } }
        }
    }
}

/// Isolation and clean-up.
pub(super) fn surroundings(report: &Report) -> Markup {
    html! {
        section class="pair" {
            div {
                h2 { "Isolation from the primary site" }
                @match &report.isolation {
                    None => { p { "No record: not proven." } }
                    Some(isolation) => {
                        p { span class=(if isolation.proven { "chip good" } else { "chip warning" }) {
                                (if isolation.proven { "✓ proven" } else { "! not proven" }) }
                            " by " (isolation.method) }
                        @if !isolation.hidden.is_empty() { p { "Hidden during the drill:" } (code_list(&isolation.hidden)) }
                        @if !isolation.not_proven.is_empty() { p { "Not proven:" } ul { @for why in &isolation.not_proven { li { (why) } } } }
                    }
                }
            }
            div {
                h2 { "Clean-up" }
                @match &report.clean_up {
                    None => { p { "No record that what the drill made was removed." } }
                    Some(clean_up) => {
                        p { span class=(if clean_up.left.is_empty() { "chip good" } else { "chip warning" }) {
                                (if clean_up.left.is_empty() { "✓ nothing left" } else { "! something left" }) }
                            " " (humane::counted(clean_up.created.len() as u64, "thing")) " created, "
                            (humane::count(clean_up.deleted.len() as u64)) " deleted; "
                            (humane::counted(clean_up.ended_processes, "process").replace("processs", "processes")) " ended" }
                        @if !clean_up.left.is_empty() { p { "Left behind:" } (code_list(&clean_up.left)) }
                        @else if !clean_up.deleted.is_empty() { (code_list(&clean_up.deleted)) }
                    }
                }
            }
        }
    }
}

fn code_list(items: &[String]) -> Markup {
    html! { ul class="code" { @for item in items { li { (item) } } } }
}

/// The formulas with the actual times in them.
pub(super) fn formulas(report: &Report) -> Markup {
    html! {
        section {
            h2 { "How the numbers were computed" }
            dl class="formulas" {
                @for row in &report.sources {
                    dt { "RPO of " (row.source) }
                    dd class="code" { (humane::precise(report.at)) " − " (humane::precise(row.recovered_to)) " = " (exact(row.rpo_seconds)) }
                }
                dt { "RPO" }
                dd { @match (report.rpo_seconds, &report.rpo_source) {
                    (Some(seconds), Some(source)) => { "largest of the above, that of " (source) " = " span class="code" { (exact(seconds)) } }
                    _ => { "not measured: a step that did not succeed may have been the restore of older data" }
                } }
                dt { "RTO" }
                dd { @match last_decided(report) {
                    Some((check, decided)) => { span class="code" { (humane::precise(decided)) " − " (humane::precise(report.t0)) " = " (exact(report.rto_seconds.unwrap_or_default())) }
                        " (check " (check) " decided, minus t0)" }
                    None => { "not measured: not every step and check succeeded" }
                } }
                @if let Some(skew) = report.skew_seconds {
                    dt { "Skew" } dd { "newest minus oldest \"data is true of\" = " span class="code" { (exact(skew)) } }
                }
            }
            p { "A number equal to its objective meets it. Assumptions:" }
            ul { @for sentence in &report.assumptions { li { (sentence) "." } } }
        }
    }
}

fn exact(seconds: f64) -> String {
    format!("{seconds:.3} s")
}

fn last_decided(report: &Report) -> Option<(&str, jiff::Timestamp)> {
    let name = report.rto_check.as_deref()?;
    let check = report.checks.iter().filter(|check| check.check == name).max_by_key(|check| check.decided_at)?;
    Some((name, check.decided_at?))
}

/// Every attempt of every step.
pub(super) fn steps(report: &Report) -> Markup {
    let heads = ["Step", "Kind", "Started", "Finished", "Took", "Outcome"];
    html! {
        section {
            h2 { "Steps" }
            p class="note" { "Times of day on " (report.t0.strftime("%Y-%m-%d").to_string()) " and after, UTC." }
            (table("Steps", &heads, html! { @for row in &report.steps { (step_row(row)) } }))
        }
    }
}

fn step_row(row: &StepRow) -> Markup {
    let clock = |time: Option<jiff::Timestamp>| time.map_or_else(|| "–".to_owned(), humane::clock);
    let (tone, sign) = match row.outcome {
        StepOutcome::Succeeded => ("good", "✓"),
        StepOutcome::Failed => ("bad", "✗"),
        StepOutcome::Interrupted | StepOutcome::Unfinished => ("warning", "⋯"),
        StepOutcome::NotReached => ("warning", "–"),
    };
    html! {
        tr {
            th scope="row" { (row.name) @if row.attempt > 1 { br; span class="note" { "attempt " (row.attempt) } } }
            td { (row.kind) }
            td class="figure" { (clock(row.started)) }
            td class="figure" { (clock(row.finished)) }
            td class="figure" { (row.seconds.map_or_else(|| "–".to_owned(), humane::duration)) }
            td { span class=(format!("chip {tone}")) { (sign) " " (row.outcome.word()) }
                @if let Some(error) = &row.error { br; span class="note error" { (error) } } }
        }
    }
}

/// What the recovery scripts printed.
pub(super) fn scripts(events: &[Event]) -> Markup {
    let runs: Vec<(&str, ScriptRun)> = events.iter().filter_map(script_of).collect();
    html! {
        @if !runs.is_empty() {
            section {
                h2 { "Recovery scripts" }
                @for (step, run) in &runs {
                    h3 { (step.strip_prefix("step: ").unwrap_or(step)) ": " (run.file) ", exit code " (run.exit_code) }
                    p class="note" { "SHA-256 as stored at the DR site: " span class="code" { (run.sha256) } }
                    @if run.output.trim().is_empty() { p class="note" { "It printed nothing." } }
                    @else { pre { (run.output.trim_end()) } }
                }
            }
        }
    }
}

fn script_of(event: &Event) -> Option<(&str, ScriptRun)> {
    let succeeded = event.kind == EventKind::Succeeded;
    match serde_json::from_value(event.data.clone()) {
        Ok(StepOutput::Script(run)) if succeeded => Some((event.step.as_str(), run)),
        _ => None,
    }
}

/// Hashes, and how to verify them.
pub(super) fn evidence(report: &Report, events: usize) -> Markup {
    html! {
        section class="evidence" {
            h2 { "Evidence and how to verify it" }
            p { "Every number on this page is computed from the " (humane::counted(events as u64, "raw event")) " of the run. To compute them again, without network and "
                "without trusting the tool that wrote them, with the files of this report's directory at the DR site:" }
            pre { "lifeboat-verify report.json --ledger ../../ledger" }
            p { "This page is a rendering for people; " span class="code" { "report.json" } " and " span class="code" { "events.jsonl" } " are the evidence." }
            dl class="formulas" {
                dt { "Run" } dd class="code" { (report.run) }
                dt { "Raw events, SHA-256" } dd class="code" { (report.events_sha256) }
                dt { "Policy in force, SHA-256" } dd class="code" { (report.policy) }
                @for row in &report.sources {
                    dt { "Content of " (row.source) } dd class="code" { (row.tree) }
                }
                dt { "First and last event" } dd { (humane::moment(report.started)) " to " (humane::moment(report.finished)) }
            }
            p class="note" { "This report is evidence for a reviewer. It is not signed, and it is not by itself a statement of compliance." }
        }
    }
}

/// Who wrote it.
pub(super) fn footer(report: &Report) -> Markup {
    html! {
        footer {
            p { (report.system) " · drill " (report.drill) " · " (capitalised(report.verdict.overall.word())) " · " (humane::moment(report.finished))
                " · " (report.tool_version) " · report format " (report.format) }
        }
    }
}
