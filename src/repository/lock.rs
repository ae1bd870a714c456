//! restic's lock objects: who uses the repository, and whether alone. Refreshed while held; stale ones are removed.
//!
//! A lock protects only while it lies there and is young: whoever slept longer than others wait is told so by
//! [`LockGuard::lost`], and looks again at what it relies on before it commits anything.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::error::RepositoryError;
use super::index_file::INDEXES;
use super::process::{Life, ProcessIdentity, is_dead};
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
/// A lock of our own that was not refreshed for so long may be taken for stale at any moment.
const DOUBTFUL: SignedDuration = SignedDuration::from_mins(25);

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
    /// Ours alone; a lock without it is another program's.
    #[serde(default, rename = "lifeboat_process", skip_serializing_if = "Option::is_none")]
    process: Option<ProcessIdentity>,
    /// Ours alone: its holder marks packs. Two that did so at once would each take the other's marks for void.
    #[serde(default, rename = "lifeboat_prune", skip_serializing_if = "std::ops::Not::not")]
    pruning: bool,
}

/// Names of this host and of the user, for locks and keys.
pub(super) fn who() -> (String, String) {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    (host, user)
}

/// What becomes of a lock that somebody else wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Alive,
    /// Its process on this host is no more.
    Dead,
    /// By its own time nobody refreshed it; the store may know better.
    LooksStale,
}

impl LockJson {
    fn ours(exclusive: bool, time: Timestamp) -> Self {
        let (hostname, username) = who();
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Self {
            time,
            exclusive,
            hostname,
            username,
            pid,
            uid,
            gid,
            process: Some(ProcessIdentity::own()),
            pruning: false,
        }
    }

    fn standing(&self, own: &Self, now: Timestamp) -> Standing {
        let here = own.process.clone().unwrap_or_default();
        let dead = self.hostname == own.hostname
            && match &self.process {
                Some(process) => process.life(self.pid, &here) == Life::Dead,
                None => is_dead(self.pid),
            };
        match dead {
            true => Standing::Dead,
            false if now.duration_since(self.time) > STALE => Standing::LooksStale,
            false => Standing::Alive,
        }
    }

    fn describe(&self) -> String {
        let Self { hostname, username, pid, time, .. } = self;
        format!("process {pid} of {username}@{hostname}, since {time}")
    }
}

/// Where a lock of ours stands.
struct State {
    /// The lock object that is there now.
    current: BlobId,
    /// When it was written, by the machine's clock, which also counts sleep, and by one that is never set.
    written: (Timestamp, Instant),
    /// Why the lock did not protect all the time, once it is so.
    lost: Option<String>,
    /// Index files seen while it was held.
    indexes: HashSet<BlobId>,
}

impl State {
    fn age(&self) -> SignedDuration {
        let (wall, steady) = self.written;
        let steady = SignedDuration::try_from(steady.elapsed()).unwrap_or(SignedDuration::MAX);
        steady.max(SystemClock.now().duration_since(wall))
    }
}

/// Held while reading or writing; restic's own lock objects. Released on drop.
pub struct LockGuard {
    inner: Arc<Inner>,
    lock: LockJson,
    state: Arc<Mutex<State>>,
    /// Dropping it ends the refresher.
    stop: Option<Sender<()>>,
    refresher: Option<JoinHandle<()>>,
}

/// Takes a lock: refuses when another forbids it, before and after ours is visible, so that of two that come at the
/// same time at least one sees the other.
pub(super) fn acquire(inner: &Arc<Inner>, exclusive: bool, now: Timestamp) -> Result<LockGuard, RepositoryError> {
    take(inner, LockJson::ours(exclusive, now), now)
}

/// A shared lock that only one holds at a time: for marking packs.
pub(super) fn acquire_for_prune(inner: &Arc<Inner>, now: Timestamp) -> Result<LockGuard, RepositoryError> {
    take(inner, LockJson { pruning: true, ..LockJson::ours(false, now) }, now)
}

fn take(inner: &Arc<Inner>, lock: LockJson, now: Timestamp) -> Result<LockGuard, RepositoryError> {
    check_others(inner, &lock, now, None)?;
    let (id, _) = unpacked::save(inner, LOCKS, &lock)?;
    let state =
        State { current: id, written: (SystemClock.now(), Instant::now()), lost: None, indexes: HashSet::new() };
    let state = Arc::new(Mutex::new(state));
    let mut guard = LockGuard { inner: Arc::clone(inner), lock, state, stop: None, refresher: None };
    check_others(inner, &guard.lock, now, Some(&id))?;
    note_indexes(inner, &guard.state)?;
    guard.start_refresher()?;
    Ok(guard)
}

