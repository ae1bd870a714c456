//! A bucket as a store, with everything going wrong between it and us: it completes, or fails with a sentence, and never
//! ends well with a bad object.
#![cfg(feature = "aws")]

#[path = "common/s3/mod.rs"]
mod bucket_server;

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lifeboat::ground::{NoProgress, Secret, SecretReference};
use lifeboat::policy::{BucketOptions, ObjectLock};
use lifeboat::repository::{BlobKind, Chunking, KeyStrength, Repository, Snapshot, VerifyDepth};
use lifeboat::site::s3::{Limits, S3Store};
use lifeboat::site::{BucketPlace, ObjectStore, PutMode, StoreError, StoreErrorKind};

use bucket_server::{Fault, Proxy, server};

const BUCKET: &str = "store-tests";

/// The bucket of these tests, made once.
fn bucket() {
    static MADE: std::sync::Once = std::sync::Once::new();
    MADE.call_once(|| server().bucket(BUCKET));
}

fn place(endpoint: &str, prefix: &str) -> BucketPlace {
    let password = tempfile::NamedTempFile::new().unwrap().into_temp_path().keep().unwrap();
    std::fs::write(&password, bucket_server::SECRET).unwrap();
    let access = tempfile::NamedTempFile::new().unwrap().into_temp_path().keep().unwrap();
    std::fs::write(&access, bucket_server::ACCESS).unwrap();
    let file = |path: &std::path::Path| Some(SecretReference::File(path.display().to_string()));
    BucketPlace {
        region: "us-east-1".into(),
        bucket: BUCKET.into(),
        options: BucketOptions {
            prefix: Some(prefix.into()),
            endpoint: Some(endpoint.into()),
            access_key: file(&access),
            secret_key: file(&password),
            ..BucketOptions::default()
        },
    }
}

fn limits() -> Limits {
    Limits {
        silence: Duration::from_millis(1500),
        slowest: 1 << 20,
        budget: Duration::from_secs(12),
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(100),
        ..Limits::default()
    }
}

fn store(endpoint: &str, prefix: &str) -> Arc<S3Store> {
    bucket();
    Arc::new(S3Store::new(place(endpoint, prefix), limits()))
}

fn direct(prefix: &str) -> Arc<S3Store> {
    store(&server().endpoint(), prefix)
}

fn password() -> Secret {
    Secret::new(b"5f".repeat(32))
}

/// Bytes from a seed that do not shrink.
struct Noise(u64, usize);

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(self.1);
        for byte in &mut buffer[..count] {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.0 >> 33) as u8;
        }
        self.1 -= count;
        Ok(count)
    }
}

const ALL: VerifyDepth = VerifyDepth::Data { percent: 100, seed: 0 };
const CONTENT: usize = 100_000;

/// A whole backup as the engine does it, and one record beside it. What it stored, when it ended well.
fn back_up(store: &Arc<S3Store>, seed: u64) -> Result<Vec<lifeboat::repository::BlobId>, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let shared: Arc<dyn ObjectStore> = Arc::clone(store) as Arc<dyn ObjectStore>;
    let repository = match Repository::open(Arc::clone(&shared), &password()) {
        Ok(repository) => repository,
        Err(_) => Repository::create(shared, &password(), KeyStrength::Random).map_err(|e| words(&e))?,
    };
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    let lock = repository.lock_shared(now).map_err(|e| words(&e))?;
    let writer = repository.writer(Arc::new(NoProgress)).map_err(|e| words(&e))?;
    let stored = writer.store_content(&mut Noise(seed, CONTENT), Chunking::Fixed(30_000)).map_err(|e| words(&e))?;
    let tree = writer.store_tree(Vec::new()).map_err(|e| words(&e))?;
    writer.finish().map_err(|e| words(&e))?;
    let snapshot = Snapshot {
        id: String::new(),
        time: now,
        tree,
        paths: vec!["/srv".into()],
        hostname: "h".into(),
        username: String::new(),
        uid: 0,
        gid: 0,
        tags: vec![],
        parent: None,
    };
    repository.save_snapshot(&snapshot).map_err(|e| words(&e))?;
    store
        .put("ledger/00000001.json", format!("entry {seed}\n").as_bytes(), PutMode::CreateNew)
        .map_err(|e| words(&e))?;
    store.put("pointer.json", format!("pointer {seed}\n").as_bytes(), PutMode::Replace).map_err(|e| words(&e))?;
    drop(lock);
    Ok(stored.blobs)
}

