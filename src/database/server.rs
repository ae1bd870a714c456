//! What scratch servers of every kind share: who runs them, whose the data is, how they end, the end of a log.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Between two looks at a server that starts or ends.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// Bytes of a server's log that an error shows.
const LOG_BYTES: usize = 2000;

/// How long a server has to end well.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// `nobody` where no such user is known.
const NOBODY: u32 = 65_534;

/// User and group that a server runs as, of the names given the first that is known: never root. `None` for whom
/// lifeboat itself runs as.
pub(super) fn user(names: &[&str]) -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = |name: &&str| {
        let fields: Vec<&str> = users.lines().find(|line| line.split(':').next() == Some(name))?.split(':').collect();
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    Some(names.iter().find_map(entry).unwrap_or((NOBODY, NOBODY)))
}

/// Gives a directory with all that is in it to a user. Nobody else can write into it meanwhile; links are not followed.
pub(super) fn give(directory: &Path, user: u32, group: u32) -> io::Result<()> {
    let mut directories: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        std::os::unix::fs::lchown(&directory, Some(user), Some(group))?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else {
                std::os::unix::fs::lchown(entry.path(), Some(user), Some(group))?;
            }
        }
    }
    Ok(())
}

/// The process whose number is the first line of a file that a server keeps, when it is one of this name.
pub(super) fn process(pid_file: &Path, name: &str) -> Option<Pid> {
    let text = fs::read_to_string(pid_file).ok()?;
    let number: i32 = text.lines().next()?.trim().parse().ok()?;
    let found = fs::read_to_string(format!("/proc/{number}/comm")).ok()?;
    if found.trim() == name { Pid::from_raw(number) } else { None }
}

/// Ends a server by the signal with which an operator would, and waits until `running` gives another process or none.
pub(super) fn end(pid: Pid, signal: Signal, running: impl Fn() -> Option<Pid>) {
    if kill_process(pid, signal).is_err() {
        return;
    }
    let begun = Instant::now();
    while running() == Some(pid) && begun.elapsed() < STOP_LIMIT {
        std::thread::sleep(LOOK);
    }
}

/// The end of a log.
pub(super) fn log_end(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_BYTES)..]).trim().to_owned()
}
