//! Reads the content of one open file: holes without the disk, and never a mixture of two versions unnoticed.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, Stat, fstat, seek};
use rustix::io::Errno;

use super::holes;
use super::metadata::{same_version, size_of};
use super::session::{Session, Trouble};
use crate::repository::{BlobId, Chunking, ContentError, StoredContent};

/// Most pieces of a file with large holes: 32 TiB of nothing. The list of them would not fit in memory.
const PIECES_MAX: u64 = 1 << 22;

/// How often a file that changes under the read is read in all.
const READS_MAX: usize = 3;

/// What may happen to a file while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stability {
    /// Any change makes the content a mixture.
    Exact,
    /// Lines appended at the end are for the next point; the part seen at the start must stay.
    AppendOnly,
    /// Read once, whatever happens: a live disk never holds still.
    Live,
}

/// Content that was stored, and the file's state it belongs to.
pub(super) struct ReadContent {
    pub content: StoredContent,
    /// As it was when the last read began: a later change will be seen by the next backup.
    pub stat: Stat,
    /// Whether it changed during the last read.
    pub changed: bool,
}

/// Stores a file's content as of its size at the beginning of the read; reads again when it changed meanwhile.
///
/// # Errors
/// The source's side as a reason, the repository's as it is.
pub(super) fn store_settled(
    session: &Session<'_>,
    file: &File,
    chunking: Chunking<'_>,
    stability: Stability,
) -> Result<ReadContent, Trouble> {
    let mut read = store_once(session, file, chunking, stability)?;
    let attempts = if stability == Stability::Live { 1 } else { READS_MAX };
    for _ in 1..attempts {
        if !read.changed {
            break;
        }
        read = store_once(session, file, chunking, stability)?;
    }
    Ok(read)
}

fn store_once(
    session: &Session<'_>,
    file: &File,
    chunking: Chunking<'_>,
    stability: Stability,
) -> Result<ReadContent, Trouble> {
    let before = fstat(file).map_err(unreadable)?;
    store_from(session, file, before, StoredContent::default(), chunking, stability)
}

/// Stores what follows `prefix`, up to the size in `before`, and gives both as one content.
///
/// # Errors
/// As [`store_settled`].
pub(super) fn store_from(
    session: &Session<'_>,
    file: &File,
    before: Stat,
    prefix: StoredContent,
    chunking: Chunking<'_>,
    stability: Stability,
) -> Result<ReadContent, Trouble> {
    let size = size_of(&before);
    let mut content = prefix;
    let rest = store_range(session, file, content.bytes..size, is_sparse(&before), chunking)?;
    content.blobs.extend(rest.blobs);
    content.bytes += rest.bytes;
    let after = fstat(file).map_err(unreadable)?;
    let grew = size_of(&after) > size;
    let intact = same_version(&before, &after) || (stability == Stability::AppendOnly && grew);
    let changed = !intact || content.bytes != size;
    Ok(ReadContent { content, stat: before, changed })
}

/// Stores a range of bytes of a file or device; large holes of a sparse one as blocks of zeros that nobody makes.
pub(super) fn store_range(
    session: &Session<'_>,
    file: &File,
    range: Range<u64>,
    sparse: bool,
    chunking: Chunking<'_>,
) -> Result<StoredContent, Trouble> {
    if !sparse {
        return store_stretch(session, file, range, false, chunking);
    }
    let mut content = StoredContent::default();
    let mut zeros = None;
    let mut at = range.start;
    while at < range.end {
        let chunking = match chunking {
            // Where the earlier blobs lay is counted from the beginning.
            Chunking::Like(_) if at > range.start => Chunking::Content,
            as_it_is => as_it_is,
        };
        let block = holes::block_of(chunking);
        let hole = holes::next_large(file, at..range.end, block).map_err(unreadable)?;
        let stretch = store_stretch(session, file, at..hole.start, true, chunking)?;
        content.blobs.extend(stretch.blobs);
        content.bytes += stretch.bytes;
        if stretch.bytes < hole.start - at {
            // The file has become shorter under the read: what comes after has another place now.
            break;
        }
        if !hole.is_empty() {
            let length = hole.end - hole.start;
            if content.blobs.len() as u64 + length / block > PIECES_MAX {
                let size = range.end - range.start;
                return Err(Trouble::Source(format!(
                    "its size of {size} bytes makes more pieces than a file may have"
                )));
            }
            let id = zeros.map_or_else(|| store_zeros(session, block), Ok)?;
            zeros = Some(id);
            content.blobs.extend((0..length / block).map(|_| id));
            content.bytes += length;
            session.progress.advance(length);
        }
        at = hole.end;
    }
    Ok(content)
}

