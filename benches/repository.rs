//! How fast content goes into a repository on the local disk and comes out again.
//!
//! `cargo bench --bench repository`; the mixed content is a third each of text, noise and zeros, as servers have it.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lifeboat::ground::{NoProgress, Secret};
use lifeboat::repository::{BlobId, Chunking, KeyStrength, Repository};
use lifeboat::site::local::LocalStore;

/// Bytes of one sample.
const SIZE: usize = 256 << 20;

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).take(length / 8).flatten().collect()
}

/// Log lines that differ from each other.
fn text(length: usize) -> Vec<u8> {
    let numbers = noise(length / 8);
    let mut lines = Vec::with_capacity(length + 100);
    for number in numbers.as_chunks::<4>().0.iter().cycle().map(|bytes| u32::from_le_bytes(*bytes)) {
        lines.extend(
            format!("INFO {{org.wso2.carbon.core}} - request {number:08x} served in {} ms\n", number % 977).bytes(),
        );
        if lines.len() >= length {
            break;
        }
    }
    lines
}

fn mixed(length: usize) -> Vec<u8> {
    [text(length / 3), noise(length / 3), vec![0; length / 3]].concat()
}

fn create(directory: &Path) -> Repository {
    let store = Arc::new(LocalStore::new(directory));
    Repository::create(store, &Secret::new("password"), KeyStrength::Random).expect("a new repository")
}

fn store(repository: &Repository, content: &[u8], chunking: Chunking) -> Vec<BlobId> {
    let writer = repository.writer(Arc::new(NoProgress)).expect("a writer");
    let stored = writer.store_content(&mut &*content, chunking).expect("stored");
    writer.finish().expect("finished");
    stored.blobs
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write");
    group.sample_size(10);
    let cases = [
        ("mixed", mixed(SIZE), Chunking::Content),
        ("text", text(SIZE / 2), Chunking::Content),
        ("noise", noise(SIZE / 2), Chunking::Content),
        ("zeros", vec![0; SIZE], Chunking::Fixed(1 << 20)),
    ];
    for (name, content, chunking) in cases {
        group.throughput(Throughput::Bytes(content.len() as u64));
        let fresh = || {
            let directory = tempfile::tempdir().expect("a directory");
            (create(directory.path()), directory)
        };
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                fresh,
                |(repository, directory)| {
                    black_box(store(&repository, &content, chunking));
                    directory
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let repository = create(directory.path());
    let content = mixed(SIZE);
    let blobs = store(&repository, &content, Chunking::Content);
    let mut group = criterion.benchmark_group("read");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(content.len() as u64));
    group.bench_function("mixed", |bencher| {
        bencher.iter(|| {
            let bytes = AtomicU64::new(0);
            let reader = repository.reader().expect("a reader");
            reader.read_many(&blobs, &|_, plain| {
                bytes.fetch_add(plain.expect("whole").len() as u64, Ordering::Relaxed);
                true
            });
            assert_eq!(bytes.into_inner(), content.len() as u64);
        });
    });
    let writer = repository.writer(Arc::new(NoProgress)).expect("a writer");
    group.bench_function("all known already", |bencher| {
        bencher.iter(|| writer.store_content(&mut &*content, Chunking::Content).expect("stored"));
    });
    group.finish();
}

criterion_group!(benches, write, read);
criterion_main!(benches);
