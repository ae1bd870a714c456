//! Finds and ends the processes that belong to a run.
//!
//! A process belongs to a run when its environment carries the run's id, or when it is still in a process group
//! that the run started. What a script hands to somebody else (a service manager, a container engine) is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long processes have between TERM and KILL.
const GRACE: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Rounds of KILL before what is left is named: a process that makes new ones is met again in the next round.
const ROUNDS: u32 = 10;

/// Process groups started by this process for a run: leader and the leader's start time. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Groups(Arc<Mutex<BTreeSet<(u32, u64)>>>);

impl Groups {
    /// Remembers the group that a child leads; must be called before the child is waited for.
    pub fn add(&self, leader: Option<u32>) {
        let Some(leader) = leader else { return };
        if let Some(stat) = Stat::read(leader) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((leader, stat.start));
        }
    }

    /// A group's id stays taken while the group has members; one whose leader is a later process is another group.
    fn holds(&self, stat: &Stat) -> bool {
        let groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(&(leader, start)) = groups.iter().find(|(leader, _)| *leader == stat.group) else { return false };
        stat.start >= start && Stat::read(leader).is_none_or(|now| now.start == start)
    }
}

/// What is needed of `/proc/PID/stat` (proc(5)).
struct Stat {
    zombie: bool,
    group: u32,
    start: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything, so the fields are counted from the last parenthesis.
        let end = text.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some(Self {
            zombie: matches!(*fields.first()?, "Z" | "X"),
            group: fields.get(2)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }

    fn runs(&self, start: u64) -> bool {
        !self.zombie && self.start == start
    }
}

/// Which processes are meant.
pub struct Belonging<'a> {
    /// Entries (`NAME=value`) that all must be in a process's environment.
    pub marks: Vec<String>,
    /// Or: any of these groups.
    pub groups: Option<&'a Groups>,
}

impl Belonging<'_> {
    /// When a process that belongs and runs was started; `None` for every other.
    fn start_of(&self, pid: u32) -> Option<u64> {
        let stat = Stat::read(pid).filter(|stat| !stat.zombie)?;
        (self.marked(pid) || self.groups.is_some_and(|groups| groups.holds(&stat))).then_some(stat.start)
    }

    fn marked(&self, pid: u32) -> bool {
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
        let has = |mark: &String| environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes());
        !self.marks.is_empty() && self.marks.iter().all(has)
    }
}

/// What [`end`] did.
#[derive(Debug, Default)]
pub struct Ended {
    /// Processes that were still running.
    pub processes: u64,
    /// Those that could not be ended, named.
    pub left: Vec<String>,
}

/// Ends all processes that belong: TERM, and KILL two seconds later. Never this process itself. Blocks, and returns
/// when those it signalled are gone.
pub fn end(belonging: &Belonging<'_>) -> Ended {
    let mut signalled = BTreeMap::new();
    let mut remaining = wait(belonging, &signalled, Instant::now() + LOOK);
    signal(&remaining, Signal::TERM, &mut signalled);
    let deadline = Instant::now() + GRACE;
    if !remaining.is_empty() {
        remaining = wait(belonging, &signalled, deadline);
    }
    for _ in 0..ROUNDS {
        if remaining.is_empty() {
            break;
        }
        signal(&remaining, Signal::KILL, &mut signalled);
        remaining = wait(belonging, &signalled, Instant::now() + Duration::from_millis(300));
    }
    let left = remaining.keys().map(|pid| format!("process {pid} ({})", name(*pid))).collect();
    Ended { processes: signalled.len() as u64, left }
}

/// Processes by id: when they started, and a handle that stays theirs when the id passes on.
type Found = BTreeMap<u32, (u64, Arc<OwnedFd>)>;

fn find(belonging: &Belonging<'_>) -> Found {
    let Ok(entries) = fs::read_dir("/proc") else { return Found::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| pid != std::process::id() && pid > 1).filter_map(|pid| held(pid, belonging)).collect()
}

/// The handle is taken before the process is looked at: a process id that passes to another process in between
/// cannot bring the signal to the wrong one.
fn held(pid: u32, belonging: &Belonging<'_>) -> Option<(u32, (u64, Arc<OwnedFd>))> {
    let handle = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
    Some((pid, (belonging.start_of(pid)?, Arc::new(handle))))
}

