//! Sample drills of a small shop, event by event, for tests of the arithmetic, the verifier and the page.
#![allow(dead_code, reason = "each test file uses some of the samples")]

use jiff::{SignedDuration, Timestamp};
use lifeboat_verify::events::{
    Checked, CleanedUp, Declared, Event, EventKind, Isolated, RecoveredTo, Restored, ScriptRun, StepOutput,
};
use serde_json::{Value, json};

/// When the sample incident is declared.
pub const T0: &str = "2026-11-22T04:00:00Z";

/// `T0` plus seconds.
pub fn at(seconds: f64) -> Timestamp {
    let t0: Timestamp = T0.parse().expect("a fixed time");
    t0.checked_add(SignedDuration::from_secs_f64(seconds)).expect("within range")
}

/// A drill under construction; events are put in order of time and numbered at the end.
#[derive(Clone)]
pub struct Drill {
    pub declared: Declared,
    events: Vec<(f64, Event)>,
}

impl Drill {
    /// A drill of the shop: two restores, a script, two checks; nothing has happened but its declaration.
    pub fn shop() -> Self {
        let declared = Declared {
            t0: at(0.0),
            system: "shop".into(),
            drill: 7,
            plan: "drill".into(),
            policy: "6a1f0c4be1d39ad27c4c57ad9b1d7a1c5c1de0a8c9f4f1a2b3c4d5e6f708192a".into(),
            at: at(0.0),
            rpo_objective_seconds: Some(3600.0),
            rto_objective_seconds: Some(900.0),
            steps: ["step: files", "step: orders", "step: start the shop"].map(String::from).into(),
            checks: ["check: orders are there", "check: shop answers"].map(String::from).into(),
            sources: ["files", "orders", "logs"].map(String::from).into(),
            host: "dr-host-1".into(),
            tool_version: "lifeboat 0.1.0".into(),
            trigger: "schedule".into(),
            identity: "root (uid 0)".into(),
            provider: "local".into(),
        };
        Self { declared, events: Vec::new() }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Declared)) -> Self {
        change(&mut self.declared);
        self
    }

    fn push(&mut self, seconds: f64, step: &str, attempt: u32, kind: EventKind, data: Value) {
        let event = Event { seq: 0, at: at(seconds), step: step.into(), attempt, kind, data };
        self.events.push((seconds, event));
    }

    /// A step that began and did not end.
    pub fn begun(mut self, step: &str, attempt: u32, start: f64) -> Self {
        self.push(start, step, attempt, EventKind::Started, Value::Null);
        self
    }

    /// A step that succeeded in its attempt.
    pub fn attempt(self, step: &str, attempt: u32, start: f64, end: f64, output: StepOutput) -> Self {
        let mut drill = self.begun(step, attempt, start);
        let data = serde_json::to_value(output).expect("evidence is JSON");
        drill.push(end, step, attempt, EventKind::Succeeded, data);
        drill
    }

    pub fn done(self, step: &str, start: f64, end: f64, output: StepOutput) -> Self {
        self.attempt(step, 1, start, end, output)
    }

    pub fn failed(self, step: &str, attempt: u32, start: f64, end: f64, error: &str) -> Self {
        let mut drill = self.begun(step, attempt, start);
        drill.push(end, step, attempt, EventKind::Failed, json!({ "error": error }));
        drill
    }

    pub fn continued(mut self, seconds: f64) -> Self {
        self.push(seconds, "run", 1, EventKind::Continued, Value::Null);
        self
    }

    pub fn isolated(self) -> Self {
        let isolated = Isolated {
            method: "mount namespace".into(),
            proven: true,
            hidden: vec!["/srv/shop".into(), "/var/lib/shop/orders.db".into()],
            not_proven: vec![],
        };
        self.done("isolate", 0.2, 0.4, StepOutput::Isolated(isolated))
    }

    pub fn files(self, start: f64, end: f64, missing: &[&str]) -> Self {
        let restored = restored("files", "files", -1500.0, 48_318_382, 3_412, missing);
        self.done("step: files", start, end, restored).recovered(
            "files",
            end,
            -1500.0,
            "snapshot time",
            "read began then",
        )
    }

    pub fn orders(self, start: f64, end: f64) -> Self {
        let orders = restored("orders", "sqlite", -1440.0, 9_437_184, 1, &[]);
        let detail = "select max(at) from orders = 2026-11-22T03:35:41.250Z";
        self.done("step: orders", start, end, orders).recovered("orders", end, -1458.75, "beacon", detail)
    }

    pub fn recovered(self, source: &str, end: f64, time: f64, method: &str, detail: &str) -> Self {
        let recovered =
            RecoveredTo { source: source.into(), time: at(time), method: method.into(), detail: detail.into() };
        self.done(&format!("recovered to: {source}"), end, end + 0.1, StepOutput::RecoveredTo(recovered))
    }

    pub fn script(self, start: f64, end: f64) -> Self {
        let script = ScriptRun {
            file: "start-shop.sh".into(),
            sha256: "c0535e4be2b79ffd93291305436bf889314e4a3faec05ecffcbb7df31ad9e51a".into(),
            exit_code: 0,
            output: "shop started\n".into(),
        };
        self.done("step: start the shop", start, end, StepOutput::Script(script))
    }

    pub fn check_orders(self, start: f64, end: f64, rows: u64) -> Self {
        let checked = Checked {
            check: "orders are there".into(),
            kind: "sql".into(),
            asked: "select count(*) from orders".into(),
            expected: "> 0".into(),
            actual: rows.to_string(),
            passed: rows > 0,
            attempts: 1,
            decided_at: at(end),
        };
        self.done("check: orders are there", start, end, StepOutput::Checked(checked))
    }

    pub fn check_http(self, start: f64, end: f64) -> Self {
        let checked = Checked {
            check: "shop answers".into(),
            kind: "http".into(),
            asked: "GET http://127.0.0.1:8080/health".into(),
            expected: "status 200, body contains \"ok\"".into(),
            actual: "status 200, body contains \"ok\"".into(),
            passed: true,
            attempts: 4,
            decided_at: at(end),
        };
        self.done("check: shop answers", start, end, StepOutput::Checked(checked))
    }

    pub fn clean_up(self, start: f64) -> Self {
        let cleaned = CleanedUp {
            created: vec!["/var/lib/lifeboat/drills/shop-7".into()],
            deleted: vec!["/var/lib/lifeboat/drills/shop-7".into()],
            left: vec![],
            ended_processes: 1,
        };
        self.done("clean up", start, start + 1.5, StepOutput::CleanedUp(cleaned))
    }

    /// The journal.
    pub fn events(mut self) -> Vec<Event> {
        let declared = StepOutput::Declared(self.declared.clone());
        self = self.done("declare", 0.0, 0.05, declared);
        self.events.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let mut events: Vec<Event> = self.events.into_iter().map(|(_, event)| event).collect();
        for (seq, event) in (1..).zip(&mut events) {
            event.seq = seq;
        }
        events
    }
}

