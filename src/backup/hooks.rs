//! What the policy wants to run before and after a source is read, or a whole backup: quiesce, mount, stop, and undo it.
//!
//! An `after` is owed as soon as its `before` is about to begin, and the journal says so with the command itself: when the
//! process dies, whoever continues the run pays what is owed first, the last first, whatever the policy says by then. A try
//! that was broken off so is not gone on with: the next one begins with `before` again.

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use lifeboat_verify::events::{Event, EventKind};
use serde::{Deserialize, Serialize};

use crate::engine::Run;
use crate::engine::system::{System, secrets_of};
use crate::ground::failure::OrFail;
use crate::ground::process::{self, Streams};
use crate::ground::reaper::{self, Belonging, Groups};
use crate::ground::{Result, blocking};
use crate::policy::Hooks;

/// Names of steps begin so; what follows names the source and the try.
const OWED: &str = "hook owed ";
const BEFORE: &str = "hook before ";
const AFTER: &str = "hook after ";

/// One hook: a program with its arguments, or nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Hook {
    /// The source; `None` for the backup as a whole.
    source: Option<String>,
    line: Vec<String>,
    timeout: Duration,
}

/// What a hook did; the journal's memory of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct HookRun {
    /// The end of what it wrote, the passwords of repositories masked.
    output: String,
    /// One sentence when it did not end well.
    trouble: Option<String>,
}

/// What the journal of a run says of each `after` that did not end well, a sentence each: what its `before` did may still
/// stand.
pub fn not_undone(events: &[Event]) -> Vec<String> {
    let ended = events.iter().filter(|event| event.kind == EventKind::Succeeded && event.step.starts_with(AFTER));
    ended.filter_map(|event| serde_json::from_value::<HookRun>(event.data.clone()).ok()?.trouble).collect()
}

/// Runs every `after` that a process before this one left owed; a sentence for each that did not end well.
///
/// # Errors
/// When the journal cannot be read or written.
pub(super) async fn pay_owed(run: &Run, system: &System) -> Result<Vec<String>> {
    let events = run.events()?;
    let done: Vec<_> = events.iter().filter(|event| event.kind == EventKind::Succeeded).collect();
    let paid: HashSet<&str> = done.iter().filter_map(|event| event.step.strip_prefix(AFTER)).collect();
    let mut troubles = Vec::new();
    for event in done.iter().rev() {
        let Some(which) = event.step.strip_prefix(OWED).filter(|which| !paid.contains(which)) else { continue };
        let hook: Hook = serde_json::from_value(event.data.clone())
            .or_fail(|| format!("{:?} was noted by another version and cannot be undone", event.step))?;
        end_before(run, hook.source.clone()).await?;
        troubles.extend(after(run, system, which, &hook).await?);
    }
    Ok(troubles)
}

/// A `before` that outlived its process must not do anything behind the back of its `after`.
async fn end_before(run: &Run, source: Option<String>) -> Result<()> {
    let mut marks = vec![format!("LIFEBOAT_RUN={}", run.id()), "LIFEBOAT_HOOK=before".to_owned()];
    marks.extend(source.map(|source| format!("LIFEBOAT_SOURCE={source}")));
    blocking(move || {
        reaper::end(&Belonging { marks, groups: None });
        Ok(())
    })
    .await
}

/// The hooks around one try of one piece of work.
pub(super) struct Around<'a> {
    run: &'a Run,
    system: &'a System,
    hooks: Option<&'a Hooks>,
    source: Option<&'a str>,
    /// The source and the try, as steps are named.
    which: String,
}

impl<'a> Around<'a> {
    /// The hooks around the try of this number, from 1, of a source or of the whole backup.
    pub fn new(
        run: &'a Run,
        system: &'a System,
        hooks: Option<&'a Hooks>,
        source: Option<&'a str>,
        attempt: u32,
    ) -> Self {
        Self { run, system, hooks, source, which: super::run::numbered(source.unwrap_or("the backup"), attempt) }
    }

    /// Whether they were begun with, in this process or one before it.
    pub fn has_begun(&self) -> Result<bool> {
        Ok(self.hooks.is_some() && self.run.has_succeeded(&format!("{OWED}{}", self.which))?)
    }

    /// Runs `before`; a sentence when it did not end well, and then nothing may be read.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn before(&self) -> Result<Option<String>> {
        let Some(hooks) = self.hooks else { return Ok(None) };
        let owed = self.hook(hooks, &hooks.after);
        self.run.step(&format!("{OWED}{}", self.which), || async { Ok(owed) }).await?;
        let hook = self.hook(hooks, &hooks.before);
        let step = format!("{BEFORE}{}", self.which);
        let done = self.run.step(&step, || async { Ok(call(self.run, self.system, "before", &hook).await) }).await?;
        Ok(done.trouble)
    }

    /// Runs `after`, once; a sentence when it did not end well.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn after(&self) -> Result<Option<String>> {
        let Some(hooks) = self.hooks else { return Ok(None) };
        after(self.run, self.system, &self.which, &self.hook(hooks, &hooks.after)).await
    }

    fn hook(&self, hooks: &Hooks, line: &[String]) -> Hook {
        Hook { source: self.source.map(str::to_owned), line: line.to_vec(), timeout: hooks.timeout }
    }
}

async fn after(run: &Run, system: &System, which: &str, hook: &Hook) -> Result<Option<String>> {
    let done = run.step(&format!("{AFTER}{which}"), || async { Ok(call(run, system, "after", hook).await) }).await;
    match done {
        Ok(done) => Ok(done.trouble),
        Err(failure) => {
            // What stands still must not stay so because a journal cannot be written. It may then run twice.
            call(run, system, "after", hook).await;
            Err(failure)
        }
    }
}

async fn call(run: &Run, system: &System, word: &str, hook: &Hook) -> HookRun {
    let Some((program, arguments)) = hook.line.split_first() else {
        return HookRun { output: String::new(), trouble: None };
    };
    let mut command = Command::new(program);
    process::clean_environment(&mut command);
    command.args(arguments).current_dir("/");
    command.env("LIFEBOAT_SYSTEM", run.system()).env("LIFEBOAT_RUN", run.id()).env("LIFEBOAT_HOOK", word);
    hook.source.as_ref().map(|source| command.env("LIFEBOAT_SOURCE", source));
    let whose = hook.source.as_ref().map_or_else(|| "the backup".to_owned(), |source| format!("the source {source}"));
    let name = format!("the hook {word:?} of {whose}, {program},");
    let secrets = secrets_of(&system.policy);
    match process::run(command, Streams::Together, hook.timeout, &secrets, &Groups::default()).await {
        Ok(finished) => {
            let said = finished.output.trim_end();
            let said = if said.is_empty() { String::new() } else { format!("; the end of its output: {said}") };
            let trouble = finished.ending.trouble(hook.timeout).map(|how| format!("{name} {how}{said}"));
            HookRun { output: finished.output, trouble }
        }
        Err(error) => HookRun { output: String::new(), trouble: Some(format!("{name} cannot be run: {error}")) },
    }
}
