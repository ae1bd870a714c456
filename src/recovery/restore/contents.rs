//! Files with their contents, in batches: each blob is fetched once for all files of a batch that hold it.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{self, AtFlags, Mode, OFlags};

use super::links::{FirstEnd, GroupId, Links};
use super::metadata::{self, Handle};
use super::outcome::Trouble;
use super::sparse;
use super::target::{Identity, cannot};
use super::work::{Place, Work};
use crate::ground::{Failure, Result};
use crate::repository::{BlobId, Node, RepositoryError};

const BATCH_BYTES_MAX: u64 = 256 << 20;
const BATCH_FILES_MAX: usize = 2_000;
const BATCH_BLOBS_MAX: usize = 100_000;

/// A file to write.
pub(super) struct FileJob {
    pub(super) place: Place,
    pub(super) node: Arc<Node>,
    /// Set when other names of this file wait for it.
    pub(super) group: Option<GroupId>,
    /// What is already known not to be exact.
    pub(super) notes: Vec<String>,
}

/// Files that are written together.
#[derive(Default)]
pub(super) struct Batch {
    slots: Vec<Slot>,
    bytes: u64,
    blobs: usize,
    /// Files of several blobs: these may be open at the same time.
    long_files: usize,
}

struct Slot {
    job: FileJob,
    lengths: Vec<u64>,
    state: Mutex<State>,
}

struct State {
    /// Blobs still to come.
    remaining: usize,
    file: Option<Arc<Created>>,
    end: Option<End>,
}

struct Created {
    file: OwnedFd,
    at: Arc<OwnedFd>,
    temporary: Option<Vec<u8>>,
}

enum End {
    /// Written and closed; under a temporary name it still has to be put in place.
    Written { identity: Identity, at: Arc<OwnedFd>, temporary: Option<Vec<u8>>, reasons: Vec<String> },
    /// The stored content is not whole.
    Damaged(String),
    /// The target did not take it.
    Refused(String),
}

impl Batch {
    /// Adds a file, or names it at once when its stored description cannot be right.
    pub(super) fn add(&mut self, work: &Work<'_>, links: &mut Links, job: FileJob) {
        match lengths(work, &job.node) {
            Ok(lengths) => {
                self.bytes = self.bytes.saturating_add(job.node.size);
                self.blobs += lengths.len();
                self.long_files += usize::from(lengths.len() > 1);
                let state = State { remaining: lengths.len(), file: None, end: None };
                self.slots.push(Slot { job, lengths, state: Mutex::new(state) });
            }
            Err(reason) => lost(work, links, job, FirstEnd::Damaged(reason)),
        }
    }

    /// Whether it is time to write.
    pub(super) fn is_full(&self, work: &Work<'_>) -> bool {
        self.bytes >= BATCH_BYTES_MAX
            || self.slots.len() >= BATCH_FILES_MAX
            || self.blobs >= BATCH_BLOBS_MAX
            || self.long_files >= work.open_files_max
    }

    /// Writes the files and empties the batch.
    ///
    /// # Errors
    /// When the target as a whole cannot be written; files begun are removed again.
    pub(super) fn write(&mut self, work: &Work<'_>, links: &mut Links) -> Result<()> {
        let batch = std::mem::take(self);
        let run = Run { work, slots: &batch.slots, stop: AtomicBool::new(false), failure: Mutex::new(None) };
        run.fetch();
        run.close_unfinished();
        if let Some(failure) = lock(&run.failure).take() {
            run.discard();
            return Err(failure);
        }
        let replaces =
            run.slots.iter().any(|slot| matches!(slot.lock().end, Some(End::Written { temporary: Some(_), .. })));
        if replaces {
            // An old file gives way only to a new one that would survive a power cut.
            work.directories.sync().inspect_err(|_| run.discard())?;
        }
        settle(work, links, batch.slots)
    }
}

/// Lengths of a file's blobs, when they are known and make up its size.
fn lengths(work: &Work<'_>, node: &Node) -> Result<Vec<u64>, String> {
    let mut sum = 0u64;
    let mut lengths = Vec::with_capacity(node.content.len());
    for blob in &node.content {
        let length = work.stored.length(blob).ok_or("a part of its content is missing in the repository")?;
        sum = sum.checked_add(length).ok_or("its size is impossible")?;
        lengths.push(length);
    }
    if sum != node.size {
        return Err(format!("its stored content has {sum} bytes where its entry says {}", node.size));
    }
    Ok(lengths)
}

fn lost(work: &Work<'_>, links: &mut Links, job: FileJob, end: FirstEnd) {
    let mut reasons = job.notes;
    if matches!(end, FirstEnd::Damaged(_)) {
        work.outcome.damaged();
    }
    match &end {
        FirstEnd::Damaged(reason) | FirstEnd::Refused(reason) => reasons.push(reason.clone()),
        FirstEnd::Restored { .. } => {}
    }
    work.missing(&job.place, &reasons);
    links.end(job.group, end);
}

/// Puts replaced files in place and gives account.
fn settle(work: &Work<'_>, links: &mut Links, slots: Vec<Slot>) -> Result<()> {
    let mut failure = None;
    for slot in slots {
        let end = slot.state.into_inner().unwrap_or_else(PoisonError::into_inner).end;
        let job = slot.job;
        match end {
            Some(End::Written { identity, at, temporary, reasons }) => {
                let moved = match temporary {
                    Some(temporary) if failure.is_none() => {
                        work.directories.settle(at.as_fd(), &temporary, &job.place.name)
                    }
                    Some(temporary) => {
                        let _ = fs::unlinkat(&at, &temporary[..], AtFlags::empty());
                        Ok(())
                    }
                    None => Ok(()),
                };
                match moved {
                    Ok(()) => written(work, links, job, identity, reasons),
                    Err(Trouble::Entry(reason)) => lost(work, links, job, FirstEnd::Refused(reason)),
                    Err(Trouble::Target(trouble)) => failure = Some(trouble),
                }
            }
            Some(End::Damaged(reason)) => lost(work, links, job, FirstEnd::Damaged(reason)),
            Some(End::Refused(reason)) => lost(work, links, job, FirstEnd::Refused(reason)),
            None => lost(work, links, job, FirstEnd::Damaged("its content was not delivered".into())),
        }
    }
    failure.map_or(Ok(()), Err)
}

