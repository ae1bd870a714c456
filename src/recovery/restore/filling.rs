//! Writing the pieces of files as they come, from several threads and in any order; a file is closed as soon as it has
//! all of them, and files that wait for pieces may be closed in between, so that few are open.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{self, AtFlags, Mode, OFlags};

use super::contents::{Extent, FileJob, LAST, Pieces};
use super::metadata::{self, Handle};
use super::outcome::Trouble;
use super::sparse;
use super::target::{Identity, cannot};
use super::work::Work;
use crate::ground::Failure;
use crate::repository::RepositoryError;

/// A file of a batch.
pub(super) struct Slot {
    pub(super) job: FileJob,
    pub(super) state: Mutex<State>,
    /// Its pieces end before this one.
    end: usize,
    several: bool,
}

/// How far a file is.
pub(super) struct State {
    /// Pieces still to come.
    remaining: usize,
    held: Held,
    pub(super) end: Option<End>,
}

/// A file in work.
enum Held {
    Nothing,
    Open(Arc<Created>),
    /// Closed until its next piece comes.
    Closed {
        identity: Identity,
        temporary: Option<Vec<u8>>,
    },
}

struct Created {
    file: OwnedFd,
    at: Arc<OwnedFd>,
    temporary: Option<Vec<u8>>,
}

/// What became of a file.
pub(super) enum End {
    /// Written and closed; under a temporary name it still has to be put in place.
    Written { identity: Identity, temporary: Option<Vec<u8>>, reasons: Vec<String> },
    /// The stored content is not whole.
    Damaged(String),
    /// The target did not take it.
    Refused(String),
}

impl Slot {
    /// A file of so many pieces, which end before piece `end`.
    pub(super) fn new(job: FileJob, pieces: usize, end: usize) -> Self {
        let state = State { remaining: pieces, held: Held::Nothing, end: None };
        Self { job, state: Mutex::new(state), end, several: pieces > 1 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The files of a batch while they are written.
pub(super) struct Filling<'a> {
    work: &'a Work<'a>,
    slots: &'a [Slot],
    stop: AtomicBool,
    /// The first thing that makes the target unusable.
    failure: Mutex<Option<Failure>>,
    /// Files of several pieces that may be open, the one opened first in front.
    open: Mutex<VecDeque<u32>>,
}

impl<'a> Filling<'a> {
    pub(super) fn new(work: &'a Work<'a>, slots: &'a [Slot]) -> Self {
        Self { work, slots, stop: AtomicBool::new(false), failure: Mutex::new(None), open: Mutex::default() }
    }

    /// Fetches and writes all pieces.
    pub(super) fn fetch(&self, pieces: Pieces) {
        for (number, slot) in self.slots.iter().enumerate() {
            if slot.lock().remaining == 0 {
                self.on_slot(number, |filling, slot| filling.hold(number).and_then(|file| filling.finish(slot, &file)));
            }
        }
        let (blobs, firsts, extents) = pieces.distinct();
        if !blobs.is_empty() {
            self.work.stored.read_many(&blobs, &|position, blob| self.deliver(&extents, firsts[position], blob));
        }
    }

    /// The first thing that makes the target unusable, if there was any.
    pub(super) fn failure(&self) -> Option<Failure> {
        lock(&self.failure).take()
    }

    /// Whether any file still has to take another's place.
    pub(super) fn replaces(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.lock().end, Some(End::Written { temporary: Some(_), .. })))
    }

    /// Writes one blob wherever it belongs; false stops the reading.
    fn deliver(&self, extents: &[Extent], first: u32, blob: Result<&[u8], RepositoryError>) -> bool {
        let blob = blob.map_err(|error| format!("its stored content cannot be read: {error}"));
        // A blob at many places is mostly the zeros of holes: told once, they cost nothing anywhere.
        let repeated = extents[first as usize].next != LAST;
        let hole = blob.as_ref().is_ok_and(|data| repeated && sparse::is_zero(data));
        let mut piece = first;
        while piece != LAST {
            let extent = &extents[piece as usize];
            let number = extent.slot as usize;
            match &blob {
                Ok(data) if extent.offset + data.len() as u64 == self.end_of(extents, piece) => {
                    self.on_slot(number, |filling, _| filling.write(number, data, extent.offset, hole));
                }
                Ok(_) => self.lose(number, End::Damaged("a part of its content has the wrong length".into())),
                Err(reason) => self.lose(number, End::Damaged(reason.clone())),
            }
            piece = extent.next;
        }
        !self.stop.load(Ordering::Relaxed)
    }

    /// Where a piece ends in its file.
    fn end_of(&self, extents: &[Extent], piece: u32) -> u64 {
        let (slot, next) = (&self.slots[extents[piece as usize].slot as usize], piece as usize + 1);
        if next < slot.end { extents[next].offset } else { slot.job.node.size }
    }

    fn on_slot(&self, number: usize, work: impl FnOnce(&Self, &Slot) -> Result<(), Trouble>) {
        let slot = &self.slots[number];
        if self.stop.load(Ordering::Relaxed) || slot.lock().end.is_some() {
            return;
        }
        match work(self, slot) {
            Ok(()) => {}
            Err(Trouble::Entry(reason)) => self.lose(number, End::Refused(reason)),
            Err(Trouble::Target(failure)) => {
                self.stop.store(true, Ordering::Relaxed);
                let place = &slot.job.place;
                let path = self.work.path(place.directory, Some(place.name.as_bytes()));
                lock(&self.failure).get_or_insert(failure.context(format!("restoring {path}")));
                self.lose(number, End::Refused("the target cannot be written".into()));
            }
        }
    }

