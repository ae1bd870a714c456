//! Where content is cut into blobs: by content (FastCDC with a gear table made from the master key) or in fixed blocks.
//!
//! The size of a blob follows what is in it. Text (logs, dumps) grows at its end and compresses best in long stretches,
//! so it is cut at 1 MiB on average; other data (images, databases) changes inside and is cut at 512 KiB; what is
//! compressed already (`.jar`, `.war`, `.gz`) gains nothing from length, so it is cut at 256 KiB and a rebuilt class
//! costs little. Far into a large file blobs grow, since the format has one content list per file and the index
//! 48 bytes per blob: 1 TB has 0.3 million blobs. The table is keyed so that the sizes of blobs do not
//! tell which known file is stored.

use std::io::{self, Read};

use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use sha2::{Digest, Sha256};

use super::Chunking;
use super::crypto::SealKey;
use super::tree::BlobId;

/// Dense data is cut finely up to this place in a file, in bytes.
const FINE_UNTIL: u64 = 4 << 30;
/// What is no text is cut no coarser than the middle up to this place.
const MIDDLE_UNTIL: u64 = 16 << 30;
/// From this place on blobs are as large as restic's largest allow.
const HUGE_FROM: u64 = 64 << 30;
/// Most bytes of a blob of content: restic's own limit.
pub const BLOB_MAX: usize = 8 << 20;
/// Bytes that are read before the first cut is tried.
const READ_AHEAD: usize = 2 << 20;
/// Bytes of a chunk's beginning that say what it is.
const SAMPLE: usize = 4096;

/// The end of an earlier version of a content stays a blob of its own when it has so many bytes.
pub const TAIL_KEPT: usize = 256 << 10;

/// Least, average and most bytes of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    least: usize,
    average: usize,
    most: usize,
}

const FINE: Sizes = Sizes { least: 128 << 10, average: 256 << 10, most: 1 << 20 };
const MIDDLE: Sizes = Sizes { least: 256 << 10, average: 512 << 10, most: 1 << 20 };
const COARSE: Sizes = Sizes { least: 512 << 10, average: 1 << 20, most: 2 << 20 };
const HUGE: Sizes = Sizes { least: 2 << 20, average: 4 << 20, most: BLOB_MAX };

impl Sizes {
    /// For the chunk that begins with these bytes at this place of a file.
    fn at(position: u64, beginning: &[u8]) -> Self {
        let sample = &beginning[..beginning.len().min(SAMPLE)];
        if position >= HUGE_FROM {
            HUGE
        } else if position >= MIDDLE_UNTIL || is_text(sample) {
            COARSE
        } else if position < FINE_UNTIL && is_dense(sample) {
            FINE
        } else {
            MIDDLE
        }
    }
}

/// Whether bytes are spread so evenly that no compression can be expected of them: the number of pairs of equal bytes
/// is near that of noise. Text has several times as many.
fn is_dense(sample: &[u8]) -> bool {
    let mut counts = [0_u64; 256];
    sample.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let pairs: u64 = counts.iter().map(|count| count * count).sum();
    let length = sample.len() as u64;
    length == SAMPLE as u64 && pairs < length * length / 256 * 2
}

/// Whether there are no bytes but those of text, in whatever encoding that keeps ASCII apart.
fn is_text(sample: &[u8]) -> bool {
    sample.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..))
}

/// The keyed table and the masks of FastCDC.
pub(super) struct Gear {
    gear: Vec<u64>,
    shifted: Vec<u64>,
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
        Self { gear, shifted }
    }

    /// Bytes up to the first boundary, at most all.
    fn cut(&self, bytes: &[u8], sizes: Sizes) -> usize {
        let Sizes { least, average, most } = sizes;
        let (strict, loose) = select_masks(average, Normalization::Level1);
        let (gear, shifted) = (&self.gear, &self.shifted);
        cut_gear(bytes, least, average, most, strict, loose, strict << 1, loose << 1, gear, shifted).1
    }
}

/// A blob of an earlier version of the content. At most [`BLOB_MAX`] bytes, and more than none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Earlier {
    pub(super) id: BlobId,
    pub(super) length: usize,
}

/// The blobs of an earlier version, in the order of their places.
pub(super) struct EarlierBlobs<'a> {
    ids: &'a [BlobId],
    /// Where the first of `ids` lay.
    position: u64,
}

impl<'a> EarlierBlobs<'a> {
    pub(super) fn of(chunking: Chunking<'a>) -> Self {
        let ids = if let Chunking::Like(ids) = chunking { ids } else { &[] };
        Self { ids, position: 0 }
    }

    /// The blob that began here, if it is worth to be kept: the end of a file may be so short that it is better stored
    /// again with what follows. `length_of` gives the plain length of a blob that is stored.
    pub(super) fn at(&mut self, position: u64, length_of: impl Fn(&BlobId) -> Option<u64>) -> Option<Earlier> {
        while let [id, rest @ ..] = self.ids {
            let length = length_of(id).filter(|length| (1..=BLOB_MAX as u64).contains(length));
            match length {
                // From here on nobody knows where anything lay.
                None => self.ids = &[],
                Some(length) if self.position < position => (self.ids, self.position) = (rest, self.position + length),
                Some(length) => {
                    let length = usize::try_from(length).ok()?;
                    let worth = self.position == position && (length >= TAIL_KEPT || !rest.is_empty());
                    return worth.then_some(Earlier { id: *id, length });
                }
            }
        }
        None
    }
}

