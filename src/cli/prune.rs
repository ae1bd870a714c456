//! `lifeboat prune`

use clap::Args;
use serde_json::json;

use super::global::Global;
use super::{block_on, output, resume};
use crate::ground::Result;
use crate::jobs;
use crate::jobs::prune::{Amount, PruneDone, amounts};
use crate::report::humane;
use crate::repository::prune::{Decision, Phase, PruneReport};

/// Arguments of `prune`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
One call does one of two things. It marks: packs that no snapshot needs leave the index and are listed as to be deleted; \
what is used of half-empty packs is copied first. Or, when something was marked more than 24 hours ago (by the DR site's \
clock), it sweeps: everything is looked at anew, alone in the repository, and what nobody has needed since is deleted.\n\
Run it daily. Space comes back with the second call.")]
pub struct Arguments {
    /// The system; may be left out when there is one policy
    system: Option<String>,
    /// Say what would be done and why; touch nothing
    #[arg(long, conflicts_with = "continue_only")]
    dry_run: bool,
    /// Finish what an interrupted prune left and start nothing new
    #[arg(long = "continue")]
    continue_only: bool,
}

/// Runs the command.
pub fn command(global: &Global, arguments: &Arguments) -> Result<u8> {
    let system = global.open_system(global.policy_of(arguments.system.as_deref())?)?;
    if arguments.dry_run {
        return print_plan(global, &system.policy.system, &jobs::prune::plan(&system)?).map(|()| 0);
    }
    if !arguments.continue_only {
        resume::other_kinds(global, &system, jobs::prune::KIND)?;
    }
    let _lock = system.lock("prune")?;
    let done = match arguments.continue_only {
        true => block_on(jobs::prune::continue_interrupted(&system))?,
        false => vec![block_on(jobs::prune::prune(&system))?],
    };
    print_result(global, &system.policy.system, &done)?;
    Ok(0)
}

fn print_plan(global: &Global, system: &str, plan: &PruneReport) -> Result<()> {
    if global.json {
        return output::json(&json!({ "system": system, "dry_run": true, "plan": plan, "totals": amounts(plan) }));
    }
    output::line(&format!("{} (nothing is touched)", headline(plan.phase)))?;
    for line in &plan.lines {
        let (bytes, unused) = (humane::bytes(line.bytes), humane::bytes(line.unused));
        let short = line.pack.get(..12).unwrap_or_default();
        let what = word(line.decision);
        output::line(&format!("{what}: pack {short}, {bytes}, {unused} of it not needed: {}", line.why))?;
    }
    let stored = Amount { packs: plan.packs, bytes: plan.bytes };
    print_totals(plan.phase, plan.snapshots, stored, plan.used_bytes, &|decision| {
        amounts(plan).get(&decision).copied().unwrap_or_default()
    })
}

fn print_result(global: &Global, system: &str, done: &[PruneDone]) -> Result<()> {
    if global.json {
        return output::json(&json!({ "system": system, "prunes": done }));
    }
    if done.is_empty() {
        return output::line("nothing was interrupted");
    }
    for done in done {
        output::line(headline(done.phase))?;
        print_totals(done.phase, done.snapshots, done.stored, done.used_bytes, &|decision| done.amount(decision))?;
        for leftover in &done.leftovers {
            output::line(&format!("removed {leftover}"))?;
        }
    }
    Ok(())
}

fn headline(phase: Phase) -> &'static str {
    match phase {
        Phase::Mark => "mark: what no snapshot needs leaves the index",
        Phase::Sweep => "sweep: what was marked and is not needed is deleted",
    }
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Keep => "keep",
        Decision::PutBack => "put back",
        Decision::Repack => "repack",
        Decision::Mark => "mark",
        Decision::Wait => "wait",
        Decision::Delete => "delete",
    }
}

fn print_totals(
    phase: Phase,
    snapshots: u64,
    stored: Amount,
    used_bytes: u64,
    amount: &dyn Fn(Decision) -> Amount,
) -> Result<()> {
    output::line(&format!(
        "{snapshots} snapshots need {} of {} in {} packs",
        humane::bytes(used_bytes),
        humane::bytes(stored.bytes),
        stored.packs
    ))?;
    let mut decisions = vec![Decision::PutBack, Decision::Repack, Decision::Mark, Decision::Delete, Decision::Wait];
    decisions.retain(|decision| amount(*decision).packs > 0);
    if decisions.is_empty() {
        return output::line("nothing to do");
    }
    for decision in decisions {
        let Amount { packs, bytes } = amount(decision);
        output::line(&format!("{}: {packs} packs, {}", word(decision), humane::bytes(bytes)))?;
    }
    let marked = amount(Decision::Mark).packs + amount(Decision::Repack).packs;
    if phase == Phase::Mark && marked > 0 {
        output::line("a prune more than 24 hours from now deletes what is marked and still not needed")?;
    }
    Ok(())
}
