//! `lifeboat verify`

use clap::Args;
use serde_json::json;

use super::global::Global;
use super::output;
use crate::backup::existing::{self, Checked, ExistingCheck};
use crate::backup::snapshots;
use crate::catalog::VerificationRow;
use crate::engine::system::System;
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result};
use crate::report::humane;
use crate::repository::{VerifyDepth, VerifyReport};
use lifeboat_verify::chain::Entry;

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The system; may be left out when there is one policy
    system: Option<String>,
    /// Read the data too: all of it, or a percentage chosen at random
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, require_equals = true, default_missing_value = "100",
          value_parser = clap::value_parser!(u8).range(1..=100))]
    read_data: Option<u8>,
}

/// Runs the command.
pub fn command(global: &Global, arguments: &Arguments) -> Result<u8> {
    let system = global.open_system(global.policy_of(arguments.system.as_deref())?)?;
    let repository = system.open_repository()?;
    let _reading = repository.lock_shared(system.clock.now());
    let depth = match arguments.read_data {
        Some(percent) => VerifyDepth::Data { percent, seed: random_seed()? },
        None => VerifyDepth::Structure,
    };
    system.progress.begin("verifying", None);
    let report = repository.verify(depth, system.progress.as_ref());
    system.progress.end();
    let mut report = report?;
    report.damage.extend(records_against_ledger(&system)?);
    report.damage.extend(system.dr.points()?.1);
    report.damage.extend(system.dr.policy_damage()?);
    for point in snapshots::points_without(&system, &repository)? {
        report.damage.push(format!("the recovery point {} has lost its snapshot {}", point.id, point.snapshot));
    }
    let elsewhere = existing::check(&system, depth)?;
    let there = elsewhere.checked.iter().map(|checked| &checked.report);
    let damage: Vec<String> = [&report].into_iter().chain(there).flat_map(|report| report.damage.clone()).collect();
    note(&system, damage.len() as u64, arguments.read_data.unwrap_or(0));
    match global.json {
        true => print_json(&system, &report, &elsewhere, &damage)?,
        false => print_lines(&report, &elsewhere)?,
    }
    damage.iter().for_each(|damage| eprintln!("damage: {damage}"));
    elsewhere.forgotten.iter().for_each(|forgotten| eprintln!("forgotten: {forgotten}"));
    judge(&system, &report, &damage, &elsewhere)
}

fn print_json(system: &System, report: &VerifyReport, elsewhere: &ExistingCheck, damage: &[String]) -> Result<()> {
    let numbers = |report: &VerifyReport| {
        json!({
            "snapshots": report.snapshots, "packs": report.packs, "unlisted_packs": report.unlisted_packs,
            "packs_read": report.packs_read, "blobs": report.blobs, "bytes_read": report.bytes_read,
        })
    };
    let existing = |checked: &Checked| {
        let mut document = numbers(&checked.report);
        (document["source"], document["path"]) = (json!(checked.source), json!(checked.path));
        document
    };
    let mut document = numbers(report);
    document["system"] = json!(system.policy.system);
    document["damage"] = json!(damage);
    document["existing"] = elsewhere.checked.iter().map(existing).collect();
    document["forgotten"] = json!(elsewhere.forgotten);
    output::json(&document)
}

fn print_lines(report: &VerifyReport, elsewhere: &ExistingCheck) -> Result<()> {
    let line = |report: &VerifyReport| {
        format!(
            "{} snapshots, {} packs with {} blobs; {} packs read, {}",
            report.snapshots,
            report.packs,
            report.blobs,
            report.packs_read,
            humane::bytes(report.bytes_read)
        )
    };
    output::line(&line(report))?;
    if report.unlisted_packs > 0 && report.damage.is_empty() {
        output::line(&format!(
            "{} packs more that nothing needs: a killed backup or a repair left them, or a backup under way; `lifeboat \
             prune` removes what is left",
            report.unlisted_packs
        ))?;
    }
    let existing = |checked: &Checked| format!("{} ({}): {}", checked.source, checked.path, line(&checked.report));
    elsewhere.checked.iter().try_for_each(|checked| output::line(&existing(checked)))
}

/// Damage fails; points that others took the snapshots of are what is missing.
fn judge(system: &System, report: &VerifyReport, damage: &[String], elsewhere: &ExistingCheck) -> Result<u8> {
    let name = &system.policy.system;
    if damage.is_empty() {
        return Ok(if elsewhere.forgotten.is_empty() { 0 } else { 3 });
    }
    let places = damage.len();
    let mut failure = match report.damage.is_empty() {
        true => Failure::failed(format!("what existing repositories hold of {name:?} is damaged in {places} places")),
        false => Failure::failed(format!("the repository of {name:?} is damaged in {places} places")).hint(format!(
            "restore what you need from points that are whole, and copy the repository; then `lifeboat repair {name}` \
             mends what can be mended in it, and the next backup puts back the policy and its scripts"
        )),
    };
    if places > report.damage.len() {
        failure = failure.hint("lifeboat writes nothing into an existing repository: restic's own tools mend it");
    }
    Err(failure)
}

/// For `status`. What was found is told even when it cannot be noted.
fn note(system: &System, damage: u64, percent_read: u8) {
    let noted = system.catalog.put_verification(VerificationRow {
        system: system.policy.system.clone(),
        at: system.clock.now(),
        percent_read,
        damage,
    });
    if let Err(failure) = noted {
        system.progress.warn(&format!("{}: `lifeboat status` does not know of this verification", failure.message));
    }
}

/// Records that the ledger saw being written and that are gone or different now. An entry that cannot be read vouches for
/// nothing; `ledger verify` tells of it.
fn records_against_ledger(system: &System) -> Result<Vec<String>> {
    let mut damage = Vec::new();
    for (number, bytes) in system.ledger().entries()? {
        let Ok(entry) = Entry::from_bytes(&bytes) else {
            damage.push(format!("entry {number} of the ledger cannot be read"));
            continue;
        };
        for mark in entry.points {
            match system.dr.record_sha256(&mark.id)? {
                None => damage.push(format!("the record of the recovery point {} is gone", mark.id)),
                Some(sha256) if sha256 != mark.record_sha256 => {
                    damage
                        .push(format!("the record of the recovery point {} is not the one that was written", mark.id));
                }
                Some(_) => {}
            }
        }
    }
    Ok(damage)
}

fn random_seed() -> Result<u64> {
    let mut seed = [0_u8; 8];
    getrandom::fill(&mut seed).or_fail(|| "no random bytes to be had".to_owned())?;
    Ok(u64::from_le_bytes(seed))
}
