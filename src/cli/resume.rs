//! Runs of other kinds that were interrupted are continued first, each by its own command in a process of its own: a
//! drill must not share a process with anything that holds the primary site.

use std::process::{Command, Stdio};

use super::global::Global;
use crate::engine::system::System;
use crate::ground::failure::OrFail;
use crate::ground::{Failure, FailureKind, Result};
use crate::jobs;

const KINDS: [&str; 5] =
    [jobs::backup::KIND, jobs::archive::KIND, jobs::drill::KIND, jobs::prune::KIND, jobs::repair::KIND];

/// Continues interrupted runs of every kind but `own`. One that cannot be continued is said and left for later. The
/// caller does not hold the system's lock yet: each child takes it.
pub fn other_kinds(global: &Global, system: &System, own: &str) -> Result<()> {
    super::block_on(jobs::restore::end_interrupted(system))?;
    for kind in KINDS.into_iter().filter(|kind| *kind != own) {
        if jobs::unfinished(system, kind)?.is_empty() {
            continue;
        }
        let program = std::env::current_exe().or_fail(|| "cannot find lifeboat's own program file".to_owned())?;
        let mut command = Command::new(program);
        command.arg("--policies").arg(global.policies()).arg("--state").arg(global.state()?);
        if global.quiet {
            command.arg("--quiet");
        }
        command.args([kind, &system.policy.system, "--continue"]).stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.status().or_fail(|| format!("cannot continue the interrupted {kind}"))?;
        if status.code() == Some(i32::from(super::exit_code(FailureKind::Interrupted))) {
            // Whoever ended the child meant this command.
            return Err(Failure::interrupted().hint("the next command continues what was interrupted"));
        }
        if status.code() == Some(i32::from(super::exit_code(FailureKind::Busy))) {
            // Under way, not interrupted; the child said who it is.
            continue;
        }
        // 3 and 4 are ends too: done in part, or over an objective. A failed drill ends with 1 and is closed.
        if !jobs::unfinished(system, kind)?.is_empty() {
            system.progress.warn(&format!("the interrupted {kind} could not be continued ({status}); it stays to be"));
        }
    }
    Ok(())
}
