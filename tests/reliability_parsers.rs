//! The parsers of stored bytes take anything: arbitrary bytes and valid objects that were mangled, without a panic and
//! without more memory than the input can justify. The same doors as the fuzz targets in `fuzz/`.

mod common;
#[path = "common/counting_allocator.rs"]
mod counting_allocator;
#[path = "common/engine/mod.rs"]
mod engine;

use std::fs;
use std::path::{Path, PathBuf};

use common::is_long;
use engine::sample::{self, Sample, password};
use engine::seed::{self, Seed, each};
use lifeboat::ground::NoProgress;
use lifeboat::repository::{BlobId, BlobKind, Repository, VerifyDepth, fuzzing};
use lifeboat::site::ObjectStore;
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: counting_allocator::Counting = counting_allocator::Counting;

/// One parser: its name, which is that of its fuzz target, itself, and how many bytes of memory one byte of input may
/// cost. The cheapest entry of a tree has 26 bytes of JSON and becomes a node of some 400, twice while it is converted.
struct Parser {
    name: &'static str,
    parse: fn(&[u8]) -> bool,
    growth: usize,
}

const PARSERS: [Parser; 8] = [
    Parser { name: "config", parse: fuzzing::config, growth: 64 },
    Parser { name: "key", parse: fuzzing::key, growth: 64 },
    Parser { name: "pack_header", parse: fuzzing::pack_header, growth: 64 },
    Parser { name: "index", parse: fuzzing::index, growth: 256 },
    Parser { name: "tree", parse: fuzzing::tree, growth: 256 },
    Parser { name: "snapshot", parse: fuzzing::snapshot, growth: 64 },
    Parser { name: "lock", parse: fuzzing::lock, growth: 64 },
    // A zstd block of 4 bytes may stand for 128 KiB; the buffer doubles while it grows.
    Parser { name: "unpacked", parse: fuzzing::unpacked, growth: 128 << 10 },
];

/// Memory that every parser may use, whatever it gets.
const BASE: usize = 256 << 10;

impl Parser {
    /// Parses within its ceiling.
    fn run(&self, bytes: &[u8]) -> bool {
        let (accepted, peak) = counting_allocator::peak_of(|| (self.parse)(bytes));
        let ceiling = BASE + self.growth * bytes.len();
        let name = self.name;
        assert!(peak <= ceiling, "{name}: {} bytes took {peak} bytes of memory, at most {ceiling}", bytes.len());
        accepted
    }

    fn corpus(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let directory = corpus_directory().join(self.name);
        let mut files = common::files_below(&directory);
        // Beside what fuzzers may have put there on this machine.
        files.retain(|path| path.extension().is_some_and(|extension| extension == "seed"));
        files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }
}

fn corpus_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// Valid objects of every kind, from which fuzzers start. `UPDATE_CORPUS=1` writes them anew.
#[test]
fn every_seed_of_the_corpus_is_a_valid_object() {
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        write_corpus();
    }
    for parser in &PARSERS {
        let corpus = parser.corpus();
        assert!(!corpus.is_empty(), "{} has seeds", parser.name);
        for (path, bytes) in corpus {
            assert!(parser.run(&bytes), "{} is accepted", path.display());
        }
    }
}

fn write_corpus() {
    let (_, store) = Sample::make(3, 2);
    let repository = Repository::open(store.clone(), &password()).unwrap();
    let lock = repository.lock_shared("2026-01-01T00:00:00Z".parse().unwrap()).unwrap();
    let put = |parser: &str, name: &str, bytes: &[u8]| {
        let directory = corpus_directory().join(parser);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("{name}.seed")), bytes).unwrap();
    };
    let json = |plain: &[u8]| zstd::decode_all(&plain[1..]).unwrap();
    for key in store.keys() {
        let stored = store.bytes(&key).to_vec();
        let plain = || fuzzing::open(&repository, stored.clone()).unwrap();
        match key.split('/').next().unwrap() {
            "config" => put("config", "restic-v2", &plain()),
            "keys" => put("key", "scrypt", &nobodys(&stored)),
            "data" => put("pack_header", &key[8..16], &header_of(&repository, &stored)),
            "index" => put("index", &key[6..14], &json(&plain())),
            "snapshots" => {
                put("snapshot", &key[10..18], &json(&plain()));
                put("unpacked", "compressed", &plain());
                put("unpacked", "plain", &json(&plain()));
            }
            "locks" => put("lock", "shared", &nobodys(&json(&plain()))),
            other => panic!("unknown objects: {other}"),
        }
    }
    drop(lock);
    let reader = repository.reader().unwrap();
    for (number, snapshot) in repository.snapshots().unwrap().iter().enumerate() {
        put("tree", &format!("root-{number}"), &reader.read(BlobKind::Tree, &snapshot.tree).unwrap());
    }
    put("tree", "odd", ODD_TREE.as_bytes());
}

/// Without the names of the machine and of whoever made it.
fn nobodys(json: &[u8]) -> Vec<u8> {
    let mut value: serde_json::Value = serde_json::from_slice(json).unwrap();
    for (field, name) in [("hostname", "host"), ("username", "somebody")] {
        value[field] = name.into();
    }
    value.to_string().into_bytes()
}

/// Fields and values that lifeboat writes seldom or never, and restic does.
const ODD_TREE: &str = r#"{"nodes":[{"name":"!\\xff\\n","type":"symlink","mode":134218239,
"mtime":"1901-12-13T20:45:52.5+02:00","uid":4294967294,"linktarget":"\ufffd","linktarget_raw":"/w==","content":null},
{"name":"a","type":"chardev","device":259,"generic_attributes":{"x":[1,{}]},"error":"e"},
{"name":"b","type":"file","size":0,"extended_attributes":[{"name":"user.\ufffd","value":null,"name_raw":"dXNlci7/"}]}]}"#;

