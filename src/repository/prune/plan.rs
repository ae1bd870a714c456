//! The decision of a prune, pure: what becomes of each pack, and why.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// Where a pack stands before the prune.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackState {
    /// An index file names it.
    Named,
    /// It is stored, and nothing names it.
    Unnamed,
    /// An earlier prune has taken it out of the index and listed it as to be deleted.
    Marked,
}

/// What the decision rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackFacts {
    /// Bytes as stored.
    pub size: u64,
    pub state: PackState,
    /// Bytes of blobs that some snapshot needs and that are counted here; of several copies one is counted.
    pub used: u64,
    /// Bytes of all its other blobs.
    pub unused: u64,
    /// It holds directories.
    pub trees: bool,
    /// Since it was stored, or for a marked one since it was marked, both by the store's own clock. `None`: not told.
    pub age: Option<SignedDuration>,
}

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Keep,
    /// Into the index again: something in it is needed.
    PutBack,
    /// What is used in it is copied into a new pack; then as `Mark`.
    Repack,
    /// Out of the index and listed as to be deleted.
    Mark,
    /// Marked, and the margin is not over.
    Wait,
    /// Removed for good.
    Delete,
}

/// A decision and its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub decision: Decision,
    pub why: &'static str,
}

/// The numbers behind the decision.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// A pack younger than this is left alone, and a mark has to be older than this before its pack is deleted: longer
    /// than a backup may run without its lock being seen.
    pub margin: SignedDuration,
    /// Waste that is tolerated over all packs together, in percent of what is used.
    pub waste_percent_max: u64,
    /// Packs with less waste than this, in percent of their bytes, are never written anew.
    pub repack_percent_min: u64,
    /// A pack below so many bytes is small.
    pub small_bytes: u64,
    /// So many small packs of one kind are merged; fewer are left alone.
    pub small_count_min: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            margin: SignedDuration::from_hours(24),
            waste_percent_max: 5,
            repack_percent_min: 20,
            small_bytes: 4 << 20,
            small_count_min: 32,
        }
    }
}

impl Rules {
    fn is_young(&self, age: Option<SignedDuration>) -> bool {
        age.is_none_or(|age| age <= self.margin)
    }
}

/// Decides on every pack; the verdicts stand in the order of the facts.
pub fn decide(packs: &[PackFacts], rules: &Rules) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = packs.iter().map(|pack| decide_alone(pack, rules)).collect();
    choose_wasteful(packs, rules, &mut verdicts);
    choose_small(packs, rules, &mut verdicts);
    verdicts
}

/// What a pack's own facts decide.
fn decide_alone(pack: &PackFacts, rules: &Rules) -> Verdict {
    let young = rules.is_young(pack.age);
    let (decision, why) = match (pack.state, pack.used > 0) {
        (PackState::Marked, true) => (Decision::PutBack, "a snapshot needs it again"),
        (PackState::Marked, false) if young => (Decision::Wait, "marked; the margin is not over"),
        (PackState::Marked, false) => (Decision::Delete, "no snapshot needs it; marked longer ago than the margin"),
        (PackState::Unnamed, true) => (Decision::PutBack, "a snapshot needs it, and no index names it"),
        (_, false) if young => (Decision::Keep, "a backup under way may have stored it"),
        (PackState::Unnamed, false) => (Decision::Mark, "left by a killed backup: nothing names it"),
        (PackState::Named, false) => (Decision::Mark, "no snapshot needs it"),
        (PackState::Named, true) => (Decision::Keep, "snapshots need it"),
    };
    Verdict { decision, why }
}

fn may_be_repacked(pack: &PackFacts, rules: &Rules) -> bool {
    pack.state == PackState::Named && pack.used > 0 && !rules.is_young(pack.age)
}

/// The most wasteful packs first, until what is left is tolerable.
fn choose_wasteful(packs: &[PackFacts], rules: &Rules, verdicts: &mut [Verdict]) {
    let partly = |pack: &&PackFacts| pack.state == PackState::Named && pack.used > 0;
    let used: u64 = packs.iter().map(|pack| pack.used).sum();
    let mut waste: u64 = packs.iter().filter(partly).map(|pack| pack.unused).sum();
    let tolerated = used / 100 * rules.waste_percent_max;
    let share = |pack: &PackFacts| pack.unused.saturating_mul(10_000) / (pack.used + pack.unused).max(1);
    let mut candidates: Vec<usize> = (0..packs.len())
        .filter(|number| may_be_repacked(&packs[*number], rules))
        .filter(|number| share(&packs[*number]) >= rules.repack_percent_min * 100)
        .collect();
    candidates.sort_by_key(|number| std::cmp::Reverse(share(&packs[*number])));
    for number in candidates {
        if waste <= tolerated {
            break;
        }
        waste -= packs[number].unused;
        let why = "much of it is not needed by any snapshot";
        verdicts[number] = Verdict { decision: Decision::Repack, why };
    }
}

