//! Runs one process whose standard output is read while it comes: own process group, no standard input unless it was given
//! one, a bounded tail of standard error, a time limit that holds. Blocks.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use super::Secret;
use super::output::Tail;
use super::process::{Ending, ending};

/// How long a process has between TERM and KILL when its time is over.
const GRACE: Duration = Duration::from_secs(5);

/// How long nothing comes from a pipe before it is asked whether anything still may.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// What may still lie in a pipe of errors when its writer is gone.
const PIPE_BYTES: usize = 64 << 10;

/// What the pipe of the output may hold: the most that the kernel gives to anybody by default. The two sides then wake each
/// other less often.
const OUTPUT_PIPE_BYTES: usize = 1 << 20;

/// Most bytes of an answer that [`answer`] gives.
const ANSWER_BYTES: u64 = 1 << 20;

/// What became of a process.
#[derive(Debug)]
pub struct Streamed<T, E> {
    /// What the reader of its standard output made of it; an error of the pipe when the process took too long.
    pub read: Result<T, E>,
    pub ending: Ending,
    /// Whether it was ended because its reader gave up; its ending then says nothing.
    pub given_up: bool,
    /// The end of its standard error, masked.
    pub errors: String,
}

impl<T, E> Streamed<T, E> {
    /// After "the command": how it ended by itself or by the limit when that was not well, with the end of its errors.
    pub fn trouble(&self, limit: Duration) -> Option<String> {
        let how = if self.given_up { None } else { self.ending.trouble(limit) }?;
        let said = self.errors.trim_end();
        Some(match said {
            "" => format!("{how}; it wrote no errors"),
            said => format!("{how}; the end of its errors: {said}"),
        })
    }
}

/// Runs a command and gives its standard output to `read`. When that fails, or `limit` is over, the whole process group is
/// ended. A process that left the group and holds the output open is waited for until `limit`.
///
/// # Errors
/// When the process cannot be started.
pub fn stream<T, E>(
    mut command: Command,
    limit: Duration,
    secrets: &[Secret],
    read: impl FnOnce(&mut dyn Read) -> Result<T, E>,
) -> io::Result<Streamed<T, E>> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = Group(command.spawn()?);
    // Our own ends of what the command was given close with it.
    drop(command);
    let (output, errors) = (child.0.stdout.take(), child.0.stderr.take());
    let (Some(output), Some(errors)) = (output, errors) else {
        return Err(io::Error::other("it has no output"));
    };
    // One that stays smaller costs time and nothing else.
    let _ = rustix::pipe::fcntl_setpipe_size(&output, OUTPUT_PIPE_BYTES);
    let leader = child.leader();
    let (timed_out, gone) = (AtomicBool::new(false), AtomicBool::new(false));
    let (read, status, errors, given_up) = std::thread::scope(|scope| {
        let (ended, end) = channel::<()>();
        let over = &timed_out;
        scope.spawn(move || watch(leader, limit, &end, over));
        let errors = Pipe { pipe: errors, over: &gone, rest: PIPE_BYTES };
        let errors = scope.spawn(move || read_tail(errors, secrets));
        let read = read(&mut Pipe { pipe: output, over: &timed_out, rest: 0 });
        // A command whose time is over is being ended, and has its time for that.
        let given_up = read.is_err() && !timed_out.load(Ordering::Relaxed) && child.end();
        let status = child.0.wait();
        if timed_out.load(Ordering::Relaxed) {
            // The group's number is taken for as long as it has members.
            let _ = leader.map(|leader| kill_process_group(leader, Signal::KILL));
        }
        gone.store(true, Ordering::Relaxed);
        // The watch ends with its channel.
        drop(ended);
        (read, status, errors.join().unwrap_or_default(), given_up)
    });
    let ending = if timed_out.into_inner() { Ending::TimedOut } else { ending(status?) };
    Ok(Streamed { read, ending, given_up, errors })
}

/// Runs a command for its answer: standard output, of which so much is kept as an answer may have.
///
/// # Errors
/// As [`stream`].
pub fn answer(command: Command, limit: Duration, secrets: &[Secret]) -> io::Result<Streamed<Vec<u8>, io::Error>> {
    stream(command, limit, secrets, |output| {
        let mut answer = Vec::new();
        output.take(ANSWER_BYTES).read_to_end(&mut answer)?;
        io::copy(output, &mut io::sink())?;
        Ok(answer)
    })
}

/// A command with all that it started; ended when it is let go of before its end.
struct Group(Child);

impl Group {
    fn leader(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.0.id()).ok()?)
    }

    /// Whether it had not ended yet.
    fn end(&mut self) -> bool {
        // Not waited for yet, so its number cannot have passed to others.
        let runs = matches!(self.0.try_wait(), Ok(None));
        if runs {
            let _ = self.leader().map(|leader| kill_process_group(leader, Signal::KILL));
        }
        runs
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).stdin(Stdio::null());
        command
    }

    #[test]
    fn an_answer_with_its_errors_and_its_end() {
        let secrets = [Secret::new("hunter2")];
        let said = answer(shell("echo 42; echo hunter2 >&2; exit 3"), Duration::from_secs(30), &secrets).unwrap();
        assert_eq!((said.read.as_deref().unwrap(), said.ending), (&b"42\n"[..], Ending::Exited(3)));
        let trouble = said.trouble(Duration::from_secs(30)).unwrap();
        assert_eq!(trouble, "ended with exit code 3; the end of its errors: ***");
        let well = answer(shell("true"), Duration::from_secs(30), &[]).unwrap();
        assert_eq!(well.trouble(Duration::ZERO), None);
    }

    #[test]
    fn more_than_an_answer_may_have_is_read_and_dropped() {
        let said = answer(shell("yes | head -c 3000000"), Duration::from_secs(60), &[]).unwrap();
        assert_eq!((said.read.unwrap().len() as u64, said.ending), (ANSWER_BYTES, Ending::Exited(0)));
    }

    #[test]
    fn a_time_limit_and_a_reader_that_gives_up_end_it() {
        let limit = Duration::from_millis(300);
        let said = answer(shell("sleep 60 & wait"), limit, &[]).unwrap();
        assert!(said.trouble(limit).unwrap().contains("took longer than 0.3 s"));
        let begun = std::time::Instant::now();
        let refused: Streamed<(), ()> = stream(shell("yes"), Duration::from_secs(60), &[], |_| Err(())).unwrap();
        assert!(refused.read.is_err() && begun.elapsed() < Duration::from_secs(30));
    }
}
