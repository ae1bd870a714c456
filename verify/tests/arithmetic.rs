//! RPO, RTO and the verdict, from raw events alone.

mod samples;

use jiff::Timestamp;
use lifeboat_verify::events::{Event, EventKind, StepOutput};
use lifeboat_verify::report::{
    ObjectiveVerdict, Overall, Report, Severity, StepOutcome, from_journal, journal_bytes, read_journal, summarize,
};
use proptest::prelude::*;
use samples::Drill;

fn report(drill: Drill) -> Report {
    summarize(&drill.events()).expect("a well-formed journal")
}

fn sentences(report: &Report, severity: Severity) -> Vec<&str> {
    let of_it = report.deficiencies.iter().filter(|deficiency| deficiency.severity == severity);
    of_it.map(|deficiency| deficiency.sentence.as_str()).collect()
}

proptest! {
    /// Otherwise a true report would now and then be called altered.
    #[test]
    fn seconds_that_were_written_are_read_as_the_same(nanoseconds in 0..10_000_000_000_000_000_i64) {
        let seconds = jiff::SignedDuration::from_nanos(nanoseconds).as_secs_f64();
        let written = serde_json::to_string(&seconds).unwrap();
        prop_assert_eq!(serde_json::from_str::<f64>(&written).unwrap().to_bits(), seconds.to_bits());
    }
}

#[test]
fn a_passed_drill_has_both_numbers() {
    let report = report(samples::passed());
    assert!(report.passed);
    assert_eq!(report.verdict.overall, Overall::Passed);
    assert_eq!(report.rpo_seconds, Some(1500.0), "the oldest source decides");
    assert_eq!(report.rpo_source.as_deref(), Some("files"));
    assert_eq!(report.rpo_method.as_deref(), Some("snapshot time"));
    assert_eq!(report.rto_seconds, Some(192.4), "the last check decides");
    assert_eq!(report.rto_check.as_deref(), Some("shop answers"));
    assert_eq!(report.skew_seconds, Some(41.25));
    assert_eq!(report.sources[0].rpo_seconds.max(report.sources[1].rpo_seconds), 1500.0);
    assert_eq!(report.deficiencies, []);
    assert_eq!(report.not_tested, ["Source \"logs\" is in the policy and was not restored by this drill"]);
}

#[test]
fn a_failed_check_fails_the_drill() {
    let report = report(samples::failed_check());
    assert!(!report.passed);
    assert_eq!(report.verdict.overall, Overall::Failed);
    assert_eq!(report.rto_seconds, None);
    assert_eq!(report.verdict.rto, ObjectiveVerdict::NotMeasured);
    assert_eq!(report.rpo_seconds, Some(1500.0), "everything was restored, so the age is known");
    assert_eq!(sentences(&report, Severity::Failure), ["Check \"orders are there\" expected > 0, and got 0"]);
}

#[test]
fn a_failed_step_fails_the_drill_and_names_what_was_not_reached() {
    let report = report(samples::failed_step());
    assert_eq!(report.verdict.overall, Overall::Failed);
    assert_eq!((report.rpo_seconds, report.rto_seconds), (None, None));
    assert_eq!(sentences(&report, Severity::Failure).len(), 3, "the step and two checks");
    assert!(report.not_tested.contains(&"Check \"shop answers\" was not reached".to_owned()));
}

#[test]
fn a_script_with_an_exit_code_is_a_failed_step() {
    let mut events = samples::passed().events();
    let event = events.iter_mut().find(|e| e.step == "step: start the shop" && e.kind == EventKind::Succeeded);
    event.expect("the sample has it").data["exit_code"] = 3.into();
    let report = summarize(&events).expect("well-formed");
    assert!(!report.passed);
    assert!(sentences(&report, Severity::Failure)[0].ends_with("start-shop.sh ended with exit code 3"));
}

#[test]
fn everything_declared_must_have_left_an_event() {
    for (step, check) in [("upgrade", None), ("files", Some("login works"))] {
        let drill = samples::passed().with(|declared| {
            declared.steps.push(step.into());
            declared.steps.dedup();
            declared.checks.extend(check.map(String::from));
        });
        let report = report(drill);
        assert!(!report.passed, "{step} {check:?}");
        assert_eq!(report.rto_seconds, None);
        assert_eq!(report.verdict.overall, Overall::Aborted, "nothing failed, something is not there");
    }
}

