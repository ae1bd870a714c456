//! Which process holds a lock: more than the pid that restic's locks carry, since pids are used again.
//!
//! restic passes over keys it does not know, so our locks say more: the machine, its start, the pid name space and the
//! process's own start, counted by the kernel and not by a clock that may be set. For locks that do not say it (restic's
//! own), a pid that is taken by another process by now looks alive, and the lock ends by its age.

use serde::{Deserialize, Serialize};

/// What tells a process from every other one. Empty where the system does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ProcessIdentity {
    /// SHA-256 of the machine's id.
    machine: String,
    /// The kernel's id of this start of the machine.
    boot: String,
    /// The pid name space.
    pids: String,
    /// Start of the process in ticks since the machine's.
    started: u64,
}

/// What can be said of the process of a lock of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Dead,
    /// Alive, or nothing can be said.
    Unknown,
}

impl ProcessIdentity {
    /// This process.
    pub(super) fn own() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let machine = read("/etc/machine-id");
        let pids = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        Self {
            machine: if machine.is_empty() { machine } else { crate::ground::sha256_hex(machine.as_bytes()) },
            boot: read("/proc/sys/kernel/random/boot_id"),
            pids: pids.to_string_lossy().into_owned(),
            started: start_of("self").unwrap_or_default(),
        }
    }

    /// Whether the process that wrote this identity and had this pid lives, as seen by this one (`here`).
    pub(super) fn life(&self, pid: i32, here: &Self) -> Life {
        self.judge(here, || is_dead(pid), || start_of(&pid.to_string()))
    }

    fn judge(&self, here: &Self, gone: impl Fn() -> bool, started: impl Fn() -> Option<u64>) -> Life {
        let unknown = self.boot.is_empty() || here.boot.is_empty();
        if !unknown && self.boot != here.boot {
            // Started again since; unless another machine has the same name.
            let same_machine = !self.machine.is_empty() && self.machine == here.machine;
            return if same_machine { Life::Dead } else { Life::Unknown };
        }
        if unknown || self.pids != here.pids {
            return Life::Unknown;
        }
        let replaced = started().is_some_and(|started| self.started != 0 && started != self.started);
        if gone() || replaced { Life::Dead } else { Life::Unknown }
    }
}

/// Whether no process of this pid lives in this name space.
pub(super) fn is_dead(pid: i32) -> bool {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return false };
    rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
}

/// Start of a process in ticks since the machine's: field 22 of its `stat`, counted behind the name, which may hold spaces.
fn start_of(pid: &str) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(machine: &str, boot: &str, pids: &str, started: u64) -> ProcessIdentity {
        ProcessIdentity { machine: machine.into(), boot: boot.into(), pids: pids.into(), started }
    }

    #[test]
    fn a_process_is_told_from_a_later_one_of_the_same_pid() {
        let here = identity("m", "b", "p", 1);
        let life = |holder: &ProcessIdentity, gone, started| holder.judge(&here, || gone, || started);
        let holder = identity("m", "b", "p", 500);
        assert_eq!(life(&holder, false, Some(500)), Life::Unknown);
        assert_eq!(life(&holder, false, Some(900)), Life::Dead, "the pid was used again");
        assert_eq!(life(&holder, true, None), Life::Dead);
        assert_eq!(life(&holder, false, None), Life::Unknown);
        assert_eq!(
            life(&identity("m", "earlier", "p", 500), false, Some(500)),
            Life::Dead,
            "the machine was restarted"
        );
        assert_eq!(
            life(&identity("other", "earlier", "p", 500), true, None),
            Life::Unknown,
            "a machine of the same name"
        );
        assert_eq!(life(&identity("", "earlier", "p", 500), true, None), Life::Unknown);
        assert_eq!(
            life(&identity("m", "b", "container", 500), true, None),
            Life::Unknown,
            "a pid of another name space"
        );
        assert_eq!(life(&identity("", "", "", 0), true, None), Life::Unknown);
    }

    #[test]
    fn this_process_knows_itself_and_a_child_that_ended() {
        let own = ProcessIdentity::own();
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(own.started > 0 && !own.boot.is_empty(), "{own:?}");
        assert_eq!(own.life(pid, &own), Life::Unknown);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let gone = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        assert_eq!(ProcessIdentity { started: 1, ..own.clone() }.life(gone, &own), Life::Dead);
    }
}
