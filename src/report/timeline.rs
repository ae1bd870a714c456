//! The timeline picture: steps as bars on a time axis that starts at t0, as inline SVG.

use jiff::Timestamp;
use lifeboat_verify::report::{Report, StepOutcome, StepRow};
use maud::{Markup, html};

use super::humane;

/// Width of the picture; every other measure is in the same unit.
const WIDTH: f64 = 800.0;
const LABEL_WIDTH: f64 = 226.0;
const PLOT_END: f64 = 706.0;
const ROW: f64 = 20.0;
const TOP: f64 = 56.0;
const STRIP: f64 = 44.0;
/// Rows that fit one printed page; more steps than that are summed up in a strip.
const ROWS_MAX: usize = 40;
const LABEL_CHARACTERS: usize = 29;
/// Columns of the strip.
const BINS: usize = 120;

/// One attempt on the picture.
struct Bar<'a> {
    row: &'a StepRow,
    /// Seconds after t0.
    start: f64,
    end: f64,
    critical: bool,
}

/// Seconds on the axis and where they lie.
struct Scale {
    from: f64,
    to: f64,
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        let share = ((seconds - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        LABEL_WIDTH + share * (PLOT_END - LABEL_WIDTH)
    }
}

/// The picture of a report's steps.
pub(super) fn timeline(report: &Report) -> Markup {
    let bars = bars(report);
    let chosen = chosen(&bars);
    let with =
        |wanted: bool| bars.iter().zip(&chosen).filter(move |(_, chosen)| **chosen == wanted).map(|(bar, _)| bar);
    let (shown, summed): (Vec<&Bar>, Vec<&Bar>) = (with(true).collect(), with(false).collect());
    let waiting: Vec<&StepRow> = report.steps.iter().filter(|row| row.started.is_none()).collect();
    let waiting = &waiting[..waiting.len().min(ROWS_MAX.saturating_sub(shown.len()))];
    let scale = scale(report, &bars);
    let strip = if summed.is_empty() { 0.0 } else { STRIP };
    let rows_end = TOP + (shown.len() + waiting.len()) as f64 * ROW;
    let height = rows_end + strip + 6.0;
    html! {
        svg class="timeline" viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-labelledby="timeline-title timeline-desc" {
            title id="timeline-title" { "Timeline of the drill" }
            desc id="timeline-desc" { (describe(report, &shown, summed.len())) }
            defs {
                pattern id="failed-hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                    rect width="6" height="6" class="hatch-ground" {}
                    line x1="0" y1="0" x2="0" y2="6" class="hatch-line" {}
                }
            }
            (interruptions(report, &scale, rows_end + strip))
            (axis(&scale, rows_end + strip))
            @for (index, bar) in shown.iter().enumerate() { (bar_row(bar, &scale, TOP + index as f64 * ROW)) }
            @for (index, row) in waiting.iter().enumerate() {
                (waiting_row(row, TOP + (shown.len() + index) as f64 * ROW))
            }
            @if !summed.is_empty() { (strip_row(&summed, &scale, rows_end)) }
            (marks(report, &scale, rows_end + strip))
        }
    }
}

fn seconds_after(t0: Timestamp, time: Timestamp) -> f64 {
    time.duration_since(t0).as_secs_f64()
}

fn bars(report: &Report) -> Vec<Bar<'_>> {
    let chain = longest_chain(&report.steps);
    let end_of_run = seconds_after(report.t0, report.finished);
    let bar = |(index, row): (usize, &'_ StepRow)| {
        let start = seconds_after(report.t0, row.started?);
        let open = report.interruptions.iter().map(|gap| seconds_after(report.t0, gap.last_event));
        let died = open.filter(|last| *last >= start).fold(end_of_run, f64::min);
        let end = row.finished.map_or(died, |finished| seconds_after(report.t0, finished)).max(start);
        Some((index, start, end))
    };
    let timed = report.steps.iter().enumerate().filter_map(bar);
    timed.map(|(index, start, end)| Bar { row: &report.steps[index], start, end, critical: chain[index] }).collect()
}

/// Which steps form the longest chain: from the last check backwards, always the step that ended latest before.
/// The graph of the plan is not in the events, so this is what the times suggest, and the page says so.
pub(super) fn longest_chain(steps: &[StepRow]) -> Vec<bool> {
    let mut chain = vec![false; steps.len()];
    let counts = |row: &StepRow| {
        let kinds = ["restore", "script", "wait", "check", "recovered to", "plan step", "isolate", "declare"];
        kinds.contains(&row.kind.as_str()) && row.started.is_some() && row.finished.is_some()
    };
    let candidates: Vec<usize> = (0..steps.len()).filter(|&index| counts(&steps[index])).collect();
    let mut current =
        candidates.iter().copied().filter(|&index| steps[index].kind != "declare").max_by_key(|&i| steps[i].finished);
    while let Some(index) = current {
        chain[index] = true;
        let before = |&other: &usize| !chain[other] && steps[other].finished <= steps[index].started;
        current = candidates.iter().copied().filter(before).max_by_key(|&i| steps[i].finished);
    }
    chain
}

