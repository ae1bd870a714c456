//! The checks of a plan: does what was restored serve?
//!
//! A check that did not pass is a result with evidence; one that could not be tried at all is a failure.

mod command;
mod file;
mod http;
mod sql;
mod tcp;

use std::sync::Arc;
use std::time::Duration;

use lifeboat_verify::events::Checked;
use tokio::time::{Instant, sleep};

use super::surroundings::Surroundings;
use crate::ground::{Clock, Result};
use crate::policy::{Check, CheckKind};

/// Longest text of a value that is kept as evidence.
const ACTUAL_LIMIT: usize = 2000;
/// Pauses between attempts grow from here ...
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// ... to here.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What one attempt saw.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Attempt {
    actual: String,
    passed: bool,
}

impl Attempt {
    fn failed(actual: impl Into<String>) -> Self {
        Self { actual: actual.into(), passed: false }
    }
}

/// Runs one check: once, or until it passes or its time is over. `step` is its name in the journal.
///
/// # Errors
/// When the check cannot be tried at all: a query on a source that was not restored or that is not served.
pub async fn run(check: &Check, step: &str, surroundings: &Arc<Surroundings>, clock: &dyn Clock) -> Result<Checked> {
    let deadline = Instant::now() + check.within;
    let mut pause = FIRST_PAUSE;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let remaining = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let attempt = attempt(check, step, surroundings, limit(check, remaining)).await?;
        let decided_at = clock.now();
        let over = Instant::now() + pause >= deadline;
        if attempt.passed || !check.retry || over {
            let (asked, expected) = describe(&check.kind);
            return Ok(Checked {
                check: check.name.clone(),
                kind: word(&check.kind).into(),
                asked: surroundings.mask(&asked),
                expected: surroundings.mask(&expected),
                actual: shorten(&surroundings.mask(&attempt.actual)),
                passed: attempt.passed,
                attempts,
                decided_at,
            });
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// While a server starts, one attempt that hangs must not use up the time of the attempts after it.
fn limit(check: &Check, remaining: Duration) -> Duration {
    let longest = match check.kind {
        CheckKind::Http { .. } if check.retry => Duration::from_secs(30),
        CheckKind::Tcp { .. } if check.retry => Duration::from_secs(5),
        _ => remaining,
    };
    remaining.min(longest)
}

async fn attempt(check: &Check, step: &str, surroundings: &Arc<Surroundings>, limit: Duration) -> Result<Attempt> {
    match &check.kind {
        CheckKind::Command { line, expect } => {
            Ok(command::attempt(line, expect.as_ref(), step, surroundings, limit).await)
        }
        CheckKind::Http { url, status, body, tls_verify } => {
            let request =
                http::Request { url: url.clone(), status: *status, body: body.clone(), tls_verify: *tls_verify };
            Ok(http::attempt(request, limit).await)
        }
        CheckKind::Tcp { address } => Ok(tcp::attempt(address, limit).await),
        CheckKind::Sql { query, on, expect } => sql::attempt(query, on, expect, step, surroundings, limit).await,
        CheckKind::File { path, sha256 } => Ok(file::attempt(path, sha256.as_deref(), surroundings, limit).await),
    }
}

fn word(kind: &CheckKind) -> &'static str {
    match kind {
        CheckKind::Command { .. } => "command",
        CheckKind::Http { .. } => "http",
        CheckKind::Tcp { .. } => "tcp",
        CheckKind::Sql { .. } => "sql",
        CheckKind::File { .. } => "file",
    }
}

/// What is asked and what is expected, for people.
fn describe(kind: &CheckKind) -> (String, String) {
    match kind {
        CheckKind::Command { line, expect: None } => (line.clone(), "exit code 0".into()),
        CheckKind::Command { line, expect: Some(expect) } => (line.clone(), format!("exit code 0 and output {expect}")),
        CheckKind::Http { url, status, body: None, .. } => (format!("GET {url}"), format!("status {status}")),
        CheckKind::Http { url, status, body: Some(body), .. } => {
            (format!("GET {url}"), format!("status {status} and `{body}` in the body"))
        }
        CheckKind::Tcp { address } => (address.clone(), "accepts a connection".into()),
        CheckKind::Sql { query, on, expect } => (format!("{query} (on {on})"), expect.to_string()),
        CheckKind::File { path, sha256: None } => (path.clone(), "exists".into()),
        CheckKind::File { path, sha256: Some(sha256) } => (path.clone(), format!("SHA-256 {sha256}")),
    }
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= ACTUAL_LIMIT {
        return text.to_owned();
    }
    let kept: String = text.chars().take(ACTUAL_LIMIT).collect();
    format!("{kept} ... (shortened)")
}

#[cfg(test)]
pub(super) mod tests;
