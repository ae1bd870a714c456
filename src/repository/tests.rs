//! Tests of the room as a whole, on a store in memory that records and fails.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::ground::NoProgress;
use crate::site::{ObjectInfo, StoreError};

/// Objects in memory; counts bytes read, remembers the order of puts, and fails puts from a chosen one on.
#[derive(Default)]
struct MemoryStore {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    puts: Mutex<Vec<String>>,
    fail_from: AtomicUsize,
    fetched: AtomicUsize,
}

impl MemoryStore {
    fn sound() -> Arc<Self> {
        Arc::new(Self { fail_from: AtomicUsize::new(usize::MAX), ..Self::default() })
    }

    fn error(kind: StoreErrorKind, key: &str) -> StoreError {
        StoreError { kind, message: format!("{key}: {kind:?}") }
    }
}

impl ObjectStore for MemoryStore {
    fn put(&self, key: &str, bytes: &[u8], mode: PutMode) -> Result<(), StoreError> {
        let mut puts = guarded(&self.puts);
        if puts.len() >= self.fail_from.load(Ordering::Relaxed) {
            return Err(Self::error(StoreErrorKind::Full, key));
        }
        puts.push(key.to_owned());
        let mut objects = guarded(&self.objects);
        if mode == PutMode::CreateNew && objects.contains_key(key) {
            return Err(Self::error(StoreErrorKind::AlreadyExists, key));
        }
        objects.insert(key.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, StoreError> {
        guarded(&self.objects).get(key).cloned().ok_or_else(|| Self::error(StoreErrorKind::NotFound, key))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.fetched.fetch_add((range.end - range.start) as usize, Ordering::Relaxed);
        let bytes = self.get(key)?;
        let part = bytes.get(range.start as usize..range.end as usize);
        part.map(<[u8]>::to_vec).ok_or_else(|| Self::error(StoreErrorKind::Other, key))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let objects = guarded(&self.objects);
        let below = objects.iter().filter(|(key, _)| key.starts_with(prefix));
        Ok(below.map(|(key, bytes)| ObjectInfo { key: key.clone(), size: bytes.len() as u64 }).collect())
    }

    fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        Ok(guarded(&self.objects).get(key).map(|bytes| bytes.len() as u64))
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        guarded(&self.objects).remove(key);
        Ok(())
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

fn password() -> Secret {
    Secret::new("password")
}

fn create(store: &Arc<MemoryStore>) -> Repository {
    Repository::create(store.clone(), &password(), KeyStrength::Random).unwrap()
}

fn writer(repository: &Repository) -> BlobWriter {
    repository.writer(Arc::new(NoProgress)).unwrap()
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

fn count(store: &MemoryStore, prefix: &str) -> usize {
    store.list(prefix).unwrap().len()
}

#[test]
fn a_second_create_is_refused_and_a_wrong_password_is_told_apart() {
    let store = MemoryStore::sound();
    assert!(matches!(Repository::open(store.clone(), &password()), Err(RepositoryError::NotARepository(_))));
    let id = create(&store).id();
    let again = Repository::create(store.clone(), &password(), KeyStrength::Random);
    assert!(matches!(again, Err(RepositoryError::AlreadyExists(_))));
    assert_eq!(Repository::open(store.clone(), &password()).unwrap().id(), id);
    assert!(matches!(Repository::open(store, &Secret::new("x")), Err(RepositoryError::WrongPassword(_))));
}

#[test]
fn a_create_that_was_killed_between_key_and_configuration_goes_on() {
    let store = MemoryStore::sound();
    store.fail_from.store(1, Ordering::Relaxed);
    assert!(Repository::create(store.clone(), &password(), KeyStrength::Random).is_err());
    store.fail_from.store(usize::MAX, Ordering::Relaxed);
    let id = create(&store).id();
    assert_eq!(count(&store, key::KEYS), 1);
    assert_eq!(Repository::open(store, &password()).unwrap().id(), id);
}

#[test]
fn a_damaged_key_is_not_a_wrong_password() {
    let store = MemoryStore::sound();
    create(&store);
    let object = store.list(key::KEYS).unwrap()[0].key.clone();
    let text = String::from_utf8(store.get(&object).unwrap()).unwrap();
    let (before, data) = text.split_once("\"data\":\"").unwrap();
    let other = if data.starts_with('A') { "B" } else { "A" };
    let altered = format!("{before}\"data\":\"{other}{}", &data[1..]);
    store.put(&object, altered.as_bytes(), PutMode::Replace).unwrap();
    assert!(matches!(Repository::open(store.clone(), &password()), Err(RepositoryError::Damaged(_))));
    store.delete(&object).unwrap();
    assert!(matches!(Repository::open(store, &password()), Err(RepositoryError::Damaged(_))));
}

#[test]
fn a_blob_is_stored_once_by_many_threads_and_by_the_next_writer() {
    let store = MemoryStore::sound();
    let repository = create(&store);
    let content = noise(2 << 20);
    let first = writer(&repository);
    let stored: Vec<StoredContent> = std::thread::scope(|scope| {
        let store_it = || first.store_content(&mut &content[..], Chunking::Content).unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(store_it)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(stored.windows(2).all(|pair| pair[0] == pair[1]));
    assert!(stored[0].blobs.iter().all(|id| first.contains(BlobKind::Data, id)));
    let summary = first.finish().unwrap();
    assert_eq!(summary.new_blobs, stored[0].blobs.len() as u64);
    let second = writer(&repository);
    assert_eq!(second.store_content(&mut &content[..], Chunking::Content).unwrap(), stored[0]);
    assert_eq!(second.finish().unwrap(), WriteSummary::default());
}

#[test]
fn packs_are_put_before_the_index() {
    let store = MemoryStore::sound();
    let repository = create(&store);
    let writer = writer(&repository);
    writer.store_content(&mut &noise(5 << 19)[..], Chunking::Fixed(1 << 16)).unwrap();
    writer.store_tree(Vec::new()).unwrap();
    writer.finish().unwrap();
    let puts = guarded(&store.puts).clone();
    let kinds: Vec<&str> = puts[2..].iter().filter_map(|key| key.split('/').next()).collect();
    assert_eq!(kinds, ["data", "data", "data", "data", "index"]);
}

#[test]
fn zeros_are_one_blob_and_are_hashed_as_any() {
    let store = MemoryStore::sound();
    let repository = create(&store);
    let writer = writer(&repository);
    let stored = writer.store_content(&mut std::io::repeat(0).take(64 << 16), Chunking::Fixed(1 << 16)).unwrap();
    assert_eq!(stored.blobs, [BlobId::of(&[0; 1 << 16]); 64]);
    assert_eq!(writer.finish().unwrap().new_blobs, 1);
}

#[test]
fn a_full_store_fails_every_later_call_and_nobody_hangs() {
    for fail_from in 2..5 {
        let store = MemoryStore::sound();
        let repository = create(&store);
        store.fail_from.store(fail_from, Ordering::Relaxed);
        let writer = writer(&repository);
        let content = noise(9 << 19);
        let stored = writer.store_content(&mut &content[..], Chunking::Fixed(1 << 16));
        if let Err(error) = stored {
            assert!(matches!(error, ContentError::Repository(RepositoryError::Store(_))), "{error}");
        }
        assert!(matches!(writer.finish(), Err(RepositoryError::Store(error)) if error.kind == StoreErrorKind::Full));
        assert_eq!(count(&store, index_file::INDEXES), 0);
        store.fail_from.store(usize::MAX, Ordering::Relaxed);
        assert!(repository.verify(VerifyDepth::Data { percent: 100, seed: 0 }, &NoProgress).unwrap().damage.is_empty());
    }
}

#[test]
fn a_source_that_fails_is_not_the_store_and_the_writer_goes_on() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is gone"))
        }
    }
    let store = MemoryStore::sound();
    let writer = writer(&create(&store));
    let error = writer.store_content(&mut Broken, Chunking::Content).unwrap_err();
    assert!(matches!(error, ContentError::Source(_)), "{error}");
    assert_eq!(writer.store_content(&mut &b"more"[..], Chunking::Content).unwrap().bytes, 4);
    assert_eq!(writer.finish().unwrap().new_blobs, 1);
}

#[test]
fn a_writer_that_is_given_up_leaves_a_sound_repository() {
    let store = MemoryStore::sound();
    let repository = create(&store);
    let given_up = writer(&repository);
    given_up.store_content(&mut &noise(5 << 19)[..], Chunking::Fixed(1 << 16)).unwrap();
    drop(given_up);
    assert_eq!(count(&store, index_file::INDEXES), 0);
    assert!(repository.verify(VerifyDepth::Data { percent: 100, seed: 0 }, &NoProgress).unwrap().damage.is_empty());
}

#[test]
fn what_a_killed_backup_stored_is_used_by_the_next() {
    let store = MemoryStore::sound();
    let repository = create(&store);
    let content = noise(6 << 20);
    let killed = writer(&repository);
    killed.store_content(&mut &content[..], Chunking::Fixed(1 << 16)).unwrap();
    // Other threads store what was read; the kill comes when they have come so far.
    for _ in 0..6_000 {
        if count(&store, index_file::INDEXES) > 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    drop(killed);
    assert_eq!(count(&store, index_file::INDEXES), 1);
    let next = writer(&repository);
    next.store_content(&mut &content[..], Chunking::Fixed(1 << 16)).unwrap();
    assert!(next.finish().unwrap().new_blobs <= 32, "four packs of 16 blobs were indexed already");
}

#[test]
fn many_are_read_with_each_byte_fetched_once_and_in_any_order() {
    let store = MemoryStore::sound();
    let repository = create(&store);
    let writer = writer(&repository);
    let content = noise(5 << 19);
    let stored = writer.store_content(&mut &content[..], Chunking::Fixed(16 << 10)).unwrap();
    writer.finish().unwrap();
    let reader = repository.reader().unwrap();
    let mut wanted = stored.blobs.clone();
    wanted.extend_from_within(..10);
    wanted.push(BlobId([7; 32]));
    store.fetched.store(0, Ordering::Relaxed);
    let seen = Mutex::new(vec![0; wanted.len()]);
    reader.read_many(&wanted, &|position, plain| {
        guarded(&seen)[position] += 1;
        match plain {
            Ok(plain) => assert_eq!(BlobId::of(plain), wanted[position]),
            Err(error) => assert!(position == wanted.len() - 1 && matches!(error, RepositoryError::Damaged(_))),
        }
        true
    });
    assert!(seen.into_inner().unwrap().iter().all(|times| *times == 1));
    assert_eq!(store.fetched.load(Ordering::Relaxed), (5 << 19) + 160 * crypto::OVERHEAD);
    let calls = AtomicUsize::new(0);
    reader.read_many(&wanted[..150], &|_, _| calls.fetch_add(1, Ordering::Relaxed) < 3);
    assert!(calls.into_inner() < 50);
}

/// Numbers that no width of lanes divides: some blobs are left to be checked with the next stretch.
#[test]
fn blobs_that_are_left_for_the_next_stretch_are_not_fetched_again() {
    for count in [1, 5, 13, 61, 117] {
        let store = MemoryStore::sound();
        let repository = create(&store);
        let writer = writer(&repository);
        let content = noise(count * (16 << 10));
        let blobs = writer.store_content(&mut &content[..], Chunking::Fixed(16 << 10)).unwrap().blobs;
        writer.finish().unwrap();
        let reader = repository.reader().unwrap();
        store.fetched.store(0, Ordering::Relaxed);
        let seen = AtomicUsize::new(0);
        reader.read_many(&blobs, &|position, plain| {
            assert_eq!(BlobId::of(plain.unwrap()), blobs[position]);
            seen.fetch_add(1, Ordering::Relaxed) < count
        });
        assert_eq!(seen.into_inner(), count);
        assert_eq!(store.fetched.load(Ordering::Relaxed), count * ((16 << 10) + crypto::OVERHEAD), "{count}");
    }
}

#[test]
fn a_blob_under_a_false_name_is_neither_delivered_nor_called_whole() {
    let store = MemoryStore::sound();
    let repository = create(&store);
    let inner = &repository.inner;
    let names = [BlobId::of(b"right"), BlobId([9; 32])];
    let (mut bytes, mut entries) = (Vec::new(), Vec::new());
    for (plain, id) in [(b"right", names[0]), (b"wrong", names[1])] {
        let sealed = inner.key.seal(plain).unwrap();
        let (offset, length) = (bytes.len() as u32, sealed.len() as u32);
        entries.push(pack::PackEntry { kind: BlobKind::Data, id, offset, length, uncompressed: 0 });
        bytes.extend(sealed);
    }
    bytes.extend(pack::seal_header(&entries, &inner.key).unwrap());
    let id = BlobId::of(&bytes);
    store.put(&pack::key_of(&id), &bytes, PutMode::CreateNew).unwrap();
    // An index that gives the place of one blob to another, too.
    let other = BlobId([8; 32]);
    let misplaced = pack::PackEntry { id: other, ..entries[0] };
    index_file::save(inner, &[(id, entries)]).unwrap();
    index_file::save(inner, &[(id, vec![misplaced])]).unwrap();
    let names = [names[0], names[1], other];
    let seen = Mutex::new(Vec::new());
    repository.reader().unwrap().read_many(&names, &|position, plain| {
        guarded(&seen).push((position, plain.is_ok()));
        true
    });
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen, [(0, true), (1, false), (2, false)]);
    let report = repository.verify(VerifyDepth::Data { percent: 100, seed: 0 }, &NoProgress).unwrap();
    assert!(report.damage.iter().any(|text| text.contains("1 of its 2 blobs cannot be read")), "{:?}", report.damage);
}

#[test]
fn a_damaged_copy_is_passed_for_a_whole_one() {
    let store = MemoryStore::sound();
    let repository = create(&store);
    let content = noise(10_000);
    let writers = [writer(&repository), writer(&repository)];
    let mut blobs = Vec::new();
    for writer in writers {
        blobs = writer.store_content(&mut &content[..], Chunking::Content).unwrap().blobs;
        writer.finish().unwrap();
    }
    assert_eq!(count(&store, pack::PACKS), 2);
    let packs = store.list(pack::PACKS).unwrap();
    let mut altered = store.get(&packs[0].key).unwrap();
    altered[100] ^= 1;
    store.put(&packs[0].key, &altered, PutMode::Replace).unwrap();
    let reader = repository.reader().unwrap();
    assert_eq!(reader.read(BlobKind::Data, &blobs[0]).unwrap(), content);
    store.delete(&packs[1].key).unwrap();
    assert!(matches!(reader.read(BlobKind::Data, &blobs[0]), Err(RepositoryError::Damaged(_))));
}

#[test]
fn a_lock_of_a_dead_process_or_of_long_ago_is_removed() {
    let store = MemoryStore::sound();
    let repository = create(&store);
    let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
    let lock = |host: &str, pid: u32, time: &str| {
        let json = serde_json::json!({"time": time, "exclusive": true, "hostname": host, "username": "u", "pid": pid});
        unpacked::save(&repository.inner, lock::LOCKS, &json).unwrap();
    };
    let here = lock::who().0;
    lock(&here, i32::MAX as u32 - 1, "2026-01-01T11:59:59Z");
    lock("elsewhere", 1, "2026-01-01T11:29:00Z");
    let guard = repository.lock_shared(now).unwrap();
    assert_eq!(count(&store, lock::LOCKS), 1);
    drop(guard);
    lock("elsewhere", 1, "2026-01-01T11:31:00Z");
    let Err(RepositoryError::Locked(who)) = repository.lock_shared(now) else { panic!("must be locked") };
    assert!(who.contains("u@elsewhere") && who.contains("2026-01-01T11:31:00Z"), "{who}");
    assert_eq!(count(&store, lock::LOCKS), 1, "our own attempt leaves nothing");
}

#[test]
fn a_sample_of_packs_depends_on_the_seed() {
    let packs =
        || (0..50).map(|number| verify::KnownPack { id: BlobId([number; 32]), size: 1, entries: Vec::new() }).collect();
    let chosen = |percent, seed| -> Vec<u8> {
        verify_data::choose(packs(), percent, seed).iter().map(|pack| pack.id.0[0]).collect()
    };
    assert_eq!(chosen(10, 1).len(), 5);
    assert_eq!(chosen(1, 1).len(), 1);
    assert_eq!((chosen(0, 1).len(), chosen(200, 1).len()), (0, 50));
    assert_eq!(chosen(10, 1), chosen(10, 1));
    assert_ne!(chosen(10, 1), chosen(10, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn contents_survive(contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 1..8)) {
        let store = MemoryStore::sound();
        let repository = create(&store);
        let writer = writer(&repository);
        let store_it = |content: &Vec<u8>| writer.store_content(&mut &content[..], Chunking::Fixed(700)).unwrap();
        let stored: Vec<_> = contents.iter().map(store_it).collect();
        writer.finish().unwrap();
        let reader = Repository::open(store, &password()).unwrap().reader().unwrap();
        for (content, stored) in contents.iter().zip(stored) {
            let read = |id| reader.read(BlobKind::Data, id).unwrap();
            prop_assert_eq!(&stored.blobs.iter().flat_map(read).collect::<Vec<u8>>(), content);
            let lengths = stored.blobs.iter().map(|id| reader.length(BlobKind::Data, id).unwrap());
            prop_assert_eq!(lengths.sum::<u64>(), stored.bytes);
        }
    }
}

#[test]
fn what_grew_keeps_the_blob_that_was_its_end() {
    let repository = create(&MemoryStore::sound());
    let pieces: Vec<u8> = noise(8 << 20).into_iter().map(|byte| b'a' + byte % 26).collect();
    let store = |length: usize, chunking: Chunking<'_>| {
        let writer = writer(&repository);
        let stored = writer.store_content(&mut &pieces[..length], chunking).unwrap();
        writer.finish().unwrap();
        stored
    };
    let length_of = |id: &BlobId| repository.reader().unwrap().length(BlobKind::Data, id).unwrap();
    let mut length = 5 << 20;
    let mut earlier = store(length, Chunking::Content);
    let mut ends_kept = 0;
    for _ in 0..4 {
        length += 300 << 10;
        let stored = store(length, Chunking::Like(&earlier.blobs));
        let kept = stored.blobs.iter().zip(&earlier.blobs).take_while(|(now, then)| now == then).count();
        let end_is_kept = length_of(earlier.blobs.last().unwrap()) >= TAIL_KEPT as u64;
        ends_kept += usize::from(end_is_kept);
        assert_eq!(kept, earlier.blobs.len() - usize::from(!end_is_kept));
        earlier = stored;
    }
    assert!(ends_kept >= 2, "{ends_kept}");
    let reader = repository.reader().unwrap();
    let read: Vec<u8> = earlier.blobs.iter().flat_map(|id| reader.read(BlobKind::Data, id).unwrap()).collect();
    assert!(read == pieces[..length]);
    // What an earlier version says is a proposal only.
    let writer = writer(&repository);
    let other = writer.store_content(&mut &pieces[1..length], Chunking::Like(&earlier.blobs)).unwrap();
    assert_eq!(other, writer.store_content(&mut &pieces[1..length], Chunking::Content).unwrap());
    writer.finish().unwrap();
    let read: Vec<u8> =
        other.blobs.iter().flat_map(|id| repository.reader().unwrap().read(BlobKind::Data, id).unwrap()).collect();
    assert!(read == pieces[1..length]);
}
