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

/// How many backups there are before the one that fails, at most; each writes a pack of contents, one of directories, an
/// index and a snapshot, the first a key and the configuration too.
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

/// The k-th write of the backup that follows on `before` fails; every step that failed is tried again, and one more backup
/// follows. False when there is no k-th.
fn one_case(before: &(Sample, Arc<MemoryStore>), fault: Fault, number: u64) -> bool {
    let (mut sample, below) = (before.0.clone(), before.1.copy());
    let what = format!("{fault:?} at write {number} of backup {}, seed {}", sample.backups.len(), sample.seed);
    let store = FaultyStore::new(below.clone(), fault, number);
    let wanted = sample.backups.len() + 2;
    let mut failures = 0;
    while sample.backups.len() < wanted {
        let step = create(store.clone()).and_then(|repository| sample.back_up(&repository));
        let Err(error) = step else { continue };
        assert_blames_the_destination(&error, fault, &what);
        failures += 1;
        assert_eq!(failures, 1, "{what}: the second try fails too: {error}");
        let struck = store.struck().unwrap();
        assert_older_are_whole(&sample, &below, fault, &struck, &what);
        if half_a_configuration(&below, &struck, fault) {
            return true;
        }
    }
    let struck = store.struck();
    assert_eq!(failures, u64::from(struck.is_some()), "{what}: the failure was kept quiet");
    assert_eq!(sample.restore(below.clone()), BTreeSet::new(), "{what}");
    let damage = sample::verify(below);
    match (&struck, fault) {
        // Half an object under its name is damage, and is told; nothing needs it. Half a pack no index names.
        (Some(key), Fault::Short) if !key.starts_with("data/") => {
            let name = key.rsplit('/').next().unwrap();
            assert!(!damage.is_empty() && damage.iter().all(|line| line.contains(name)), "{what}: {damage:?}");
        }
        _ => assert_eq!(damage, [""; 0], "{what}"),
    }
    struck.is_some()
}

/// What was finished before the failure is whole at once, and the backup that failed is not listed.
fn assert_older_are_whole(sample: &Sample, below: &Arc<MemoryStore>, fault: Fault, struck: &str, what: &str) {
    if !sample.backups.is_empty() {
        assert_eq!(sample.restore(below.clone()), BTreeSet::new(), "{what}: older backups");
    }
    let left = matches!(fault, Fault::Short | Fault::NotDurable) && struck.starts_with("snapshots/");
    let listed = below.list("snapshots/").unwrap().len();
    assert_eq!(listed, sample.backups.len() + usize::from(left), "{what}: a snapshot of a backup that failed");
}

/// A store that leaves half a configuration behind leaves no repository: that is said, and nothing is lost, since
/// nothing was stored yet.
fn half_a_configuration(below: &Arc<MemoryStore>, struck: &str, fault: Fault) -> bool {
    if fault != Fault::Short || struck != "config" {
        return false;
    }
    let again = create(below.clone()).map(drop).unwrap_err();
    assert!(matches!(again, RepositoryError::Damaged(_)), "{again}");
    true
}

#[test]
fn every_write_may_fail_in_every_way_and_the_next_try_completes() {
    let seeds = if is_long() { 25 } else { 2 };
    each(seeds * BACKUPS, |case| {
        let (seed, earlier) = ((case / BACKUPS) as u64, case % BACKUPS);
        let before = if earlier == 0 { (Sample::new(seed), MemoryStore::new()) } else { Sample::make(seed, earlier) };
        for fault in FAULTS {
            let mut writes = 1;
            while one_case(&before, fault, writes) {
                writes += 1;
            }
            assert!(writes > 4, "only {writes} writes were there to fail");
        }
    });
}
