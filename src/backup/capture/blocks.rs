//! Fixed blocks: what is written in place (disk images, databases) is cut at places that never move.
//!
//! How large they are depends on the size of the whole and on nothing else, so that two backups cut alike. The format has
//! one list of blobs per file and the index 48 bytes per blob: small blocks keep the cost of one written block small,
//! larger ones keep the list of a large image within memory. One that grew over a border of sizes is cut anew, which
//! costs its storage once more.

use crate::repository::{BLOB_MAX, Chunking};

const KIB: u64 = 1024;

/// So many blocks at most, until they are as large as blobs may be.
const BLOCKS: u64 = 1 << 18;
/// Least block of a disk image: half of it would compress noticeably worse.
const IMAGE_LEAST: u64 = 128 * KIB;
/// Least block of a database: a write changes single pages of a few KiB at scattered places.
const DATABASE_LEAST: u64 = 64 * KIB;
const MOST: u64 = BLOB_MAX as u64;

/// Blocks for a disk image of so many bytes.
pub(super) fn of_image(size: u64) -> Chunking<'static> {
    Chunking::Fixed(block_bytes(size, IMAGE_LEAST))
}

/// Blocks for a database of so many bytes.
pub(super) fn of_database(size: u64) -> Chunking<'static> {
    Chunking::Fixed(block_bytes(size, DATABASE_LEAST))
}

/// The power of two with which there are no more than [`BLOCKS`], between `least` and [`MOST`].
fn block_bytes(size: u64, least: u64) -> usize {
    let wanted = size.div_ceil(BLOCKS).clamp(least, MOST);
    usize::try_from(wanted.next_power_of_two()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_size_of_a_block_is_a_table() {
        // Size of the whole; KiB of a block of an image, of a database.
        let table = [
            (0, 128, 64),
            (1, 128, 64),
            (8 << 20, 128, 64),
            (16 * GIB, 128, 64),
            (16 * GIB + 1, 128, 128),
            (32 * GIB, 128, 128),
            (32 * GIB + 1, 256, 256),
            (64 * GIB, 256, 256),
            (64 * GIB + 1, 512, 512),
            (256 * GIB, 1024, 1024),
            (1_000_000_000_000, 4096, 4096),
            (1024 * GIB, 4096, 4096),
            (2048 * GIB, 8192, 8192),
            (2048 * GIB + 1, 8192, 8192),
            (u64::MAX, 8192, 8192),
        ];
        for (size, image, database) in table {
            assert_eq!(of_image(size), Chunking::Fixed(image << 10), "an image of {size} bytes");
            assert_eq!(of_database(size), Chunking::Fixed(database << 10), "a database of {size} bytes");
        }
        for size in (0..4096).map(|step| step * GIB / 2) {
            let (Chunking::Fixed(block), whole) = (of_image(size), size) else { panic!("not fixed") };
            let blocks = whole.div_ceil(block as u64);
            assert!(blocks <= BLOCKS, "{size} bytes have {blocks} blocks");
            assert!(block as u64 <= IMAGE_LEAST || blocks > BLOCKS / 2, "{size} bytes have only {blocks} blocks");
        }
    }
}
