//! What an image costs: a changed byte about one block, zeros nothing, holes not even a read.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::fake::{FakeStore, earlier, files};
use crate::backup::capture::Captured;
use crate::policy::SourceKind;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const BLOCK: u64 = 128 * KIB;

fn noise(blocks: u64) -> Vec<u8> {
    let mut bytes = vec![0; (blocks * BLOCK) as usize];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

fn image(path: &Path) -> SourceKind {
    SourceKind::Image { path: path.to_str().unwrap().to_owned() }
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("disk.img");
    (root, path)
}

#[test]
fn a_changed_byte_of_an_image_adds_one_block() {
    let (_root, path) = place();
    fs::write(&path, noise(64)).unwrap();
    let store = FakeStore::default();
    let first = store.capture(&image(&path), None).unwrap();
    assert_eq!((first.bytes, store.blobs()), (8 * MIB, 64));
    let mut byte = [0];
    let file = File::options().read(true).write(true).open(&path).unwrap();
    file.read_exact_at(&mut byte, 5 * MIB + 77).unwrap();
    file.write_all_at(&[!byte[0]], 5 * MIB + 77).unwrap();
    let second = store.capture(&image(&path), None).unwrap();
    assert_eq!(store.blobs(), 65);
    let (before, after) = (store.node(&first, &path), store.node(&second, &path));
    let changed: Vec<usize> = (0..64).filter(|block| before.content[*block] != after.content[*block]).collect();
    assert_eq!(changed, [40]);
    assert!(store.blobs.lock().unwrap().values().all(|blob| blob.len() as u64 == BLOCK));
}

#[test]
fn blocks_of_zeros_are_one_blob_and_holes_are_not_read() {
    let (_root, path) = place();
    let mut file = File::create(&path).unwrap();
    file.write_all(&noise(8)).unwrap();
    file.write_all(&vec![0; 16 * BLOCK as usize]).unwrap();
    let store = FakeStore::default();
    let dense = store.capture(&image(&path), None).unwrap();
    assert_eq!((dense.read_bytes, store.blobs()), (24 * BLOCK, 9));
    // A small hole passes as zeros, a large one is named without being made; neither is read.
    for size in [32 * MIB, 120 * MIB, 120 * MIB + 1000] {
        file.set_len(size).unwrap();
        let sparse = store.capture(&image(&path), None).unwrap();
        assert_eq!((sparse.read_bytes, sparse.bytes), (24 * BLOCK, size), "an image of {size} bytes");
        let content = store.node(&sparse, &path).content;
        assert_eq!(content.len() as u64, size.div_ceil(BLOCK));
        let zero = content[8];
        assert!(content[8..(size / BLOCK) as usize].iter().all(|id| *id == zero));
    }
    // The last one ends within a block.
    assert_eq!(store.blobs(), 10);
}

/// What is stored is what is read, byte by byte, whatever lies where.
fn assert_stored(store: &FakeStore<'_>, captured: &Captured, path: &Path) {
    assert!(store.content(&store.node(captured, path)) == fs::read(path).unwrap());
}

#[test]
fn data_between_large_holes_is_where_it_was() {
    let (root, path) = place();
    let file = File::create(&path).unwrap();
    file.set_len(180 * MIB + 5).unwrap();
    for at in [0, 3 * MIB + 7, 90 * MIB - 1, 97 * MIB, 180 * MIB] {
        file.write_all_at(&[at.to_le_bytes(), [1; 8]].concat()[..5], at).unwrap();
    }
    for kind in [image(&path), files(&[root.path()], &[])] {
        let store = FakeStore::default();
        let captured = store.capture(&kind, None).unwrap();
        assert_stored(&store, &captured, &path);
        assert!(captured.read_bytes < MIB, "{} bytes were read", captured.read_bytes);
        let again = store.capture(&kind, earlier(&captured)).unwrap();
        assert_eq!(store.node(&again, &path), store.node(&captured, &path));
        assert_eq!(again.read_bytes, 0);
    }
}

#[test]
fn an_image_that_shrinks_under_the_read_is_told_and_nothing_of_it_is_displaced() {
    for (shorter, left) in [(80 * MIB, MIB), (100, 100)] {
        let (_root, path) = place();
        let begin = noise(8);
        fs::write(&path, &begin).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(120 * MIB).unwrap();
        file.write_all_at(b"some data", 100 * MIB).unwrap();
        let store = FakeStore {
            disturbance: Some(Box::new(|number| {
                if number == 1 {
                    file.set_len(shorter).unwrap();
                }
            })),
            ..FakeStore::default()
        };
        let captured = store.capture(&image(&path), None).unwrap();
        assert_eq!(captured.missing_count, 1, "{:?}", captured.missing);
        let content = store.content(&store.node(&captured, &path));
        let (data, rest) = content.split_at(left as usize);
        assert!(*data == begin[..data.len()] && rest.iter().all(|byte| *byte == 0), "{shorter}");
        assert!(left == MIB || rest.is_empty(), "{shorter}: {} bytes follow", rest.len());
    }
}
