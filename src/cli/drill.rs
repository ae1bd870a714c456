//! `lifeboat drill`, `drills` and `report`

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use lifeboat_verify::events::Isolated;
use lifeboat_verify::report::{ObjectiveVerdict, Report};
use serde_json::json;

use super::global::Global;
use super::{block_on, output, resume};
use crate::engine::system::{System, dr_place, repository_password};
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result, SecretReference};
use crate::jobs::drill::{self, DrillDone, DrillRequest};
use crate::policy::{ArchiveTarget, Policy, Source, StepAction};
use crate::recovery::{isolate, points_at};
use crate::report::{self, humane};
use crate::site::dr::report_directory;

/// Arguments of `drill`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The system; may be left out when there is one policy
    system: Option<String>,
    /// The plan
    #[arg(long, value_name = "NAME", default_value = "drill")]
    plan: String,
    /// Had it happened then (RFC 3339): only points that were usable at that time
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Say what the plan would do, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Finish what an interrupted drill left and start nothing new
    #[arg(long = "continue")]
    continue_only: bool,
}

/// Arguments of `drills`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// The system; may be left out when there is one policy
    system: Option<String>,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// Number of the drill
    drill: u64,
    /// The system; may be left out when there is one policy
    #[arg(long, value_name = "NAME")]
    system: Option<String>,
    /// Print the report itself instead of the short text
    #[arg(long, value_enum)]
    format: Option<Format>,
}

/// Formats of a report.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Html,
    Json,
}

/// Runs `drill`.
pub fn command(global: &Global, arguments: &Arguments) -> Result<u8> {
    let system = global.open_system_with_scripts(global.policy_of(arguments.system.as_deref())?)?;
    if !arguments.continue_only && !arguments.dry_run {
        resume::other_kinds(global, &system, drill::KIND)?;
    }
    let _lock = system.lock("drill")?;
    // The last time that anything of the primary's side is used: what the operator wrote goes to the DR site, and from
    // here on only the DR site speaks.
    if !arguments.dry_run && !arguments.continue_only {
        system.dr.put_policy_in_force(&system.policy.text, &system.scripts, system.clock.now())?;
    }
    let policy = drill::policy_in_force(&system)?;
    let plan = policy.plan_to_run(&arguments.plan).ok_or_else(|| no_plan(&policy, &arguments.plan))?;
    if arguments.dry_run {
        return dry_run(global, &plan);
    }
    if let Some(at) = arguments.at.filter(|_| !arguments.continue_only) {
        check_moment(&system, at)?;
    }
    // Opened before the primary is hidden, to say a wrong password before anything starts.
    system.open_repository()?;
    // A process with threads cannot leave its name spaces.
    system.dr.store().pause();
    let isolated = isolate::isolate(&isolate::primary_paths(&policy), &kept_paths(&system, &policy)?);
    let mut done = block_on(drill::continue_interrupted(&system, &isolated))?;
    if !arguments.continue_only {
        done.push(new_drill(&system, policy, arguments, isolated)?);
    }
    let Some(last) = done.last() else { return output::line("nothing was interrupted").map(|()| 0) };
    print_result(global, last)?;
    Ok(exit_code(&last.report))
}

fn new_drill(system: &System, policy: Policy, arguments: &Arguments, isolated: Isolated) -> Result<DrillDone> {
    let request = DrillRequest {
        plan: arguments.plan.clone(),
        at: arguments.at,
        number: drill::next_number(system)?,
        policy: policy.hash(),
        identity: identity(),
    };
    block_on(drill::drill(system, policy, &request, isolated))
}

fn check_moment(system: &System, at: Timestamp) -> Result<()> {
    let points = system.catalog.points(&system.policy.system)?;
    let usable = system.policy.sources.iter().any(|source| points_at(&points, &source.name, Some(at)).is_some());
    if at > system.clock.now() {
        return Err(Failure::wrong_input(format!(
            "{at} is in the future: no disaster can be assumed to have happened then"
        )));
    }
    if !usable {
        return Err(Failure::wrong_input(format!("no recovery point was usable at {at}"))
            .hint("`lifeboat points` lists what there is"));
    }
    Ok(())
}

fn no_plan(policy: &Policy, name: &str) -> Failure {
    let names: Vec<&str> = policy.plans.keys().map(String::as_str).collect();
    let failure = Failure::wrong_input(format!("the policy of {:?} has no plan {name:?}", policy.system));
    if names.is_empty() { failure } else { failure.hint(format!("its plans are: {}", names.join(", "))) }
}

/// What the drill itself works with; the primary's paths are hidden around these.
fn kept_paths(system: &System, policy: &Policy) -> Result<Vec<PathBuf>> {
    let mut kept = vec![system.state.root().to_owned()];
    kept.extend(dr_place(&system.policy)?.directory().map(Path::to_owned));
    if let Some(ArchiveTarget::Directory { path }) = policy.retention.archive.as_ref().map(|rule| &rule.to) {
        kept.push(PathBuf::from(path));
    }
    kept.extend(secret_file(repository_password(&policy.dr)));
    // Their points are restored from there, wherever that is.
    for existing in policy.sources.iter().filter_map(Source::existing) {
        kept.push(PathBuf::from(&existing.path));
        kept.extend(secret_file(&existing.password));
    }
    kept.push(std::env::current_exe().or_fail(|| "cannot find lifeboat's own program file".to_owned())?);
    Ok(kept)
}