#[test]
fn a_step_that_leaves_no_evidence_has_not_succeeded() {
    let mut events = samples::passed().events();
    let event = events.iter_mut().find(|event| event.step == "step: files" && event.kind == EventKind::Succeeded);
    event.expect("the sample has it").data = serde_json::Value::Null;
    let report = summarize(&events).expect("well-formed");
    assert!(!report.passed);
    assert_eq!(sentences(&report, Severity::Failure), ["Step \"files\" succeeded but left no evidence"]);
    assert_eq!(report.rpo_seconds, None, "the missing restore may have been the oldest");
}

#[test]
fn what_is_declared_may_be_named_as_in_the_plan_or_as_in_the_journal() {
    let as_in_plan = samples::passed().with(|declared| {
        declared.steps = ["files", "orders", "start the shop"].map(String::from).into();
        declared.checks = ["orders are there", "shop answers"].map(String::from).into();
    });
    let mut both = [report(as_in_plan), report(samples::passed())];
    both.iter_mut().for_each(|report| report.events_sha256.clear());
    assert_eq!(both[0], both[1]);
    assert!(both[0].passed);
}

#[test]
fn no_other_step_passes_for_a_step_or_check_of_the_plan() {
    let names = ["declare", "isolate", "clean up", "recovered to: files", "check: shop answers", "shop answers"];
    let steps = samples::passed().with(|declared| declared.steps = names.map(String::from).into());
    assert_eq!(sentences(&report(steps), Severity::Failure).len(), 6);
    let names = ["declare", "step: files", "files", "start the shop"];
    let checks = samples::passed().with(|declared| declared.checks = names.map(String::from).into());
    let report = report(checks);
    assert_eq!(sentences(&report, Severity::Failure).len(), 4);
    assert_eq!(report.checks.len(), 6, "the undeclared checks that were tried are shown too");
}

#[test]
fn two_checks_of_one_name_both_count() {
    let mut events = samples::passed().events();
    for event in events.iter_mut().filter(|event| event.step == "check: orders are there") {
        event.step = "check: shop answers (2)".to_owned();
        if event.kind == EventKind::Succeeded {
            event.data["check"] = "shop answers".into();
            event.data["passed"] = false.into();
        }
    }
    let event = events.iter_mut().find(|event| event.data.get("checks").is_some()).expect("declared");
    event.data["checks"] = serde_json::json!(["check: shop answers", "check: shop answers (2)"]);
    let report = summarize(&events).expect("well-formed");
    assert!(!report.passed);
    assert_eq!(report.checks.iter().map(|check| check.passed).collect::<Vec<_>>(), [true, false]);
    assert_eq!(sentences(&report, Severity::Failure).len(), 1);
}

#[test]
fn without_a_check_or_a_restore_nothing_passes() {
    let no_check = Drill::shop()
        .with(|declared| {
            declared.checks.clear();
            declared.steps = vec!["orders".into()];
        })
        .isolated()
        .orders(0.5, 2.0)
        .clean_up(3.0);
    assert!(!report(no_check).passed);
    let no_restore = Drill::shop()
        .with(|declared| declared.steps.clear())
        .isolated()
        .check_orders(1.0, 2.0, 5)
        .check_http(1.0, 2.0)
        .clean_up(3.0);
    let report = report(no_restore);
    assert!(!report.passed);
    assert_eq!(report.verdict.rpo, ObjectiveVerdict::NotMeasured);
}

#[test]
fn missing_entries_are_a_finding() {
    let report = report(samples::partial());
    assert!(report.passed);
    assert_eq!(report.verdict.overall, Overall::PassedWithFindings);
    assert_eq!(sentences(&report, Severity::Finding), ["Source \"files\" was restored without 2 of its entries"]);
}

