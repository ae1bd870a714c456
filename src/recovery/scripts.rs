//! Recovery scripts: written from the DR site's copy into the target, run with a clean environment.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lifeboat_verify::events::ScriptRun;
use sha2::{Digest, Sha256};

use super::plan::OWN_DIRECTORY;
use super::surroundings::{Surroundings, run_mark, step_mark};
use crate::ground::failure::OrFail;
use crate::ground::process::{self, Finished, Streams};
use crate::ground::reaper;
use crate::ground::{Failure, Result, durable_file};

/// One call of a script.
#[derive(Debug, Clone)]
pub struct ScriptCall {
    /// Name of the step in the journal.
    pub step: String,
    pub file: String,
    /// As the DR site holds it.
    pub content: Vec<u8>,
    pub args: Vec<String>,
    pub timeout: Duration,
}

/// Runs a script in the target directory.
///
/// What an earlier attempt of the same step left running (its process died, the script did not) is ended first.
///
/// # Errors
/// When the script cannot be started, ends with another exit code than 0 or takes longer than its time; the sentence
/// holds the end of its output, for a failed step keeps no other evidence.
pub async fn run(call: ScriptCall, surroundings: &Surroundings) -> Result<ScriptRun> {
    let marks = vec![run_mark(&surroundings.run), step_mark(&call.step)];
    let path = {
        let (target, file, content) = (surroundings.target.clone(), call.file.clone(), call.content.clone());
        let install = move || {
            reaper::end(&reaper::Belonging { marks, groups: None });
            install(&target, &file, &content)
        };
        tokio::task::spawn_blocking(install).await.or_fail(|| "the script could not be written".into())??
    };
    let mut command = command(&path, &call.content);
    command.args(&call.args);
    surroundings.prepare(&mut command, &call.step);
    let finished = process::run(command, Streams::Together, call.timeout, &surroundings.secrets, &surroundings.groups);
    let finished = finished.await.or_fail(|| format!("the script {} cannot be started", call.file))?;
    judge(&call, finished)
}

fn judge(call: &ScriptCall, finished: Finished) -> Result<ScriptRun> {
    let Some(ended) = finished.ending.trouble(call.timeout) else {
        let sha256 = hex::encode(Sha256::digest(&call.content));
        return Ok(ScriptRun { file: call.file.clone(), sha256, exit_code: 0, output: finished.output });
    };
    let output = finished.output.trim_end();
    let output =
        if output.is_empty() { "it wrote nothing".into() } else { format!("the end of its output:\n{output}") };
    Err(Failure::failed(format!("the script {} {ended}; {output}", call.file)))
}

/// Writes the script where nobody else can change it, and checks what was written.
fn install(target: &Path, file: &str, content: &[u8]) -> Result<PathBuf> {
    let plain = Path::new(file).components().all(|component| matches!(component, Component::Normal(_)));
    if file.is_empty() || !plain {
        return Err(Failure::failed(format!("`{file}` is no plain name of a script")));
    }
    let path = target.join(OWN_DIRECTORY).join("scripts").join(file);
    let write = || -> io::Result<Vec<u8>> {
        durable_file::create_directories(path.parent().unwrap_or(target))?;
        durable_file::replace(&path, content, 0o700)?;
        std::fs::read(&path)
    };
    let written = write().or_fail(|| format!("cannot write the script {}", path.display()))?;
    if Sha256::digest(&written) != Sha256::digest(content) {
        return Err(Failure::failed(format!("the script {} does not read back as it was written", path.display())));
    }
    Ok(path)
}

fn command(path: &Path, content: &[u8]) -> Command {
    if content.starts_with(b"#!") {
        return Command::new(path);
    }
    let mut command = Command::new("/bin/sh");
    command.arg(path);
    command
}

#[cfg(test)]
mod tests {
    use super::super::surroundings::RestoredSource;
    use super::super::surroundings::tests::surroundings;
    use super::*;

    fn call(content: &str) -> ScriptCall {
        ScriptCall {
            step: "step: start".into(),
            file: "start.sh".into(),
            content: content.into(),
            args: vec!["one".into(), "two words".into()],
            timeout: Duration::from_secs(20),
        }
    }

