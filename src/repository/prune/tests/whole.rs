//! What a prune refuses, what it leaves alone, and that a kill between any two writes costs nothing.

use super::plays::{self, Beginning, MARGIN, base, rules};
use super::stage::{Stage, now};
use crate::ground::NoProgress;
use crate::repository::prune::{Decision, Phase};
use crate::repository::{BlobId, RepositoryError, VerifyDepth};
use crate::site::{ObjectStore, PutMode};

#[test]
fn two_calls_with_the_margin_between_remove_what_nobody_needs_and_nothing_else() {
    let stage = base(Beginning::Garbage).copy();
    let repository = stage.open_aside();
    let before = stage.keys("data/");
    let plan = repository.plan_prune(&rules(), now(), &NoProgress).unwrap();
    assert_eq!(stage.keys("data/"), before);
    let marked = repository.prune(&rules(), now(), &NoProgress).unwrap();
    assert_eq!(marked.phase, Phase::Mark);
    assert_eq!(marked.total(Decision::Mark), plan.total(Decision::Mark));
    assert!(before.iter().all(|key| stage.keys("data/").contains(key)), "a mark removes no pack");
    let waiting = repository.prune(&rules(), now(), &NoProgress).unwrap();
    assert_eq!((waiting.phase, waiting.total(Decision::Delete).0), (Phase::Mark, 0));
    stage.set_clock(stage.clock() + MARGIN + 100);
    let swept = repository.prune(&rules(), now(), &NoProgress).unwrap();
    assert_eq!(swept.phase, Phase::Sweep);
    let all = marked.total(Decision::Mark).0 + marked.total(Decision::Repack).0;
    assert_eq!(swept.total(Decision::Delete).0, all);
    assert!(repository.prune(&rules(), now(), &NoProgress).unwrap().lines.is_empty());
    let report = repository.verify(VerifyDepth::Data { percent: 100, seed: 1 }, &NoProgress).unwrap();
    assert_eq!((report.damage, stage.violations()), (Vec::new(), Vec::new()));
    stage.recorded().iter().for_each(|tree| plays::restore(&repository, tree).unwrap());
}

#[test]
fn a_marked_pack_that_is_needed_again_goes_back_instead_of_being_deleted() {
    let stage = base(Beginning::MarkedLongAgo).copy();
    let repository = stage.open_aside();
    // A snapshot of another program that had read the index before the mark: nobody put the packs back for it.
    let tree = stage.tree_with(BlobId::of(&plays::content(3)));
    repository.save_snapshot(&plays::draft(tree)).unwrap();
    let report = repository.prune(&rules(), now(), &NoProgress).unwrap();
    assert!(report.phase == Phase::Sweep && report.total(Decision::PutBack).0 >= 1, "{report:?}");
    plays::restore(&repository, &tree).unwrap();
    let report = repository.verify(VerifyDepth::Data { percent: 100, seed: 1 }, &NoProgress).unwrap();
    assert_eq!(report.damage, Vec::<String>::new());
}

#[test]
fn what_cannot_be_read_stops_a_prune_before_anything_is_removed() {
    let whole = base(Beginning::Garbage);
    let damage = |stage: &std::sync::Arc<Stage>, prefix: &str, number: usize| {
        let key = stage.keys(prefix)[number].clone();
        let mut bytes = stage.aside().get(&key).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        stage.aside().put(&key, &bytes, PutMode::Replace).unwrap();
    };
    let refused = |stage: &std::sync::Arc<Stage>, what: &str| {
        let before = (stage.keys("data/"), stage.keys("index/"), stage.keys("snapshots/"));
        let error = stage.open_aside().prune(&rules(), now(), &NoProgress).unwrap_err();
        assert!(matches!(error, RepositoryError::Damaged(_)), "{what}: {error}");
        assert_eq!(before, (stage.keys("data/"), stage.keys("index/"), stage.keys("snapshots/")), "{what}");
    };
    for prefix in ["index/", "snapshots/"] {
        let stage = whole.copy();
        stage.forget_keys();
        damage(&stage, prefix, 0);
        refused(&stage, prefix);
    }
    let stage = whole.copy();
    stage.forget_keys();
    let named = stage.keys("data/").into_iter().find(|key| stage.is_needed(key)).unwrap();
    stage.aside().delete(&named).unwrap();
    refused(&stage, "a lost pack");
}

#[test]
fn another_programs_lock_stops_a_mark() {
    let stage = base(Beginning::Garbage).copy();
    let repository = stage.open_aside();
    let json = serde_json::json!({"time": now().to_string(), "exclusive": false, "hostname": "elsewhere", "pid": 7});
    super::super::super::unpacked::save(&repository.inner, "locks/", &json).unwrap();
    let error = repository.prune(&rules(), now(), &NoProgress).unwrap_err();
    assert!(matches!(&error, RepositoryError::Locked(why) if why.contains("elsewhere")), "{error}");
}