pub fn restored(source: &str, kind: &str, data: f64, bytes: u64, entries: u64, missing: &[&str]) -> StepOutput {
    StepOutput::Restored(Restored {
        source: source.into(),
        kind: kind.into(),
        point: format!("{source}-20261122T033500Z-7f3a"),
        run: "20261122T033500Z-7f3a".into(),
        data_time: at(data),
        available_time: at(data + 65.0),
        tree: "9b74c9897bac770ffc029102a200c5de5d9ee2b0d7a2c6a0f2b1c3d4e5f60718".into(),
        bytes,
        entries,
        to: source.into(),
        missing: missing.iter().map(ToString::to_string).collect(),
        missing_count: missing.len() as u64,
    })
}

/// Everything went well.
pub fn passed() -> Drill {
    Drill::shop()
        .isolated()
        .files(0.5, 118.0, &[])
        .orders(0.5, 24.0)
        .script(118.2, 140.0)
        .check_orders(140.1, 140.4, 1_284)
        .check_http(140.4, 192.4)
        .clean_up(193.0)
}

/// The database came back empty.
pub fn failed_check() -> Drill {
    Drill::shop()
        .isolated()
        .files(0.5, 118.0, &[])
        .orders(0.5, 24.0)
        .script(118.2, 140.0)
        .check_orders(140.1, 140.4, 0)
        .check_http(140.4, 192.4)
        .clean_up(193.0)
}

