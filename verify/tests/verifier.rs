//! `lifeboat-verify` from outside: what agrees, what is refused, and what it is built from.

mod samples;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lifeboat_verify::chain::{DrillMark, ENTRY_FORMAT, Entry, GENESIS, Outcome, entry_hash};
use lifeboat_verify::compare::compare;
use lifeboat_verify::report::{Report, from_journal, journal_bytes, sha256_hex};
use serde_json::Value;

const RUN: &str = "20261122T040000Z-51c2";

/// A DR site with one drill and a ledger of three entries.
struct Site {
    directory: tempfile::TempDir,
    report: Report,
}

impl Site {
    fn new(drill: samples::Drill) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let journal = journal_bytes(&drill.with(|declared| declared.drill = 1).events());
        let report = from_journal(RUN, &journal).expect("well-formed");
        let site = Self { directory, report };
        site.write("reports/000001/report.json", &site.report.to_bytes());
        site.write("reports/000001/events.jsonl", &journal);
        site.write_ledger(&site.report.to_bytes());
        site
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    fn write(&self, relative: &str, bytes: &[u8]) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("create");
        std::fs::write(path, bytes).expect("write");
    }

    fn write_ledger(&self, report_bytes: &[u8]) -> String {
        let mut previous = GENESIS.to_owned();
        for number in 1..=3 {
            let drill = (number == 2).then(|| DrillMark {
                number: 1,
                report_sha256: sha256_hex(report_bytes),
                passed: self.report.passed,
                rpo_seconds: self.report.rpo_seconds,
                rto_seconds: self.report.rto_seconds,
            });
            let bytes = self.entry(number, previous, drill).to_bytes();
            self.write(&format!("ledger/{number:08}.json"), &bytes);
            previous = entry_hash(&bytes);
        }
        previous
    }

    fn entry(&self, number: u64, previous: String, drill: Option<DrillMark>) -> Entry {
        Entry {
            format: ENTRY_FORMAT,
            number,
            previous,
            at: self.report.finished,
            system: "shop".into(),
            run: RUN.into(),
            kind: if drill.is_some() { "drill" } else { "backup" }.into(),
            outcome: Outcome::Done,
            started: self.report.started,
            finished: self.report.finished,
            policy: self.report.policy.clone(),
            host: "dr-host-1".into(),
            summary: "Done.".into(),
            points: vec![],
            archives: vec![],
            journal_sha256: drill.is_some().then(|| self.report.events_sha256.clone()),
            drill,
        }
    }

    fn verify(&self, arguments: &[&str]) -> Output {
        run(self.directory.path(), &[&["reports/000001/report.json"], arguments].concat())
    }
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat-verify"));
    command.current_dir(directory).args(arguments).output().expect("the verifier runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn an_honest_report_agrees() {
    for drill in [samples::passed(), samples::failed_step(), samples::interrupted(), samples::aborted()] {
        let site = Site::new(drill);
        let output = site.verify(&["--ledger", "ledger"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let text = stdout(&output);
        assert!(text.contains("chain intact: 3 entries"), "{text}");
        assert!(text.contains("signature   none checked"), "{text}");
        assert!(text.ends_with("the report agrees with its evidence\n"), "{text}");
    }
}

#[test]
fn events_are_also_found_among_the_runs() {
    let site = Site::new(samples::passed());
    let events = std::fs::read(site.path("reports/000001/events.jsonl")).expect("events");
    std::fs::remove_file(site.path("reports/000001/events.jsonl")).expect("remove");
    let output = site.verify(&[]);
    assert_eq!(output.status.code(), Some(2), "no events, no verdict");
    assert!(stderr(&output).contains("--events FILE"));
    site.write(&format!("runs/{RUN}.jsonl"), &events);
    assert_eq!(site.verify(&[]).status.code(), Some(0));
}

#[test]
fn every_edited_field_is_refused() {
    let journal = journal_bytes(&samples::partial().events());
    let report = from_journal(RUN, &journal).expect("well-formed");
    let stored: Value = serde_json::from_slice(&report.to_bytes()).expect("JSON");
    let mut pointers = Vec::new();
    collect_pointers(&stored, String::new(), &mut pointers);
    assert!(pointers.len() > 150, "the sample fills the report");
    for pointer in pointers.iter().filter(|pointer| *pointer != "/run") {
        let mut edited = stored.clone();
        edit(edited.pointer_mut(pointer).expect("it is there"));
        let bytes = serde_json::to_vec_pretty(&edited).expect("JSON");
        assert!(compare(&bytes, &journal).is_err(), "an edit of {pointer} was not found");
    }
    let mut added = stored.clone();
    added["reviewed"] = true.into();
    assert!(compare(&serde_json::to_vec(&added).expect("JSON"), &journal).is_err());
    for key in stored.as_object().expect("an object").keys() {
        let mut without = stored.clone();
        without.as_object_mut().expect("an object").remove(key);
        assert!(compare(&serde_json::to_vec(&without).expect("JSON"), &journal).is_err(), "{key} removed");
    }
}

/// Every value in the document, leaves and containers.
fn collect_pointers(value: &Value, path: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            collect_pointers(value, format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), pointers);
        }),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, value)| {
            collect_pointers(value, format!("{path}/{index}"), pointers);
        }),
        _ => {}
    }
    if !path.is_empty() {
        pointers.push(path);
    }
}