    /// Writes a piece; one that is known to be a hole is only counted, since the file was empty.
    fn write(&self, number: usize, data: &[u8], offset: u64, hole: bool) -> Result<(), Trouble> {
        let slot = &self.slots[number];
        let file = self.hold(number)?;
        if !hole {
            sparse::write(file.file.as_fd(), data, offset).map_err(|errno| cannot("be written", errno))?;
        }
        self.work.progress.advance(data.len() as u64);
        let mut state = slot.lock();
        state.remaining -= 1;
        let last = state.remaining == 0;
        drop(state);
        if last { self.finish(slot, &file) } else { Ok(()) }
    }

    /// The slot's file, created or opened again by whoever comes first.
    fn hold(&self, number: usize) -> Result<Arc<Created>, Trouble> {
        let slot = &self.slots[number];
        let mut state = slot.lock();
        let created = match &state.held {
            Held::Open(file) => return Ok(Arc::clone(file)),
            Held::Closed { identity, temporary } => Arc::new(self.open_again(slot, *identity, temporary.clone())?),
            Held::Nothing => Arc::new(self.create(slot)?),
        };
        state.held = Held::Open(Arc::clone(&created));
        drop(state);
        if slot.several {
            self.bound_open(number);
        }
        Ok(created)
    }

    fn create(&self, slot: &Slot) -> Result<Created, Trouble> {
        let place = &slot.job.place;
        let directories = &self.work.directories;
        let at = directories.open(place.directory)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (file, temporary) = directories.place(at.as_fd(), &place.name, place.existing, |name| {
            fs::openat(&at, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        Ok(Created { file, at, temporary })
    }

    /// Opens a file that was closed in between, and proves that it is the one.
    fn open_again(&self, slot: &Slot, identity: Identity, temporary: Option<Vec<u8>>) -> Result<Created, Trouble> {
        let place = &slot.job.place;
        let at = self.work.directories.open(place.directory)?;
        let name = temporary.as_deref().unwrap_or(place.name.as_bytes());
        // Not waiting: what stands there now might be somebody's FIFO.
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let replaced = || Trouble::Entry("somebody replaced it during the restore".into());
        let file =
            fs::openat(&at, name, flags, Mode::empty()).map_err(|errno| match cannot("be opened again", errno) {
                Trouble::Entry(_) => replaced(),
                target => target,
            })?;
        let stat = fs::fstat(&file).map_err(|errno| cannot("be looked at", errno))?;
        if Identity::of(&stat) != identity || stat.st_nlink != 1 {
            return Err(replaced());
        }
        Ok(Created { file, at, temporary })
    }

    /// Notes that a file was opened, and closes the one that is open for longest when they are too many.
    fn bound_open(&self, number: usize) {
        let mut open = lock(&self.open);
        open.extend(u32::try_from(number));
        for _ in 0..open.len() {
            if open.len() <= self.work.open_files_max {
                break;
            }
            let Some(oldest) = open.pop_front() else { break };
            if !self.close_for_now(oldest) {
                open.push_back(oldest);
            }
        }
    }

    /// False when it is still open: somebody works on it at this moment.
    fn close_for_now(&self, number: u32) -> bool {
        let Ok(mut state) = self.slots[number as usize].state.try_lock() else { return false };
        let Held::Open(created) = &state.held else { return true };
        let Ok(stat) = fs::fstat(&created.file) else { return false };
        state.held = Held::Closed { identity: Identity::of(&stat), temporary: created.temporary.clone() };
        true
    }

    fn finish(&self, slot: &Slot, created: &Created) -> Result<(), Trouble> {
        let work = self.work;
        let clean = work.directories.hands_down_acl(slot.job.place.directory);
        let stat = fs::fstat(&created.file).map_err(|errno| cannot("be looked at", errno))?;
        sparse::complete(created.file.as_fd(), &stat, slot.job.node.size)
            .map_err(|errno| cannot("be written", errno))?;
        let handle = Handle::Open(created.file.as_fd());
        let reasons = metadata::apply_to(handle, Some(&stat), &slot.job.node, &work.rights, clean);
        let temporary = created.temporary.clone();
        let mut state = slot.lock();
        if state.end.is_none() {
            state.held = Held::Nothing;
            state.end = Some(End::Written { identity: Identity::of(&stat), temporary, reasons });
        }
        Ok(())
    }

    /// Takes a half-written file away again.
    fn lose(&self, number: usize, end: End) {
        let slot = &self.slots[number];
        let mut state = slot.lock();
        if state.end.is_some() {
            return;
        }
        let own = slot.job.place.name.as_bytes();
        match std::mem::replace(&mut state.held, Held::Nothing) {
            Held::Nothing => {}
            Held::Open(created) => {
                let name = created.temporary.as_deref().unwrap_or(own);
                let _ = fs::unlinkat(&created.at, name, AtFlags::empty());
            }
            Held::Closed { identity, temporary } => {
                let name = temporary.as_deref().unwrap_or(own);
                if let Ok(at) = self.work.directories.open(slot.job.place.directory)
                    && fs::statat(&at, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|at| Identity::of(&at) == identity)
                {
                    let _ = fs::unlinkat(&at, name, AtFlags::empty());
                }
            }
        }
        state.end = Some(end);
    }

    /// Takes away what did not get all its pieces.
    pub(super) fn close_unfinished(&self) {
        for number in 0..self.slots.len() {
            self.lose(number, End::Damaged("its content was not delivered".into()));
        }
    }

    /// Removes finished files that still lie under temporary names.
    pub(super) fn discard(&self) {
        for slot in self.slots {
            if let Some(End::Written { temporary: Some(temporary), .. }) = &slot.lock().end
                && let Ok(at) = self.work.directories.open(slot.job.place.directory)
            {
                let _ = fs::unlinkat(&at, &temporary[..], AtFlags::empty());
            }
        }
    }
}
