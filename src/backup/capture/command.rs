//! Source kind `command`: what a command writes to its standard output becomes one file.
//!
//! It flows into the repository as it comes. Only when the command has ended with exit code 0 is it taken for the whole;
//! a command that failed, was ended by a signal or took too long leaves no recovery point.

use std::io::{self, Read};
use std::process::{Command, Stdio};

use super::Captured;
use super::session::Session;
use super::trees::{Captive, plain_file, plant};
use crate::ground::process::clean_environment;
use crate::ground::stream::stream;
use crate::ground::{Failure, Result, Secret};
use crate::policy::CommandOutput;
use crate::repository::{Chunking, ContentError, StoredContent};

/// Lines of standard error that a success is warned with.
const WARNED_LINES: usize = 5;

/// Captures what a command writes.
///
/// # Errors
/// When the command cannot be started, fails or takes too long, or the repository cannot be written.
pub(super) fn capture_command(session: Session<'_>, command: &CommandOutput) -> Result<Captured> {
    let secrets = command.environment.iter().map(|(_, secret)| secret.resolve()).collect::<Result<Vec<_>>>()?;
    let content = run(&session, command, &secrets)?;
    finish_file(session, &command.file, content)
}

/// Ends a capture whose only content is one file that lies nowhere.
pub(super) fn finish_file(session: Session<'_>, file: &str, content: StoredContent) -> Result<Captured> {
    let mut node = plain_file(file.as_bytes(), session.now);
    (node.size, node.content) = (content.bytes, content.blobs);
    session.count(&node, true);
    let path = [b"/", file.as_bytes()].concat();
    let root = format!("/{file}").into();
    let tree = plant(&session, vec![Captive { path, node }])?;
    session.finish(tree, vec![root])
}

fn run(session: &Session<'_>, command: &CommandOutput, secrets: &[Secret]) -> Result<StoredContent> {
    let name = command.name();
    let prepared = prepare(session, command, secrets);
    let streamed = stream(prepared, command.timeout, secrets, |output| {
        session.store.store_content(&mut Counted { output, session }, Chunking::Content)
    });
    let streamed = streamed.map_err(|error| {
        Failure::failed(format!("the command {name} cannot be started: {error}"))
            .hint("`run` names a program by its path, or by its name below the usual directories; no shell looks at it")
    })?;
    let trouble = streamed.trouble(command.timeout);
    match (streamed.read, trouble) {
        (Err(ContentError::Repository(error)), _) => Err(error.into()),
        (_, Some(trouble)) => Err(Failure::failed(format!("the command {name} {trouble}"))),
        (Err(ContentError::Source(error)), None) => {
            Err(Failure::failed(format!("cannot read what the command {name} writes: {error}")))
        }
        (Ok(read), None) => {
            if read.bytes == 0 {
                session.progress.warn(&format!("the command {name} wrote nothing"));
            }
            warn(session, &name, &streamed.errors);
            Ok(read)
        }
    }
}

fn prepare(session: &Session<'_>, command: &CommandOutput, secrets: &[Secret]) -> Command {
    use std::os::unix::ffi::OsStrExt;
    let mut prepared = Command::new(&command.run[0]);
    prepared.args(&command.run[1..]);
    give_surroundings(session, &mut prepared);
    for ((variable, _), secret) in command.environment.iter().zip(secrets) {
        prepared.env(variable, std::ffi::OsStr::from_bytes(secret.expose()));
    }
    prepared
}

/// The clean environment of every program that a capture starts; its work directory is the scratch directory.
pub(super) fn give_surroundings(session: &Session<'_>, command: &mut Command) {
    clean_environment(command);
    command.current_dir(session.scratch).env("TMPDIR", session.scratch).stdin(Stdio::null());
    command.envs(session.marks.iter().map(|(name, value)| (name, value)));
}

/// Counts what is read.
pub(super) struct Counted<'a, 's, R> {
    pub output: R,
    pub session: &'a Session<'s>,
}

impl<R: Read> Read for Counted<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.output.read(buffer)?;
        self.session.count_read(length as u64);
        self.session.progress.advance(length as u64);
        Ok(length)
    }
}

/// What succeeded and is nevertheless worth a look.
pub(super) fn warn(session: &Session<'_>, name: &str, errors: &str) {
    let lines: Vec<&str> = errors.trim_end().lines().collect();
    for line in &lines[lines.len().saturating_sub(WARNED_LINES)..] {
        session.progress.warn(&format!("{name}: {line}"));
    }
}