#[test]
fn an_objective_is_met_when_equal_and_missed_above() {
    let exact = samples::passed().with(|declared| {
        declared.rpo_objective_seconds = Some(1500.0);
        declared.rto_objective_seconds = Some(192.4);
    });
    let exact = report(exact);
    assert_eq!((exact.verdict.rpo, exact.verdict.rto), (ObjectiveVerdict::Met, ObjectiveVerdict::Met));
    let over = report(samples::over_objective());
    assert!(over.passed);
    assert_eq!((over.verdict.rpo, over.verdict.rto), (ObjectiveVerdict::Missed, ObjectiveVerdict::Missed));
    assert_eq!(over.verdict.overall, Overall::ObjectiveMissed);
    assert_eq!(sentences(&over, Severity::Objective)[1], "RTO is 192.400 s, the objective is 120.000 s");
    let none = samples::passed().with(|declared| declared.rpo_objective_seconds = None);
    assert_eq!(report(none).verdict.rpo, ObjectiveVerdict::NoObjective);
}

#[test]
fn an_interrupted_drill_keeps_its_t0_and_shows_the_dead_attempt() {
    let report = report(samples::interrupted());
    assert!(report.passed);
    assert_eq!(report.rto_seconds, Some(260.0));
    assert_eq!(report.interruptions.len(), 1);
    assert!((report.interruptions[0].seconds - 70.9).abs() < 1e-6, "{:?}", report.interruptions);
    let attempts: Vec<_> =
        report.steps.iter().filter(|row| row.name == "files").map(|row| (row.attempt, row.outcome)).collect();
    assert_eq!(attempts, [(1, StepOutcome::Interrupted), (2, StepOutcome::Succeeded)]);
}

#[test]
fn a_drill_that_stops_is_aborted() {
    let report = report(samples::aborted());
    assert_eq!(report.verdict.overall, Overall::Aborted);
    assert!(report.steps.iter().any(|row| row.outcome == StepOutcome::Unfinished));
    assert!(sentences(&report, Severity::Finding).iter().any(|sentence| sentence.contains("removed")));
}

#[test]
fn an_assumed_incident_counts_the_loss_from_its_own_moment() {
    let earlier = samples::passed().with(|declared| declared.at = samples::at(-600.0));
    let report = report(earlier);
    assert_eq!(report.rpo_seconds, Some(900.0));
    assert_eq!(report.rto_seconds, Some(192.4));
    assert!(report.assumptions.iter().any(|sentence| sentence.contains("assumed to have happened")));
}

#[test]
fn a_point_that_was_not_there_at_the_incident_is_a_finding() {
    let report = report(samples::passed().with(|declared| declared.at = samples::at(-1460.0)));
    assert!(sentences(&report, Severity::Finding).iter().any(|sentence| sentence.contains("became available only")));
}

#[test]
fn data_from_the_future_counts_as_no_loss_and_makes_the_clock_suspect() {
    let mut events = samples::passed().events();
    let event = events.iter_mut().find(|e| e.step == "recovered to: orders" && e.kind == EventKind::Succeeded);
    event.expect("the sample has it").data["time"] = "2026-11-22T05:00:00Z".into();
    let report = summarize(&events).expect("well-formed");
    let orders = report.sources.iter().find(|row| row.source == "orders").expect("restored");
    assert_eq!(orders.rpo_seconds, 0.0);
    assert!(orders.clock_suspect);
    assert_eq!(report.verdict.overall, Overall::PassedWithFindings);
}

#[test]
fn an_unmeasured_source_falls_back_to_its_point_and_says_so() {
    let events: Vec<Event> =
        samples::passed().events().into_iter().filter(|event| event.step != "recovered to: orders").collect();
    let report = summarize(&renumbered(events)).expect("well-formed");
    let orders = report.sources.iter().find(|row| row.source == "orders").expect("restored");
    assert!(orders.assumed);
    assert_eq!(orders.rpo_seconds, 1440.0);
    assert_eq!(report.verdict.overall, Overall::PassedWithFindings);
}

#[test]
fn a_clock_that_runs_back_is_a_finding() {
    let mut events = samples::passed().events();
    let last = events.last_mut().expect("events");
    last.at = samples::at(-3600.0);
    let report = summarize(&events).expect("well-formed");
    assert!(sentences(&report, Severity::Finding)[0].contains("clock ran back"));
}

