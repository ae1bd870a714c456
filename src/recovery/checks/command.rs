//! `/bin/sh -c` in the target directory.

use std::process::Command;
use std::time::Duration;

use super::Attempt;
use crate::ground::process::{self, Ending, Finished, Streams};
use crate::policy::Expectation;
use crate::recovery::surroundings::Surroundings;

/// Passes with exit code 0 and, if asked, standard output as expected.
pub(super) async fn attempt(
    line: &str,
    expect: Option<&Expectation>,
    step: &str,
    surroundings: &Surroundings,
    limit: Duration,
) -> Attempt {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line);
    surroundings.prepare(&mut command, step);
    match process::run(command, Streams::Apart, limit, &surroundings.secrets, &surroundings.groups).await {
        Ok(finished) => judge(&finished, expect, limit),
        Err(error) => Attempt::failed(format!("the command cannot be started: {error}")),
    }
}

fn judge(finished: &Finished, expect: Option<&Expectation>, limit: Duration) -> Attempt {
    let output = finished.output.trim_end();
    match finished.ending {
        Ending::Exited(0) => {
            let passed = expect.is_none_or(|expect| expect.holds(output));
            let shown = if output.is_empty() { "no output".into() } else { format!("output {output}") };
            Attempt { actual: format!("exit code 0, {shown}"), passed }
        }
        Ending::Exited(code) => Attempt::failed(format!("exit code {code}{}", said(finished))),
        Ending::Signalled(signal) => Attempt::failed(format!("ended by signal {signal}{}", said(finished))),
        Ending::TimedOut => {
            Attempt::failed(format!("not done within {:.1} s, ended{}", limit.as_secs_f64(), said(finished)))
        }
    }
}

fn said(finished: &Finished) -> String {
    let text = [finished.output.trim(), finished.errors.trim()].join("\n");
    if text.trim().is_empty() { String::new() } else { format!(": {}", text.trim()) }
}
