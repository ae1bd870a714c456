//! One changing command per system and state directory, by an OS lock that dies with its process: a crash never
//! leaves anything locked.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};

use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result, durable_file};

/// Held until dropped, or until the process is gone.
#[derive(Debug)]
pub struct SystemLock {
    _file: File,
}

impl SystemLock {
    /// Takes the lock `name` (a system, or one run) in `directory`.
    ///
    /// # Errors
    /// Busy, naming the holder and since when, while another process has it.
    pub fn take(directory: &Path, name: &str, command: &str, now: Timestamp) -> Result<Self> {
        let path = directory.join(format!("{name}.lock"));
        let doing = || format!("cannot use the lock {}", path.display());
        durable_file::create_directories(directory).or_fail(doing)?;
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.or_fail(doing)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(busy(name, &mut file)),
            Err(error) => return Err(Failure::failed(format!("{}: {error}", doing()))),
        }
        let holder = format!("{command} (process {}) since {now}\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all(holder.as_bytes())).or_fail(doing)?;
        Ok(Self { _file: file })
    }
}

fn busy(name: &str, file: &mut File) -> Failure {
    let mut holder = String::new();
    let _ = file.rewind();
    let _ = file.take(1024).read_to_string(&mut holder);
    let holder = if holder.trim().is_empty() { "another lifeboat" } else { holder.trim() };
    Failure::busy(format!("{name} is busy: {holder}")).hint("wait for it to end, then run the command again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::FailureKind;

    #[test]
    fn the_second_is_told_who_holds_it_until_the_first_lets_go() {
        let directory = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let first = SystemLock::take(directory.path(), "shop", "backup", now).unwrap();
        let refused = SystemLock::take(directory.path(), "shop", "drill", now).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Busy);
        assert!(refused.message.contains("shop is busy: backup (process "), "{}", refused.message);
        assert!(refused.message.contains("since 2026-01-02T03:04:05Z"), "{}", refused.message);
        drop(first);
        SystemLock::take(directory.path(), "shop", "drill", now).unwrap();
    }
}
