//! Runs one process: own process group, no standard input, bounded output, a time limit that holds.

use std::io::{self, PipeReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::Secret;
use super::output::Tail;
use super::reaper::Groups;

/// How long output is waited for after the process itself has ended: a process it left behind may hold the pipe open.
const PIPE_GRACE: Duration = Duration::from_secs(1);
/// How long a process group has between TERM and KILL when its time is over.
const TERM_GRACE: Duration = Duration::from_secs(1);

/// The search path of every process that lifeboat starts, whatever its own is.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Gives a command an environment that does not depend on who started lifeboat: [`SEARCH_PATH`], a language, and the
/// home directory, where programs look for their own configuration.
pub fn clean_environment(command: &mut Command) {
    command.env_clear().env("PATH", SEARCH_PATH).env("LANG", "C.UTF-8");
    if let Some(home) = std::env::var_os("HOME") {
        command.env("HOME", home);
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Exited(i32),
    Signalled(i32),
    TimedOut,
}

impl Ending {
    /// After "the command": how it ended when that was not well.
    pub fn trouble(self, limit: Duration) -> Option<String> {
        match self {
            Self::Exited(0) => None,
            Self::Exited(code) => Some(format!("ended with exit code {code}")),
            Self::Signalled(signal) => Some(format!("was ended by signal {signal}")),
            Self::TimedOut => Some(format!("took longer than {} s and was ended", limit.as_secs_f64())),
        }
    }
}

/// What became of a process.
#[derive(Debug, Clone)]
pub struct Finished {
    pub ending: Ending,
    /// Standard output, with standard error in it unless they were asked apart; masked.
    pub output: String,
    /// Standard error when asked apart; masked.
    pub errors: String,
}

/// Where standard error goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    Together,
    Apart,
}

/// Runs the command to its end. When `limit` is over its whole process group is ended.
///
/// # Errors
/// When the process cannot be started.
pub async fn run(
    mut command: Command,
    streams: Streams,
    limit: Duration,
    secrets: &[Secret],
    groups: &Groups,
) -> io::Result<Finished> {
    command.stdin(Stdio::null()).process_group(0);
    let (output, writer) = Collector::new(secrets)?;
    let mut errors = None;
    match streams {
        Streams::Together => command.stderr(writer.try_clone()?),
        Streams::Apart => {
            let (collector, writer) = Collector::new(secrets)?;
            errors = Some(collector);
            command.stderr(writer)
        }
    };
    command.stdout(writer);
    let mut child = spawn(command).await?;
    groups.add(child.id());
    let ending = wait(&mut child, limit).await?;
    let output = output.finish(secrets).await;
    let errors = match errors {
        Some(collector) => collector.finish(secrets).await,
        None => String::new(),
    };
    Ok(Finished { ending, output, errors })
}

/// Takes the command, so that our own ends of its pipes close. A file written a moment ago can be busy: another
/// thread's fork may hold it open for writing until its exec.
async fn spawn(command: Command) -> io::Result<tokio::process::Child> {
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    for _ in 0..40 {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => sleep(Duration::from_millis(25)).await,
            spawned => return spawned,
        }
    }
    command.spawn()
}

async fn wait(child: &mut tokio::process::Child, limit: Duration) -> io::Result<Ending> {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Ok(status) = timeout(limit, child.wait()).await {
        return status.map(ending);
    }
    // The child is not reaped yet, so its group's id cannot have passed to others.
    let signal = |signal| group.map(|group| kill_process_group(group, signal));
    signal(Signal::TERM);
    sleep(TERM_GRACE).await;
    signal(Signal::KILL);
    child.wait().await?;
    Ok(Ending::TimedOut)
}

/// How a process ended by itself.
pub fn ending(status: ExitStatus) -> Ending {
    match status.code() {
        Some(code) => Ending::Exited(code),
        None => Ending::Signalled(status.signal().unwrap_or(0)),
    }
}

/// Reads a pipe on a thread of its own, for as long as anybody holds the other end: a server that a script left
/// behind must be able to write without being blocked or ended by a broken pipe.
struct Collector {
    tail: Arc<Mutex<Tail>>,
    closed: oneshot::Receiver<()>,
}

impl Collector {
    fn new(secrets: &[Secret]) -> io::Result<(Self, io::PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        let tail = Arc::new(Mutex::new(Tail::new(secrets)));
        let (sender, closed) = oneshot::channel();
        let shared = Arc::clone(&tail);
        std::thread::Builder::new().name("output".into()).spawn(move || {
            collect(reader, &shared);
            // Nobody may be waiting any more.
            let _ = sender.send(());
        })?;
        Ok((Self { tail, closed }, writer))
    }

    async fn finish(self, secrets: &[Secret]) -> String {
        // A time-out is no error: what was written so far counts.
        let _ = timeout(PIPE_GRACE, self.closed).await;
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).text(secrets)
    }
}

fn collect(mut reader: PipeReader, tail: &Mutex<Tail>) {
    let mut buffer = [0; 8192];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => tail.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