/// What ended well is there, whole, and read back right.
fn assert_whole(prefix: &str, blobs: &[lifeboat::repository::BlobId], seed: u64, case: &str) {
    let direct = direct(prefix);
    let repository = Repository::open(Arc::clone(&direct) as Arc<dyn ObjectStore>, &password()).unwrap();
    let report = repository.verify(ALL, &NoProgress).unwrap();
    assert!(report.damage.is_empty(), "{case}: {:?}", report.damage);
    assert_eq!(repository.snapshots().unwrap().len(), 1, "{case}");
    let reader = repository.reader().unwrap();
    let mut bytes = Vec::new();
    for blob in blobs {
        bytes.extend(reader.read(BlobKind::Data, blob).unwrap());
    }
    let mut expected = Vec::new();
    Noise(seed, CONTENT).read_to_end(&mut expected).unwrap();
    assert!(bytes == expected, "{case}: other bytes came back");
    assert_eq!(direct.get("ledger/00000001.json").unwrap(), format!("entry {seed}\n").as_bytes(), "{case}");
    assert_eq!(direct.get("pointer.json").unwrap(), format!("pointer {seed}\n").as_bytes(), "{case}");
}

/// What failed left nothing that a later run or a reader could take for sound.
fn assert_harmless(prefix: &str, case: &str) {
    let direct = direct(prefix);
    let shared: Arc<dyn ObjectStore> = Arc::clone(&direct) as Arc<dyn ObjectStore>;
    let Ok(repository) = Repository::open(shared, &password()) else { return };
    let report = repository.verify(ALL, &NoProgress).unwrap();
    assert!(report.damage.is_empty(), "{case}: {:?}", report.damage);
}

const CLASSES: [(&str, Fault); 14] = [
    ("500", Fault::Answer(500, "InternalError")),
    ("503", Fault::Answer(503, "SlowDown")),
    ("429", Fault::Answer(429, "TooManyRequests")),
    ("reset before", Fault::CutBefore),
    ("reset after", Fault::CutAfter),
    ("short body", Fault::HalfBody),
    ("bad checksum", Fault::Flip),
    ("200 with an error", Fault::ErrorIn200),
    ("hang", Fault::Hang),
    ("1 kB/s", Fault::Trickle),
    ("expired token", Fault::Answer(400, "ExpiredToken")),
    ("404 after put", Fault::Answer(404, "NoSuchKey")),
    ("list twice", Fault::Twice),
    ("list reversed", Fault::Reversed),
];

/// One request in four is hit, and none of a run after the fourth hit.
fn unlucky(
    seed: u64,
    fault: Fault,
    listings: bool,
) -> impl FnMut(&bucket_server::Request) -> Option<Fault> + Send + 'static {
    let (mut state, mut hits) = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, 0);
    move |request| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // A listing carries no checksum; the line's own has to do for it.
        let fits = (!listings || request.is_listing()) && !(fault == Fault::Flip && request.is_listing());
        let hit = fits && hits < 4 && (listings || state % 4 == 0);
        hits += usize::from(hit);
        hit.then_some(fault)
    }
}

#[test]
fn every_class_of_fault_ends_whole_or_in_a_sentence() {
    let next = AtomicUsize::new(0);
    let cases: Vec<(usize, u64)> =
        (0..CLASSES.len()).flat_map(|class| (1..=10).map(move |seed| (class, seed))).collect();
    let whole = std::sync::Mutex::new(HashMap::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let proxy = Proxy::start(server().port);
                while let Some((class, seed)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (name, fault) = CLASSES[*class];
                    let case = format!("{name}, seed {seed}");
                    let prefix = format!("faults/{class}-{seed}");
                    proxy.rule(unlucky(*seed, fault, matches!(fault, Fault::Twice | Fault::Reversed)));
                    let began = Instant::now();
                    let outcome = back_up(&store(&proxy.endpoint(), &prefix), *seed);
                    assert!(began.elapsed() < Duration::from_secs(60), "{case}: the budget was not kept");
                    proxy.rule(|_| None);
                    match outcome {
                        Ok(blobs) => {
                            assert_whole(&prefix, &blobs, *seed, &case);
                            *whole.lock().unwrap().entry(name).or_insert(0) += 1;
                        }
                        Err(sentence) => {
                            assert!(sentence.len() > 20 && !sentence.contains("Error {"), "{case}: {sentence}");
                            assert_harmless(&prefix, &case);
                        }
                    }
                }
            });
        }
    });
    // Faults that pass by must not cost the run.
    let whole = whole.into_inner().unwrap();
    for (name, _) in CLASSES.iter().filter(|(name, _)| !["404 after put", "expired token"].contains(name)) {
        assert_eq!(whole.get(name), Some(&10), "{name}: {whole:?}");
    }
}