/// The stretch of a stream that is being cut; its memory is kept and used again. At most 8 MiB, usually 2.
#[derive(Default)]
pub(super) struct ChunkBuffer {
    bytes: Vec<u8>,
    /// Where the next chunk begins.
    start: usize,
    /// Bytes that are filled.
    end: usize,
    /// Bytes of the stream before `start`.
    position: u64,
    at_end: bool,
}

impl ChunkBuffer {
    /// Ready for another stream, whose first bytes have been read already.
    pub(super) fn begin(&mut self, first: &[u8]) {
        (self.start, self.end, self.position, self.at_end) = (0, first.len(), 0, false);
        self.reserve(READ_AHEAD.max(first.len()));
        self.bytes[..first.len()].copy_from_slice(first);
    }

    fn reserve(&mut self, length: usize) {
        if self.bytes.len() < length {
            self.bytes.resize(length, 0);
        }
    }

    /// The next chunk of the stream, `None` at its end. `earlier` is what an earlier version had at this place.
    pub(super) fn next(
        &mut self,
        reader: &mut dyn Read,
        chunking: Chunking<'_>,
        earlier: Option<Earlier>,
        gear: &Gear,
    ) -> io::Result<Option<&[u8]>> {
        let length = match chunking {
            Chunking::Fixed(block) => self.fill(reader, block.clamp(1, BLOB_MAX))?.min(block.clamp(1, BLOB_MAX)),
            Chunking::Content | Chunking::Like(_) => {
                let found = self.find_boundary(reader, gear)?;
                match earlier.filter(|earlier| earlier.length != found) {
                    Some(earlier) if self.holds(reader, earlier)? => earlier.length,
                    _ => found,
                }
            }
        };
        let start = self.start;
        self.start += length;
        self.position += length as u64;
        Ok((length > 0).then(|| &self.bytes[start..start + length]))
    }

    /// Whether the next bytes are those of an earlier blob.
    fn holds(&mut self, reader: &mut dyn Read, Earlier { id, length }: Earlier) -> io::Result<bool> {
        let available = self.fill(reader, length)?;
        Ok(available >= length && BlobId::of(&self.bytes[self.start..self.start + length]) == id)
    }

    /// Bytes of the next chunk. A cut before the end of what is read is final: more bytes would not move it.
    fn find_boundary(&mut self, reader: &mut dyn Read, gear: &Gear) -> io::Result<usize> {
        self.fill(reader, SAMPLE)?;
        let sizes = Sizes::at(self.position, &self.bytes[self.start..self.end]);
        let mut wanted = READ_AHEAD.min(sizes.most);
        loop {
            let available = self.fill(reader, wanted)?;
            let length = gear.cut(&self.bytes[self.start..self.end], sizes);
            if length < available || self.at_end || wanted >= sizes.most {
                return Ok(length);
            }
            wanted = sizes.most;
        }
    }

    /// Reads until so many bytes are there or the stream ends; gives the number that is there.
    fn fill(&mut self, reader: &mut dyn Read, wanted: usize) -> io::Result<usize> {
        if !self.at_end && self.end - self.start < wanted {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.reserve(wanted);
        }
        while !self.at_end && self.end - self.start < wanted {
            match reader.read(&mut self.bytes[self.end..]) {
                Ok(0) => self.at_end = true,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.end - self.start)
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

    fn cut_all(bytes: &[u8], chunking: Chunking<'_>, gear: &Gear) -> Vec<Vec<u8>> {
        let (mut reader, mut buffer, mut chunks) = (bytes, ChunkBuffer::default(), Vec::new());
        buffer.begin(&[]);
        while let Some(chunk) = buffer.next(&mut reader, chunking, None, gear).unwrap() {
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
        assert!(old.iter().all(|chunk| chunk.len() <= BLOB_MAX) && old.len() > 12, "{} chunks", old.len());
        assert_eq!(old.concat(), before);
        let other = cut_all(&before, Chunking::Content, &Gear::keyed(&SealKey::generate().unwrap()));
        assert!(other.iter().filter(|chunk| old.contains(chunk)).count() <= 1);
        assert_eq!(cut_all(&before, Chunking::Content, &Gear::keyed(&key)), old);
    }

    #[test]
    fn earlier_blobs_are_found_by_their_place_alone() {
        let ids: Vec<BlobId> = (0..4).map(|number| BlobId([number; 32])).collect();
        let lengths = [300 << 10, 10, 300 << 10, 20];
        let known = |id: &BlobId| Some(lengths[usize::from(id.0[0])]);
        let all = |chunking| EarlierBlobs::of(chunking);
        let found = |number: usize| Some(Earlier { id: ids[number], length: lengths[number] as usize });
        let mut earlier = all(Chunking::Like(&ids));
        assert_eq!(earlier.at(0, known), found(0));
        assert_eq!(earlier.at(5, known), None);
        assert_eq!(earlier.at(300 << 10, known), found(1), "one in the middle, however short");
        assert_eq!(earlier.at((300 << 10) + 10, known), found(2), "a place that was passed over");
        assert_eq!(earlier.at((600 << 10) + 10, known), None, "an end too short to be kept");
        assert_eq!(all(Chunking::Content).at(0, known), None);
        assert_eq!(all(Chunking::Like(&ids)).at(0, |_| None), None, "a blob that is gone");
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
