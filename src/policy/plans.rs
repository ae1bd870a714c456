//! What spans keys within a plan: names that refer to each other, the order of steps, where restores go.

use super::build::step_name;
use super::diagnostics::{Fault, Faults};
use super::form::one_of;
use super::graph::order;
use super::meaning::{DATABASES, check_wait, refuse_duplicates};
use super::nearest::nearest;
use super::node::{Located, Node};
use super::source_keys::KINDS;
use super::time::quoted;

/// Reports what is wrong in every plan.
pub(crate) fn check(root: &Node<'_>, faults: &mut Faults) {
    let kinds = source_kinds(root);
    for (name, plan) in root.named("plan") {
        let steps = plan.children("step");
        check_emptiness(&name, &plan, faults);
        check_restores(&steps, &kinds, faults);
        check_order(&steps, faults);
        steps.iter().for_each(|step| check_wait(step, faults));
        check_targets(&steps, faults);
        let checks = plan.children("check");
        refuse_duplicates(checks.iter().filter_map(|check| check.text("name")).collect(), "checks of a plan", faults);
        checks.iter().for_each(|check| check_on(check, &steps, &kinds, faults));
    }
}

/// Name and kind of every source that has a name.
fn source_kinds<'a>(root: &Node<'a>) -> Vec<(&'a str, Option<&'a str>)> {
    let kind = |source: &Node<'a>| source.text("kind").map(|kind| kind.text);
    root.children("source").iter().filter_map(|source| Some((source.text("name")?.text, kind(source)))).collect()
}

fn check_emptiness(name: &Located<'_>, plan: &Node<'_>, faults: &mut Faults) {
    let is_empty = |key: &str| match plan.get(key) {
        None => true,
        Some(value) => value.get_ref().as_array().is_some_and(|items| items.is_empty()),
    };
    if is_empty("step") {
        let message = format!("the plan {} has no steps", quoted(name.text));
        let expected = format!("at least one [[plan.{}.step]], such as restore = \"...\"", name.text);
        faults.push(Fault::new(name.span.clone(), message).expected(expected));
    } else if name.text == "drill" && is_empty("check") {
        let message = "the plan \"drill\" has no checks: it would pass without proving that any data came back";
        let expected =
            "at least one [[plan.drill.check]], such as file = \"...\", or sql, on and expect for a database";
        faults.push(Fault::new(name.span.clone(), message).expected(expected));
    }
}

