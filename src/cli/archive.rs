//! `lifeboat archive`

use clap::Args;
use serde_json::json;

use super::global::Global;
use super::{block_on, output, resume};
use crate::ground::{Failure, Result};
use crate::jobs;
use crate::lifecycle::archive::due;
use crate::report::humane;
use crate::site::records::ArchiveRecord;

/// Arguments of `archive`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The system; may be left out when there is one policy
    system: Option<String>,
    /// This recovery point; without it, those that the policy's archive rule asks for
    #[arg(long, value_name = "ID")]
    point: Vec<String>,
    /// Finish what an interrupted archive run left and start nothing new
    #[arg(long = "continue")]
    continue_only: bool,
}

/// Runs the command.
pub fn command(global: &Global, arguments: &Arguments) -> Result<u8> {
    let system = global.open_system(global.policy_of(arguments.system.as_deref())?)?;
    if !arguments.continue_only {
        resume::other_kinds(global, &system, jobs::archive::KIND)?;
    }
    let _lock = system.lock("archive")?;
    let records = if arguments.continue_only {
        block_on(jobs::archive::continue_interrupted(&system))?
    } else if arguments.point.is_empty() {
        let rule = system.policy.retention.archive.as_ref().ok_or_else(|| {
            Failure::wrong_input(format!("the policy of {:?} has no archive rule", system.policy.system))
                .hint("add `archive = { ... }` below [retention]")
        })?;
        let points = system.catalog.points(&system.policy.system)?;
        let archives = system.catalog.archives(&system.policy.system)?;
        let due = due(&points, &archives, rule, &system.policy.timezone, system.clock.now())?;
        block_on(jobs::archive::archive(&system, &due))?
    } else {
        let points: Result<Vec<_>> = arguments.point.iter().map(|id| jobs::archive::point_named(&system, id)).collect();
        block_on(jobs::archive::archive(&system, &points?))?
    };
    print_result(global, &records)?;
    Ok(0)
}

fn print_result(global: &Global, records: &[ArchiveRecord]) -> Result<()> {
    if global.json {
        return output::json(&json!({ "archives": records }));
    }
    if records.is_empty() {
        return output::line("nothing is due to be archived");
    }
    for record in records {
        output::line(&format!("{}: {} in {}", record.id, humane::bytes(record.bytes), record.location))?;
    }
    Ok(())
}
