//! restic's lock objects: who uses the repository, and whether alone. Refreshed while held; stale ones are removed.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::error::RepositoryError;
use super::tree::BlobId;
use super::{Inner, guarded, unpacked};
use crate::ground::clock::{Clock, SystemClock};
use crate::site::StoreErrorKind;

/// Directory of the locks.
pub(super) const LOCKS: &str = "locks/";
/// A lock is written anew so often, as restic does.
const REFRESH: Duration = Duration::from_secs(5 * 60);
/// After a refresh that failed.
const RETRY: Duration = Duration::from_secs(30);
/// A lock that was not refreshed for so long is stale.
const STALE: SignedDuration = SignedDuration::from_mins(30);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct LockJson {
    time: Timestamp,
    exclusive: bool,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    pid: i32,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
}

/// Names of this host and of the user, for locks and keys.
pub(super) fn who() -> (String, String) {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    (host, user)
}

impl LockJson {
    fn ours(exclusive: bool, time: Timestamp) -> Self {
        let (hostname, username) = who();
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Self { time, exclusive, hostname, username, pid, uid, gid }
    }

    /// restic's rule: not refreshed for half an hour, or held by a process of this host that is no more.
    fn is_stale(&self, now: Timestamp) -> bool {
        now.duration_since(self.time) > STALE || (self.hostname == who().0 && is_dead(self.pid))
    }

    fn describe(&self) -> String {
        let Self { hostname, username, pid, time, .. } = self;
        format!("process {pid} of {username}@{hostname}, since {time}")
    }
}

fn is_dead(pid: i32) -> bool {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return false };
    rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
}

/// Held while reading or writing; restic's own lock objects. Released on drop.
pub struct LockGuard {
    inner: Arc<Inner>,
    current: Arc<Mutex<BlobId>>,
    /// Dropping it ends the refresher.
    stop: Option<Sender<()>>,
    refresher: Option<JoinHandle<()>>,
}

/// Takes a lock: refuses when another forbids it, before and after ours is visible, so that of two that come at the
/// same time at least one sees the other.
pub(super) fn acquire(inner: &Arc<Inner>, exclusive: bool, now: Timestamp) -> Result<LockGuard, RepositoryError> {
    check_others(inner, exclusive, now, None)?;
    let lock = LockJson::ours(exclusive, now);
    let (id, _) = unpacked::save(inner, LOCKS, &lock)?;
    let mut guard =
        LockGuard { inner: Arc::clone(inner), current: Arc::new(Mutex::new(id)), stop: None, refresher: None };
    check_others(inner, exclusive, now, Some(&id))?;
    guard.start_refresher(lock)?;
    Ok(guard)
}

/// Removes stale locks and fails when a live one forbids ours.
///
/// A lock that cannot be read says nothing: a shared lock passes it (a restore must not depend on it; a verification
/// names it), an exclusive one is refused.
fn check_others(inner: &Inner, exclusive: bool, now: Timestamp, own: Option<&BlobId>) -> Result<(), RepositoryError> {
    for (id, _) in unpacked::list(inner, LOCKS)?.0 {
        if own == Some(&id) {
            continue;
        }
        match unpacked::load::<LockJson>(inner, LOCKS, &id) {
            Ok(lock) if lock.is_stale(now) => inner.store.delete(&format!("{LOCKS}{id}"))?,
            Ok(lock) if exclusive || lock.exclusive => {
                let how = if lock.exclusive { "exclusively locked" } else { "in use" };
                let place = inner.store.describe();
                return Err(RepositoryError::Locked(format!(
                    "the repository in {place} is {how} by {}; wait for it to end",
                    lock.describe()
                )));
            }
            Err(RepositoryError::Damaged(why)) if exclusive && inner.store.size(&format!("{LOCKS}{id}"))?.is_some() => {
                return Err(RepositoryError::Locked(format!("a lock of the repository cannot be read: {why}")));
            }
            Ok(_) | Err(RepositoryError::Damaged(_)) => {}
            // A host that may put and not read: what removes packs waits longer than any backup takes.
            Err(RepositoryError::Store(error)) if !exclusive && error.kind == StoreErrorKind::Denied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl LockGuard {
    fn start_refresher(&mut self, lock: LockJson) -> Result<(), RepositoryError> {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let (inner, current) = (Arc::clone(&self.inner), Arc::clone(&self.current));
        let refresh = move || {
            let mut wait = REFRESH;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = if refresh(&inner, &lock, &current).is_ok() { REFRESH } else { RETRY };
            }
        };
        let thread = std::thread::Builder::new().name("lock-refresher".to_owned()).spawn(refresh);
        let failed = |error| RepositoryError::machine(format!("cannot start a thread: {error}"));
        self.refresher = Some(thread.map_err(failed)?);
        self.stop = Some(stop);
        Ok(())
    }
}

/// Writes the lock anew with the time of now, then removes the older one.
fn refresh(inner: &Inner, lock: &LockJson, current: &Mutex<BlobId>) -> Result<(), RepositoryError> {
    let newer = LockJson { time: SystemClock.now(), ..lock.clone() };
    let (id, _) = unpacked::save(inner, LOCKS, &newer)?;
    let older = std::mem::replace(&mut *guarded(current), id);
    inner.store.delete(&format!("{LOCKS}{older}"))?;
    Ok(())
}

impl Drop for LockGuard {
    /// A lock that cannot be removed becomes stale by itself: its process ends, or half an hour passes.
    fn drop(&mut self) {
        self.stop = None;
        if let Some(refresher) = self.refresher.take() {
            let _ = refresher.join();
        }
        let id = *guarded(&self.current);
        let _ = self.inner.store.delete(&format!("{LOCKS}{id}"));
    }
}

/// Says whether a stored lock can be read.
pub(super) fn check_readable(inner: &Inner, id: &BlobId) -> Result<(), RepositoryError> {
    unpacked::load::<LockJson>(inner, LOCKS, id).map(drop)
}
