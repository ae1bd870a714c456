//! `lifeboat status`

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::global::Global;
use super::output;
use crate::catalog::{DrillRow, RunRow, VerificationRow};
use crate::engine::system::{System, dr_place};
use crate::ground::{Failure, Result};
use crate::report::humane;
use crate::site::DrSite;
use crate::site::records::{PointRecord, PointState};

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The system; without it, all
    system: Option<String>,
}

#[derive(Debug, Serialize)]
struct SystemStatus {
    system: String,
    healthy: bool,
    sources: Vec<SourceStatus>,
    /// What a person should look at, a sentence each.
    incidents: Vec<String>,
    rpo_objective_seconds: Option<f64>,
    last_drill: Option<DrillRow>,
    /// The last one by this machine; with damage, until one as thorough finds none.
    verification: Option<VerificationRow>,
}

#[derive(Debug, Serialize)]
struct SourceStatus {
    source: String,
    /// Newest complete point; a partial one when there is no other.
    last_point: Option<String>,
    /// Of its data.
    age_seconds: Option<f64>,
    state: Option<PointState>,
}

/// Runs the command.
pub fn command(global: &Global, arguments: &Arguments) -> Result<u8> {
    let statuses: Vec<SystemStatus> = match &arguments.system {
        Some(system) => vec![examine(global, system)?],
        None => every_system(global)?,
    };
    if statuses.is_empty() {
        return Err(Failure::wrong_input(format!("there is no policy in {}", global.policies().display()))
            .hint("make a first one with `lifeboat init`"));
    }
    if global.json {
        output::json(&json!({ "systems": statuses }))?;
    } else {
        statuses.iter().try_for_each(print)?;
    }
    Ok(if statuses.iter().all(|status| status.healthy) { 0 } else { 4 })
}

/// A policy that is broken is an incident of its own, not the end of the look at all others.
fn every_system(global: &Global) -> Result<Vec<SystemStatus>> {
    let mut statuses = Vec::new();
    for path in global.policy_paths()? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let status = super::global::read_policy(&path).and_then(|policy| examine(global, &policy.system));
        statuses.push(status.unwrap_or_else(|failure| SystemStatus {
            system: name,
            healthy: false,
            sources: Vec::new(),
            incidents: vec![failure.message],
            rpo_objective_seconds: None,
            last_drill: None,
            verification: None,
        }));
    }
    Ok(statuses)
}

fn examine(global: &Global, name: &str) -> Result<SystemStatus> {
    let file = global.policy_of(Some(name))?;
    if DrSite::is_absent(&dr_place(&file.policy)?)? {
        return Ok(never_backed_up(&file.policy));
    }
    let system = global.open_system(file)?;
    let now = system.clock.now();
    let points = system.catalog.points(name)?;
    let objective = system.policy.objectives.rpo;
    let mut incidents = Vec::new();
    let mut healthy = true;
    let mut sources = Vec::new();
    for source in &system.policy.sources {
        let last = last_good(&points, &source.name);
        if let Some(breach) = breach(&source.name, last, objective, now) {
            healthy = false;
            incidents.push(breach);
        }
        if let Some(partial) =
            newest(points.iter().filter(|point| point.source == source.name)).filter(|point| is_partial(point))
        {
            incidents.push(format!(
                "{}: the newest point is partial, {} entries are missing",
                source.name, partial.missing_count
            ));
        }
        sources.push(SourceStatus {
            source: source.name.clone(),
            last_point: last.map(|point| point.id.clone()),
            age_seconds: last.map(|point| age(point, now)),
            state: last.map(|point| point.state),
        });
    }
    let last_drill = system.catalog.drills(name)?.pop();
    if let Some(drill) = last_drill.as_ref().filter(|drill| !drill.passed) {
        healthy = false;
        incidents.push(format!("drill {} did not pass", drill.drill));
    }
    let verification = system.catalog.verification(name)?;
    let last_backup = system.catalog.last_run(name, crate::jobs::backup::KIND)?;
    let mut troubles: Vec<String> = verification.as_ref().and_then(damage).into_iter().collect();
    if let Some(run) = &last_backup {
        troubles.extend(failed(run));
        troubles.extend(crate::backup::hooks::not_undone(&system.catalog.events(&run.id)?));
    }
    healthy &= troubles.is_empty();
    incidents.extend(troubles);
    incidents.extend(run_incidents(&system)?);
    let rpo_objective_seconds = objective.map(|rpo| rpo.as_secs_f64());
    let system = name.to_owned();
    Ok(SystemStatus { system, healthy, sources, incidents, rpo_objective_seconds, last_drill, verification })
}

