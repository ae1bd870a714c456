//! What spans keys, outside plans: names, providers, beacons, schedule, archive.
//!
//! Works on the document itself, so that it can speak even when other parts of the policy are wrong.

use std::collections::BTreeMap;

use super::Cadence;
use super::diagnostics::{Fault, Faults};
use super::node::{Located, Node};
use super::source_keys::KINDS;
use super::time::{parse_cadence, parse_duration, parse_window, quoted};

/// Kinds whose data answers SQL.
pub(crate) const DATABASES: [&str; 4] = ["sqlite", "postgres", "mysql", "rds"];
const AWS_ONLY: [&str; 2] = ["ebs", "rds"];

/// Reports what is wrong across keys.
pub(crate) fn check(root: &Node<'_>, faults: &mut Faults) {
    check_source_names(root, faults);
    for source in root.children("source") {
        check_provider(root, &source, faults);
        check_beacon(&source, faults);
        check_rds(&source, faults);
    }
    if let Some(schedule) = root.child("schedule") {
        check_schedule(&schedule, faults);
    }
    check_archive(root, faults);
    if let Some(dr) = root.child("dr") {
        check_bucket(&dr, faults);
    }
    super::places::check(root, faults);
    super::plans::check(root, faults);
}

pub(crate) fn provider<'a>(root: &Node<'a>, site: &str) -> Option<&'a str> {
    Some(root.child(site)?.text("provider")?.text)
}

fn check_source_names(root: &Node<'_>, faults: &mut Faults) {
    let names = root.children("source").iter().filter_map(|source| source.text("name")).collect();
    refuse_duplicates(names, "sources", faults);
}

/// Reports every name after its first use.
pub(crate) fn refuse_duplicates(names: Vec<Located<'_>>, what: &str, faults: &mut Faults) {
    let mut seen = BTreeMap::new();
    for name in names {
        let uses = seen.entry(name.text).or_insert(0_u32);
        *uses += 1;
        if *uses > 1 {
            let message = format!("two {what} are called {}", quoted(name.text));
            faults.push(Fault::new(name.span, message).expected("a name that is used once"));
        }
    }
}

fn check_provider(root: &Node<'_>, source: &Node<'_>, faults: &mut Faults) {
    let Some(kind) = source.text("kind").filter(|kind| AWS_ONLY.contains(&kind.text)) else { return };
    if provider(root, "primary") == Some("local") {
        let message = format!("a source of kind \"{}\" needs a primary site on AWS", kind.text);
        let expected = "[primary] with provider = \"aws\", or another kind (\"image\" for a volume, \"sqlite\", \
         \"postgres\" or \"mysql\" for a database)";
        faults.push(Fault::new(kind.span, message).expected(expected));
    }
}

fn check_beacon(source: &Node<'_>, faults: &mut Faults) {
    let (Some(kind), Some(beacon)) = (source.text("kind"), source.child("beacon")) else { return };
    if !KINDS.contains(&kind.text) {
        return;
    }
    let is_database = DATABASES.contains(&kind.text);
    let is_files = ["files", "logs", "repository"].contains(&kind.text);
    let fits = |form: &str| if form == "sql" { is_database } else { is_files };
    let expected = match (is_database, is_files) {
        (true, _) => "{ sql = \"...\" }",
        (_, true) => "{ file = \"...\" } or { newest_entry = true }",
        _ => "no beacon: nothing in this kind of source can be asked for a time",
    };
    for form in ["sql", "file", "newest_entry"].into_iter().filter(|form| beacon.has(form) && !fits(form)) {
        let message = format!("a beacon with \"{form}\" cannot be read from a source of kind {}", quoted(kind.text));
        faults.push(Fault::new(beacon.key_span(form), message).expected(expected));
    }
}

fn check_rds(source: &Node<'_>, faults: &mut Faults) {
    if source.text("kind").is_none_or(|kind| kind.text != "rds") {
        return;
    }
    let expected = "exactly one of instance, cluster";
    match (source.has("instance"), source.has("cluster")) {
        (true, true) => {
            let span = source.key_span("cluster").max_start(source.key_span("instance"));
            faults.push(Fault::new(span, "the source has both \"instance\" and \"cluster\"").expected(expected));
        }
        (false, false) => {
            faults.push(
                Fault::new(source.span.clone(), "the source names no RDS instance or cluster").expected(expected),
            );
        }
        _ => {}
    }
}

/// The later of two places.
trait MaxStart {
    fn max_start(self, other: Self) -> Self;
}

impl MaxStart for std::ops::Range<usize> {
    fn max_start(self, other: Self) -> Self {
        if self.start >= other.start { self } else { other }
    }
}

fn check_schedule(schedule: &Node<'_>, faults: &mut Faults) {
    if let Some(drill) = schedule.text("drill").filter(|drill| drill.text == "auto") {
        let message = "\"auto\" follows the rate of change of the data, which says nothing about drills";
        faults.push(Fault::new(drill.span, message).expected("\"daily HH:MM\", \"every 30d\" or a cron line"));
    }
    let (Some(backup), Some(window)) = (schedule.text("backup"), schedule.text("window")) else { return };
    let (Ok(Cadence::Daily { hour, minute }), Ok(span)) = (parse_cadence(backup.text), parse_window(window.text))
    else {
        return;
    };
    if !span.contains(u16::from(hour) * 60 + u16::from(minute)) {
        let message = format!("{} never falls into the window {}", quoted(backup.text), quoted(window.text));
        faults.push(Fault::new(backup.span, message).expected("a time within the window"));
    }
}

fn check_archive(root: &Node<'_>, faults: &mut Faults) {
    let Some(archive) = root.child("retention").and_then(|retention| retention.child("archive")) else { return };
    let Some(to) = archive.text("to").filter(|to| to.text != "directory") else { return };
    if provider(root, "primary") == Some("local") && provider(root, "dr") == Some("local") {
        let message = format!("to = {} needs an AWS account, and neither site is on AWS", quoted(to.text));
        faults.push(Fault::new(to.span, message).expected("\"directory\", with path = \"/...\""));
    }
}

/// Half of a pair of keys would fall back on credentials that nobody meant.
fn check_bucket(dr: &Node<'_>, faults: &mut Faults) {
    let lone = match (dr.has("access_key"), dr.has("secret_key"), dr.has("session_token")) {
        (true, false, _) => Some(("access_key", "secret_key")),
        (false, true, _) => Some(("secret_key", "access_key")),
        (false, false, true) => Some(("session_token", "access_key")),
        _ => None,
    };
    if let Some((there, missing)) = lone.filter(|_| dr.text("provider").is_some_and(|text| text.text == "aws")) {
        let message = format!("\"{there}\" is given without \"{missing}\"");
        faults.push(Fault::new(dr.key_span(there), message).expected("both, or neither"));
    }
}

/// A wait that is longer than its step may take can only fail.
pub(crate) fn check_wait(step: &Node<'_>, faults: &mut Faults) {
    let (Some(wait), Some(timeout)) = (step.text("wait"), step.text("timeout")) else { return };
    if let (Ok(wait), Ok(limit)) = (parse_duration(wait.text), parse_duration(timeout.text))
        && limit <= wait
    {
        let message = format!("the timeout {} ends the step before its wait is over", quoted(timeout.text));
        faults.push(Fault::new(timeout.span, message).expected("a timeout longer than the wait, or none"));
    }
}