/// Removes locks that are over and fails when a live one forbids ours.
///
/// A lock that cannot be read says nothing: a shared lock passes it (a restore must not depend on it; a verification
/// names it), an exclusive one is refused. One that looks stale by its own time is judged by the store's time against
/// `own`, when that is written already: the clock of this machine or of the other one may be wrong.
fn check_others(inner: &Inner, ours: &LockJson, now: Timestamp, own: Option<&BlobId>) -> Result<(), RepositoryError> {
    for (id, _) in unpacked::list(inner, LOCKS)?.0 {
        if own == Some(&id) {
            continue;
        }
        match unpacked::load::<LockJson>(inner, LOCKS, &id) {
            Ok(lock) => judge(inner, ours, &lock, &id, now, own)?,
            Err(RepositoryError::Damaged(why))
                if ours.exclusive && inner.store.size(&format!("{LOCKS}{id}"))?.is_some() =>
            {
                return Err(RepositoryError::Locked(format!("a lock of the repository cannot be read: {why}")));
            }
            Err(RepositoryError::Damaged(_)) => {}
            // A host that may put and not read: what removes packs waits longer than any backup takes.
            Err(RepositoryError::Store(error)) if !ours.exclusive && error.kind == StoreErrorKind::Denied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn judge(
    inner: &Inner,
    ours: &LockJson,
    lock: &LockJson,
    id: &BlobId,
    now: Timestamp,
    own: Option<&BlobId>,
) -> Result<(), RepositoryError> {
    let over = match (lock.standing(ours, now), own) {
        (Standing::Alive, _) => false,
        (Standing::Dead, _) => true,
        // Judged once our own lock is there to compare with.
        (Standing::LooksStale, None) => return Ok(()),
        (Standing::LooksStale, Some(own)) => is_old_at_the_store(inner, id, own)?,
    };
    if over {
        return Ok(inner.store.delete(&format!("{LOCKS}{id}"))?);
    }
    let both_prune = ours.pruning && lock.pruning;
    if !ours.exclusive && !lock.exclusive && !both_prune {
        return Ok(());
    }
    let how = match lock.exclusive {
        true => "exclusively locked",
        false if both_prune => "being pruned",
        false => "in use",
    };
    let place = inner.store.describe();
    Err(RepositoryError::Locked(format!(
        "the repository in {place} is {how} by {}; wait for it to end",
        lock.describe()
    )))
}

/// True when the store cannot tell, too: then the lock's own time counts.
fn is_old_at_the_store(inner: &Inner, lock: &BlobId, own: &BlobId) -> Result<bool, RepositoryError> {
    let stored = |id: &BlobId| inner.store.modified(&format!("{LOCKS}{id}"));
    Ok(match (stored(lock)?, stored(own)?) {
        (Some(lock), Some(own)) => own.duration_since(lock) > STALE,
        _ => true,
    })
}

fn note_indexes(inner: &Inner, state: &Mutex<State>) -> Result<(), RepositoryError> {
    let (ids, _) = unpacked::list(inner, INDEXES)?;
    guarded(state).indexes.extend(ids.into_iter().map(|(id, _)| id));
    Ok(())
}

impl LockGuard {
    fn start_refresher(&mut self) -> Result<(), RepositoryError> {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let (inner, state, lock) = (Arc::clone(&self.inner), Arc::clone(&self.state), self.lock.clone());
        let keep_alive = move || {
            let mut wait = REFRESH;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = if refresh(&inner, &lock, &state, SystemClock.now()).is_ok() { REFRESH } else { RETRY };
            }
        };
        let thread = std::thread::Builder::new().name("lock-refresher".to_owned()).spawn(keep_alive);
        let failed = |error| RepositoryError::machine(format!("cannot start a thread: {error}"));
        self.refresher = Some(thread.map_err(failed)?);
        self.stop = Some(stop);
        Ok(())
    }

    /// Why the lock may not have protected all the time, if so: it could not be refreshed for too long, or somebody has
    /// removed it. Others may have pruned since.
    ///
    /// # Errors
    /// When the store does not answer.
    pub fn lost(&self) -> Result<Option<String>, RepositoryError> {
        look_after(&self.inner, &self.state)?;
        Ok(guarded(&self.state).lost.clone())
    }

    /// Whether an index file that was there while the lock was held is gone: a prune or a repair by others was at work.
    pub(super) fn index_changed(&self) -> Result<bool, RepositoryError> {
        let stored: HashSet<BlobId> = unpacked::list(&self.inner, INDEXES)?.0.into_iter().map(|(id, _)| id).collect();
        Ok(!guarded(&self.state).indexes.is_subset(&stored))
    }

    /// Takes the lock again as if for the first time: refused when another forbids it by now. What was relied on has to
    /// be looked at again, since anything may have happened in between.
    pub(super) fn renew(&self, now: Timestamp) -> Result<(), RepositoryError> {
        write_anew(&self.inner, &self.lock, &self.state, now)?;
        let own = guarded(&self.state).current;
        check_others(&self.inner, &self.lock, now, Some(&own))?;
        let mut state = guarded(&self.state);
        (state.lost, state.indexes) = (None, HashSet::new());
        drop(state);
        note_indexes(&self.inner, &self.state)
    }

    /// Fails with a sentence when the lock is lost: for whoever is about to remove something.
    pub(super) fn insist(&self) -> Result<(), RepositoryError> {
        self.lost()?.map_or(Ok(()), |why| Err(RepositoryError::Locked(format!("{why}; nothing more is removed"))))
    }

    /// The store's time now, by the lock that was just written to it; `None` when it does not tell.
    pub(super) fn store_time(&self) -> Result<Option<Timestamp>, RepositoryError> {
        refresh(&self.inner, &self.lock, &self.state, SystemClock.now())?;
        let current = guarded(&self.state).current;
        Ok(self.inner.store.modified(&format!("{LOCKS}{current}"))?)
    }

    /// Who uses the repository now with a program that knows nothing of marked packs: restic itself.
    pub(super) fn foreign_user(&self, now: Timestamp) -> Result<Option<String>, RepositoryError> {
        let own = guarded(&self.state).current;
        for (id, _) in unpacked::list(&self.inner, LOCKS)?.0 {
            let foreign = match unpacked::load::<LockJson>(&self.inner, LOCKS, &id) {
                Ok(lock) if lock.process.is_some() => continue,
                Ok(lock) => match lock.standing(&self.lock, now) {
                    Standing::Alive => lock,
                    Standing::LooksStale if !is_old_at_the_store(&self.inner, &id, &own)? => lock,
                    Standing::Dead | Standing::LooksStale => continue,
                },
                Err(RepositoryError::Damaged(_)) => continue,
                Err(error) => return Err(error),
            };
            return Ok(Some(foreign.describe()));
        }
        Ok(None)
    }
}

/// Notes when the lock is gone or has become old.
fn look_after(inner: &Inner, state: &Mutex<State>) -> Result<(), RepositoryError> {
    // Held over the look, so that the refresher does not replace the lock in between.
    let mut state = guarded(state);
    let age = state.age();
    if age > DOUBTFUL {
        let why = format!("the lock of the repository could not be refreshed for {} minutes", age.as_mins());
        state.lost.get_or_insert(why);
    } else if unpacked::list(inner, LOCKS)?.0.iter().all(|(id, _)| *id != state.current) {
        state.lost.get_or_insert_with(|| "somebody has removed the lock of the repository".to_owned());
    }
    Ok(())
}

/// Writes the lock anew with the time of now, after a look at what became of the older one.
fn refresh(inner: &Inner, lock: &LockJson, state: &Mutex<State>, now: Timestamp) -> Result<(), RepositoryError> {
    look_after(inner, state)?;
    note_indexes(inner, state)?;
    write_anew(inner, lock, state, now)
}

fn write_anew(inner: &Inner, lock: &LockJson, state: &Mutex<State>, now: Timestamp) -> Result<(), RepositoryError> {
    let newer = LockJson { time: now, ..lock.clone() };
    let mut state = guarded(state);
    let (id, _) = unpacked::save(inner, LOCKS, &newer)?;
    let older = std::mem::replace(&mut state.current, id);
    state.written = (SystemClock.now(), Instant::now());
    drop(state);
    Ok(inner.store.delete(&format!("{LOCKS}{older}"))?)
}

impl Drop for LockGuard {
    /// A lock that cannot be removed becomes stale by itself: its process ends, or half an hour passes.
    fn drop(&mut self) {
        self.stop = None;
        if let Some(refresher) = self.refresher.take() {
            let _ = refresher.join();
        }
        let id = guarded(&self.state).current;
        let _ = self.inner.store.delete(&format!("{LOCKS}{id}"));
    }
}

/// Says whether these bytes are the JSON of a lock.
pub(super) fn parses(json: &[u8]) -> bool {
    serde_json::from_slice::<LockJson>(json).is_ok()
}

/// Says whether a stored lock can be read.
pub(super) fn check_readable(inner: &Inner, id: &BlobId) -> Result<(), RepositoryError> {
    unpacked::load::<LockJson>(inner, LOCKS, id).map(drop)
}