fn signal(processes: &Found, signal: Signal, signalled: &mut Found) {
    for (pid, (start, handle)) in processes {
        signalled.insert(*pid, (*start, Arc::clone(handle)));
        // One that has just ended by itself, or may not be ended, shows in the next look.
        let _ = pidfd_send_signal(handle, signal);
    }
}

/// What belongs and is still there at the deadline, or nothing as soon as two looks in a row find nothing: for a moment
/// a process that executes a program shows no environment, and so does one that is about to end.
fn wait(belonging: &Belonging<'_>, signalled: &Found, deadline: Instant) -> Found {
    let mut empty = false;
    loop {
        let mut remaining = find(belonging);
        let ending = signalled.iter().filter(|(pid, (start, _))| Stat::read(**pid).is_some_and(|now| now.runs(*start)));
        remaining.extend(ending.map(|(pid, process)| (*pid, process.clone())));
        if Instant::now() >= deadline || (empty && remaining.is_empty()) {
            return remaining;
        }
        empty = remaining.is_empty();
        std::thread::sleep(LOOK);
    }
}

fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).map_or_else(|_| "unknown".into(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Starts `sleep` that outlives its parents: forked twice, in a session of its own.
    fn daemon(mark: &str, prelude: &str) -> u32 {
        let line = format!("{prelude} setsid sh -c '{prelude} sleep 60 >/dev/null 2>&1 & echo $!'");
        let output = Command::new("/bin/sh").args(["-c", &line]).env("LIFEBOAT_TEST", mark).output().unwrap();
        let pid = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        until(|| name(pid) == "sleep");
        pid
    }

    fn until(seen: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !seen() {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn alive(pid: u32) -> bool {
        Stat::read(pid).is_some_and(|stat| !stat.zombie)
    }

    fn mark() -> String {
        format!("{}-{:?}", std::process::id(), std::thread::current().id())
    }

    #[test]
    fn a_daemon_is_ended_by_its_mark_and_others_are_not() {
        let (mine, others) = (daemon(&mark(), ""), daemon("of somebody else", ""));
        let belonging = Belonging { marks: vec![format!("LIFEBOAT_TEST={}", mark())], groups: None };
        let ended = end(&belonging);
        assert!(ended.left.is_empty() && ended.processes >= 1, "{ended:?}");
        assert!(!alive(mine));
        assert!(alive(others));
        end(&Belonging { marks: vec!["LIFEBOAT_TEST=of somebody else".into()], groups: None });
        assert!(!alive(others));
    }

    #[test]
    fn a_daemon_that_ignores_term_is_killed() {
        let pid = daemon(&mark(), "trap \"\" TERM;");
        end(&Belonging { marks: vec![format!("LIFEBOAT_TEST={}", mark())], groups: None });
        assert!(!alive(pid));
    }

    fn resident_kib(pid: u32) -> usize {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// To give its memory back takes a process long, and meanwhile it has no environment by which it could be found.
    #[test]
    fn a_process_that_takes_long_to_end_is_waited_for() {
        const HELD: usize = 512 << 20;
        let mut command = Command::new("dd");
        command.args(["if=/dev/zero", &format!("bs={HELD}"), "count=1", "status=none"]);
        let mut child = command.env("LIFEBOAT_TEST", mark()).stdout(Stdio::piped()).spawn().unwrap();
        until(|| resident_kib(child.id()) >= HELD >> 10);
        end(&Belonging { marks: vec![format!("LIFEBOAT_TEST={}", mark())], groups: None });
        assert!(!alive(child.id()));
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_cleared_its_environment_is_found_by_its_group() {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "env -i sleep 60 & wait"]).process_group(0).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let groups = Groups::default();
        groups.add(Some(child.id()));
        std::thread::sleep(Duration::from_millis(200));
        let ended = end(&Belonging { marks: Vec::new(), groups: Some(&groups) });
        child.wait().unwrap();
        assert_eq!(ended.processes, 2);
    }

    #[test]
    fn a_group_whose_leader_is_another_process_is_not_ours() {
        let own = Stat::read(std::process::id()).unwrap();
        let groups = Groups::default();
        groups.0.lock().unwrap().insert((own.group, own.start + 1));
        assert!(!groups.holds(&Stat { zombie: false, group: own.group, start: own.start }));
    }
}
