//! What the policy wants to run before and after a source is read, or a whole backup: quiesce, mount, stop, and undo it.
//!
//! Both are steps of the run. `after` is owed as soon as `before` was begun, whatever became of it: also when the process
//! died in between, and then by the process that continues the run. A try that was broken off so is never gone on with:
//! the next one begins with `before` again.

use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::engine::Run;
use crate::engine::system::{System, repository_password};
use crate::ground::Result;
use crate::ground::process::{self, Streams};
use crate::ground::reaper::Groups;
use crate::policy::Hooks;

/// What a hook did; the journal's memory of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct HookRun {
    /// The end of what it wrote, secrets masked.
    output: String,
    /// One sentence when it did not end well.
    trouble: Option<String>,
}

/// The hooks around one try of one piece of work.
pub(super) struct Around<'a> {
    run: &'a Run,
    system: &'a System,
    hooks: Option<&'a Hooks>,
    /// The source; `None` for the backup as a whole.
    source: Option<&'a str>,
    attempt: u32,
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
        Self { run, system, hooks, source, attempt }
    }

    /// Whether an earlier process began with them.
    pub fn has_begun(&self) -> Result<bool> {
        let step = self.step("before");
        Ok(self.hooks.is_some() && self.run.events()?.iter().any(|event| event.step == step))
    }

    /// Runs `before`; a sentence when it did not end well, and then nothing may be read.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn before(&self) -> Result<Option<String>> {
        self.hook("before", |hooks| &hooks.before).await
    }

    /// Runs `after`, once; a sentence when it did not end well.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn after(&self) -> Result<Option<String>> {
        self.hook("after", |hooks| &hooks.after).await
    }

    async fn hook(&self, word: &'static str, of: fn(&Hooks) -> &Vec<String>) -> Result<Option<String>> {
        let Some(hooks) = self.hooks else { return Ok(None) };
        let step = self.step(word);
        let done = self.run.step(&step, || async { Ok(self.call(word, of(hooks), hooks).await) }).await?;
        Ok(done.trouble)
    }

    async fn call(&self, word: &'static str, line: &[String], hooks: &Hooks) -> HookRun {
        let Some((program, arguments)) = line.split_first() else {
            return HookRun { output: String::new(), trouble: None };
        };
        let mut command = Command::new(program);
        process::clean_environment(&mut command);
        command.args(arguments).current_dir("/");
        command.env("LIFEBOAT_SYSTEM", self.run.system()).env("LIFEBOAT_RUN", self.run.id()).env("LIFEBOAT_HOOK", word);
        self.source.map(|source| command.env("LIFEBOAT_SOURCE", source));
        let secrets: Vec<_> = repository_password(&self.system.policy.dr).resolve().into_iter().collect();
        let whose = self.source.map_or_else(|| "the backup".to_owned(), |source| format!("the source {source}"));
        match process::run(command, Streams::Together, hooks.timeout, &secrets, &Groups::default()).await {
            Ok(finished) => {
                let trouble = finished.ending.trouble(hooks.timeout).map(|how| {
                    let said = finished.output.trim_end();
                    let said = if said.is_empty() { String::new() } else { format!("; the end of its output: {said}") };
                    format!("the hook {word:?} of {whose}, {program}, {how}{said}")
                });
                HookRun { output: finished.output, trouble }
            }
            Err(error) => {
                let trouble = format!("the hook {word:?} of {whose}, {program}, cannot be started: {error}");
                HookRun { output: String::new(), trouble: Some(trouble) }
            }
        }
    }

    fn step(&self, word: &str) -> String {
        let what = self.source.unwrap_or("the backup");
        match self.attempt {
            1 => format!("hook {word} {what}"),
            attempt => format!("hook {word} {what} ({attempt})"),
        }
    }
}
