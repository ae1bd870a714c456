//! What lies between the threads that read sources and the workers that name and store blobs: two queues and a budget
//! of bytes that bounds them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::buffers::Plain;
use super::hash::{self, Begun, LANES_MAX, LANES_WORTH};
use super::tree::BlobId;
use super::{BlobKind, guarded};

/// Memory of chunks under way between a source and the packs, in bytes.
const BUDGET: usize = 18 << 20;

/// The least that anything under way counts for: it has a place in a queue, too.
const LEAST: usize = 1 << 10;

/// Most chunks that are named together: those beyond the lanes take the place of those that end early.
const BATCH_MAX: usize = 2 * LANES_MAX;
/// So many bytes that wait for names are named without waiting for more: the other half is being stored meanwhile.
const WAITING_MAX: usize = BUDGET / 2;
/// So long a worker with nothing else to do lets chunks gather.
const GATHER: Duration = Duration::from_millis(2);

/// A chunk whose name is not known yet.
pub(super) struct Unnamed {
    pub(super) plain: Plain,
    pub(super) begun: Begun,
    pub(super) place: Place,
    pub(super) permit: Permit,
}

/// A blob that is not stored yet.
pub(super) struct Job {
    pub(super) kind: BlobKind,
    pub(super) id: BlobId,
    pub(super) plain: Plain,
    pub(super) permit: Permit,
}

/// What a worker does next.
pub(super) enum Task {
    /// Give these their names, side by side, as long as at least so many are on their way.
    Name {
        chunks: Vec<Unnamed>,
        least: usize,
    },
    Store(Job),
}

#[derive(Default)]
struct Queued {
    unnamed: VecDeque<Unnamed>,
    /// Bytes of them.
    waiting: usize,
    jobs: VecDeque<Job>,
    /// Workers that are naming chunks and may queue jobs yet.
    naming: usize,
    closed: bool,
}

impl Queued {
    fn begin_naming(&mut self, least: usize) -> Task {
        self.naming += 1;
        let count = self.unnamed.len().min(BATCH_MAX);
        let chunks: Vec<Unnamed> = self.unnamed.drain(..count).collect();
        self.waiting -= chunks.iter().map(|chunk| chunk.plain.len()).sum::<usize>();
        Task::Name { chunks, least }
    }
}

/// The queues before the workers. Bounded by the permits that everything in them holds.
#[derive(Default)]
pub(super) struct Queue {
    queued: Mutex<Queued>,
    changed: Condvar,
}

fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    pub(super) fn push_unnamed(&self, chunk: Unnamed) {
        let mut queued = guarded(&self.queued);
        queued.waiting += chunk.plain.len();
        queued.unnamed.push_back(chunk);
        self.changed.notify_one();
    }

    pub(super) fn push_job(&self, job: Job) {
        guarded(&self.queued).jobs.push_back(job);
        self.changed.notify_one();
    }

    /// The next task; `None` when the queue is closed and nothing can come any more.
    ///
    /// Naming comes first when the lanes can be filled: somebody waits for names. Otherwise chunks gather while blobs
    /// are stored, and are named when there are enough bytes of them, or nothing else is to be done and no more come.
    pub(super) fn take(&self) -> Option<Task> {
        let lanes = hash::lanes();
        let mut queued = guarded(&self.queued);
        let mut patience = None;
        loop {
            let unnamed = queued.unnamed.len();
            let enough = unnamed >= lanes || (queued.naming == 0 && queued.waiting >= WAITING_MAX);
            let no_more = queued.naming == 0 && unnamed > 0 && patience == Some(unnamed);
            if enough || no_more {
                // No more than there are: one at least must get its name.
                let least = if enough { LANES_WORTH.min(unnamed) } else { 1 };
                return Some(queued.begin_naming(least));
            }
            if let Some(job) = queued.jobs.pop_front() {
                if unnamed > 0 && queued.naming == 0 {
                    // Somebody else has to be patient with them now.
                    self.changed.notify_one();
                }
                return Some(Task::Store(job));
            }
            if queued.closed && queued.naming == 0 && unnamed == 0 {
                return None;
            }
            if unnamed == 0 || queued.naming > 0 {
                queued = wait(&self.changed, queued);
                continue;
            }
            // Others may come: a few at once cost as much as many.
            patience = Some(unnamed);
            let waited = self.changed.wait_timeout(queued, GATHER);
            queued = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A worker is through with [`Task::Name`]; these have no names yet and come first the next time.
    pub(super) fn named(&self, unfinished: Vec<Unnamed>) {
        let mut queued = guarded(&self.queued);
        queued.naming -= 1;
        for chunk in unfinished.into_iter().rev() {
            queued.waiting += chunk.plain.len();
            queued.unnamed.push_front(chunk);
        }
        self.changed.notify_all();
    }

    /// Nothing more will be pushed from outside.
    pub(super) fn close(&self) {
        guarded(&self.queued).closed = true;
        self.changed.notify_all();
    }
}

/// Bounds the bytes under way.
#[derive(Default)]
pub(super) struct Budget {
    used: Mutex<usize>,
    freed: Condvar,
}

impl Budget {
    /// Waits until so many bytes may be under way. A single one may be larger than all of the budget.
    pub(super) fn acquire(self: &Arc<Self>, bytes: usize) -> Permit {
        let bytes = bytes.max(LEAST);
        let mut used = guarded(&self.used);
        while *used > 0 && *used + bytes > BUDGET {
            used = wait(&self.freed, used);
        }
        *used += bytes;
        Permit { budget: Arc::clone(self), bytes }
    }
}

/// Bytes of the budget; given back on drop.
pub(super) struct Permit {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        *guarded(&self.budget.used) -= self.bytes;
        self.budget.freed.notify_all();
    }
}

/// The names of one content's chunks, in order, as they become known.
#[derive(Default)]
pub(super) struct Names {
    known: Mutex<Known>,
    complete: Condvar,
}

#[derive(Default)]
struct Known {
    ids: Vec<Option<BlobId>>,
    open: usize,
}

impl Names {
    /// Adds a chunk whose name is known.
    pub(super) fn push(&self, id: BlobId) {
        guarded(&self.known).ids.push(Some(id));
    }

    /// Adds a chunk whose name will come.
    pub(super) fn reserve(self: &Arc<Self>) -> Place {
        let mut known = guarded(&self.known);
        known.ids.push(None);
        known.open += 1;
        Place { names: Arc::clone(self), number: known.ids.len() - 1 }
    }

    /// Waits for all names; `None` when one will never come, since the work has failed.
    pub(super) fn wait(&self) -> Option<Vec<BlobId>> {
        let mut known = guarded(&self.known);
        while known.open > 0 {
            known = wait(&self.complete, known);
        }
        std::mem::take(&mut known.ids).into_iter().collect()
    }
}

/// The place of a name that is to come. Dropped without one, it lets nobody wait for ever.
pub(super) struct Place {
    names: Arc<Names>,
    number: usize,
}

impl Place {
    pub(super) fn fill(self, id: BlobId) {
        guarded(&self.names.known).ids[self.number] = Some(id);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = guarded(&self.names.known);
        known.open -= 1;
        if known.open == 0 {
            self.names.complete.notify_all();
        }
    }
}