fn check_restores(steps: &[Node<'_>], kinds: &[(&str, Option<&str>)], faults: &mut Faults) {
    for restore in steps.iter().filter_map(|step| step.text("restore")) {
        if !kinds.iter().any(|(name, _)| *name == restore.text) {
            refuse_unknown(&restore, "no source is called", kinds.iter().map(|(name, _)| *name).collect(), faults);
        }
    }
}

fn refuse_unknown(found: &Located<'_>, message: &str, known: Vec<&str>, faults: &mut Faults) {
    let meant = nearest(found.text, known.iter().copied()).map(str::to_owned);
    let expected = if known.is_empty() { "a name that exists; there is none yet".to_owned() } else { one_of(&known) };
    let fault = Fault::new(found.span.clone(), format!("{message} {}", quoted(found.text)));
    faults.push(fault.expected(expected).suggest(meant));
}

/// Names of steps: unique, known to `after`, and without a cycle.
fn check_order(steps: &[Node<'_>], faults: &mut Faults) {
    let names: Vec<Option<String>> = steps.iter().map(step_name).collect();
    let mut known: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
    known.dedup();
    refuse_duplicate_steps(steps, &names, faults);
    let mut after = Vec::new();
    for step in steps {
        let mut before = Vec::new();
        for wanted in step.texts("after") {
            match names.iter().position(|name| name.as_deref() == Some(wanted.text)) {
                Some(index) => before.push(index),
                None => refuse_unknown(&wanted, "no step of this plan is called", known.clone(), faults),
            }
        }
        after.push(before);
    }
    if let Err(cycle) = order(&after) {
        let path: Vec<String> = cycle.iter().map(|index| quoted(names[*index].as_deref().unwrap_or("?"))).collect();
        let first = cycle.iter().min().copied().unwrap_or_default();
        let span = steps[first].get("after").map_or_else(|| steps[first].span.clone(), |after| after.span());
        let message = format!("these steps wait for each other: {}", path.join(" after "));
        faults.push(Fault::new(span, message).expected("steps that can be put in an order"));
    }
}

fn refuse_duplicate_steps(steps: &[Node<'_>], names: &[Option<String>], faults: &mut Faults) {
    let places = steps.iter().zip(names).filter_map(|(step, name)| {
        let text = name.as_deref()?;
        let place = ["name", "restore", "script", "wait"].iter().find_map(|key| step.text(key))?;
        Some(Located { text, span: place.span })
    });
    refuse_duplicates(places.collect(), "steps of this plan", faults);
}

/// Two restores into one place, or one into the other, would mix what they bring.
fn check_targets(steps: &[Node<'_>], faults: &mut Faults) {
    let mut taken: Vec<Located<'_>> = Vec::new();
    for step in steps {
        let Some(target) = step.text("restore").map(|restore| step.text("to").unwrap_or(restore)) else { continue };
        let inside =
            |inner: &str, outer: &str| inner == outer || inner.strip_prefix(outer).is_some_and(|r| r.starts_with('/'));
        let clash = taken.iter().find(|other| inside(target.text, other.text) || inside(other.text, target.text));
        if let Some(other) = clash {
            let message = match target.text == other.text {
                true => format!("two steps restore into {}", quoted(target.text)),
                false => format!(
                    "{} and {}, which two steps restore into, lie inside each other",
                    quoted(target.text),
                    quoted(other.text)
                ),
            };
            faults.push(Fault::new(target.span.clone(), message).expected("a \"to\" of its own for each restore"));
        }
        taken.push(target);
    }
}

fn check_on(check: &Node<'_>, steps: &[Node<'_>], kinds: &[(&str, Option<&str>)], faults: &mut Faults) {
    let Some(on) = check.text("on") else { return };
    let restored: Vec<&str> =
        steps.iter().filter_map(|step| step.text("restore")).map(|restore| restore.text).collect();
    // A source whose kind is wrong has been reported; it is taken for a database, lest one mistake be told twice.
    let may_answer = |kind: Option<&str>| kind.is_none_or(|kind| DATABASES.contains(&kind) || !KINDS.contains(&kind));
    let databases = kinds.iter().filter(|(name, kind)| may_answer(*kind) && restored.contains(name));
    let databases: Vec<&str> = databases.map(|(name, _)| *name).collect();
    if databases.contains(&on.text) {
        return;
    }
    let message = match kinds.iter().find(|(name, _)| *name == on.text) {
        None => format!("no source is called {}", quoted(on.text)),
        Some((_, kind)) if !may_answer(*kind) => {
            format!("the source {} is no database that answers a query", quoted(on.text))
        }
        // A restore that names no source has been reported; it may well be the one that was meant.
        Some(_) if restored.iter().any(|name| kinds.iter().all(|(source, _)| source != name)) => return,
        Some(_) => {
            let message = format!("no step of this plan restores {}", quoted(on.text));
            faults.push(Fault::new(on.span, message).expected(format!("a step with restore = \"{}\"", on.text)));
            return;
        }
    };
    let expected = match databases.is_empty() {
        true => "a source of kind sqlite, postgres, mysql or rds that a step of this plan restores".to_owned(),
        false => one_of(&databases),
    };
    let meant = nearest(on.text, databases).map(str::to_owned);
    faults.push(Fault::new(on.span, message).expected(expected).suggest(meant));
}