/// Which bars get a row of their own: all when they fit, else failures, the longest chain and the longest steps.
fn chosen(bars: &[Bar]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..bars.len()).collect();
    let weight = |bar: &Bar| (bar.row.outcome != StepOutcome::Succeeded, bar.critical);
    order.sort_by(|&a, &b| {
        let (a, b) = (&bars[a], &bars[b]);
        weight(b).cmp(&weight(a)).then((b.end - b.start).total_cmp(&(a.end - a.start)))
    });
    let mut chosen = vec![false; bars.len()];
    order.iter().take(ROWS_MAX).for_each(|&index| chosen[index] = true);
    chosen
}

fn scale(report: &Report, bars: &[Bar]) -> Scale {
    let from = bars.iter().map(|bar| bar.start).fold(0.0, f64::min);
    let last = bars.iter().map(|bar| bar.end).fold(0.0, f64::max);
    // The objective is shown when it is near enough not to squeeze the steps.
    let objective = report.objectives.rto_seconds.filter(|objective| *objective <= last * 1.5);
    let to = objective.map_or(last, |objective| last.max(objective * 1.02));
    Scale { from, to: if to > from { to } else { from + 1.0 } }
}

/// Distance between ticks, in seconds: a round number that gives at most eight of them.
fn tick_step(span: f64) -> f64 {
    const STEPS: [f64; 22] = [
        0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
        7200.0, 21_600.0, 86_400.0, 604_800.0,
    ];
    STEPS.into_iter().find(|step| span / step <= 8.0).unwrap_or(span / 4.0)
}

fn axis(scale: &Scale, bottom: f64) -> Markup {
    let step = tick_step(scale.to - scale.from);
    let first = (scale.from / step).ceil() * step;
    let ticks = (0..12).map(|index| first + f64::from(index) * step).take_while(|seconds| *seconds <= scale.to);
    html! {
        g class="axis" {
            @for seconds in ticks {
                @let x = format!("{:.1}", scale.x(seconds));
                line x1=(x) y1=(TOP - 6.0) x2=(x) y2=(bottom) {}
                text x=(x) y=(TOP - 11.0) text-anchor="middle" { (tick_label(seconds)) }
            }
        }
    }
}

fn tick_label(seconds: f64) -> String {
    if seconds.abs() < 1e-9 { "t0".to_owned() } else { humane::duration(seconds) }
}

fn bar_row(bar: &Bar, scale: &Scale, y: f64) -> Markup {
    let (x, end) = (scale.x(bar.start), scale.x(bar.end));
    let width = (end - x).max(2.5);
    let seconds = bar.end - bar.start;
    let class = format!("bar {} {}", class_of(bar.row), if bar.critical { "critical" } else { "" });
    let label = label(bar.row);
    html! {
        g class=(class) {
            title { (label) ": " (bar.row.outcome.word()) ", from " (humane::duration(bar.start)) " to " (humane::duration(bar.end)) " after t0" }
            text class="label" x=(LABEL_WIDTH - 8.0) y=(y + 14.0) text-anchor="end" { (shortened(&label)) }
            rect x=(format!("{x:.1}")) y=(y + 4.0) width=(format!("{width:.1}")) height="12" rx="2" {}
            @if bar.critical { rect class="underline" x=(format!("{x:.1}")) y=(y + 17.0) width=(format!("{width:.1}")) height="2" {} }
            text class="seconds" x=(WIDTH - 2.0) y=(y + 14.0) text-anchor="end" { (mark_of(bar.row.outcome)) (humane::duration(seconds)) }
        }
    }
}

fn waiting_row(row: &StepRow, y: f64) -> Markup {
    html! {
        g class="bar waiting" {
            text class="label" x=(LABEL_WIDTH - 8.0) y=(y + 14.0) text-anchor="end" { (shortened(&label(row))) }
            line x1=(LABEL_WIDTH) x2=(PLOT_END) y1=(y + 10.0) y2=(y + 10.0) {}
            text class="seconds" x=(WIDTH - 2.0) y=(y + 14.0) text-anchor="end" { "not reached" }
        }
    }
}

/// What a reader sees without colour.
fn mark_of(outcome: StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::Failed => "✗ failed ",
        StepOutcome::Interrupted => "⋯ killed ",
        StepOutcome::Unfinished => "⋯ open ",
        StepOutcome::Succeeded | StepOutcome::NotReached => "",
    }
}