fn edit(value: &mut Value) {
    *value = match value {
        Value::Null => 1.into(),
        Value::Bool(flag) => (!*flag).into(),
        Value::Number(number) => (number.as_f64().unwrap_or_default() + 1.0).into(),
        Value::String(text) => format!("{text}0").into(),
        Value::Array(items) if items.is_empty() => vec![1].into(),
        Value::Array(items) => items[1..].to_vec().into(),
        Value::Object(_) => Value::Null,
    };
}

#[test]
fn edited_events_are_refused_line_by_line() {
    let site = Site::new(samples::passed());
    let journal = std::fs::read_to_string(site.path("reports/000001/events.jsonl")).expect("events");
    let report = site.report.to_bytes();
    let lines: Vec<&str> = journal.lines().collect();
    for index in 0..lines.len() {
        let mut dropped = lines.clone();
        dropped.remove(index);
        assert!(compare(&report, (dropped.join("\n") + "\n").as_bytes()).is_err());
        let mut edited: Vec<String> = lines.iter().map(ToString::to_string).collect();
        edited[index] = edited[index].replacen("2026-11-22", "2026-11-21", 1);
        assert!(compare(&report, (edited.join("\n") + "\n").as_bytes()).is_err());
    }
}

#[test]
fn events_and_hash_edited_together_are_refused_by_the_numbers() {
    let site = Site::new(samples::passed());
    let journal = std::fs::read_to_string(site.path("reports/000001/events.jsonl")).expect("events");
    let slower =
        journal.replace("\"decided_at\":\"2026-11-22T04:03:12.4Z\"", "\"decided_at\":\"2026-11-22T04:09:00Z\"");
    assert_ne!(journal, slower);
    let mut report = site.report.clone();
    report.events_sha256 = sha256_hex(slower.as_bytes());
    site.write("reports/000001/events.jsonl", slower.as_bytes());
    site.write("reports/000001/report.json", &report.to_bytes());
    let output = site.verify(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the raw events give"), "{}", stderr(&output));
}

#[test]
fn a_consistent_forgery_is_refused_by_the_ledger() {
    let site = Site::new(samples::failed_check());
    let journal = journal_bytes(&samples::passed().with(|declared| declared.drill = 1).events());
    let forged = from_journal(RUN, &journal).expect("well-formed");
    site.write("reports/000001/events.jsonl", &journal);
    site.write("reports/000001/report.json", &forged.to_bytes());
    assert_eq!(site.verify(&[]).status.code(), Some(0), "consistent in itself");
    let output = site.verify(&["--ledger", "ledger"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("ledger entry 2 of drill 1 says report SHA-256"), "{}", stderr(&output));
}

#[test]
fn another_run_is_refused_by_the_ledger() {
    let site = Site::new(samples::passed());
    site.write("reports/000001/report.json", &site.report.clone().with_run("another").to_bytes());
    let output = site.verify(&["--ledger", "ledger"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("says run ="), "{}", stderr(&output));
}

#[test]
fn a_damaged_ledger_is_refused_and_a_cut_one_against_its_head() {
    let site = Site::new(samples::passed());
    let head = site.write_ledger(&site.report.to_bytes());
    assert_eq!(site.verify(&["--ledger", "ledger", "--head", &head]).status.code(), Some(0));
    std::fs::remove_file(site.path("ledger/00000003.json")).expect("remove");
    assert_eq!(site.verify(&["--ledger", "ledger"]).status.code(), Some(0), "a cut end does not show by itself");
    let output = site.verify(&["--ledger", "ledger", "--head", &head]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("its head was noted as"));
    std::fs::remove_file(site.path("ledger/00000001.json")).expect("remove");
    assert_eq!(site.verify(&["--ledger", "ledger"]).status.code(), Some(1));
}

#[test]
fn wrong_usage_ends_in_a_sentence() {
    let site = Site::new(samples::passed());
    for arguments in [&["--signers", "f"][..], &["--frobnicate"], &["--events"], &["second.json"], &["--head", "a"]] {
        assert_eq!(site.verify(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let output = site.verify(&["--signers", "file"]);
    assert!(stderr(&output).contains("not signed yet"));
    assert_eq!(run(site.directory.path(), &[]).status.code(), Some(2));
    assert_eq!(run(site.directory.path(), &["absent.json"]).status.code(), Some(2));
    assert_eq!(run(site.directory.path(), &["--help"]).status.code(), Some(0));
}

#[test]
fn garbage_is_no_report() {
    let site = Site::new(samples::passed());
    for bytes in [&b""[..], b"{}", b"[]", b"{\"run\":\"../../x\"}", b"{\"run\":7}", b"\xff\xfe"] {
        site.write("reports/000001/report.json", bytes);
        let output = site.verify(&[]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    }
}

/// What auditors build must not be able to reach anything.
#[test]
fn no_network_and_no_cloud_crate_is_in_the_verifier() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", "lifeboat-verify", "--edges", "normal,build", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let tree = stdout(&output);
    assert!(tree.contains("serde_json"), "{tree}");
    let forbidden =
        ["tokio", "ureq", "rustls", "aws-", "hyper", "socket2", "mio", "reqwest", "openssl", "native-tls", "rusqlite"];
    for name in tree.lines().filter_map(|line| line.split(' ').next()) {
        assert!(!forbidden.iter().any(|part| name.starts_with(part)), "{name} must not be in the verifier");
    }
}
