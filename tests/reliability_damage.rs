//! Damage to stored objects, thousands of times: a full verification tells of all of it, and a restore is exact or
//! refuses with a sentence. Nothing wrong ever comes back in silence.
//!
//! In process, on a store in memory. `LIFEBOAT_LONG=1` draws more.

mod common;
#[path = "common/engine/mod.rs"]
mod engine;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::is_long;
use engine::sample::{self, Sample, blobs_named_in, password};
use engine::seed::{self, Seed, each};
use engine::store::MemoryStore;
use lifeboat::repository::{BlobId, Repository};
use lifeboat::site::ObjectStore;

/// A sample with one lock object in it, as a process that was killed leaves it.
fn sample_with_lock(backups: usize) -> (Sample, Arc<MemoryStore>) {
    let (sample, store) = Sample::make(7, backups);
    let repository = Repository::open(store.clone(), &password()).unwrap();
    let lock = repository.lock_shared("2026-01-01T00:00:00Z".parse().unwrap()).unwrap();
    let key = store.list("locks/").unwrap().remove(0).key;
    let bytes = store.bytes(&key);
    drop(lock);
    store.set(&key, bytes.to_vec());
    assert_eq!(sample::verify(store.clone()), [""; 0]);
    assert_eq!(sample.restore(store.clone()), BTreeSet::new());
    (sample, store)
}

fn kind_of(key: &str) -> &str {
    key.split('/').next().unwrap()
}

/// Damage to `key` must be told, and the restore be exact or refused. Indexes, locks and the like cost no file at all.
fn judge(sample: &Sample, store: &Arc<MemoryStore>, key: &str, what: &str) {
    let damage = sample::verify(store.clone());
    assert!(!damage.is_empty(), "{what}: the verification found nothing");
    let lost = sample.restore(store.clone());
    match kind_of(key) {
        "index" | "locks" => assert!(lost.is_empty(), "{what}: {} files are lost for nothing", lost.len()),
        "snapshots" => assert!(lost.iter().all(|(backup, ..)| store_of(sample, *backup, key)), "{what}: {lost:?}"),
        _ => {}
    }
}

fn store_of(sample: &Sample, backup: usize, key: &str) -> bool {
    key.ends_with(&sample.backups[backup].snapshot)
}

/// Test 4 of the plan: one flipped bit in an object of any kind.
#[test]
fn every_flipped_bit_is_told_and_none_is_restored() {
    let (sample, store) = sample_with_lock(10);
    let kinds: Vec<Vec<String>> = sample::by_kind(&store.keys()).into_values().collect();
    assert_eq!(kinds.len(), 6, "config, data, index, keys, locks, snapshots");
    let seed = seed::seed();
    each(if is_long() { 10_000 } else { 1_000 }, |case| {
        let mut random = Seed::new(seed.wrapping_add(case as u64));
        // Packs, of which most bytes are, half of the times; else every kind as often.
        let kind = if case % 2 == 0 { &kinds[1] } else { &kinds[case / 2 % kinds.len()] };
        let key = random.pick(kind);
        let damaged = store.copy();
        let mut bytes = store.bytes(key).to_vec();
        let (at, bit) = (random.below(bytes.len()), random.below(8));
        bytes[at] ^= 1 << bit;
        damaged.set(key, bytes);
        judge(&sample, &damaged, key, &format!("seed {seed}, case {case}: bit {bit} of byte {at} of {key}"));
    });
}

/// Test 4, the release's way: every bit of a whole small repository.
#[test]
#[ignore = "takes an hour: ./scripts/test --long"]
fn every_single_bit_of_a_repository() {
    let (sample, store) = sample_with_lock(2);
    for key in store.keys() {
        let sound = store.bytes(&key);
        each(sound.len() * 8, |bit| {
            let damaged = store.copy();
            let mut bytes = sound.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            damaged.set(&key, bytes);
            judge(&sample, &damaged, &key, &format!("bit {bit} of {key}"));
        });
    }
}

const REPLACEMENTS: [&str; 7] =
    ["emptied", "cut to a byte", "cut in half", "a byte short", "a byte long", "swapped with another", "older version"];

