//! zstd, bounded on both sides: what does not shrink stays as it is, and what is read never grows beyond its limit.

use std::cell::RefCell;
use std::io;

use zstd::zstd_safe::{CParameter, Strategy};

use super::BlobKind;

/// Level of what is not a blob.
const LEVEL: i32 = 3;
/// For blobs: the fast strategy of level 2 with a larger table and longer matches. On logs and disk images it comes
/// within 3 % of the size that level 3 gives, in two thirds to four fifths of the time.
const BLOB_LEVEL: i32 = 2;
/// Data below this is compressed as zstd itself chooses for the level and the size: matches from 4 bytes on, which make
/// small files 2.4 % smaller in the same time. Longer ones suit large blobs, and trees, whose hexadecimal digits match
/// by chance.
const SMALL: usize = 16 << 10;
const BLOB_PARAMETERS: [CParameter; 3] =
    [CParameter::Strategy(Strategy::ZSTD_fast), CParameter::HashLog(17), CParameter::MinMatch(7)];
/// Blobs below this are compressed without asking first: of a database's block of 64 KiB the sample would be a quarter.
const SAMPLE_FROM: usize = (64 << 10) + 1;
/// The sample: so many pieces of so many bytes, spread evenly.
const SAMPLE_PIECES: usize = 4;
const SAMPLE_PIECE: usize = 4 << 10;

/// Hard limit of any plain text that is read back, in bytes. restic's data blobs stay below 8 MiB; a directory of
/// a million entries is a tree of about 500 MiB.
pub(super) const PLAIN_LIMIT: usize = 1 << 30;

/// Most bytes that one compressed byte can stand for: a block of 128 KiB takes at least 4 bytes.
const MOST_GROWTH: usize = 32 << 10;

thread_local! {
    /// A context for each thread that reads blobs one by one: to make one costs as much as to decompress a small tree.
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Compresses with contexts that are kept; one per thread.
pub(super) struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
    small: zstd::bulk::Compressor<'static>,
    check: zstd::bulk::Decompressor<'static>,
    sample: zstd::bulk::Compressor<'static>,
    compressed: Vec<u8>,
    /// Holds what the check decompresses.
    checked: Vec<u8>,
}

impl Compressor {
    pub(super) fn new() -> io::Result<Self> {
        let mut zstd = zstd::bulk::Compressor::new(BLOB_LEVEL)?;
        BLOB_PARAMETERS.into_iter().try_for_each(|parameter| zstd.set_parameter(parameter))?;
        Ok(Self {
            zstd,
            small: zstd::bulk::Compressor::new(BLOB_LEVEL)?,
            check: zstd::bulk::Decompressor::new()?,
            sample: zstd::bulk::Compressor::new(1)?,
            compressed: Vec::new(),
            checked: Vec::new(),
        })
    }

    /// The compressed bytes, or `None` when they would not be smaller. What is returned was decompressed again and
    /// compared: a fault of memory or library here would otherwise be met at a restore.
    pub(super) fn shrink(&mut self, kind: BlobKind, plain: &[u8]) -> io::Result<Option<&[u8]>> {
        if self.looks_incompressible(plain)? {
            return Ok(None);
        }
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        let is_small = kind == BlobKind::Data && plain.len() < SMALL;
        let zstd = if is_small { &mut self.small } else { &mut self.zstd };
        zstd.compress_to_buffer(plain, &mut self.compressed)?;
        if self.compressed.len() >= plain.len() {
            return Ok(None);
        }
        self.checked.clear();
        self.checked.reserve(plain.len());
        self.check.decompress_to_buffer(&self.compressed, &mut self.checked)?;
        if self.checked != plain {
            return Err(io::Error::other("compressed bytes do not decompress to what they were made from"));
        }
        Ok(Some(&self.compressed))
    }

    /// Gives up the memory that the largest blob so far has taken.
    pub(super) fn forget(&mut self) {
        (self.compressed, self.checked) = (Vec::new(), Vec::new());
    }

    fn looks_incompressible(&mut self, plain: &[u8]) -> io::Result<bool> {
        if plain.len() < SAMPLE_FROM {
            return Ok(false);
        }
        let mut sample = Vec::with_capacity(SAMPLE_PIECES * SAMPLE_PIECE);
        let step = plain.len() / SAMPLE_PIECES;
        for piece in 0..SAMPLE_PIECES {
            sample.extend_from_slice(&plain[piece * step..][..SAMPLE_PIECE]);
        }
        let compressed = self.sample.compress(&sample)?;
        Ok(compressed.len() > sample.len() / 100 * 98)
    }
}

