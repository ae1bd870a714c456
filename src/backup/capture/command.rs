//! Source kind `command`: what a command writes to its standard output becomes one file.
//!
//! It flows into the repository as it comes. Only when the command has ended with exit code 0 is it taken for the whole;
//! a command that failed, was ended by a signal or took too long leaves no recovery point.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use super::Captured;
use super::session::Session;
use super::trees::{Captive, plain_file, plant};
use crate::ground::output::Tail;
use crate::ground::process::{self, Ending, clean_environment};
use crate::ground::{Failure, Result, Secret};
use crate::policy::CommandOutput;
use crate::repository::{Chunking, ContentError, StoredContent};

/// How long a command has between TERM and KILL when its time is over.
const GRACE: Duration = Duration::from_secs(5);

/// How long nothing comes from a pipe before it is asked whether anything still may.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// What may still lie in a pipe when its writer is gone.
const PIPE_BYTES: usize = 64 << 10;

/// Lines of standard error that a success is warned with.
const WARNED_LINES: usize = 5;

/// Captures what a command writes.
///
/// # Errors
/// When the command cannot be started, fails or takes too long, or the repository cannot be written.
pub(super) fn capture_command(session: Session<'_>, command: &CommandOutput) -> Result<Captured> {
    let secrets = command.environment.iter().map(|(_, secret)| secret.resolve()).collect::<Result<Vec<_>>>()?;
    let content = run(&session, command, &secrets)?;
    let mut node = plain_file(command.file.as_bytes(), session.now);
    (node.size, node.content) = (content.bytes, content.blobs);
    session.count(&node, true);
    let path = [b"/", command.file.as_bytes()].concat();
    let root = format!("/{}", command.file).into();
    let tree = plant(&session, vec![Captive { path, node }])?;
    session.finish(tree, vec![root])
}

fn run(session: &Session<'_>, command: &CommandOutput, secrets: &[Secret]) -> Result<StoredContent> {
    let name = command.name();
    let started = prepare(session, command, secrets).spawn();
    let mut child = Group(started.map_err(|error| {
        Failure::failed(format!("the command {name} cannot be started: {error}"))
            .hint("`run` names a program by its path, or by its name below the usual directories; no shell looks at it")
    })?);
    let (output, errors) = (child.0.stdout.take(), child.0.stderr.take());
    let (Some(output), Some(errors)) = (output, errors) else {
        return Err(Failure::failed(format!("the command {name} has no output")));
    };
    let leader = child.leader();
    let (timed_out, gone) = (AtomicBool::new(false), AtomicBool::new(false));
    let (read, status, tail) = std::thread::scope(|scope| {
        let (ended, end) = channel::<()>();
        let over = &timed_out;
        scope.spawn(move || watch(leader, command.timeout, &end, over));
        let errors = Pipe { pipe: errors, over: &gone, rest: PIPE_BYTES };
        let errors = scope.spawn(move || read_tail(errors, secrets));
        let output = Pipe { pipe: output, over: &timed_out, rest: 0 };
        let read = session.store.store_content(&mut Counted { output, session }, Chunking::Content);
        // A command whose time is over is being ended, and has its time for that.
        if read.is_err() && !timed_out.load(Ordering::Relaxed) {
            child.end();
        }
        let status = child.0.wait();
        if timed_out.load(Ordering::Relaxed) {
            // The group's number is taken for as long as it has members.
            let _ = leader.map(|leader| kill_process_group(leader, Signal::KILL));
        }
        gone.store(true, Ordering::Relaxed);
        // The watch ends with its channel.
        drop(ended);
        (read, status, errors.join().unwrap_or_default())
    });
    let limit = timed_out.into_inner().then_some(command.timeout);
    let read = read.or_else(|error| match error {
        // Why there is nothing more to read is said below.
        ContentError::Source(_) if limit.is_some() => Ok(StoredContent { blobs: Vec::new(), bytes: 0 }),
        ContentError::Source(error) => {
            Err(Failure::failed(format!("cannot read what the command {name} writes: {error}")))
        }
        ContentError::Repository(error) => Err(error.into()),
    })?;
    let status = status.map_err(|error| Failure::failed(format!("cannot wait for the command {name}: {error}")))?;
    judge(&name, status, limit, &tail)?;
    warn(session, &name, &read, &tail);
    Ok(read)
}