#[test]
fn contradicting_events_are_refused() {
    let events = samples::passed().events();
    let gap: Vec<Event> = events.iter().filter(|event| event.seq != 4).cloned().collect();
    assert_eq!(
        summarize(&gap).expect_err("gap").to_string(),
        "the events are not gap-free: after event 3 comes event 5"
    );
    let undeclared: Vec<Event> = events.iter().filter(|event| event.step != "declare").cloned().collect();
    assert!(summarize(&renumbered(undeclared)).is_err());
    let mut twice = events.clone();
    twice.push(Event { seq: twice.len() as u64 + 1, kind: EventKind::Started, attempt: 2, ..events[1].clone() });
    assert!(summarize(&twice).expect_err("again").to_string().contains("had succeeded"));
    let mut unreadable = events.clone();
    let event = unreadable.iter_mut().find(|event| event.kind == EventKind::Succeeded && event.step == "step: files");
    event.expect("the sample has it").data["evidence"] = "something new".into();
    assert!(summarize(&unreadable).expect_err("unknown").to_string().contains("cannot be read"));
    assert!(summarize(&[]).is_err());
}

#[test]
fn a_journal_comes_back_as_it_was() {
    let events = samples::interrupted().events();
    let bytes = journal_bytes(&events);
    assert_eq!(read_journal(&bytes).expect("our own"), events);
    let report = from_journal("run-1", &bytes).expect("well-formed");
    assert_eq!(report, summarize(&events).expect("well-formed").with_run("run-1"));
    let error = read_journal(b"{}\n").expect_err("not an event").to_string();
    assert!(error.starts_with("line 1 of the events is not an event"), "{error}");
}

fn renumbered(mut events: Vec<Event>) -> Vec<Event> {
    for (seq, event) in (1..).zip(&mut events) {
        event.seq = seq;
    }
    events
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    let seconds = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
    prop_oneof![
        Just(Timestamp::MIN),
        Just(Timestamp::MAX),
        seconds.prop_map(|s| Timestamp::from_second(s).expect("in range"))
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    let evidence = samples::passed().events().into_iter().map(|event| event.data).collect::<Vec<_>>();
    let steps = ["declare", "step: files", "orders", "run", "check: shop answers", "clean up", ""];
    let kinds = [EventKind::Started, EventKind::Succeeded, EventKind::Failed, EventKind::Continued];
    let parts = (
        any_time(),
        prop::sample::select(steps.to_vec()),
        0..3_u32,
        prop::sample::select(kinds.to_vec()),
        prop::sample::select(evidence),
    );
    parts.prop_map(|(at, step, attempt, kind, data)| Event { seq: 0, at, step: step.into(), attempt, kind, data })
}

proptest! {
    #[test]
    fn arbitrary_events_never_panic(events in prop::collection::vec(any_event(), 0..40), numbered: bool) {
        let _ = summarize(&if numbered { renumbered(events) } else { events });
    }

    /// A well-formed beginning, so that the arithmetic is reached with absurd times.
    #[test]
    fn absurd_times_never_panic_and_never_give_negative_numbers(times in prop::collection::vec(any_time(), 60)) {
        let mut events = samples::passed().events();
        for (event, time) in events.iter_mut().zip(&times) {
            event.at = *time;
            for key in ["t0", "at", "time", "data_time", "available_time", "decided_at"] {
                if event.data.get(key).is_some() {
                    event.data[key] = times[event.seq as usize % 7].to_string().into();
                }
            }
        }
        let report = summarize(&events).expect("still well-formed");
        prop_assert!(report.rpo_seconds.is_none_or(|seconds| seconds >= 0.0));
        prop_assert!(report.rto_seconds.is_none_or(|seconds| seconds >= 0.0));
        prop_assert!(report.skew_seconds.is_none_or(|seconds| seconds >= 0.0));
        prop_assert_eq!(report.passed, !report.deficiencies.iter().any(|d| d.severity == Severity::Failure));
    }

    /// Whatever single step or check leaves no success behind, the drill does not pass.
    #[test]
    fn no_drill_passes_without_all_it_declared(lost: prop::sample::Index) {
        let events = samples::passed().events();
        let planned: Vec<&Event> = events.iter().filter(|event| matters(event)).collect();
        let lost = planned[lost.index(planned.len())].step.clone();
        let rest = renumbered(events.iter().filter(|event| event.step != lost).cloned().collect());
        prop_assert!(!summarize(&rest).expect("well-formed").passed);
    }
}

fn matters(event: &Event) -> bool {
    matches!(
        serde_json::from_value(event.data.clone()),
        Ok(StepOutput::Restored(_) | StepOutput::Script(_) | StepOutput::Checked(_))
    )
}