/// Test 5: cut, lengthened, swapped, replaced by an older one.
#[test]
fn every_cut_swapped_or_older_object_is_told_and_none_is_restored() {
    let (sample, store) = sample_with_lock(if is_long() { 500 } else { 50 });
    let (_, other) = Sample::make(8, 1);
    let keys = store.keys();
    let kinds = sample::by_kind(&keys);
    assert!(keys.len() >= 200, "{} objects", keys.len());
    let seed = seed::seed();
    each(keys.len() * REPLACEMENTS.len(), |case| {
        let (key, way) = (&keys[case / REPLACEMENTS.len()], case % REPLACEMENTS.len());
        let mut random = Seed::new(seed.wrapping_add(case as u64));
        let damaged = store.copy();
        let sound = store.bytes(key);
        let cut = |length: usize| damaged.set(key, &sound[..length]);
        match way {
            0 => cut(0),
            1 => cut(1),
            2 => cut(sound.len() / 2),
            3 => cut(sound.len() - 1),
            4 => damaged.set(key, [&sound[..], &[random.next() as u8]].concat()),
            5 => swap(&damaged, key, &keys, &mut random),
            _ => {
                let kind = &kinds[kind_of(key)];
                let older = kind.iter().filter(|other| *other != key).nth(random.below(kind.len().max(2) - 1));
                // Of a kind that there is one of: that of a repository made with the same password before.
                let foreign = || other.list("").unwrap().into_iter().find(|found| kind_of(&found.key) == kind_of(key));
                let bytes = match older {
                    Some(older) => store.bytes(older),
                    None => foreign().map_or_else(|| store.bytes("config"), |found| other.bytes(&found.key)),
                };
                damaged.set(key, bytes.to_vec());
            }
        }
        let what = format!("seed {seed}, case {case}: {key} {}", REPLACEMENTS[way]);
        let lost = if way == 5 { judge_swap(&sample, &damaged, &what) } else { None };
        if lost.is_none() {
            judge(&sample, &damaged, key, &what);
        }
    });
}

/// Two names with each other's bytes.
fn swap(store: &MemoryStore, key: &str, keys: &[String], random: &mut Seed) {
    // Beside its own kind, which is the likeliest to be taken for the right one, any other.
    let same: Vec<&String> = keys.iter().filter(|other| *other != key && kind_of(other) == kind_of(key)).collect();
    let other = match same.is_empty() || random.below(2) == 0 {
        true => loop {
            let other = random.pick(keys);
            if other != key {
                break other;
            }
        },
        false => *random.pick(&same),
    };
    let (left, right) = (store.bytes(key), store.bytes(other));
    store.set(key, right.to_vec());
    store.set(other, left.to_vec());
}

/// Two objects are damaged at once, so that what may be lost is not told apart here: exact or refused is all.
fn judge_swap(sample: &Sample, store: &Arc<MemoryStore>, what: &str) -> Option<usize> {
    assert!(!sample::verify(store.clone()).is_empty(), "{what}: the verification found nothing");
    Some(sample.restore(store.clone()).len())
}

/// Test 6: each object deleted once. What is lost is exactly what was only there, `verify` names it, the rest restores.
#[test]
fn every_deleted_object_costs_exactly_its_files() {
    let (sample, store) = sample_with_lock(if is_long() { 500 } else { 50 });
    let repository = Repository::open(store.clone(), &password()).unwrap();
    let keys = store.keys();
    assert!(keys.len() >= 200, "{} objects", keys.len());
    each(keys.len(), |case| {
        let key = &keys[case];
        let damaged = store.copy();
        damaged.remove(key);
        let lost = sample.restore(damaged.clone());
        let damage = sample::verify(damaged);
        let gone = blobs_named_in(&repository, key, &store.bytes(key)).unwrap();
        let expected = match kind_of(key) {
            "config" | "keys" => sample.everything(),
            "locks" => BTreeSet::new(),
            "snapshots" => {
                let backup = sample.backups.iter().position(|backup| key.ends_with(&backup.snapshot)).unwrap();
                sample.files_of(backup).collect()
            }
            _ => sample.lost_with(&gone),
        };
        assert_eq!(lost, expected, "without {key}");
        match kind_of(key) {
            // The format holds no list of snapshots or locks: whoever keeps records compares them.
            "snapshots" | "locks" => assert_eq!(damage, [""; 0], "{key}"),
            "config" | "keys" => assert!(!damage.is_empty()),
            _ => assert_named(&sample, &gone, &damage, key),
        }
    });
}

/// Every directory or file that needs a lost blob is named, and nothing else is.
fn assert_named(sample: &Sample, gone: &BTreeSet<BlobId>, damage: &[String], key: &str) {
    assert!(!damage.is_empty(), "{key}: the verification found nothing");
    let text = damage.join("\n");
    for (number, (directory, files)) in sample.directories.iter().enumerate() {
        if !sample.is_reachable(number, gone) {
            continue;
        }
        let directory_name = format!("/{}", String::from_utf8_lossy(&directory.name));
        let subtree_gone = gone.contains(&directory.subtree.unwrap());
        let named = text.contains(&format!("{directory_name} of snapshot"));
        assert_eq!(named, subtree_gone, "{key}: the directory {directory_name} in {text}");
        for file in files.iter().filter(|_| !subtree_gone) {
            let path = format!("{directory_name}/{} of snapshot", String::from_utf8_lossy(&file.node.name));
            let lost = file.node.content.iter().any(|id| gone.contains(id));
            assert_eq!(text.contains(&path), lost, "{key}: {path} in {text}");
        }
    }
    for backup in &sample.backups {
        let root = format!("/ of snapshot {}", &backup.snapshot[..8]);
        assert_eq!(text.contains(&root), gone.contains(&backup.tree), "{key}: {root} in {text}");
    }
}