fn changes(request: &bucket_server::Request) -> bool {
    matches!(request.method.as_str(), "PUT" | "DELETE")
}

#[test]
fn an_answer_that_is_lost_doubles_nothing_and_a_conflict_is_not_believed() {
    let proxy = Proxy::start(server().port);
    let blobs = back_up(&store(&proxy.endpoint(), "lost/none"), 1).unwrap();
    assert_whole("lost/none", &blobs, 1, "without faults");
    let count = proxy.take_log().iter().filter(|request| changes(request)).count();
    let usual = server().keys(BUCKET, "lost/none/").len();
    assert!(count >= 9, "{count} puts and deletes");
    let faults =
        [Fault::CutAfter, Fault::Answer(409, "ConditionalRequestConflict"), Fault::Answer(412, "PreconditionFailed")];
    std::thread::scope(|scope| {
        for (kind, fault) in faults.into_iter().enumerate() {
            scope.spawn(move || (0..count).for_each(|hit| one_change_is_hit(kind, fault, hit, usual)));
        }
    });
}

/// A run in which the change of this number meets the fault is whole, and stored what a run without faults does.
fn one_change_is_hit(kind: usize, fault: Fault, hit: usize, usual: usize) {
    let (prefix, case) = (format!("lost/{kind}-{hit}"), format!("{fault:?} at change {hit}"));
    let proxy = Proxy::start(server().port);
    let mut seen = 0;
    proxy.rule(move |request| {
        let this = changes(request) && seen == hit;
        seen += usize::from(changes(request));
        this.then_some(fault)
    });
    let blobs = back_up(&store(&proxy.endpoint(), &prefix), 7).unwrap_or_else(|sentence| panic!("{case}: {sentence}"));
    assert_whole(&prefix, &blobs, 7, &case);
    let keys = server().keys(BUCKET, &format!("{prefix}/"));
    let locks = keys.iter().filter(|key| key.contains("/locks/")).count();
    assert_eq!((locks, keys.len()), (0, usual), "{case}: {keys:?}");
}

#[test]
fn of_two_writers_of_a_name_one_wins_and_the_other_is_told() {
    let prefix = "race";
    let wins = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for writer in 0..6 {
            let wins = &wins;
            scope.spawn(move || {
                match direct(prefix).put("ledger/00000001.json", format!("{writer}").as_bytes(), PutMode::CreateNew) {
                    Ok(()) => drop(wins.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => assert_eq!(error.kind, StoreErrorKind::AlreadyExists, "{error}"),
                }
            });
        }
    });
    assert_eq!(wins.load(Ordering::Relaxed), 1);
}

#[test]
fn what_lies_under_a_name_that_is_its_hash_and_differs_is_damage() {
    let store = direct("swapped");
    let name = format!("repository/index/{}", lifeboat::ground::sha256_hex(b"some"));
    server().plant(BUCKET, &format!("swapped/{name}"), b"else");
    let error = store.put(&name, b"some", PutMode::CreateNew).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Other);
    assert!(error.message.contains("damaged"), "{error}");
    server().plant(BUCKET, &format!("swapped/{name}"), b"some");
    assert_eq!(store.put(&name, b"some", PutMode::CreateNew).unwrap_err().kind, StoreErrorKind::AlreadyExists);
}

