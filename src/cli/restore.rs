//! `lifeboat restore`

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::global::Global;
use super::{block_on, output};
use crate::ground::failure::OrFail;
use crate::ground::{Failure, FailureKind, Progress, Result, byte_path};
use crate::jobs::restore::{self, Chosen, RestoreWish, Restored, Selection};
use crate::report::humane;
use crate::site::records::PointRecord;

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The system
    system: String,
    /// Where to; made if absent, must be empty unless --overwrite
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The newest points that were usable at this time (RFC 3339)
    #[arg(long, value_name = "TIME", conflicts_with = "point")]
    at: Option<Timestamp>,
    /// This recovery point
    #[arg(long, value_name = "ID")]
    point: Option<String>,
    /// Only this source; its contents come directly into the directory
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only this path; may be given several times
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Replace what is in the way
    #[arg(long)]
    overwrite: bool,
    /// Leave out owners, set-id bits, devices and capabilities, also as root
    #[arg(long)]
    no_privileged: bool,
    /// Say what would be restored, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// A restore is never continued unasked.
fn explain(mut failure: Failure) -> Failure {
    if failure.kind == FailureKind::Interrupted {
        failure.hints = vec!["the target is incomplete; run the same command again with --overwrite".to_owned()];
    }
    failure
}

/// Runs the command.
pub fn command(global: &Global, arguments: &Arguments) -> Result<u8> {
    let system = global.open_system(global.policy_of(Some(&arguments.system))?)?;
    let selection = Selection { point: arguments.point.clone(), source: arguments.source.clone(), at: arguments.at };
    let Chosen { points, without_point } = restore::choose(&system, &selection)?;
    if arguments.dry_run {
        return dry_run(global, &points);
    }
    let target = std::path::absolute(&arguments.to).or_fail(|| format!("{} is no path", arguments.to.display()))?;
    let wish = RestoreWish {
        points: points.iter().map(|point| point.id.clone()).collect(),
        below_source: arguments.source.is_none() && arguments.point.is_none(),
        target: byte_path::escape_path(&target),
        only: arguments.paths.iter().map(|path| byte_path::escape_path(path)).collect(),
        overwrite: arguments.overwrite,
        privileged: rustix::process::geteuid().is_root() && !arguments.no_privileged,
    };
    let (run, restored) = block_on(restore::restore(&system, &points, &wish)).map_err(explain)?;
    print_result(global, &run, &target, &restored, &without_point)?;
    let whole = without_point.is_empty() && restored.iter().all(|point| point.missing_count == 0);
    Ok(if whole { 0 } else { 3 })
}

fn dry_run(global: &Global, points: &[PointRecord]) -> Result<u8> {
    if global.json {
        output::json(&json!({ "points": points }))?;
    } else {
        let row = |point: &PointRecord| {
            let time = point.data_time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            vec![point.source.clone(), point.id.clone(), time, point.entries.to_string(), humane::bytes(point.bytes)]
        };
        output::table(
            &["SOURCE", "POINT", "DATA TIME", "ENTRIES>", "SIZE>"],
            &points.iter().map(row).collect::<Vec<_>>(),
        )?;
    }
    Ok(0)
}

fn print_result(
    global: &Global,
    run: &str,
    target: &std::path::Path,
    restored: &[Restored],
    without_point: &[String],
) -> Result<()> {
    const NAMED_MAX: usize = 20;
    if global.json {
        output::json(&json!({ "run": run, "target": target, "restored": restored, "without_point": without_point }))?;
    }
    let terminal = global.terminal();
    for source in without_point {
        terminal.warn(&format!("{source}: there is no recovery point of it, nothing was restored"));
    }
    for point in restored {
        if !global.json {
            output::line(&format!(
                "{}: {} entries, {} from {}",
                point.source,
                point.entries,
                humane::bytes(point.bytes),
                point.point
            ))?;
        }
        for entry in point.missing.iter().take(NAMED_MAX) {
            terminal.warn(&format!("{}: {}: {}", point.source, entry.path, entry.reason));
        }
        let rest = point.missing_count.saturating_sub(NAMED_MAX as u64);
        if rest > 0 {
            terminal.warn(&format!("{}: and {rest} more; --json names up to 1,000", point.source));
        }
        if !point.unsafe_links.is_empty() {
            terminal.warn(&format!(
                "{}: {} symlinks lead out of the target or are absolute, as they were saved",
                point.source,
                point.unsafe_links.len()
            ));
        }
    }
    Ok(())
}