/// Compresses one object that is not a blob (index, snapshot, lock).
pub(super) fn compress(plain: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(plain, LEVEL)
}

/// Decompresses to exactly `length` bytes; anything else is an error.
pub(super) fn decompress_exactly(compressed: &[u8], length: usize) -> Result<Vec<u8>, String> {
    if length > PLAIN_LIMIT {
        return Err(format!("it says it holds {length} bytes, more than any blob may"));
    }
    // The memory is taken before the bytes are looked at, so a few bytes must not be able to ask for all of the limit.
    if length > compressed.len().saturating_mul(MOST_GROWTH) {
        return Err(format!("its {} bytes cannot hold the {length} that it says it holds", compressed.len()));
    }
    let plain = DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(zstd::bulk::Decompressor::new()?),
        };
        decompressor.decompress(compressed, length)
    });
    let plain = plain.map_err(|error| format!("it does not decompress: {error}"))?;
    if plain.len() != length {
        return Err(format!("it decompresses to {} bytes instead of {length}", plain.len()));
    }
    Ok(plain)
}

/// Decompresses an object of unknown length, bounded.
pub(super) fn decompress(compressed: &[u8]) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let fail = |error: io::Error| format!("it does not decompress: {error}");
    let mut plain = Vec::new();
    let decoder = zstd::stream::Decoder::with_buffer(compressed).map_err(fail)?;
    decoder.take(PLAIN_LIMIT as u64 + 1).read_to_end(&mut plain).map_err(fail)?;
    if plain.len() > PLAIN_LIMIT {
        return Err("it decompresses to more bytes than any object may have".to_owned());
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        getrandom::fill(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn text_shrinks_and_noise_stays() {
        let mut compressor = Compressor::new().unwrap();
        let text = b"INFO request served in 3 ms\n".repeat(10_000);
        let small = compressor.shrink(BlobKind::Data, &text).unwrap().unwrap().to_vec();
        assert!(small.len() < text.len() / 10);
        assert_eq!(decompress_exactly(&small, text.len()).unwrap(), text);
        assert_eq!(compressor.shrink(BlobKind::Data, &noise(1 << 20)).unwrap(), None);
        assert_eq!(compressor.shrink(BlobKind::Data, &noise(100)).unwrap(), None);
    }

    #[test]
    fn every_size_and_kind_comes_back_and_small_data_shrinks_most() {
        let mut compressor = Compressor::new().unwrap();
        // Words of five bytes in no order: matches from seven bytes on find few of them.
        let mut state = 1_u32;
        let mut word = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = state >> 26;
            format!("{}{} ", ["ab", "cd", "ef", "gh"][number as usize % 4], 10 + number)
        };
        let text: String = (0..20_000).map(|_| word()).collect();
        for length in [1_000, SMALL - 1, SMALL, text.len()] {
            let plain = &text.as_bytes()[..length];
            let data = compressor.shrink(BlobKind::Data, plain).unwrap().unwrap().to_vec();
            assert_eq!(decompress_exactly(&data, length).unwrap(), plain);
            let tree = compressor.shrink(BlobKind::Tree, plain).unwrap().unwrap().to_vec();
            assert_eq!(decompress_exactly(&tree, length).unwrap(), plain);
            if length == 1_000 {
                assert!(data.len() < tree.len(), "{length}: {} and {}", data.len(), tree.len());
            }
        }
    }

    #[test]
    fn a_wrong_length_is_an_error() {
        let compressed = compress(&[7; 1000]).unwrap();
        assert!(decompress_exactly(&compressed, 999).is_err());
        assert!(decompress_exactly(&compressed, 1001).is_err());
        assert!(decompress_exactly(&compressed, PLAIN_LIMIT + 1).is_err());
        assert_eq!(decompress(&compressed).unwrap(), [7; 1000]);
    }

    #[test]
    fn the_most_that_bytes_can_hold_is_never_refused() {
        for length in [1 << 10, 128 << 10, 1 << 20, 64 << 20] {
            for level in [-5, 1, 3, 19] {
                let compressed = zstd::bulk::compress(&vec![0; length], level).unwrap();
                assert_eq!(decompress_exactly(&compressed, length).unwrap().len(), length, "level {level}");
            }
        }
        let few = compress(&[7; 1000]).unwrap();
        assert!(decompress_exactly(&few, PLAIN_LIMIT).unwrap_err().contains("cannot hold"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>, length in 0..100_000_usize) {
            let _ = decompress(&bytes);
            let _ = decompress_exactly(&bytes, length);
        }
    }
}