fn class_of(row: &StepRow) -> &'static str {
    match (row.outcome, row.kind.as_str()) {
        (StepOutcome::Failed, _) => "failed",
        (StepOutcome::Interrupted | StepOutcome::Unfinished, _) => "open",
        (_, "restore") => "restore",
        (_, "check") => "check",
        (_, "script" | "wait" | "plan step") => "work",
        _ => "frame",
    }
}

fn label(row: &StepRow) -> String {
    let attempt = if row.attempt > 1 { format!(" (attempt {})", row.attempt) } else { String::new() };
    match row.kind.as_str() {
        "check" => format!("check {}{attempt}", row.name),
        "restore" if !row.name.starts_with("restore") => format!("restore {}{attempt}", row.name),
        _ => format!("{}{attempt}", row.name),
    }
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= LABEL_CHARACTERS {
        return label.to_owned();
    }
    label.chars().take(LABEL_CHARACTERS - 1).chain(['…']).collect()
}

/// How many of the steps without a row of their own ran at once.
fn strip_row(summed: &[&Bar], scale: &Scale, y: f64) -> Markup {
    let mut bins = [0_u32; BINS];
    let bin_of = |seconds: f64| {
        let share = (scale.x(seconds) - LABEL_WIDTH) / (PLOT_END - LABEL_WIDTH);
        ((share * BINS as f64) as usize).min(BINS - 1)
    };
    for bar in summed {
        bins[bin_of(bar.start)..=bin_of(bar.end)].iter_mut().for_each(|bin| *bin += 1);
    }
    let most = bins.iter().copied().max().unwrap_or(1).max(1);
    let width = (PLOT_END - LABEL_WIDTH) / BINS as f64;
    html! {
        g class="bar strip" {
            text class="label" x=(LABEL_WIDTH - 8.0) y=(y + 20.0) text-anchor="end" { (humane::counted(summed.len() as u64, "shorter step")) }
            text class="note" x=(LABEL_WIDTH - 8.0) y=(y + 35.0) text-anchor="end" { "in each slice of time" }
            @for (index, bin) in bins.iter().enumerate().filter(|(_, bin)| **bin > 0) {
                @let height = f64::from(*bin) / f64::from(most) * (STRIP - 12.0);
                rect x=(format!("{:.1}", LABEL_WIDTH + index as f64 * width)) y=(format!("{:.1}", y + STRIP - 4.0 - height)) width=(format!("{width:.2}")) height=(format!("{height:.1}")) {}
            }
            text class="seconds" x=(WIDTH - 2.0) y=(y + 20.0) text-anchor="end" { "up to " (most) }
        }
    }
}

fn interruptions(report: &Report, scale: &Scale, bottom: f64) -> Markup {
    html! {
        @for gap in &report.interruptions {
            @let from = scale.x(seconds_after(report.t0, gap.last_event));
            @let to = scale.x(seconds_after(report.t0, gap.continued));
            rect class="gap" x=(format!("{from:.1}")) y=(TOP) width=(format!("{:.1}", (to - from).max(1.0))) height=(format!("{:.1}", bottom - TOP)) {
                title { "interrupted: nothing ran for " (humane::duration(gap.seconds)) }
            }
        }
    }
}

/// The moments that the RTO and its objective are at.
fn marks(report: &Report, scale: &Scale, bottom: f64) -> Markup {
    let rto = report.rto_seconds.map(|seconds| (seconds, "rto", format!("RTO {}", humane::duration(seconds))));
    let within = report.objectives.rto_seconds.filter(|objective| *objective <= scale.to);
    let objective = within.map(|seconds| (seconds, "objective", format!("objective {}", humane::duration(seconds))));
    html! {
        @for (seconds, class, label) in rto.into_iter().chain(objective) {
            @let x = scale.x(seconds);
            @let y = if class == "rto" { 12.0 } else { 26.0 };
            g class=(format!("mark {class}")) {
                line x1=(format!("{x:.1}")) y1=(if class == "rto" { y + 4.0 } else { TOP - 6.0 }) x2=(format!("{x:.1}")) y2=(bottom) {}
                text x=(format!("{x:.1}")) y=(y) text-anchor=(if x > PLOT_END - 90.0 { "end" } else { "middle" }) { (label) }
            }
        }
    }
}

/// The picture in words.
fn describe(report: &Report, shown: &[&Bar], summed: usize) -> String {
    let longest = shown.iter().max_by(|a, b| (a.end - a.start).total_cmp(&(b.end - b.start)));
    let longest = longest.map_or_else(String::new, |bar| {
        format!(" The longest is {} with {}.", label(bar.row), humane::duration(bar.end - bar.start))
    });
    let end = report.rto_seconds.map_or_else(
        || "The last check did not pass.".to_owned(),
        |seconds| format!("The last check passed {} after t0.", humane::duration(seconds)),
    );
    let all = shown.len() + summed;
    format!(
        "{} from t0 on, as bars on a time axis.{longest} {end} The table of steps has the same data.",
        humane::counted(all as u64, "attempt")
    )
}