fn written(work: &Work<'_>, links: &mut Links, job: FileJob, identity: Identity, reasons: Vec<String>) {
    let mut all = job.notes;
    all.extend(reasons);
    work.outcome.restored(job.node.size);
    work.missing(&job.place, &all);
    links.end(job.group, FirstEnd::Restored { place: job.place, identity });
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a blob belongs.
struct Extent {
    slot: usize,
    offset: u64,
    length: u64,
}

struct Run<'a> {
    work: &'a Work<'a>,
    slots: &'a [Slot],
    stop: AtomicBool,
    /// The first thing that makes the target unusable.
    failure: Mutex<Option<Failure>>,
}

impl Run<'_> {
    fn fetch(&self) {
        let mut wanted: Vec<BlobId> = Vec::new();
        let mut extents: Vec<Vec<Extent>> = Vec::new();
        let mut known: HashMap<BlobId, usize> = HashMap::new();
        for (slot, file) in self.slots.iter().enumerate() {
            let mut offset = 0;
            for (blob, &length) in file.job.node.content.iter().zip(&file.lengths) {
                let position = *known.entry(*blob).or_insert_with(|| {
                    wanted.push(*blob);
                    extents.push(Vec::new());
                    wanted.len() - 1
                });
                extents[position].push(Extent { slot, offset, length });
                offset += length;
            }
            if file.lengths.is_empty() {
                self.on_slot(slot, |run, slot| run.create(slot).and_then(|file| run.finish(slot, &file)));
            }
        }
        if !wanted.is_empty() {
            self.work.stored.read_many(&wanted, &|position, blob| self.deliver(&extents[position], blob));
        }
    }

    /// Writes one blob wherever it belongs; false stops the reading.
    fn deliver(&self, extents: &[Extent], blob: Result<&[u8], RepositoryError>) -> bool {
        let blob = blob.map_err(|error| format!("its stored content cannot be read: {error}"));
        for extent in extents {
            match &blob {
                Ok(data) if data.len() as u64 == extent.length => {
                    self.on_slot(extent.slot, |run, slot| run.write(slot, data, extent.offset));
                }
                Ok(_) => self.lose(extent.slot, End::Damaged("a part of its content has the wrong length".into())),
                Err(reason) => self.lose(extent.slot, End::Damaged(reason.clone())),
            }
        }
        !self.stop.load(Ordering::Relaxed)
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

    fn write(&self, slot: &Slot, data: &[u8], offset: u64) -> Result<(), Trouble> {
        let file = self.create(slot)?;
        sparse::write(file.file.as_fd(), data, offset).map_err(|errno| cannot("be written", errno))?;
        self.work.progress.advance(data.len() as u64);
        let mut state = slot.lock();
        state.remaining -= 1;
        let last = state.remaining == 0;
        drop(state);
        if last { self.finish(slot, &file) } else { Ok(()) }
    }

    /// The slot's file, created by whoever comes first.
    fn create(&self, slot: &Slot) -> Result<Arc<Created>, Trouble> {
        let mut state = slot.lock();
        if let Some(file) = &state.file {
            return Ok(Arc::clone(file));
        }
        let place = &slot.job.place;
        let directories = &self.work.directories;
        let at = directories.open(place.directory)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (file, temporary) = directories.place(at.as_fd(), &place.name, place.existing, |name| {
            fs::openat(&at, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        let created = Arc::new(Created { file, at, temporary });
        state.file = Some(Arc::clone(&created));
        drop(state);
        sparse::prepare(created.file.as_fd(), slot.job.node.size).map_err(|errno| cannot("be written", errno))?;
        Ok(created)
    }

    fn finish(&self, slot: &Slot, created: &Created) -> Result<(), Trouble> {
        let work = self.work;
        let clean = work.directories.hands_down_acl(slot.job.place.directory);
        let reasons = metadata::apply(Handle::Open(created.file.as_fd()), &slot.job.node, &work.rights, clean);
        let stat = fs::fstat(&created.file).map_err(|errno| cannot("be looked at", errno))?;
        let (at, temporary) = (Arc::clone(&created.at), created.temporary.clone());
        let mut state = slot.lock();
        if state.end.is_none() {
            state.file = None;
            state.end = Some(End::Written { identity: Identity::of(&stat), at, temporary, reasons });
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
        if let Some(created) = state.file.take() {
            let name = created.temporary.as_deref().unwrap_or(slot.job.place.name.as_bytes());
            let _ = fs::unlinkat(&created.at, name, AtFlags::empty());
        }
        state.end = Some(end);
    }

    fn close_unfinished(&self) {
        for number in 0..self.slots.len() {
            self.lose(number, End::Damaged("its content was not delivered".into()));
        }
    }

    /// Removes finished files that still lie under temporary names.
    fn discard(&self) {
        for slot in self.slots {
            if let Some(End::Written { at, temporary: Some(temporary), .. }) = &slot.lock().end {
                let _ = fs::unlinkat(at, &temporary[..], AtFlags::empty());
            }
        }
    }
}