#[test]
fn a_listing_of_many_pages_is_complete_and_a_page_that_fails_fails_it() {
    let prefix = "pages";
    let keys: Vec<String> = (0..1100).map(|number| format!("points/{number:04}.json")).collect();
    let store = direct(prefix);
    std::thread::scope(|scope| {
        for part in keys.chunks(100) {
            let store = &store;
            scope.spawn(move || part.iter().for_each(|key| store.put(key, b"x", PutMode::Replace).unwrap()));
        }
    });
    let listed: Vec<String> = store.list("points/").unwrap().into_iter().map(|object| object.key).collect();
    assert_eq!(listed, keys);
    let proxy = Proxy::start(server().port);
    proxy.rule(|request| request.target.contains("continuation-token").then_some(Fault::Answer(403, "AccessDenied")));
    let error = self::store(&proxy.endpoint(), prefix).list("points/").unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
    assert!(error.message.contains("s3:ListBucket") && error.message.contains("TEST0001"), "{error}");
    let mut failures = 0;
    proxy.rule(move |request| {
        failures += usize::from(request.target.contains("continuation-token"));
        (request.target.contains("continuation-token") && failures < 3).then_some(Fault::HalfBody)
    });
    assert_eq!(self::store(&proxy.endpoint(), prefix).list("points/").unwrap().len(), keys.len());
}

#[test]
fn large_objects_go_in_parts_and_come_back_whole() {
    bucket();
    let proxy = Proxy::start(server().port);
    let limits = Limits { parts_from: 1 << 20, part: 5 << 20, silence: Duration::from_secs(10), ..limits() };
    let store = S3Store::new(place(&proxy.endpoint(), "parts"), limits);
    let mut bytes = Vec::new();
    Noise(5, 12 << 20).read_to_end(&mut bytes).unwrap();
    store.put("reports/large", &bytes, PutMode::CreateNew).unwrap();
    assert!(store.get("reports/large").unwrap() == bytes);
    assert!(store.get_range("reports/large", 5_000_000..6_000_000).unwrap() == bytes[5_000_000..6_000_000]);
    assert_eq!(store.put("reports/large", &bytes, PutMode::CreateNew).unwrap_err().kind, StoreErrorKind::AlreadyExists);
    assert_eq!(
        store.put("reports/large", &bytes[..9 << 20], PutMode::CreateNew).unwrap_err().kind,
        StoreErrorKind::AlreadyExists
    );
    // The answer to the last call is lost: what it joined is found and believed.
    proxy.rule(|request| {
        let joins = request.method == "POST" && request.target.contains("uploadId");
        joins.then_some(Fault::CutAfter)
    });
    let mut once = 0;
    proxy.rule(move |request| {
        let joins = request.method == "POST" && request.target.contains("uploadId");
        once += usize::from(joins);
        (joins && once == 1).then_some(Fault::CutAfter)
    });
    store.put("reports/lost", &bytes, PutMode::CreateNew).unwrap();
    assert!(store.get("reports/lost").unwrap() == bytes);
    // A part that cannot be sent: the upload is given up, and nothing stays.
    proxy.rule(|request| (request.target.contains("partNumber=2")).then_some(Fault::Answer(403, "AccessDenied")));
    let error = store.put("reports/none", &bytes, PutMode::CreateNew).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
    proxy.rule(|_| None);
    assert_eq!(store.size("reports/none").unwrap(), None);
    assert_eq!(store.abandoned(Duration::ZERO).unwrap(), []);
}