/// Many small packs cost a request each.
fn choose_small(packs: &[PackFacts], rules: &Rules, verdicts: &mut [Verdict]) {
    for trees in [false, true] {
        let small: Vec<usize> = (0..packs.len())
            .filter(|number| may_be_repacked(&packs[*number], rules) && packs[*number].trees == trees)
            .filter(|number| packs[*number].size < rules.small_bytes)
            .collect();
        if small.len() >= rules.small_count_min {
            for number in small {
                verdicts[number] = Verdict { decision: Decision::Repack, why: "one of many small packs" };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(state: PackState, used: u64, unused: u64, hours: Option<i64>) -> PackFacts {
        let age = hours.map(SignedDuration::from_hours);
        PackFacts { size: (used + unused).max(8 << 20), state, used, unused, trees: false, age }
    }

    #[test]
    fn each_state_has_its_decision() {
        use PackState::{Marked, Named, Unnamed};
        let table = [
            (Named, 10, 0, Some(99), Decision::Keep),
            (Named, 10, 0, None, Decision::Keep),
            (Named, 0, 10, Some(99), Decision::Mark),
            (Named, 0, 10, Some(24), Decision::Keep),
            (Named, 0, 10, Some(-5), Decision::Keep),
            (Named, 0, 10, None, Decision::Keep),
            (Named, 0, 0, Some(99), Decision::Mark),
            (Unnamed, 10, 0, Some(1), Decision::PutBack),
            (Unnamed, 10, 90, Some(99), Decision::PutBack),
            (Unnamed, 0, 10, Some(99), Decision::Mark),
            (Unnamed, 0, 10, Some(1), Decision::Keep),
            (Marked, 10, 90, Some(99), Decision::PutBack),
            (Marked, 10, 0, None, Decision::PutBack),
            (Marked, 0, 10, Some(23), Decision::Wait),
            (Marked, 0, 10, Some(24), Decision::Wait),
            (Marked, 0, 10, Some(25), Decision::Delete),
            (Marked, 0, 10, Some(-1), Decision::Wait),
            (Marked, 0, 10, None, Decision::Wait),
        ];
        for (state, used, unused, hours, expected) in table {
            let verdict = decide(&[pack(state, used, unused, hours)], &Rules::default())[0];
            assert_eq!(verdict.decision, expected, "{state:?} used {used} unused {unused} age {hours:?}");
            assert!(!verdict.why.is_empty());
        }
    }

    #[test]
    fn only_as_much_is_repacked_as_pays_the_most_wasteful_first() {
        let named = |used, unused| pack(PackState::Named, used, unused, Some(99));
        let decisions = |packs: &[PackFacts]| -> Vec<Decision> {
            decide(packs, &Rules::default()).iter().map(|verdict| verdict.decision).collect()
        };
        use Decision::{Keep, Repack};
        assert_eq!(decisions(&[named(960, 40), named(1000, 0)]), [Keep, Keep], "little waste in all");
        assert_eq!(decisions(&[named(100, 900), named(500, 500), named(1000, 0)]), [Repack, Repack, Keep]);
        assert_eq!(decisions(&[named(100, 900), named(9_600, 400), named(90_000, 0)]), [Keep, Keep, Keep]);
        assert_eq!(decisions(&[named(100, 4_900), named(9_600, 400), named(60_000, 0)]), [Repack, Keep, Keep]);
        assert_eq!(decisions(&[named(850, 150), named(850, 150)]), [Keep, Keep], "too little in each");
        let young = PackFacts { age: Some(SignedDuration::from_hours(3)), ..named(100, 900) };
        assert_eq!(decisions(&[young]), [Keep]);
    }

    #[test]
    fn small_packs_are_merged_when_they_are_many() {
        let small = |trees| PackFacts { size: 1000, trees, ..pack(PackState::Named, 1000, 0, Some(99)) };
        let mut packs = vec![small(false); 31];
        packs.extend(vec![small(true); 32]);
        let verdicts = decide(&packs, &Rules::default());
        assert!(verdicts[..31].iter().all(|verdict| verdict.decision == Decision::Keep));
        assert!(verdicts[31..].iter().all(|verdict| verdict.decision == Decision::Repack));
    }

    fn any_pack() -> impl Strategy<Value = PackFacts> {
        let state = prop_oneof![Just(PackState::Named), Just(PackState::Unnamed), Just(PackState::Marked)];
        let (bytes, hours) = (0..50_000_u64, proptest::option::of(-50..100_i64));
        (state, bytes.clone(), bytes, any::<bool>(), hours).prop_map(|(state, used, unused, trees, hours)| PackFacts {
            trees,
            size: used + unused + 100,
            ..pack(state, used, unused, hours)
        })
    }

    proptest! {
        #[test]
        fn what_is_used_or_young_or_of_unknown_age_is_never_removed(packs in proptest::collection::vec(any_pack(), 0..80)) {
            let rules = Rules::default();
            for (pack, verdict) in packs.iter().zip(decide(&packs, &rules)) {
                let unsafe_age = pack.age.is_none_or(|age| age <= rules.margin);
                match verdict.decision {
                    Decision::Delete => prop_assert!(pack.state == PackState::Marked && pack.used == 0 && !unsafe_age),
                    Decision::Mark => prop_assert!(pack.state != PackState::Marked && pack.used == 0 && !unsafe_age),
                    Decision::Repack => prop_assert!(pack.state == PackState::Named && !unsafe_age),
                    Decision::Keep | Decision::Wait | Decision::PutBack => {}
                }
            }
        }
    }
}
