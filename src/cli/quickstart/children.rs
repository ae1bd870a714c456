//! Runs this program's own commands as child processes and reads their JSON.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::QuickstartArguments;
use super::place::{Place, SYSTEM};
use crate::ground::failure::{Failure, FailureKind, OrFail, Result};

/// The commands of this very program on the sample system.
pub struct Lifeboat {
    program: PathBuf,
    policies: PathBuf,
    state: PathBuf,
    flags: Vec<&'static str>,
}

/// What a drill printed, and how it ended.
pub struct Drill {
    /// The document of `drill --json`.
    pub document: Value,
    /// 0, 1 or 4.
    pub exit_code: u8,
}

impl Lifeboat {
    /// Commands on `place` with the flags that quickstart itself was given.
    pub fn new(place: &Place, arguments: &QuickstartArguments) -> Result<Self> {
        let program = std::env::current_exe().or_fail(|| "cannot find lifeboat's own program".to_owned())?;
        let flags = [(arguments.quiet, "--quiet"), (arguments.no_progress, "--no-progress")];
        let flags = flags.into_iter().filter_map(|(wanted, flag)| wanted.then_some(flag)).collect();
        Ok(Self { program, policies: place.policies(), state: place.state(), flags })
    }

    /// The beginning of a command line on the sample system, for people to copy.
    pub fn command_line(&self) -> String {
        let parts =
            [&self.program, &PathBuf::from("--policies"), &self.policies, &PathBuf::from("--state"), &self.state];
        parts.map(|part| shell_word(&part.to_string_lossy())).join(" ")
    }

    /// `lifeboat check`.
    pub fn check(&self, place: &Place) -> Result<()> {
        self.run("check", &[&place.policy().to_string_lossy()], &[0]).map(|_| ())
    }

    /// `lifeboat backup`; true when it was done in part, with what is missing already named on stderr.
    pub fn backup(&self) -> Result<bool> {
        self.run("backup", &[SYSTEM], &[0, 3]).map(|(code, _)| code == 3)
    }

    /// `lifeboat points`: the point objects, as printed.
    pub fn points(&self) -> Result<Vec<Value>> {
        let (_, document) = self.run("points", &[SYSTEM], &[0])?;
        list(document, "points")
    }

    /// `lifeboat archive` of one point: the archive objects, as printed.
    pub fn archive(&self, point: &str) -> Result<Vec<Value>> {
        let (_, document) = self.run("archive", &[SYSTEM, "--point", point], &[0])?;
        list(document, "archives")
    }

    /// `lifeboat drill`: a failed drill is a result too, as long as it left a document.
    pub fn drill(&self) -> Result<Drill> {
        let (exit_code, document) = self.run("drill", &[SYSTEM], &[0, 1, 4])?;
        if !document.is_object() {
            return Err(failure_of("drill", i32::from(exit_code)));
        }
        Ok(Drill { document, exit_code })
    }

    /// Runs one command; its words go to our stderr, its document is returned (null when it printed none).
    fn run(&self, command: &str, arguments: &[&str], accepted: &[u8]) -> Result<(u8, Value)> {
        let mut child = Command::new(&self.program);
        child.arg(command).args(arguments).arg("--json").args(&self.flags);
        child.arg("--policies").arg(&self.policies).arg("--state").arg(&self.state);
        child.stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = child.output().or_fail(|| format!("cannot run lifeboat {command}"))?;
        let Some(code) = output.status.code() else {
            return Err(Failure::failed(format!("lifeboat {command} was ended: {}", output.status)));
        };
        let Some(accepted) = accepted.iter().copied().find(|accepted| i32::from(*accepted) == code) else {
            return Err(failure_of(command, code));
        };
        let document = match output.stdout.trim_ascii() {
            [] => Value::Null,
            text => serde_json::from_slice(text).or_fail(|| format!("lifeboat {command} --json printed no JSON"))?,
        };
        Ok((accepted, document))
    }
}

/// A failure whose exit code is the child's, and which points to the child's own sentence.
fn failure_of(command: &str, code: i32) -> Failure {
    let mut failure =
        Failure::failed(format!("lifeboat {command} ended with exit code {code}; its reason stands above"));
    failure.kind = match code {
        2 => FailureKind::WrongInput,
        3 => FailureKind::Partial,
        5 => FailureKind::Busy,
        130 => return Failure::interrupted(),
        _ => FailureKind::Failed,
    };
    failure.hint("run quickstart on the same directory again: it continues")
}

fn list(mut document: Value, key: &str) -> Result<Vec<Value>> {
    match document.get_mut(key).map(Value::take) {
        Some(Value::Array(list)) => Ok(list),
        _ => Err(Failure::failed(format!("lifeboat printed no list of {key}"))),
    }
}

/// A word as a shell reads it back.
pub fn shell_word(text: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-+=:,@%".contains(character);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_exit_code_is_passed_on() {
        let kinds = [1, 2, 3, 5, 130].map(|code| failure_of("backup", code).kind);
        use FailureKind::*;
        assert_eq!(kinds, [Failed, WrongInput, Partial, Busy, Interrupted]);
    }

    /// Commands of a stand-in that notes its arguments in `calls` and then does as `body` says.
    fn stand_in(body: &str) -> (tempfile::TempDir, Lifeboat) {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        let calls = directory.path().join("calls");
        let text = format!("#!/bin/sh\n[ $# = 0 ] && exit\necho \"$@\" >> {}\n{body}\n", calls.display());
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        // Another test's child may for a moment still hold the script open for writing.
        while Command::new(&program).status().is_err() {
            std::thread::yield_now();
        }
        let lifeboat = Lifeboat { program, policies: "/p".into(), state: "/s".into(), flags: vec!["--quiet"] };
        (directory, lifeboat)
    }

    #[test]
    fn commands_are_asked_as_anybody_would_type_them() {
        let (directory, lifeboat) = stand_in("echo '{\"archives\": [{\"id\": \"a\"}]}'");
        assert_eq!(lifeboat.archive("files-1").unwrap(), [serde_json::json!({"id": "a"})]);
        let calls = std::fs::read_to_string(directory.path().join("calls")).unwrap();
        assert_eq!(calls, format!("archive {SYSTEM} --point files-1 --json --quiet --policies /p --state /s\n"));
    }

    #[test]
    fn endings_of_a_child_are_told_apart() {
        assert!(stand_in("exit 3").1.backup().unwrap(), "partial");
        assert_eq!(stand_in("exit 5").1.backup().unwrap_err().kind, FailureKind::Busy);
        assert_eq!(stand_in("kill -9 $$").1.backup().unwrap_err().kind, FailureKind::Failed);
        assert!(stand_in("echo no JSON").1.points().is_err());
        let (_directory, missed) = stand_in("echo '{\"passed\": true}'; exit 4");
        assert_eq!(missed.drill().unwrap().exit_code, 4);
        assert!(stand_in("exit 1").1.drill().is_err(), "a drill without a document is no result");
    }

    #[test]
    fn words_survive_a_shell() {
        for text in ["/plain/path-1.x", "with space", "it's", "$(no)", ""] {
            let output = Command::new("sh").arg("-c").arg(format!("printf %s {}", shell_word(text))).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }
}