#[test]
fn uploads_that_were_broken_off_are_listed_aged_given_up_and_counted() {
    bucket();
    let server = server();
    let begin = |number: usize| {
        let key = format!("broken/reports/{number:02}");
        server.block_on(server.client.create_multipart_upload().bucket(BUCKET).key(key).send()).unwrap();
    };
    (0..20).for_each(begin);
    let store = direct("broken");
    let found = store.abandoned(Duration::ZERO).unwrap();
    assert_eq!(found.len(), 20, "{found:?}");
    assert!(found.iter().all(|upload| upload.key.starts_with("reports/")), "{found:?}");
    assert_eq!(store.abandoned(Duration::from_secs(3600)).unwrap(), [], "none is an hour old");
    assert_eq!(ObjectStore::sweep(&*store).unwrap(), Vec::<String>::new(), "one under way is left alone");
    assert_eq!(store.abandoned(Duration::ZERO).unwrap().len(), 20);
    std::thread::sleep(Duration::from_millis(1100));
    let hasty = S3Store::new(
        place(&server.endpoint(), "broken"),
        Limits { abandoned_after: Duration::from_secs(1), ..limits() },
    );
    let removed = hasty.sweep().unwrap();
    assert_eq!(removed.len(), 20, "{removed:?}");
    assert!(removed[0].contains("reports/00") && removed[0].contains("broken off"), "{removed:?}");
    assert_eq!(store.abandoned(Duration::ZERO).unwrap(), []);
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    bucket();
    let proxy = Proxy::start(server().port);
    let ask = |answer: Fault| -> StoreError {
        proxy.rule(move |_| Some(answer));
        let store = store(&proxy.endpoint(), "words");
        let error = store.put("points/a.json", b"x", PutMode::CreateNew).unwrap_err();
        assert!(!error.message.contains(bucket_server::SECRET), "{error}");
        error
    };
    for (status, code, kind, words) in [
        (404, "NoSuchBucket", StoreErrorKind::Other, "there is no bucket store-tests"),
        (403, "AccessDenied", StoreErrorKind::Denied, "s3:PutObject"),
        (403, "RequestTimeTooSkewed", StoreErrorKind::Denied, "clock"),
        (403, "SignatureDoesNotMatch", StoreErrorKind::Denied, "does not accept these credentials"),
        (301, "PermanentRedirect", StoreErrorKind::Other, "not in the region us-east-1"),
        (400, "AuthorizationHeaderMalformed", StoreErrorKind::Other, "not in the region us-east-1"),
        (400, "ExpiredToken", StoreErrorKind::Denied, "expired"),
        (507, "InsufficientStorage", StoreErrorKind::Full, "no room left"),
        (400, "SomethingNew", StoreErrorKind::Other, "As the test wants"),
    ] {
        let error = ask(Fault::Answer(status, code));
        assert_eq!(error.kind, kind, "{code}: {error}");
        assert!(error.message.contains(words), "{code}: {error}");
        assert!(error.message.contains("s3://store-tests/words/points/a.json"), "{code}: {error}");
        assert!(error.message.contains("TEST0001"), "{code}: the request id is missing in {error}");
    }
    let nobody = Limits { budget: Duration::from_millis(300), ..limits() };
    let error = S3Store::new(place("http://127.0.0.1:9", "words"), nobody).get("config").unwrap_err();
    assert!(error.message.contains("cannot be reached") && error.message.contains("127.0.0.1:9"), "{error}");
}

#[test]
fn overload_slows_every_call_down_and_the_work_is_done_all_the_same() {
    let proxy = Proxy::start(server().port);
    let mut state = 11_u32;
    proxy.rule(move |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16).is_multiple_of(3).then_some(Fault::Answer(503, "SlowDown"))
    });
    let store = S3Store::new(
        {
            bucket();
            place(&proxy.endpoint(), "storm")
        },
        Limits { budget: Duration::from_secs(60), ..limits() },
    );
    for number in 0..10 {
        store.put(&format!("points/{number}.json"), b"{}", PutMode::CreateNew).unwrap();
    }
    proxy.rule(|_| None);
    assert_eq!(store.list("points/").unwrap().len(), 10);
    assert!(proxy.take_log().len() < 60, "a third more than needed, not a storm of our own");
}

#[test]
fn what_is_stored_carries_class_and_lock_by_its_kind() {
    let bucket = "locked-tests";
    let server = server();
    let made = server.client.create_bucket().bucket(bucket).object_lock_enabled_for_bucket(true).send();
    server.block_on(made).unwrap();
    let mut place = place(&server.endpoint(), "held");
    place.bucket = bucket.into();
    place.options.storage_class = Some("STANDARD_IA".into());
    place.options.object_lock = Some(ObjectLock { compliance: false, days: 2 });
    let store = S3Store::new(place, limits());
    for key in ["repository/data/aa/x", "repository/keys/x", "repository/locks/x", "runs/x.jsonl"] {
        store.put(key, b"x", PutMode::CreateNew).unwrap();
    }
    let head = |key: &str| {
        let key = format!("held/{key}");
        server.block_on(server.client.head_object().bucket(bucket).key(key).send()).unwrap()
    };
    let (data, lock) = (head("repository/data/aa/x"), head("repository/locks/x"));
    assert_eq!(data.storage_class().map(|class| class.as_str()), Some("STANDARD_IA"));
    assert_eq!(data.object_lock_mode().map(|mode| mode.as_str()), Some("GOVERNANCE"));
    assert!(data.object_lock_retain_until_date().is_some());
    assert!(head("repository/keys/x").object_lock_mode().is_some());
    assert!(lock.object_lock_mode().is_none() && head("runs/x.jsonl").object_lock_mode().is_none());
    store.delete("repository/locks/x").unwrap();
    store.delete("repository/locks/x").unwrap();
}