/// The one blob of so many zeros.
fn store_zeros(session: &Session<'_>, block: u64) -> Result<BlobId, Trouble> {
    let whole = Chunking::Fixed(usize::try_from(block).unwrap_or(usize::MAX));
    let stored = session.store.store_content(&mut io::repeat(0).take(block), whole).map_err(trouble)?;
    match stored.blobs[..] {
        [id] => Ok(id),
        _ => Err(Trouble::Source("a block of zeros is no single blob".to_owned())),
    }
}

fn store_stretch(
    session: &Session<'_>,
    file: &File,
    range: Range<u64>,
    sparse: bool,
    chunking: Chunking<'_>,
) -> Result<StoredContent, Trouble> {
    if range.is_empty() {
        return Ok(StoredContent::default());
    }
    let mut reader = CountingReader { inner: SpanReader::new(file, range, sparse), session };
    session.store.store_content(&mut reader, chunking).map_err(trouble)
}

fn trouble(error: ContentError) -> Trouble {
    match error {
        ContentError::Source(error) => unreadable(error),
        ContentError::Repository(error) => Trouble::Repository(error),
    }
}

fn unreadable(error: impl std::fmt::Display) -> Trouble {
    Trouble::Source(format!("it cannot be read: {error}"))
}

/// Whether fewer blocks are allocated than the size needs. `st_blocks` counts 512 bytes whatever the disk's block is.
fn is_sparse(stat: &Stat) -> bool {
    u64::try_from(stat.st_blocks).is_ok_and(|blocks| blocks.saturating_mul(512) < size_of(stat))
}

/// Tells the progress of every byte, and counts those that came from the source: not the holes.
struct CountingReader<'a> {
    inner: SpanReader<'a>,
    session: &'a Session<'a>,
}

impl Read for CountingReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        if self.inner.span == Span::Data {
            self.session.count_read(length as u64);
        }
        self.session.progress.advance(length as u64);
        Ok(length)
    }
}

/// Reads a range of a file and supplies zeros for its holes without asking the disk.
pub(super) struct SpanReader<'a> {
    file: &'a File,
    position: u64,
    end: u64,
    /// Whether the file system is asked for holes.
    sparse: bool,
    span: Span,
    /// Where the current span ends.
    span_end: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Span {
    Data,
    Hole,
}

impl<'a> SpanReader<'a> {
    /// `sparse` says whether to look for holes.
    pub fn new(file: &'a File, range: Range<u64>, sparse: bool) -> Self {
        let span_end = if sparse { range.start } else { range.end };
        Self { file, position: range.start, end: range.end, sparse, span: Span::Data, span_end }
    }

    /// Finds out what lies at the current position and how far it goes.
    fn locate(&mut self) -> io::Result<()> {
        let position = self.position;
        let (span, span_end) = match seek(self.file, SeekFrom::Data(position)) {
            Ok(data) if data > position => (Span::Hole, data),
            Ok(_) => (Span::Data, seek(self.file, SeekFrom::Hole(position)).unwrap_or(self.end)),
            Err(Errno::NXIO) => (Span::Hole, self.end),
            // The file system does not tell holes: everything is data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => (Span::Data, self.end),
            Err(error) => return Err(error.into()),
        };
        // A file that is written to can answer with an end that is not ahead: data is the safe reading of it.
        let ahead = span_end > position;
        self.span = if ahead { span } else { Span::Data };
        self.span_end = if ahead { span_end.min(self.end) } else { self.end };
        Ok(())
    }
}

impl Read for SpanReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.end {
            return Ok(0);
        }
        if self.sparse && self.position >= self.span_end {
            self.locate()?;
        }
        let left = usize::try_from(self.span_end - self.position).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let length = match self.span {
            Span::Data => self.file.read_at(&mut buffer[..wanted], self.position)?,
            Span::Hole => {
                buffer[..wanted].fill(0);
                wanted
            }
        };
        self.position += length as u64;
        Ok(length)
    }
}
