//! Where content is cut into blobs: by content (FastCDC with a gear table made from the master key) or in fixed blocks.
//!
//! Sizes: 512 KiB, 1 MiB, 4 MiB (least, average, most). The average is restic's: a changed class in a 60 MB jar costs
//! one or two blobs of about 1 MiB, and the index stays at 48 bytes per MiB. The most is half of restic's 8 MiB, which
//! halves the memory of the pipeline; normalised chunking rarely comes near it. The table is keyed so that the sizes of
//! blobs do not tell which known file is stored.

use std::io::{self, Read};

use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use sha2::{Digest, Sha256};

use super::Chunking;
use super::crypto::SealKey;

const LEAST: usize = 512 << 10;
const AVERAGE: usize = 1 << 20;
const MOST: usize = 4 << 20;
/// Largest fixed block, in bytes: restic's largest blob.
const FIXED_MOST: usize = 8 << 20;
/// Bytes of a buffer: a chunk is cut only from as much as the largest may have, or from the end of the stream.
const BUFFER: usize = 2 * MOST;

/// The keyed table and the masks of FastCDC.
pub(super) struct Gear {
    gear: Vec<u64>,
    shifted: Vec<u64>,
    strict: u64,
    loose: u64,
}

impl Gear {
    /// The table for a repository, the same at each opening.
    pub(super) fn keyed(key: &SealKey) -> Self {
        let mut gear = Vec::with_capacity(256);
        for counter in 0..64_u8 {
            let mut hash = Sha256::new_with_prefix(b"lifeboat chunk boundaries 1\0");
            for part in [&key.encrypt[..], &key.mac_k[..], &key.mac_r[..], &[counter]] {
                hash.update(part);
            }
            let digest: [u8; 32] = hash.finalize().into();
            gear.extend(digest.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)));
        }
        let shifted = gear.iter().map(|word| word << 1).collect();
        let (strict, loose) = select_masks(AVERAGE, Normalization::Level1);
        Self { gear, shifted, strict, loose }
    }

    fn cut(&self, bytes: &[u8]) -> usize {
        let (strict, loose) = (self.strict, self.loose);
        let (gear, shifted) = (&self.gear, &self.shifted);
        cut_gear(bytes, LEAST, AVERAGE, MOST, strict, loose, strict << 1, loose << 1, gear, shifted).1
    }
}

/// Memory for the stretch of a stream that is being cut; kept and used again.
pub(super) struct ChunkBuffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    at_end: bool,
}

impl ChunkBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; BUFFER].into_boxed_slice(), start: 0, end: 0, at_end: false }
    }

    /// Ready for another stream.
    pub(super) fn reset(&mut self) {
        (self.start, self.end, self.at_end) = (0, 0, false);
    }

    /// The next chunk of the stream, `None` at its end.
    pub(super) fn next(&mut self, reader: &mut dyn Read, chunking: Chunking, gear: &Gear) -> io::Result<Option<&[u8]>> {
        let wanted = match chunking {
            Chunking::Content => MOST,
            Chunking::Fixed(block) => block.clamp(1, FIXED_MOST),
        };
        self.fill(reader, wanted)?;
        let available = &self.bytes[self.start..self.end];
        if available.is_empty() {
            return Ok(None);
        }
        let length = match chunking {
            Chunking::Content => gear.cut(available),
            Chunking::Fixed(_) => wanted.min(available.len()),
        };
        let start = self.start;
        self.start += length;
        Ok(Some(&self.bytes[start..start + length]))
    }

    /// Reads until `wanted` bytes are there or the stream ends.
    fn fill(&mut self, reader: &mut dyn Read, wanted: usize) -> io::Result<()> {
        if self.at_end || self.end - self.start >= wanted {
            return Ok(());
        }
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < self.bytes.len() {
            match reader.read(&mut self.bytes[self.end..]) {
                Ok(0) => {
                    self.at_end = true;
                    break;
                }
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// True when all bytes are zero; looks no further than the first block of 4 KiB with another byte.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|block| block.iter().fold(0, |seen, byte| seen | byte) == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    fn cut_all(bytes: &[u8], chunking: Chunking, gear: &Gear) -> Vec<Vec<u8>> {
        let (mut reader, mut buffer, mut chunks) = (bytes, ChunkBuffer::new(), Vec::new());
        while let Some(chunk) = buffer.next(&mut reader, chunking, gear).unwrap() {
            chunks.push(chunk.to_vec());
        }
        chunks
    }

    #[test]
    fn an_insertion_moves_few_boundaries_and_another_key_moves_all() {
        let key = SealKey::generate().unwrap();
        let gear = Gear::keyed(&key);
        let before = noise(7, 24 << 20);
        let mut after = before.clone();
        after.splice(5_000_000..5_000_000, *b"inserted");
        let (old, new) = (cut_all(&before, Chunking::Content, &gear), cut_all(&after, Chunking::Content, &gear));
        let changed = new.iter().filter(|chunk| !old.contains(chunk)).count();
        assert!(changed <= 3, "{changed} of {} chunks changed", new.len());
        assert!(old.iter().all(|chunk| chunk.len() <= MOST) && old.len() > 12, "{} chunks", old.len());
        assert_eq!(old.concat(), before);
        let other = cut_all(&before, Chunking::Content, &Gear::keyed(&SealKey::generate().unwrap()));
        assert!(other.iter().filter(|chunk| old.contains(chunk)).count() <= 1);
        assert_eq!(cut_all(&before, Chunking::Content, &Gear::keyed(&key)), old);
    }

    #[test]
    fn zeros_are_recognised() {
        assert!(is_zero(&[]) && is_zero(&[0; 10_000]));
        let mut bytes = [0; 10_000];
        bytes[9_999] = 1;
        assert!(!is_zero(&bytes));
    }

    proptest! {
        #[test]
        fn fixed_blocks_are_aligned(length in 0..100_000_usize, block in 1..9_000_usize) {
            let bytes = noise(3, length);
            let chunks = cut_all(&bytes, Chunking::Fixed(block), &Gear::keyed(&SealKey::generate().unwrap()));
            prop_assert!(chunks.iter().rev().skip(1).all(|chunk| chunk.len() == block));
            prop_assert_eq!(chunks.concat(), bytes);
        }
    }
}