/// The file that a secret is read from, when it is one.
fn secret_file(reference: &SecretReference) -> Option<PathBuf> {
    let SecretReference::File(path) = reference else { return None };
    std::path::absolute(path).ok().filter(|path| path.exists())
}

fn identity() -> String {
    let uid = rustix::process::getuid().as_raw();
    let name = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    name.map_or_else(|_| format!("uid {uid}"), |name| format!("{name} (uid {uid})"))
}

fn dry_run(global: &Global, plan: &crate::policy::Plan) -> Result<u8> {
    let steps: Vec<_> = plan
        .steps
        .iter()
        .map(|step| json!({ "name": step.name, "does": what(&step.action), "after": step.after }))
        .collect();
    let checks: Vec<&str> = plan.checks.iter().map(|check| check.name.as_str()).collect();
    if global.json {
        output::json(&json!({ "steps": steps, "checks": checks }))?;
        return Ok(0);
    }
    for step in &plan.steps {
        let after = if step.after.is_empty() { String::new() } else { format!(", after {}", step.after.join(", ")) };
        output::line(&format!("step {}: {}{after}", step.name, what(&step.action)))?;
    }
    checks.iter().try_for_each(|check| output::line(&format!("check {check}")))?;
    Ok(0)
}

fn what(action: &StepAction) -> String {
    match action {
        StepAction::Restore { source, to } => format!("restore {source} to {to}/"),
        StepAction::Script { file, args } => format!("run {file} {}", args.join(" ")).trim_end().to_owned(),
        StepAction::Wait { duration } => format!("wait {}", humane::duration(duration.as_secs_f64())),
    }
}

fn print_result(global: &Global, done: &DrillDone) -> Result<()> {
    if !global.json {
        output::print(&report::text(&done.report))?;
        output::line(&format!("report: {}", done.report_html.display()))?;
        return Ok(());
    }
    let report = &done.report;
    output::json(&json!({
        "system": report.system, "drill": report.drill, "run": done.run, "passed": report.passed,
        "verdict": report.verdict, "rpo_seconds": report.rpo_seconds, "rto_seconds": report.rto_seconds,
        "rpo_method": report.rpo_method, "report": done.report_json, "report_html": done.report_html,
    }))
}

/// 1 when the drill failed, 4 when it passed over an objective.
fn exit_code(report: &Report) -> u8 {
    let missed = |verdict: ObjectiveVerdict| verdict == ObjectiveVerdict::Missed;
    match (report.passed, missed(report.verdict.rpo) || missed(report.verdict.rto)) {
        (false, _) => 1,
        (true, true) => 4,
        (true, false) => 0,
    }
}

/// Runs `drills`.
pub fn list(global: &Global, arguments: &ListArguments) -> Result<u8> {
    let system = global.open_system(global.policy_of(arguments.system.as_deref())?)?;
    let drills = system.catalog.drills(&system.policy.system)?;
    if global.json {
        output::json(&json!({ "drills": drills }))?;
        return Ok(0);
    }
    if drills.is_empty() {
        output::line("no drills yet")?;
        return Ok(0);
    }
    let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), humane::duration);
    let rows: Vec<Vec<String>> = drills
        .iter()
        .map(|drill| {
            let finished = drill.finished.strftime("%Y-%m-%d %H:%M").to_string();
            let numbers = [seconds(drill.rpo_seconds), seconds(drill.rto_seconds)];
            [vec![drill.drill.to_string(), finished, drill.plan.clone()], numbers.to_vec(), vec![drill.verdict.clone()]]
                .concat()
        })
        .collect();
    output::table(&["DRILL>", "FINISHED (UTC)", "PLAN", "RPO>", "RTO>", "VERDICT"], &rows)?;
    Ok(0)
}

/// Runs `report`.
pub fn report(global: &Global, arguments: &ReportArguments) -> Result<u8> {
    let system = global.open_system(global.policy_of(arguments.system.as_deref())?)?;
    // Read first whatever is asked for: a damaged report is not handed on.
    let stored = system.dr.report(arguments.drill)?;
    let page = format!("{}/report.html", report_directory(arguments.drill));
    match arguments.format.or(global.json.then_some(Format::Json)) {
        Some(Format::Html) => {
            let bytes = system.dr.store().get(&page)?;
            output::print(&String::from_utf8(bytes).or_fail(|| format!("the page {page} is damaged"))?)?;
        }
        Some(Format::Json) => output::print(&String::from_utf8_lossy(&stored.to_bytes()))?,
        None => {
            output::print(&report::text(&stored))?;
            output::line(&format!("report: {}", Path::new(&system.dr.describe()).join(&page).display()))?;
        }
    }
    Ok(0)
}