fn never_backed_up(policy: &crate::policy::Policy) -> SystemStatus {
    let source = |source: &crate::policy::Source| SourceStatus {
        source: source.name.clone(),
        last_point: None,
        age_seconds: None,
        state: None,
    };
    SystemStatus {
        system: policy.system.clone(),
        healthy: false,
        sources: policy.sources.iter().map(source).collect(),
        incidents: vec!["it was never backed up: there is no DR site yet".to_owned()],
        rpo_objective_seconds: policy.objectives.rpo.map(|rpo| rpo.as_secs_f64()),
        last_drill: None,
        verification: None,
    }
}

fn failed(run: &RunRow) -> Option<String> {
    let why = run.summary.as_deref().unwrap_or_default();
    (run.outcome.as_deref() == Some("failed")).then(|| format!("the last backup run {} failed: {why}", run.id))
}

fn damage(verification: &VerificationRow) -> Option<String> {
    (verification.damage > 0).then(|| {
        format!(
            "the verification of {} found damage in {} places: `lifeboat verify --read-data` names it and, when \
             `lifeboat repair` has mended what can be mended, tells whether all is whole",
            verification.at.strftime("%Y-%m-%d %H:%M UTC"),
            verification.damage
        )
    })
}

fn run_incidents(system: &System) -> Result<Vec<String>> {
    let name = &system.policy.system;
    let mut incidents: Vec<String> = system
        .catalog
        .unfinished_runs(name)?
        .iter()
        .map(|run| {
            format!("the {} run {} is under way, or was interrupted and ends with the next backup, archive, drill, prune or \
                 repair",
                run.kind, run.id
            )
        })
        .collect();
    incidents.extend(system.clock_suspect(system.clock.now()));
    Ok(incidents)
}

fn is_partial(point: &PointRecord) -> bool {
    point.state == PointState::Partial
}

fn last_good<'a>(points: &'a [PointRecord], source: &str) -> Option<&'a PointRecord> {
    let own = || points.iter().filter(|point| point.source == source);
    newest(own().filter(|point| !is_partial(point))).or_else(|| newest(own()))
}

fn newest<'a>(points: impl Iterator<Item = &'a PointRecord>) -> Option<&'a PointRecord> {
    points.max_by(|left, right| left.compare_newness(right))
}

fn age(point: &PointRecord, now: Timestamp) -> f64 {
    now.duration_since(point.data_time).as_secs_f64().max(0.0)
}

fn breach(
    source: &str,
    last: Option<&PointRecord>,
    objective: Option<std::time::Duration>,
    now: Timestamp,
) -> Option<String> {
    let Some(point) = last else { return Some(format!("{source}: there is no recovery point")) };
    if is_partial(point) {
        return Some(format!(
            "{source}: there is no complete recovery point, the newest lacks {} entries",
            point.missing_count
        ));
    }
    let objective = objective?.as_secs_f64();
    let age = age(point, now);
    (age > objective).then(|| {
        format!(
            "{source}: the last good point is {} old, the objective is {}",
            humane::duration(age),
            humane::duration(objective)
        )
    })
}

fn print(status: &SystemStatus) -> Result<()> {
    let health = if status.healthy { "healthy" } else { "NOT HEALTHY" };
    output::line(&format!("{}: {health}", status.system))?;
    let row = |source: &SourceStatus| {
        let age = source.age_seconds.map_or_else(|| "-".to_owned(), humane::duration);
        let partial = if source.state == Some(PointState::Partial) { " (partial)" } else { "" };
        let point = source.last_point.as_ref().map_or_else(|| "none".to_owned(), |point| format!("{point}{partial}"));
        vec![source.source.clone(), age, point]
    };
    output::table(&["SOURCE", "AGE>", "LAST GOOD POINT"], &status.sources.iter().map(row).collect::<Vec<_>>())?;
    if let Some(drill) = &status.last_drill {
        output::line(&format!(
            "last drill: {} {} ({})",
            drill.drill,
            drill.verdict,
            drill.finished.strftime("%Y-%m-%d %H:%M UTC")
        ))?;
    }
    if let Some(verification) = status.verification.as_ref().filter(|verification| verification.damage == 0) {
        let depth = match verification.percent_read {
            0 => "structure".to_owned(),
            percent => format!("{percent} % of the data read"),
        };
        output::line(&format!(
            "last verification: whole ({depth}; {})",
            verification.at.strftime("%Y-%m-%d %H:%M UTC")
        ))?;
    }
    status.incidents.iter().try_for_each(|incident| output::line(&format!("! {incident}")))
}