/// The recovery script is broken; the checks were not reached.
pub fn failed_step() -> Drill {
    Drill::shop()
        .isolated()
        .files(0.5, 118.0, &[])
        .orders(0.5, 24.0)
        .failed("step: start the shop", 1, 118.2, 119.0, "start-shop.sh ended with exit code 127: java: not found")
        .clean_up(120.0)
}

/// A restore without some of its files.
pub fn partial() -> Drill {
    Drill::shop()
        .isolated()
        .files(0.5, 118.0, &["/srv/shop/cache/a.bin: blob 3f2a… is damaged", "/srv/shop/b: owner not set"])
        .orders(0.5, 24.0)
        .script(118.2, 140.0)
        .check_orders(140.1, 140.4, 1_284)
        .check_http(140.4, 192.4)
        .clean_up(193.0)
}

/// The process was killed in the middle of a restore.
pub fn interrupted() -> Drill {
    Drill::shop()
        .isolated()
        .orders(0.5, 24.0)
        .begun("step: files", 1, 0.5)
        .continued(95.0)
        .attempt("step: files", 2, 95.2, 210.0, restored("files", "files", -1500.0, 48_318_382, 3_412, &[]))
        .recovered("files", 210.0, -1500.0, "snapshot time", "read began then")
        .script(210.2, 232.0)
        .check_orders(232.1, 232.4, 1_284)
        .check_http(232.4, 260.0)
        .clean_up(261.0)
}

/// Works, but too slowly and with too old data.
pub fn over_objective() -> Drill {
    passed().with(|declared| {
        declared.rpo_objective_seconds = Some(900.0);
        declared.rto_objective_seconds = Some(120.0);
    })
}

/// Ended before its end.
pub fn aborted() -> Drill {
    Drill::shop().isolated().orders(0.5, 24.0).begun("step: files", 1, 0.5)
}

/// Many steps, half of them in parallel.
pub fn large(steps: usize) -> Drill {
    let mut drill = Drill::shop().isolated().orders(0.5, 24.0).files(0.5, 118.0, &[]).script(118.2, 140.0);
    for index in 0..steps {
        let name = format!("move shard {index:04} into place");
        let start = 140.0 + (index / 2) as f64 * 1.5;
        drill = drill.done(
            &format!("step: {name}"),
            start,
            start + 1.0 + (index % 7) as f64 * 0.4,
            StepOutput::Waited { seconds: 1.0 },
        );
        drill.declared.steps.push(format!("step: {name}"));
    }
    let end = 145.0 + (steps / 2) as f64 * 1.5;
    drill.check_orders(end, end + 0.4, 1_284).check_http(end + 0.4, end + 52.0).clean_up(end + 53.0)
}

/// Text that would break a page that does not escape.
pub fn hostile() -> Drill {
    let evil = "</title><script>alert(1)</script>\" onload='x' & <b>";
    Drill::shop()
        .with(|declared| {
            declared.steps = vec![evil.into()];
            declared.checks = vec![evil.into()];
            declared.sources.push(evil.into());
            declared.host = evil.into();
            declared.system = evil.into();
            declared.plan = evil.into();
        })
        .done(&format!("step: {evil}"), 0.5, 2.0, restored(evil, "files", -10.0, u64::MAX, u64::MAX, &[evil]))
        .failed(&format!("check: {evil}"), 1, 2.0, 3.0, evil)
}