fn prepare(session: &Session<'_>, command: &CommandOutput, secrets: &[Secret]) -> Command {
    use std::os::unix::ffi::OsStrExt;
    let mut prepared = Command::new(&command.run[0]);
    clean_environment(&mut prepared);
    prepared.args(&command.run[1..]).current_dir(session.scratch).env("TMPDIR", session.scratch);
    prepared.envs(session.marks.iter().map(|(name, value)| (name, value)));
    for ((variable, _), secret) in command.environment.iter().zip(secrets) {
        prepared.env(variable, std::ffi::OsStr::from_bytes(secret.expose()));
    }
    prepared.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    prepared
}

/// A command with all that it started; ended when it is let go of before its end.
struct Group(Child);

impl Group {
    fn leader(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.0.id()).ok()?)
    }

    fn end(&mut self) {
        // Not waited for yet, so its number cannot have passed to others.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.leader().map(|leader| kill_process_group(leader, Signal::KILL));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
        let _ = self.0.wait();
    }
}

/// Ends the command when its time is over.
fn watch(leader: Option<Pid>, limit: Duration, end: &Receiver<()>, over: &AtomicBool) {
    if end.recv_timeout(limit) != Err(RecvTimeoutError::Timeout) {
        return;
    }
    over.store(true, Ordering::Relaxed);
    let signal = |signal| leader.map(|leader| kill_process_group(leader, signal));
    signal(Signal::TERM);
    if end.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
        signal(Signal::KILL);
    }
}

/// A pipe that is read to its end, or until something else is over and nothing comes any more: a process that left the
/// command's group may hold the other end open for ever.
struct Pipe<'a, R> {
    pipe: R,
    over: &'a AtomicBool,
    /// Bytes that are still taken then.
    rest: usize,
}

impl<R: Read + AsFd> Read for Pipe<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let over = self.over.load(Ordering::Relaxed);
            if over && self.rest == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut ready = [PollFd::new(&self.pipe, PollFlags::IN)];
            if rustix::io::retry_on_intr(|| poll(&mut ready, Some(&LOOK)))? > 0 {
                let length = self.pipe.read(buffer)?;
                self.rest = self.rest.saturating_sub(if over { length } else { 0 });
                return Ok(length);
            }
            if over {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

fn read_tail(mut errors: impl Read, secrets: &[Secret]) -> String {
    let mut tail = Tail::new(secrets);
    let mut buffer = [0; 8192];
    loop {
        match errors.read(&mut buffer) {
            Ok(0) => return tail.text(secrets),
            Ok(length) => tail.push(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return tail.text(secrets),
        }
    }
}

/// Counts what is read.
struct Counted<'a, 's, R> {
    output: R,
    session: &'a Session<'s>,
}

impl<R: Read> Read for Counted<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.output.read(buffer)?;
        self.session.count_read(length as u64);
        self.session.progress.advance(length as u64);
        Ok(length)
    }
}

fn judge(name: &str, status: ExitStatus, limit: Option<Duration>, tail: &str) -> Result<()> {
    let ending = if limit.is_some() { Ending::TimedOut } else { process::ending(status) };
    let Some(how) = ending.trouble(limit.unwrap_or_default()) else { return Ok(()) };
    let said = tail.trim_end();
    let said = if said.is_empty() { "it wrote no errors".to_owned() } else { format!("the end of its errors: {said}") };
    Err(Failure::failed(format!("the command {name} {how}; {said}")))
}

/// What succeeded and is nevertheless worth a look.
fn warn(session: &Session<'_>, name: &str, read: &StoredContent, tail: &str) {
    if read.bytes == 0 {
        session.progress.warn(&format!("the command {name} wrote nothing"));
    }
    let lines: Vec<&str> = tail.trim_end().lines().collect();
    for line in &lines[lines.len().saturating_sub(WARNED_LINES)..] {
        session.progress.warn(&format!("{name}: {line}"));
    }
}
