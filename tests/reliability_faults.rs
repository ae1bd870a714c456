//! Writes that fail, one at a time, each in five ways: the destination is blamed, nothing counts as done that is not, and
//! the next try completes with everything older untouched.

mod common;
#[path = "common/engine/mod.rs"]
mod engine;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::is_long;
use engine::sample::{self, Sample, password};
use engine::seed::each;
use engine::store::{FAULTS, Fault, FaultyStore, MemoryStore};
use lifeboat::ground::{Failure, FailureKind};
use lifeboat::repository::{KeyStrength, Repository, RepositoryError};
use lifeboat::site::ObjectStore;

/// Backups in one case; each writes a pack of contents, one of directories, an index and a snapshot.
const BACKUPS: usize = 12;

fn create(store: Arc<dyn ObjectStore>) -> Result<Repository, RepositoryError> {
    match Repository::open(store.clone(), &password()) {
        Err(RepositoryError::NotARepository(_)) => Repository::create(store, &password(), KeyStrength::Random),
        opened => opened,
    }
}

/// The error of the write that failed, whole: its kind, its words, and whose fault it is.
fn assert_blames_the_destination(error: &RepositoryError, fault: Fault, what: &str) {
    let RepositoryError::Store(told) = error else { panic!("{what}: not the store's fault: {error}") };
    assert_eq!(told.kind, fault.kind(), "{what}");
    assert!(told.message.contains(fault.words()), "{what}: {told}");
    assert_eq!(Failure::from(error.clone()).kind, FailureKind::Failed, "{what}");
}

/// The k-th write of a repository's life fails; every step that failed is tried again. False when there is no k-th.
fn one_case(fault: Fault, number: u64, seed: u64) -> bool {
    let what = format!("{fault:?} at write {number}, seed {seed}");
    let below = MemoryStore::new();
    let store = FaultyStore::new(below.clone(), fault, number);
    let mut sample = Sample::new(seed);
    let mut failures = 0;
    let mut failed = |error: RepositoryError| {
        assert_blames_the_destination(&error, fault, &what);
        failures += 1;
        assert_eq!(failures, 1, "{what}: the second try fails too: {error}");
    };
    while sample.backups.len() < BACKUPS {
        let step = create(store.clone()).and_then(|repository| sample.back_up(&repository));
        let Err(error) = step else { continue };
        failed(error);
        // What was finished before is whole at once, before anything is tried again.
        if !sample.backups.is_empty() {
            assert_eq!(sample.restore(below.clone()), BTreeSet::new(), "{what}: older backups");
        }
        let listed = below.list("snapshots/").unwrap().len();
        let struck = store.struck().unwrap();
        let may_lie_there = usize::from(matches!(fault, Fault::Short | Fault::NotDurable) && struck.starts_with("snap"));
        assert_eq!(listed, sample.backups.len() + may_lie_there, "{what}: a snapshot of a backup that failed");
        if struck_key_blocks(&below, &struck, fault) {
            return true;
        }
    }
    assert_eq!(sample.restore(below.clone()), BTreeSet::new(), "{what}");
    let damage = sample::verify(below);
    let struck = store.struck();
    match (&struck, fault) {
        // Half an object under its name is damage, and is told; nothing needs it.
        (Some(key), Fault::Short) => {
            let name = key.rsplit('/').next().unwrap();
            assert!(damage.iter().all(|sentence| sentence.contains(name)), "{what}: {damage:?}");
        }
        _ => assert_eq!(damage, [""; 0], "{what}"),
    }
    struck.is_some()
}

/// A store that leaves half a configuration or key behind leaves no repository: that is said, and nothing is lost, since
/// nothing was stored yet.
fn struck_key_blocks(below: &Arc<MemoryStore>, struck: &str, fault: Fault) -> bool {
    if fault != Fault::Short || !(struck == "config" || struck.starts_with("keys/")) {
        return false;
    }
    if struck == "config" {
        let again = create(below.clone()).map(drop).unwrap_err();
        assert!(matches!(again, RepositoryError::Damaged(_)), "{again}");
    }
    // Half a key beside: the next creation makes another.
    struck == "config"
}

#[test]
fn every_write_may_fail_in_every_way_and_the_next_try_completes() {
    let seeds = if is_long() { 25 } else { 2 };
    each(seeds, |seed| {
        for fault in FAULTS {
            let mut writes = 1;
            while one_case(fault, writes, seed as u64) {
                writes += 1;
            }
            assert!(writes > BACKUPS as u64 * 3, "only {writes} writes were there to fail");
        }
    });
}
