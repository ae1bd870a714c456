//! The ledger's chain: any single change is found, and what a chain alone cannot show is found against a noted head.

use jiff::Timestamp;
use lifeboat_verify::chain::{
    DrillMark, ENTRY_FORMAT, Entry, GENESIS, Outcome, PointMark, entry_hash, verify_chain, verify_chain_with_head,
};
use proptest::prelude::*;

fn entry(number: u64, previous: String, summary: &str) -> Entry {
    let at = Timestamp::from_second(1_795_000_000 + number as i64 * 1800).expect("in range");
    Entry {
        format: ENTRY_FORMAT,
        number,
        previous,
        at,
        system: "shop".into(),
        run: format!("run-{number}"),
        kind: "backup".into(),
        outcome: Outcome::Done,
        started: at,
        finished: at,
        policy: "ab".repeat(32),
        host: "host".into(),
        summary: summary.into(),
        points: vec![PointMark { id: format!("files-{number}"), record_sha256: "cd".repeat(32) }],
        archives: vec![],
        drill: None,
        journal_sha256: None,
    }
}

fn chain(summaries: &[String]) -> Vec<Vec<u8>> {
    let mut stored: Vec<Vec<u8>> = Vec::new();
    for (number, summary) in (1..).zip(summaries) {
        let previous = stored.last().map_or(GENESIS.to_owned(), |bytes| entry_hash(bytes));
        stored.push(entry(number, previous, summary).to_bytes());
    }
    stored
}

fn numbered(entries: &[Vec<u8>]) -> Vec<(u64, Vec<u8>)> {
    (1..).zip(entries.iter().cloned()).collect()
}

#[derive(Debug, Clone)]
enum Mutation {
    Flip { entry: prop::sample::Index, byte: prop::sample::Index, bit: u8 },
    Drop { entry: prop::sample::Index, renumber: bool },
    Swap { one: prop::sample::Index, other: prop::sample::Index },
    Insert { at: prop::sample::Index, rechained: bool },
    Cut { keep: prop::sample::Index },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (index(), index(), 0..8_u8).prop_map(|(entry, byte, bit)| Mutation::Flip { entry, byte, bit }),
        (index(), any::<bool>()).prop_map(|(entry, renumber)| Mutation::Drop { entry, renumber }),
        (index(), index()).prop_map(|(one, other)| Mutation::Swap { one, other }),
        (index(), any::<bool>()).prop_map(|(at, rechained)| Mutation::Insert { at, rechained }),
        index().prop_map(|keep| Mutation::Cut { keep }),
    ]
}

/// The mutated chain, and whether the mutation touches only the unprotected end.
fn mutate(entries: &[Vec<u8>], mutation: &Mutation) -> (Vec<(u64, Vec<u8>)>, bool) {
    let last = entries.len() - 1;
    let mut changed = numbered(entries);
    match mutation {
        Mutation::Flip { entry, byte, bit } => {
            let entry = entry.index(entries.len());
            let byte = byte.index(entries[entry].len());
            changed[entry].1[byte] ^= 1 << bit;
            (changed, entry == last)
        }
        Mutation::Drop { entry, renumber } => {
            let entry = entry.index(entries.len());
            changed.remove(entry);
            if *renumber {
                changed = (1..).zip(changed.into_iter().map(|(_, bytes)| bytes)).collect();
            }
            (changed, entry == last)
        }
        Mutation::Swap { one, other } => {
            let (one, other) = (one.index(entries.len()), other.index(entries.len()));
            let bytes = changed[one].1.clone();
            changed[one].1 = std::mem::replace(&mut changed[other].1, bytes);
            (changed, false)
        }
        Mutation::Insert { at, rechained } => {
            let at = at.index(entries.len() + 1);
            let previous = match (rechained, at) {
                (true, 0) => GENESIS.to_owned(),
                (true, at) => entry_hash(&entries[at - 1]),
                (false, _) => "00".repeat(31) + "aa",
            };
            let forged = entry(at as u64 + 1, previous, "forged").to_bytes();
            let mut all = entries.to_vec();
            all.insert(at, forged);
            (numbered(&all), at == entries.len() && *rechained)
        }
        Mutation::Cut { keep } => {
            changed.truncate(keep.index(entries.len()));
            (changed, true)
        }
    }
}

proptest! {
    #[test]
    fn any_single_mutation_is_found(
        summaries in prop::collection::vec(".{0,20}", 1..8),
        mutation in mutation(),
    ) {
        let entries = chain(&summaries);
        let head = entry_hash(entries.last().expect("at least one"));
        let intact = verify_chain_with_head(numbered(&entries), &head).expect("an intact chain");
        prop_assert_eq!(intact.entries, entries.len() as u64);
        let (changed, end_only) = mutate(&entries, &mutation);
        if changed == numbered(&entries) {
            return Ok(());
        }
        prop_assert!(end_only || verify_chain(changed.clone()).is_err(), "{:?} was not found", mutation);
        prop_assert!(verify_chain_with_head(changed, &head).is_err(), "{:?} was not found with a head", mutation);
    }

    #[test]
    fn arbitrary_bytes_never_panic(entries in prop::collection::vec((any::<u64>(), any::<Vec<u8>>()), 0..5)) {
        let _ = verify_chain(entries);
    }
}

#[test]
fn an_empty_ledger_is_intact_and_has_no_head() {
    let summary = verify_chain(Vec::<(u64, Vec<u8>)>::new()).expect("nothing is wrong with nothing");
    assert_eq!((summary.entries, summary.head), (0, None));
}

#[test]
fn stored_bytes_come_back_as_they_were() {
    let written = entry(1, GENESIS.to_owned(), "3 points");
    let bytes = written.to_bytes();
    let read = Entry::from_bytes(&bytes).expect("our own entry");
    assert_eq!(read, written);
    assert_eq!(read.to_bytes(), bytes);
    assert!(bytes.ends_with(b"}\n"));
}

#[test]
fn the_sentence_names_the_first_bad_entry() {
    let mut entries = chain(&["a".into(), "b".into(), "c".into()]);
    let text = String::from_utf8(entries[0].clone()).expect("JSON");
    entries[0] = text.replace("\"done\"", "\"failed\"").into_bytes();
    let error = verify_chain(numbered(&entries)).expect_err("changed").to_string();
    assert!(error.starts_with("ledger entry 2 follows an entry with hash"), "{error}");
    let without_second = vec![numbered(&entries)[0].clone(), numbered(&entries)[2].clone()];
    let error = verify_chain(without_second).expect_err("dropped").to_string();
    assert_eq!(error, "ledger entry 2 is missing: after entry 1 comes entry 3");
    let error = verify_chain(vec![(2, entries[1].clone())]).expect_err("dropped").to_string();
    assert_eq!(error, "ledger entry 1 is missing: the first is entry 2");
}

#[test]
fn a_drill_without_a_record_is_named() {
    let mut stored: Vec<Vec<u8>> = Vec::new();
    for (number, drill) in (1..).zip([1, 2, 5]) {
        let previous = stored.last().map_or(GENESIS.to_owned(), |bytes| entry_hash(bytes));
        let mut entry = entry(number, previous, "drill");
        let report_sha256 = "ef".repeat(32);
        entry.drill =
            Some(DrillMark { number: drill, report_sha256, passed: true, rpo_seconds: None, rto_seconds: Some(1.5) });
        stored.push(entry.to_bytes());
    }
    let summary = verify_chain(numbered(&stored)).expect("intact");
    assert_eq!(summary.missing_drills(), [3, 4]);
}