fn header_of(repository: &Repository, pack: &[u8]) -> Vec<u8> {
    let (rest, length) = pack.split_last_chunk().unwrap();
    let header = rest[rest.len() - u32::from_le_bytes(*length) as usize..].to_vec();
    fuzzing::open(repository, header).unwrap()
}

/// Mangles a valid object: bits, bytes, numbers, pieces cut, doubled and moved.
fn mangle(bytes: &mut Vec<u8>, random: &mut Seed) {
    const PIECES: [&[u8]; 12] = [
        b"0",
        b"-1",
        b"4294967295",
        b"18446744073709551615",
        b"1e999",
        b"null",
        b"\"\"",
        b"{}",
        b"[",
        b"\\xff",
        b"\\ud800",
        b"\0",
    ];
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len() + 1);
        let to = (at + random.below(40)).min(bytes.len());
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.next() as u8,
            2 => drop(bytes.drain(at..to)),
            3 => bytes.extend_from_within(at..to),
            4 => {
                let piece = bytes[at..to].to_vec();
                let place = random.below(bytes.len() + 1);
                bytes.splice(place..place, piece);
            }
            _ => drop(bytes.splice(at..to, random.pick(&PIECES).iter().copied())),
        }
    }
}

#[test]
fn mangled_objects_neither_panic_nor_take_memory() {
    let seed = seed::seed();
    for parser in &PARSERS {
        let corpus = parser.corpus();
        let mut accepted = 0;
        for case in 0..if is_long() { 200_000 } else { 4_000 } {
            let mut random = Seed::new(seed.wrapping_add(case));
            let mut bytes = random.pick(&corpus).1.clone();
            mangle(&mut bytes, &mut random);
            accepted += usize::from(parser.run(&bytes));
        }
        eprintln!("{}: {accepted} were still valid", parser.name);
    }
}

/// Few bytes that claim to be many: refused before the memory is taken.
#[test]
fn few_bytes_cannot_ask_for_much_memory() {
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
    for claimed in [1 << 10, 1 << 20, 64 << 20, (64 << 20) + 1, 1 << 30, usize::MAX] {
        for length in [0, 1, 8, bomb.len() / 2, bomb.len()] {
            let text = &bomb[..length];
            let (accepted, peak) = counting_allocator::peak_of(|| fuzzing::compressed(text, claimed));
            assert_eq!(accepted, claimed == 64 << 20 && length == bomb.len());
            let ceiling = BASE + length * (64 << 10);
            assert!(peak <= ceiling, "{length} bytes that claim {claimed} took {peak}");
        }
    }
}

/// Whoever knows the password may store what is sealed and named well and makes no sense. Whole commands stand it.
#[test]
fn forged_objects_do_not_bring_a_verification_or_a_restore_down() {
    let (sample, store) = Sample::make(5, 3);
    let repository = Repository::open(store.clone(), &password()).unwrap();
    let kinds = sample::by_kind(&store.keys());
    let seed = seed::seed();
    each(if is_long() { 5_000 } else { 300 }, |case| {
        let mut random = Seed::new(seed.wrapping_add(case as u64));
        let kind = ["index", "snapshots", "data"][case % 3];
        let key = random.pick(&kinds[kind]);
        let (forged, stored) = (store.copy(), store.bytes(key));
        forged.remove(key);
        let object = match kind {
            "data" => {
                // With an index that cannot be read, packs are found by their headers.
                forged.set(&kinds["index"][0], *b"no index");
                let mut header = header_of(&repository, &stored);
                mangle(&mut header, &mut random);
                let sealed = fuzzing::seal(&repository, &header).unwrap();
                let length = (sealed.len() as u32).to_le_bytes();
                [&stored[..stored.len() - header.len().min(stored.len())], &sealed, &length].concat()
            }
            _ => {
                let plain = fuzzing::open(&repository, stored.to_vec()).unwrap();
                let mut json = zstd::decode_all(&plain[1..]).unwrap();
                mangle(&mut json, &mut random);
                fuzzing::seal(&repository, &json).unwrap()
            }
        };
        let name = BlobId::of(&object).to_string();
        let key = if kind == "data" { format!("data/{}/{name}", &name[..2]) } else { format!("{kind}/{name}") };
        forged.set(&key, object);
        let opened = Repository::open(forged.clone(), &password()).unwrap();
        let _ = opened.verify(VerifyDepth::Data { percent: 100, seed: 0 }, &NoProgress);
        if kind != "snapshots" {
            // Contents are bound to their hash whatever an index says of them: exact or refused, still.
            sample.restore(forged.clone());
        }
        let _ = opened.snapshots();
        let _ = forged.list("").unwrap();
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if is_long() { 50_000 } else { 1_000 }))]

    #[test]
    fn arbitrary_bytes_neither_panic_nor_take_memory(bytes: Vec<u8>) {
        for parser in &PARSERS {
            parser.run(&bytes);
        }
        let text = String::from_utf8_lossy(&bytes);
        fuzzing::name(&text);
        fuzzing::compressed(&bytes, 1 << 20);
        // What looks like the beginning of something real gets further.
        for start in [&b"{\"nodes\":[{\"name\":\"a\",\"type\":\""[..], b"{\"packs\":[{\"id\":\"", b"\x02\x28\xb5\x2f\xfd", b"{\"time\":\""] {
            let longer = [start, &bytes].concat();
            for parser in &PARSERS {
                parser.run(&longer);
            }
        }
    }
}
