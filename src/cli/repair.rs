//! `lifeboat repair`

use std::collections::HashMap;

use clap::Args;
use serde_json::json;

use super::global::Global;
use super::{block_on, output, resume};
use crate::engine::system::{System, dr_place};
use crate::ground::{Failure, FailureKind, Result};
use crate::jobs;
use crate::jobs::repair::{RepairDone, RepairRequest};
use crate::report::humane;

/// Arguments of `repair`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Makes the index anew from the packs, copies what is still readable of damaged packs into new ones, and names every file \
that is lost in any recovery point. The snapshot of a recovery point that lost its own is written again from the point's \
record. No key and no pack is changed or deleted. What is lost and still \
exists on the primary is stored again by the next backup; recovery points that refer to it are then whole again.")]
pub struct Arguments {
    /// The system; may be left out when there is one policy
    system: Option<String>,
    /// Judge packs by their headers, without reading the data: when only the index is lost
    #[arg(long)]
    headers_only: bool,
    /// Finish what an interrupted repair left and start nothing new
    #[arg(long = "continue", conflicts_with = "headers_only")]
    continue_only: bool,
}

/// Runs the command.
pub fn command(global: &Global, arguments: &Arguments) -> Result<u8> {
    let file = global.policy_of(arguments.system.as_deref())?;
    global.mend_marker(&dr_place(&file.policy)?, Some(&file.policy.system))?;
    let system = global.open_system(file)?;
    if !arguments.continue_only {
        resume::other_kinds(global, &system, jobs::repair::KIND)?;
    }
    let _lock = system.lock("repair")?;
    let request = RepairRequest { headers_only: arguments.headers_only };
    let done = match arguments.continue_only {
        true => block_on(jobs::repair::continue_interrupted(&system))?,
        false => vec![block_on(jobs::repair::repair(&system, request)).map_err(explain)?],
    };
    let Some(last) = done.last() else {
        return match global.json {
            true => output::json(&json!({ "system": system.policy.system, "run": null })),
            false => output::line("nothing was interrupted"),
        }
        .map(|()| 0);
    };
    print_result(global, &system, last)?;
    Ok(if last.report.losses.is_empty() { 0 } else { super::exit_code(FailureKind::Partial) })
}

/// Without configuration and key nothing can be read, and nothing here could make them again.
fn explain(failure: Failure) -> Failure {
    if failure.message.contains("the object config") || failure.message.contains("keys/") {
        return failure.hint(
            "the configuration and the keys cannot be made again from the rest: put the object back from a copy of the \
             repository",
        );
    }
    failure
}

fn print_result(global: &Global, system: &System, done: &RepairDone) -> Result<()> {
    let points: HashMap<String, String> =
        system.catalog.points(&system.policy.system)?.into_iter().map(|point| (point.snapshot, point.id)).collect();
    let report = &done.report;
    let point_of = |snapshot: &str| points.get(snapshot).cloned();
    if global.json {
        let losses: Vec<_> = (report.losses.iter())
            .map(|loss| {
                let point = point_of(&loss.snapshot);
                json!({ "snapshot": loss.snapshot, "point": point, "path": loss.path, "why": loss.why })
            })
            .collect();
        return output::json(&json!({
            "system": system.policy.system, "run": done.run, "packs": report.packs, "damage": report.damage,
            "index_rewritten": report.index_rewritten, "salvaged_blobs": report.salvaged_blobs,
            "lost_blobs": report.lost_blobs, "losses": losses, "more_losses": report.more_losses,
        }));
    }
    for damage in &report.damage {
        output::line(&format!("damage: {damage}"))?;
    }
    if report.index_rewritten {
        output::line("the index was made anew from the packs")?;
    }
    if report.salvaged_blobs > 0 {
        let bytes = humane::bytes(report.salvaged_bytes);
        output::line(&format!("{} blobs of damaged packs were copied into new ones, {bytes}", report.salvaged_blobs))?;
    }
    for loss in &report.losses {
        let snapshot = loss.snapshot.get(..8).unwrap_or_default();
        let holder = point_of(&loss.snapshot).unwrap_or_else(|| format!("snapshot {snapshot}"));
        output::line(&format!("lost: {} of {holder}: {}", loss.path, loss.why))?;
    }
    if report.more_losses > 0 {
        output::line(&format!("and {} more", report.more_losses))?;
    }
    output::line(&match (report.damage.is_empty() && !report.index_rewritten, report.losses.is_empty()) {
        (true, true) => format!("{} packs are whole; nothing had to be mended", report.packs),
        (false, true) => "every recovery point is whole".to_owned(),
        (_, false) => "what is lost is stored again by the next backup where the primary still has it".to_owned(),
    })
}
