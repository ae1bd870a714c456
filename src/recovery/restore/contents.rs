//! Files with their contents, many at a time: each stored piece is fetched once for all files that hold it, in the order
//! of the packs, so that a file is written from several places of the repository at once and piece by piece.

use std::os::fd::AsFd;
use std::sync::{Arc, PoisonError};

use rustix::fs::{self, AtFlags};

use super::filling::{End, Filling, Slot};
use super::links::{FirstEnd, GroupId, Links};
use super::outcome::Trouble;
use super::target::Identity;
use super::work::{Place, Work};
use crate::ground::Result;
use crate::repository::{BlobId, Node};

/// Files written together; about 400 bytes each.
const BATCH_FILES_MAX: usize = if cfg!(test) { 1_000 } else { 16_384 };
/// Their pieces; 72 bytes each, here and while they are read.
const BATCH_PIECES_MAX: usize = 131_072;
/// Bytes of their extended attributes.
const BATCH_XATTRS_MAX: usize = 4 << 20;

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
    pieces: Pieces,
    xattrs: usize,
}

/// The pieces of all files of a batch, in their order.
#[derive(Default)]
pub(super) struct Pieces {
    pub(super) blobs: Vec<BlobId>,
    pub(super) extents: Vec<Extent>,
}

/// Where a piece belongs.
pub(super) struct Extent {
    pub(super) offset: u64,
    /// Number of the file.
    pub(super) slot: u32,
    /// The next piece with the same content; [`LAST`] when there is none.
    pub(super) next: u32,
}

/// No further piece.
pub(super) const LAST: u32 = u32::MAX;

impl Batch {
    /// Adds a file of this content, or names it at once when its stored description cannot be right.
    pub(super) fn add(&mut self, work: &Work<'_>, links: &mut Links, job: FileJob, content: &[BlobId]) {
        match self.pieces.add(work, self.slots.len(), content, job.node.size) {
            Ok(()) => {
                self.xattrs += job.node.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
                self.slots.push(Slot::new(job, content.len(), self.pieces.extents.len()));
            }
            Err(reason) => lost(work, links, job, FirstEnd::Damaged(reason)),
        }
    }

    /// Whether it is time to write.
    pub(super) fn is_full(&self) -> bool {
        self.slots.len() >= BATCH_FILES_MAX
            || self.pieces.blobs.len() >= BATCH_PIECES_MAX
            || self.xattrs >= BATCH_XATTRS_MAX
    }

    /// Writes the files and empties the batch.
    ///
    /// # Errors
    /// When the target as a whole cannot be written; files begun are removed again.
    pub(super) fn write(&mut self, work: &Work<'_>, links: &mut Links) -> Result<()> {
        let Self { slots, pieces, .. } = std::mem::take(self);
        let filling = Filling::new(work, &slots);
        filling.fetch(pieces);
        filling.close_unfinished();
        if let Some(failure) = filling.failure() {
            filling.discard();
            return Err(failure);
        }
        if filling.replaces() {
            // An old file gives way only to a new one that would survive a power cut.
            work.directories.sync().inspect_err(|_| filling.discard())?;
        }
        settle(work, links, slots)
    }
}

impl Pieces {
    /// Adds a file's pieces, when their lengths are known and make up its size.
    fn add(&mut self, work: &Work<'_>, slot: usize, content: &[BlobId], size: u64) -> Result<(), String> {
        let before = self.extents.len();
        let mut sum = 0u64;
        for blob in content {
            let length = work.stored.length(blob).ok_or("a part of its content is missing in the repository");
            let end = length.and_then(|length| sum.checked_add(length).ok_or("its size is impossible"));
            let end = end.inspect_err(|_| self.extents.truncate(before))?;
            self.extents.push(Extent { offset: sum, slot: u32::try_from(slot).unwrap_or(LAST), next: LAST });
            sum = end;
        }
        if sum != size {
            self.extents.truncate(before);
            return Err(format!("its stored content has {sum} bytes where its entry says {size}"));
        }
        self.blobs.extend_from_slice(content);
        Ok(())
    }

    /// The different blobs, each with the first piece that it is; the others follow by [`Extent::next`].
    pub(super) fn distinct(self) -> (Vec<BlobId>, Vec<u32>, Vec<Extent>) {
        let Self { mut blobs, mut extents } = self;
        let mut order: Vec<u32> = (0..u32::try_from(blobs.len()).unwrap_or(LAST)).collect();
        order.sort_unstable_by_key(|piece| (blobs[*piece as usize], *piece));
        let mut further = vec![false; blobs.len()];
        for pair in order.windows(2) {
            if blobs[pair[0] as usize] == blobs[pair[1] as usize] {
                extents[pair[0] as usize].next = pair[1];
                further[pair[1] as usize] = true;
            }
        }
        let firsts = (0u32..).zip(&further).filter(|(_, further)| !**further).map(|(piece, _)| piece).collect();
        let mut known = further.iter();
        blobs.retain(|_| known.next().is_some_and(|further| !further));
        (blobs, firsts, extents)
    }
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
    for Slot { job, state, .. } in slots {
        let end = state.into_inner().unwrap_or_else(PoisonError::into_inner).end;
        match end {
            Some(End::Written { identity, temporary, reasons }) => {
                match put_in_place(work, &job.place, temporary.as_deref(), failure.is_some()) {
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

/// Gives a file its own name, or takes it away when nothing more is to be changed.
fn put_in_place(work: &Work<'_>, place: &Place, temporary: Option<&[u8]>, failed: bool) -> Result<(), Trouble> {
    let Some(temporary) = temporary else { return Ok(()) };
    let at = work.directories.open(place.directory)?;
    if failed {
        let _ = fs::unlinkat(&at, temporary, AtFlags::empty());
        return Ok(());
    }
    work.directories.settle(at.as_fd(), temporary, &place.name)
}

fn written(work: &Work<'_>, links: &mut Links, job: FileJob, identity: Identity, reasons: Vec<String>) {
    let mut all = job.notes;
    all.extend(reasons);
    work.outcome.restored(job.node.size);
    work.missing(&job.place, &all);
    links.end(job.group, FirstEnd::Restored { place: job.place, identity });
}
