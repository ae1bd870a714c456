//! A plan as a graph: which steps may run now, in which ranks. Pure.

use std::collections::BTreeMap;

use crate::ground::{Failure, Result};
use crate::policy::{Plan, StepAction};

/// Directory below a drill's target that belongs to lifeboat; no restore may go there.
pub const OWN_DIRECTORY: &str = ".lifeboat";

/// What became of a step so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    Waiting,
    Running,
    Done,
    Failed,
}

/// The order graph of a plan; steps are meant by their position in the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    after: Vec<Vec<usize>>,
    /// Steps that may run at the same time, first rank first; each in plan order.
    pub ranks: Vec<Vec<usize>>,
}

impl Order {
    /// Waiting steps whose predecessors are all done, in plan order. A step behind a failed one is never ready.
    pub fn ready(&self, states: &[StepState]) -> Vec<usize> {
        let done = |step: &usize| states[*step] == StepState::Done;
        (0..self.after.len())
            .filter(|&step| states[step] == StepState::Waiting && self.after[step].iter().all(done))
            .collect()
    }
}

/// Builds the graph.
///
/// # Errors
/// Wrong input when a step waits for a step that does not exist, when steps wait for each other, when two restores
/// would write into each other's directory or into lifeboat's own.
pub fn order(plan: &Plan) -> Result<Order> {
    let after = predecessors(plan)?;
    let ranks = ranks(plan, &after)?;
    check_targets(plan)?;
    Ok(Order { after, ranks })
}

fn predecessors(plan: &Plan) -> Result<Vec<Vec<usize>>> {
    let positions: BTreeMap<&str, usize> =
        plan.steps.iter().enumerate().map(|(position, step)| (step.name.as_str(), position)).collect();
    let find = |step: &str, name: &String| {
        positions.get(name.as_str()).copied().ok_or_else(|| {
            Failure::wrong_input(format!("the step `{step}` waits for `{name}`, which is no step of the plan"))
        })
    };
    plan.steps.iter().map(|step| step.after.iter().map(|name| find(&step.name, name)).collect()).collect()
}

fn ranks(plan: &Plan, after: &[Vec<usize>]) -> Result<Vec<Vec<usize>>> {
    let mut placed = vec![false; after.len()];
    let mut ranks = Vec::new();
    while placed.iter().any(|placed| !placed) {
        let rank: Vec<usize> = (0..after.len())
            .filter(|&step| !placed[step] && after[step].iter().all(|&earlier| placed[earlier]))
            .collect();
        if rank.is_empty() {
            return Err(cycle(plan, &placed));
        }
        for &step in &rank {
            placed[step] = true;
        }
        ranks.push(rank);
    }
    Ok(ranks)
}

fn cycle(plan: &Plan, placed: &[bool]) -> Failure {
    let names: Vec<String> = plan
        .steps
        .iter()
        .zip(placed)
        .filter(|(_, placed)| !**placed)
        .map(|(step, _)| format!("`{}`", step.name))
        .collect();
    Failure::wrong_input(format!("the steps {} wait for each other, so none can start", names.join(", ")))
        .hint("remove one `after` of the circle")
}

fn check_targets(plan: &Plan) -> Result<()> {
    let mut targets: Vec<(&str, Vec<&str>)> = Vec::new();
    for step in &plan.steps {
        let StepAction::Restore { to, .. } = &step.action else { continue };
        let parts: Vec<&str> = to.split('/').collect();
        if parts.iter().any(|part| matches!(*part, "" | "." | "..")) || parts[0] == OWN_DIRECTORY {
            return Err(Failure::wrong_input(format!(
                "the step `{}` restores to `{to}`, which is no plain path",
                step.name
            )));
        }
        if let Some((other, _)) =
            targets.iter().find(|(_, taken)| taken.starts_with(&parts) || parts.starts_with(taken))
        {
            let name = &step.name;
            return Err(Failure::wrong_input(format!(
                "the steps `{other}` and `{name}` restore into the same directory"
            ))
            .hint("give one of them another `to`"));
        }
        targets.push((&step.name, parts));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::StepState::{Done, Failed, Running, Waiting};
    use super::*;
    use crate::policy::Step;

    fn plan(steps: &[(&str, &[&str])]) -> Plan {
        let step = |(name, after): &(&str, &[&str])| Step {
            name: (*name).into(),
            action: StepAction::Wait { duration: Duration::ZERO },
            after: after.iter().map(|name| (*name).into()).collect(),
            timeout: Duration::from_secs(1),
        };
        Plan { steps: steps.iter().map(step).collect(), checks: Vec::new() }
    }

    fn restores(targets: &[&str]) -> Plan {
        let mut plan = plan(&vec![("x", &[][..]); targets.len()]);
        for (position, (step, to)) in plan.steps.iter_mut().zip(targets).enumerate() {
            step.name = format!("s{position}");
            step.action = StepAction::Restore { source: "files".into(), to: (*to).into() };
        }
        plan
    }

    #[test]
    fn ranks_follow_after() {
        type Case<'a> = (&'a [(&'a str, &'a [&'a str])], &'a [&'a [usize]]);
        let cases: [Case; 4] = [
            (&[], &[]),
            (&[("a", &[]), ("b", &[])], &[&[0, 1]]),
            (&[("c", &["a", "b"]), ("a", &[]), ("b", &["a"])], &[&[1], &[2], &[0]]),
            (&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])], &[&[0], &[1, 2], &[3]]),
        ];
        for (steps, expected) in cases {
            assert_eq!(order(&plan(steps)).unwrap().ranks, expected.iter().map(|r| r.to_vec()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn ready_steps_run_side_by_side_and_dependents_of_a_failed_one_never() {
        let order = order(&plan(&[("a", &[]), ("b", &[]), ("c", &["a"]), ("d", &["c", "b"])])).unwrap();
        let cases: [([StepState; 4], &[usize]); 6] = [
            ([Waiting, Waiting, Waiting, Waiting], &[0, 1]),
            ([Running, Running, Waiting, Waiting], &[]),
            ([Done, Running, Waiting, Waiting], &[2]),
            ([Failed, Done, Waiting, Waiting], &[]),
            ([Done, Failed, Done, Waiting], &[]),
            ([Done, Done, Done, Waiting], &[3]),
        ];
        for (states, expected) in cases {
            assert_eq!(order.ready(&states), expected, "{states:?}");
        }
    }

    #[test]
    fn circles_and_unknown_names_are_refused() {
        let circle = order(&plan(&[("a", &["b"]), ("b", &["a"]), ("c", &[])])).unwrap_err();
        assert!(circle.message.contains("`a`, `b` wait for each other"), "{circle}");
        let own = order(&plan(&[("a", &["a"])])).unwrap_err();
        assert!(own.message.contains("`a`"), "{own}");
        let unknown = order(&plan(&[("a", &["z"])])).unwrap_err();
        assert!(unknown.message.contains("`z`"), "{unknown}");
    }

    #[test]
    fn restores_may_not_meet() {
        assert!(order(&restores(&["a", "ab", "b/c", "b/d"])).is_ok());
        for refused in
            [&["a", "a"][..], &["a", "a/b"], &["a/b", "a"], &["../x"], &["/x"], &[".lifeboat"], &["."], &[""]]
        {
            assert!(order(&restores(refused)).is_err(), "{refused:?}");
        }
    }
}
