//! What scratch servers of every kind share: who runs them, whose the data is, how they end, the end of a log.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Between two looks at a server that starts or ends.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// Bytes of a server's log that an error shows.
const LOG_BYTES: u64 = 2000;

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

/// A server that was seen to run on a data directory.
pub(super) struct Running {
    pid: Pid,
    /// Stays this process's when the number passes on.
    handle: OwnedFd,
}

impl Running {
    /// The process whose number is the first line of a file that a server keeps, when it has this name and runs on this
    /// data directory: the number may have passed on to another server of this machine.
    pub(super) fn find(pid_file: &Path, name: &str, data: &Path) -> Option<Self> {
        let text = fs::read_to_string(pid_file).ok()?;
        let pid = Pid::from_raw(text.lines().next()?.trim().parse().ok()?)?;
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let place = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        let found = fs::read_to_string(place.join("comm")).ok()?;
        (found.trim() == name && runs_on(&place, data)).then_some(Self { pid, handle })
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.handle, signal)?)
    }

    /// Ends it by the signal with which an operator would, and waits until `running` gives another process or none.
    pub(super) fn end(&self, signal: Signal, running: impl Fn() -> Option<Self>) {
        if self.signal(signal).is_err() {
            return;
        }
        let begun = Instant::now();
        while running().is_some_and(|other| other.pid == self.pid) && begun.elapsed() < STOP_LIMIT {
            std::thread::sleep(LOOK);
        }
    }
}

/// By its working directory, which servers keep in their data; where that may not be looked at, by whose both are.
fn runs_on(process: &Path, data: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let Ok(data) = fs::metadata(data) else { return false };
    match fs::metadata(process.join("cwd")) {
        Ok(directory) => identity(directory) == identity(data),
        Err(_) => fs::metadata(process).is_ok_and(|process| process.uid() == data.uid() && data.uid() != 0),
    }
}

/// Makes a file anew for lifeboat alone; what lies there is not followed.
pub(super) fn fresh_file(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::options().write(true).create_new(true).open(path)
}

/// The end of a log.
pub(super) fn log_end(log: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)))?;
        let mut end = Vec::new();
        file.take(LOG_BYTES).read_to_end(&mut end)?;
        Ok(end)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).trim().to_owned()
}
