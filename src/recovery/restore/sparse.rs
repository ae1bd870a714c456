//! Contents at offsets, with holes where there are only zeros.

use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;

use rustix::fs::Advice;
use rustix::{fs, io};

/// Unit in which zeros become holes, aligned in the file; the usual block size of file systems.
const BLOCK_BYTES: usize = 4096;

/// A piece of at least so many bytes is on its way to the disk while the next ones are still opened: what waits until the
/// end of the restore, when everything is made durable, only makes that end longer.
const TO_DISK_AT_ONCE: u64 = 256 << 10;

static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// Gives a file of which all pieces were written its length: one that ends in a hole is still too short.
pub(super) fn complete(file: BorrowedFd<'_>, stat: &fs::Stat, size: u64) -> io::Result<()> {
    if u64::try_from(stat.st_size) == Ok(size) { Ok(()) } else { fs::ftruncate(file, size) }
}

/// Writes `data` at `offset` into a file that was empty, leaving aligned blocks of zeros out.
pub(super) fn write(file: BorrowedFd<'_>, data: &[u8], offset: u64) -> io::Result<()> {
    let mut begun: Option<usize> = None;
    let mut at = 0;
    while at < data.len() {
        let end = data.len().min(at + to_boundary(offset + at as u64));
        let zeros = end - at == BLOCK_BYTES && data[at..end] == ZEROS;
        if !zeros {
            begun.get_or_insert(at);
        } else if let Some(start) = begun.take() {
            write_all(file, &data[start..at], offset + start as u64)?;
        }
        at = end;
    }
    begun.map_or(Ok(()), |start| write_all(file, &data[start..], offset + start as u64))
}

/// Whether there are only zeros: they need not be written at all.
pub(super) fn is_zero(data: &[u8]) -> bool {
    let (blocks, rest) = data.as_chunks::<BLOCK_BYTES>();
    blocks.iter().all(|block| *block == ZEROS) && rest.iter().all(|byte| *byte == 0)
}

/// Bytes up to the next block boundary, at least one.
fn to_boundary(offset: u64) -> usize {
    let within = usize::try_from(offset % BLOCK_BYTES as u64).unwrap_or(0);
    BLOCK_BYTES - within
}

fn write_all(file: BorrowedFd<'_>, mut data: &[u8], mut offset: u64) -> io::Result<()> {
    let (start, whole) = (offset, data.len() as u64);
    while !data.is_empty() {
        let written = io::retry_on_intr(|| io::pwrite(file, data, offset))?;
        if written == 0 {
            return Err(io::Errno::IO);
        }
        data = &data[written..];
        offset += written as u64;
    }
    if whole >= TO_DISK_AT_ONCE {
        // Nothing but time is lost when it is not taken.
        let _ = fs::fadvise(file, start, NonZeroU64::new(whole), Advice::DontNeed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use proptest::prelude::*;

    use super::*;

    fn finish(file: &tempfile::NamedTempFile, size: usize) {
        let file = file.as_file().as_fd();
        complete(file, &fs::fstat(file).unwrap(), size as u64).unwrap();
    }

    proptest! {
        #[test]
        fn what_is_written_in_pieces_reads_back(
            runs in proptest::collection::vec((any::<bool>(), 1usize..9_000), 0..12),
            piece in 1usize..20_000,
        ) {
            let data: Vec<u8> = runs.iter().flat_map(|&(zero, length)| vec![u8::from(!zero); length]).collect();
            let file = tempfile::NamedTempFile::new().unwrap();
            for (number, part) in data.chunks(piece).enumerate() {
                write(file.as_file().as_fd(), part, (number * piece) as u64).unwrap();
            }
            finish(&file, data.len());
            prop_assert_eq!(std::fs::read(file.path()).unwrap(), data);
        }
    }

    #[test]
    fn zeros_take_no_room() {
        use std::os::unix::fs::MetadataExt;
        let mut data = vec![0; 1 << 20];
        data[300_000] = 1;
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.as_file().as_fd(), &data, 0).unwrap();
        finish(&file, data.len());
        file.as_file().sync_all().unwrap();
        assert!(file.as_file().metadata().unwrap().blocks() * 512 <= 2 * BLOCK_BYTES as u64);
        assert_eq!(std::fs::read(file.path()).unwrap(), data);
    }
}
