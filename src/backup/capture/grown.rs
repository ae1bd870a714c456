//! A log that only grew is read from where the earlier point ends; one that was renamed is not read again.
//!
//! Where an earlier version of the file is known, its last blob and its first one are read from the file and hashed. If
//! both are what the earlier point holds, its content is kept and the file is read from where it ends, or from the start
//! of the last blob when that is short. Boundaries come out as a whole read would cut them: that also keeps the blobs of
//! the earlier version. If anything differs, the file is read whole.
//!
//! What that cannot see is a change between the first blob and the last that left both as they were. So from time to
//! time everything is read whole and compared with what would have been kept; a difference is told and recorded.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{Stat, fstat};
use sha2::{Digest, Sha256};

use super::content::{ReadContent, Stability, store_from, store_settled};
use super::entry::Place;
use super::log_history::EarlierVersion;
use super::metadata::size_of;
use super::session::{Session, Trouble};
use crate::repository::{BlobId, Chunking, Node, StoredContent, TAIL_KEPT};

/// A last blob shorter than this proves little alone: the one before it is compared too.
const TAIL_MIN: u64 = 64 << 10;

/// Bytes of one read while hashing.
const BUFFER: usize = 128 << 10;

/// Stores a file's content; of a log only what is new, where that can be proven.
///
/// `stat` and `node` are the file's, taken after it was opened.
///
/// # Errors
/// The source's side as a reason, the repository's as it is.
pub(super) fn store_file(
    session: &Session<'_>,
    place: &Place<'_>,
    file: &File,
    (stat, node): (&Stat, &Node),
    chunking: Chunking<'_>,
) -> Result<ReadContent, Trouble> {
    let whole = || store_settled(session, file, chunking, place.stability);
    let Some(claim) = Claim::find(session, place, file, node) else { return whole() };
    if session.reads_whole {
        let read = store_settled(session, file, Chunking::Like(&claim.ids()), place.stability)?;
        if !read.changed {
            claim.judge(session, place.path, file, &read.content);
        }
        return Ok(read);
    }
    let read = claim.store_rest(session, file, stat)?;
    if read.changed { whole() } else { Ok(read) }
}

/// Content of an earlier point that a file is taken to begin with.
struct Claim {
    /// Offset, length and id of each blob, in order.
    blobs: Vec<(u64, u64, BlobId)>,
    /// How many of them are kept; from the end of those the file is read.
    kept: usize,
}

impl Claim {
    /// `None` when the file has to be read whole.
    fn find(session: &Session<'_>, place: &Place<'_>, file: &File, now: &Node) -> Option<Self> {
        if place.stability != Stability::AppendOnly {
            return None;
        }
        let earlier = session.logs.as_ref()?.earlier_version(session, place.earlier, now)?;
        let blobs = extents(session, &earlier.node)?;
        let kept = match plausible(&earlier, now)? {
            Growth::None => blobs.len(),
            Growth::Appended if blobs.last().is_some_and(|(_, length, _)| *length >= TAIL_KEPT as u64) => blobs.len(),
            Growth::Appended => blobs.len() - 1,
        };
        let claim = Self { blobs, kept };
        // Without a full read such a file would not even have come here.
        let is_trusted = !earlier.renamed && session.looks_unchanged(now, &earlier.node);
        (is_trusted || claim.is_proven(session, file)).then_some(claim)
    }

    fn ids(&self) -> Vec<BlobId> {
        self.blobs.iter().map(|(_, _, id)| *id).collect()
    }

    /// Whether the ends of the claimed content are what the file holds there.
    fn is_proven(&self, session: &Session<'_>, file: &File) -> bool {
        // A single blob is read whole as fast as it is compared.
        let [first, middle @ .., last] = &self.blobs[..] else { return false };
        let (_, last_length, _) = last;
        let before = if *last_length < TAIL_MIN { middle.last() } else { None };
        [Some(last), Some(first), before].into_iter().flatten().all(|blob| matches(session, file, blob))
    }

    /// Reads what follows the kept blobs, up to the size in `stat`.
    fn store_rest(&self, session: &Session<'_>, file: &File, stat: &Stat) -> Result<ReadContent, Trouble> {
        let kept = &self.blobs[..self.kept];
        let start = kept.last().map_or(0, |(offset, length, _)| offset + length);
        session.progress.advance(start);
        let prefix = StoredContent { blobs: kept.iter().map(|(_, _, id)| *id).collect(), bytes: start };
        store_from(session, file, *stat, prefix, Chunking::Content, Stability::AppendOnly)
    }

    /// Tells when what would have been kept is not what the file was found to hold.
    fn judge(&self, session: &Session<'_>, path: &[u8], file: &File, found: &StoredContent) {
        let kept = &self.blobs[..self.kept];
        if kept.len() <= found.blobs.len() && kept.iter().zip(&found.blobs).all(|((_, _, id), found)| id == found) {
            return;
        }
        // Another version of lifeboat may have cut the same bytes elsewhere: only the bytes themselves can tell.
        let Some((offset, ..)) = kept.iter().find(|blob| !matches(session, file, blob)) else { return };
        let end = self.blobs.last().map_or(0, |(offset, length, _)| offset + length);
        if fstat(file).is_ok_and(|stat| size_of(&stat) >= end)
            && let Some(logs) = &session.logs
        {
            let reason = format!(
                "it was changed in its middle, from byte {offset} on or a little later: points since the full read \
                 before this one hold other bytes there than the file held"
            );
            logs.note_rewritten(path, reason);
        }
    }
}

/// How a file went on from its earlier version.
enum Growth {
    None,
    Appended,
}

/// What size and times allow to be assumed; `None` when something else than appending and renaming happened.
fn plausible(earlier: &EarlierVersion, now: &Node) -> Option<Growth> {
    let EarlierVersion { node, renamed } = earlier;
    // Renaming alone changes `changed`. Under the same path it tells of something done to the file.
    let same_times = node.modified == now.modified && (*renamed || node.changed == now.changed);
    if now.size > node.size && now.modified >= node.modified {
        return Some(Growth::Appended);
    }
    (now.size == node.size && same_times).then_some(Growth::None)
}

/// Where each blob lies in the file; `None` when one is not stored any more or they do not make up the file's size.
fn extents(session: &Session<'_>, earlier: &Node) -> Option<Vec<(u64, u64, BlobId)>> {
    let mut offset = 0_u64;
    let mut blobs = Vec::with_capacity(earlier.content.len());
    for id in &earlier.content {
        let length = session.trees.blob_length(id).filter(|_| session.store.contains(id))?;
        blobs.push((offset, length, *id));
        offset = offset.checked_add(length)?;
    }
    (offset == earlier.size && !blobs.is_empty()).then_some(blobs)
}

/// Whether the file holds a blob's bytes at their place. What cannot be read does not match: the whole read that
/// follows says why.
fn matches(session: &Session<'_>, file: &File, (offset, length, id): &(u64, u64, BlobId)) -> bool {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let (mut position, end) = (*offset, offset + length);
    while position < end {
        let wanted = usize::try_from(end - position).unwrap_or(BUFFER).min(BUFFER);
        match file.read_at(&mut buffer[..wanted], position) {
            Ok(0) => return false,
            Ok(count) => {
                hash.update(&buffer[..count]);
                position += count as u64;
                session.count_read(count as u64);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    BlobId(hash.finalize().into()) == *id
}
