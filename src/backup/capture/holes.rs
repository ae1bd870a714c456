//! Large holes of sparse files, found without a read, so that they can be stored without making zeros.
//!
//! A sparse image of 1 TB that holds a few MiB costs a few MiB: its holes are one blob of zeros, named again and again.
//! Smaller holes pass through the pipeline as zeros, which keeps content cut in long stretches.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::repository::{BLOB_MAX, Chunking};

/// Holes from this size on are large. Each parts the content: blobs before it are named before those after it are read,
/// which takes less time than making and comparing so many zeros.
pub(super) const LARGE: u64 = 64 << 20;

/// Bytes of the blocks of zeros as which a hole is stored.
pub(super) fn block_of(chunking: Chunking<'_>) -> u64 {
    match chunking {
        Chunking::Content | Chunking::Like(_) => BLOB_MAX as u64,
        Chunking::Fixed(block) => block as u64,
    }
}

/// The next large hole within a range, as whole blocks counted from the beginning of the range; empty at its end when
/// there is none. A file that others write to may answer with anything: what is no hole for sure is none.
pub(super) fn next_large(file: &File, range: Range<u64>, block: u64) -> io::Result<Range<u64>> {
    let none = range.end..range.end;
    let mut at = range.start;
    while at < range.end {
        let Some(hole) = next(file, at..range.end)? else { break };
        let blocks_before = (hole.start - range.start).div_ceil(block);
        let start = range.start + blocks_before * block;
        let end = start + hole.end.saturating_sub(start) / block * block;
        if end - start >= LARGE {
            return Ok(start..end);
        }
        at = hole.end;
    }
    Ok(none)
}

/// The next hole at or after the beginning of a range, as far as it lies in it; `None` when the file tells of none.
fn next(file: &File, range: Range<u64>) -> io::Result<Option<Range<u64>>> {
    let start = match seek(file, SeekFrom::Hole(range.start)) {
        Ok(start) => start.max(range.start),
        Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if start >= range.end {
        return Ok(None);
    }
    let end = match seek(file, SeekFrom::Data(start)) {
        Ok(data) => data.min(range.end),
        Err(Errno::NXIO) => range.end,
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok((end > start).then_some(start..end))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_large_hole_is_whole_blocks_of_nothing_and_none_is_passed_over(
            data in prop::collection::vec((0_u64..500 << 20, 1_usize..9_000), 0..8),
            length in 1_u64..500 << 20,
            start in 0_u64..9 << 20,
            block in prop::sample::select(vec![64_u64 << 10, 1 << 20, 8 << 20]),
        ) {
            let file = tempfile::tempfile().unwrap();
            for (at, bytes) in &data {
                file.write_all_at(&vec![1; *bytes], *at).unwrap();
            }
            file.set_len(length).unwrap();
            let mut at = start.min(length);
            while at < length {
                let hole = next_large(&file, at..length, block).unwrap();
                prop_assert!(at <= hole.start && hole.end <= length);
                for (begin, bytes) in &data {
                    let end = (begin + *bytes as u64).min(length);
                    prop_assert!(end <= hole.start || hole.end <= *begin || end <= *begin, "{begin}..{end} in {hole:?}");
                }
                // Between two holes nothing is without data for as long as a large hole with a block before and behind.
                let mut marks: Vec<u64> = data.iter().map(|(begin, _)| *begin).filter(|begin| (at..hole.start).contains(begin)).collect();
                marks.extend([at, hole.start]);
                marks.sort_unstable();
                prop_assert!(marks.windows(2).all(|pair| pair[1] - pair[0] < LARGE + 2 * block + (1 << 20)));
                if hole.is_empty() {
                    break;
                }
                prop_assert_eq!((hole.start - at) % block, 0);
                prop_assert_eq!((hole.end - hole.start) % block, 0);
                prop_assert!(hole.end - hole.start >= LARGE);
                at = hole.end;
            }
        }
    }
}