    #[tokio::test]
    async fn a_script_runs_with_a_clean_environment_in_the_target() {
        let target = tempfile::tempdir().unwrap();
        let surroundings = surroundings(target.path(), &[]);
        let directory = target.path().join("files");
        surroundings.add_restored(
            "web-files",
            RestoredSource {
                kind: "files".into(),
                directory: directory.clone(),
                roots: Vec::new(),
                database: None,
                programs: None,
            },
        );
        let run = run(call("#!/bin/sh\npwd; echo \"$1|$2\"; env; echo oops >&2\n"), &surroundings).await.unwrap();
        let lines: Vec<&str> = run.output.lines().collect();
        assert_eq!(lines[..2], [target.path().to_str().unwrap(), "one|two words"]);
        assert_eq!(lines.last(), Some(&"oops"));
        let expected = [
            "LANG=C.UTF-8".to_owned(),
            "LIFEBOAT_DRILL=7".to_owned(),
            "LIFEBOAT_T0=1970-01-01T00:16:40Z".to_owned(),
            format!("HOME={}", target.path().display()),
            format!("LIFEBOAT_SOURCE_WEB_FILES={}", directory.display()),
        ];
        for entry in expected {
            assert!(lines.contains(&entry.as_str()), "{entry} in {lines:?}");
        }
        assert!(!lines.iter().any(|line| line.starts_with("CARGO")), "nothing of our own environment: {lines:?}");
        assert_eq!(run.sha256.len(), 64);
    }

    #[tokio::test]
    async fn a_script_without_a_first_line_is_the_shells() {
        let target = tempfile::tempdir().unwrap();
        let run = run(call("echo plain"), &surroundings(target.path(), &[])).await.unwrap();
        assert_eq!((run.output.as_str(), run.exit_code), ("plain\n", 0));
    }

    #[tokio::test]
    async fn a_failing_script_tells_its_code_and_its_output_without_secrets() {
        let target = tempfile::tempdir().unwrap();
        let script = call("echo password is hunter2; echo no server >&2; exit 3");
        let failure = run(script, &surroundings(target.path(), &["hunter2"])).await.unwrap_err();
        assert!(failure.message.contains("exit code 3"), "{failure}");
        assert!(failure.message.contains("password is ***\nno server"), "{failure}");
        let killed = run(call("kill -9 $$"), &surroundings(target.path(), &[])).await.unwrap_err();
        assert!(killed.message.contains("signal 9") && killed.message.contains("wrote nothing"), "{killed}");
    }

    #[tokio::test]
    async fn a_script_that_takes_too_long_is_ended_with_its_children() {
        let target = tempfile::tempdir().unwrap();
        let mut script = call("echo begun; sleep 61 & echo $! > child; wait");
        script.timeout = Duration::from_millis(500);
        let failure = run(script, &surroundings(target.path(), &[])).await.unwrap_err();
        assert!(failure.message.contains("took longer than 0.5 s") && failure.message.contains("begun"), "{failure}");
        let child = std::fs::read_to_string(target.path().join("child")).unwrap();
        let state = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }

    #[tokio::test]
    async fn a_server_left_behind_does_not_hold_the_drill_up() {
        let target = tempfile::tempdir().unwrap();
        let surroundings = surroundings(target.path(), &[]);
        let started = tokio::time::Instant::now();
        let run = run(call("sleep 62 & echo started"), &surroundings).await.unwrap();
        assert_eq!(run.output, "started\n");
        assert!(started.elapsed() < Duration::from_secs(30), "it waited for the background process");
        let ended = reaper::end(&reaper::Belonging { marks: vec![run_mark(&surroundings.run)], groups: None });
        assert_eq!(ended.processes, 1);
    }

    #[tokio::test]
    async fn what_an_earlier_attempt_left_is_ended_first() {
        let target = tempfile::tempdir().unwrap();
        let surroundings = surroundings(target.path(), &[]);
        run(call("sleep 63 & echo $! > first"), &surroundings).await.unwrap();
        let first = std::fs::read_to_string(target.path().join("first")).unwrap();
        // A process that ended and was not waited for has an empty command line.
        let look = format!("tr -d '\\0' 2>/dev/null < /proc/{}/cmdline | grep -q . || echo gone", first.trim());
        let answer = run(call(&look), &surroundings).await.unwrap();
        assert!(answer.output.ends_with("gone\n"), "{}", answer.output);
    }

    #[tokio::test]
    async fn names_that_lead_elsewhere_are_refused() {
        let target = tempfile::tempdir().unwrap();
        for file in ["../x.sh", "/x.sh", ""] {
            let mut script = call("true");
            script.file = file.into();
            assert!(run(script, &surroundings(target.path(), &[])).await.is_err(), "{file}");
        }
    }
}
