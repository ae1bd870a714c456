//! Opening a repository of a million blobs, in a process of its own: only there is its memory that of the opening.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use super::index_file::{self, NamedPack};
use super::pack::PackEntry;
use super::tree::BlobId;
use super::{BlobKind, KeyStrength, Repository};
use crate::ground::Secret;
use crate::site::local::LocalStore;

const BLOBS_IN_A_PACK: u32 = 32;
/// Tells the second process where the repository is, and how many blobs it has.
const PLACE: &str = "LIFEBOAT_TEST_INDEX_PLACE";
const BLOBS: &str = "LIFEBOAT_TEST_INDEX_BLOBS";
/// What 4 index files of 50,000 blobs take while they are decoded, with room.
const LOADING_KIB: u64 = 100 << 10;

/// Made-up packs of so many blobs with ids as even as hashes are.
pub(super) fn packs(blobs: u32, in_a_pack: u32) -> Vec<NamedPack> {
    let mut state = 1_u64;
    let mut id = || {
        let mut bytes = [0; 32];
        for word in bytes.as_chunks_mut::<8>().0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *word = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
        }
        BlobId(bytes)
    };
    let entry = |id, number: u32| {
        let kind = if number == 0 { BlobKind::Tree } else { BlobKind::Data };
        PackEntry { kind, id, offset: number * 300_000, length: 300_000, uncompressed: 524_288 }
    };
    (0..blobs)
        .step_by(in_a_pack as usize)
        .map(|first| {
            let ids: Vec<_> = (0..=in_a_pack.min(blobs - first)).map(|_| id()).collect();
            (ids[0], (0..).zip(&ids[1..]).map(|(number, id)| entry(*id, number)).collect())
        })
        .collect()
}

fn password() -> Secret {
    Secret::new("ab".repeat(32))
}

fn resident_kib(mark: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(mark)).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// Opens a repository of so many blobs, and holds its memory against what the index takes and what loading it takes.
fn open_in_a_process(blobs: u32) {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalStore::new(directory.path()));
    let repository = Repository::create(store, &password(), KeyStrength::Random).unwrap();
    for some in packs(blobs, BLOBS_IN_A_PACK).chunks(50_000 / BLOBS_IN_A_PACK as usize) {
        index_file::save(&repository.inner, some).unwrap();
    }
    let test = "repository::index_bounds::the_process_that_opens";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    command.env(PLACE, directory.path()).env(BLOBS, blobs.to_string());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    println!("{said}");
    let grown = said.lines().find_map(|line| line.strip_prefix("grown by KiB: ")).expect("it tells its memory");
    let (grown, index): (u64, u64) = (grown.parse().unwrap(), (u64::from(blobs) * 50) >> 10);
    assert!(grown > index / 2, "{grown} KiB are less than the index");
    assert!(grown < index + LOADING_KIB, "{grown} KiB for {blobs} blobs");
}

#[test]
fn a_repository_of_many_blobs_is_opened_within_its_bound() {
    open_in_a_process(200_000);
}

#[ignore = "to write and read a million entries takes most of a minute"]
#[test]
fn a_repository_of_a_million_blobs_is_opened_within_its_bound() {
    open_in_a_process(1_000_000);
}

#[test]
#[ignore = "runs in a process of its own, started by the tests above"]
fn the_process_that_opens() {
    let Some((place, blobs)) = std::env::var_os(PLACE).zip(std::env::var(BLOBS).ok()) else { return };
    let before = resident_kib("VmRSS:");
    let begin = Instant::now();
    let repository = Repository::open(Arc::new(LocalStore::new(place)), &password()).unwrap();
    let reader = repository.reader().unwrap();
    let took = begin.elapsed();
    let held = resident_kib("VmRSS:").saturating_sub(before);
    println!("\nopened in {} ms, holds KiB: {held}", took.as_millis());
    println!("grown by KiB: {}", resident_kib("VmHWM:") - before);
    for (_, entries) in packs(blobs.parse().unwrap(), BLOBS_IN_A_PACK).iter().step_by(1000) {
        assert!(entries.iter().all(|entry| reader.length(entry.kind, &entry.id) == Some(524_288)));
    }
}
