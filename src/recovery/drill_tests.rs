//! Whole drills on a journal in memory and with invented data; scripts, checks and clean-up are the real ones.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;

use super::super::points::tests::point;
use super::super::restore::RestoreSummary;
use super::*;
use crate::ground::clock::FixedClock;
use crate::ground::{NoProgress, SecretReference};
use crate::policy::{Beacon, CheckKind, Comparison, DrLocation, Expectation, Objectives, Retention, Schedule};
use crate::policy::{MysqlServer, Source, SourceKind, Step};
use crate::repository::KeyStrength;
use crate::site::local::LocalStore;

/// A journal that can be killed at a step: the effect happens, its end is never written.
#[derive(Clone, Default)]
struct Memory {
    done: Arc<Mutex<BTreeMap<String, Value>>>,
    /// `started`, `succeeded` or `failed`, and the step.
    events: Arc<Mutex<Vec<(&'static str, String)>>>,
    failures: Arc<Mutex<BTreeMap<String, String>>>,
    die_in: Arc<Mutex<Option<String>>>,
    died: Arc<Notify>,
    /// No step can be journalled any more from this one on.
    full_at: Option<String>,
}

impl Memory {
    fn note(&self, kind: &'static str, step: &str) {
        self.events.lock().unwrap().push((kind, step.to_owned()));
    }

    fn position(&self, kind: &str, step: &str) -> Option<usize> {
        self.events.lock().unwrap().iter().position(|event| (event.0, event.1.as_str()) == (kind, step))
    }

    fn output(&self, step: &str) -> Value {
        self.done.lock().unwrap().get(step).cloned().unwrap_or_default()
    }
}

impl Journal for Memory {
    fn run_id(&self) -> String {
        format!("test-{:p}", Arc::as_ptr(&self.done))
    }

    async fn step<T, F>(&self, name: &str, effect: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let known = self.done.lock().unwrap().get(name).cloned();
        if let Some(known) = known {
            return Ok(serde_json::from_value(known).unwrap());
        }
        if self.full_at.as_deref() == Some(name) {
            return Err(Failure::failed("no space left"));
        }
        self.note("started", name);
        let result = effect.await;
        if self.die_in.lock().unwrap().as_deref() == Some(name) {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
        match &result {
            Ok(output) => {
                self.done.lock().unwrap().insert(name.into(), serde_json::to_value(output).unwrap());
                self.note("succeeded", name);
            }
            Err(failure) => {
                self.failures.lock().unwrap().insert(name.into(), failure.message.clone());
                self.note("failed", name);
            }
        }
        result
    }
}

/// Writes a small file, or a database for sources of kind `sqlite`.
#[derive(Default)]
struct Invented {
    restored: AtomicUsize,
    /// Restores wait until so many run at the same time.
    together: Option<std::sync::Barrier>,
    panics_on: Option<String>,
}

impl Restorer for Invented {
    fn restore(&self, point: &PointRecord, target: &Path) -> Result<RestoreSummary> {
        self.restored.fetch_add(1, Ordering::SeqCst);
        assert_ne!(self.panics_on.as_ref(), Some(&point.source), "as asked");
        if let Some(together) = &self.together {
            together.wait();
        }
        if target.exists() {
            return Err(Failure::wrong_input(format!("{} is not empty", target.display())));
        }
        std::fs::create_dir_all(target).unwrap();
        if point.kind == "sqlite" {
            let database = rusqlite::Connection::open(target.join("orders.db")).unwrap();
            database.execute_batch("create table orders(at); insert into orders values (190), (195)").unwrap();
        } else {
            std::fs::write(target.join("index"), &point.id).unwrap();
        }
        Ok(RestoreSummary { entries: 1, bytes: 10, ..RestoreSummary::default() })
    }
}

fn restore_step(source: &str) -> Step {
    step(source, StepAction::Restore { source: source.into(), to: source.into() }, &[])
}

fn script_step(name: &str, after: &[&str]) -> Step {
    step(name, StepAction::Script { file: format!("{name}.sh"), args: Vec::new() }, after)
}

fn step(name: &str, action: StepAction, after: &[&str]) -> Step {
    let after = after.iter().map(|name| (*name).into()).collect();
    Step { name: name.into(), action, after, timeout: Duration::from_secs(20) }
}

fn checks() -> Vec<Check> {
    let expect = Expectation { comparison: Comparison::Greater, value: "1".into() };
    let sql = CheckKind::Sql { query: "select count(*) from orders".into(), on: "orders".into(), expect };
    let command = CheckKind::Command { line: "cat started".into(), expect: None };
    let check = |kind| Check { name: "it serves".into(), kind, within: Duration::from_secs(20), retry: false };
    vec![check(sql), check(command)]
}

fn policy(steps: Vec<Step>, checks: Vec<Check>) -> Policy {
    let source = |name: &str, kind, beacon| Source { name: name.into(), kind, beacon, hooks: None };
    let beacon = Beacon::Sql("select max(at) from orders".into());
    Policy {
        system: "shop".into(),
        timezone: "UTC".into(),
        objectives: Objectives { rpo: Some(Duration::from_secs(3600)), rto: None },
        primary: Primary::Local,
        dr: DrLocation::Local { path: "/mnt/dr".into(), repository_password: SecretReference::File("/p".into()) },
        sources: vec![
            source("files", SourceKind::Files { paths: vec!["/srv/shop".into()], exclude: Vec::new() }, None),
            source("orders", SourceKind::Sqlite { path: "/var/orders.db".into() }, Some(beacon)),
        ],
        hooks: None,
        schedule: Schedule::default(),
        retention: Retention::default(),
        plans: BTreeMap::from([("drill".to_owned(), Plan { steps, checks })]),
        notify: None,
        text: "system = \"shop\"".into(),
    }
}

/// A context with one point of each source; scripts by name.
fn context(directory: &Path, policy: Policy, scripts: &[(&str, &str)]) -> DrillContext {
    let store = Arc::new(LocalStore::new(directory.join("dr")));
    let password = Secret::new("password");
    // Continued drills come here a second time.
    let repository = Repository::create(store.clone(), &password, KeyStrength::Random)
        .or_else(|_| Repository::open(store, &password))
        .unwrap();
    let mut orders = point("orders", 2, 200, 210);
    orders.kind = "sqlite".into();
    orders.roots = vec!["/var/orders.db".into()];
    DrillContext {
        repository,
        points: vec![point("files", 1, 100, 110), orders],
        policy,
        scripts: scripts.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect(),
        target: directory.join("drills/7"),
        isolation: Isolated { method: "landlock".into(), proven: true, hidden: Vec::new(), not_proven: Vec::new() },
        clock: Arc::new(FixedClock(Timestamp::from_second(1_000).unwrap())),
        progress: Arc::new(NoProgress),
        drill_number: 7,
        at: None,
        plan_name: "drill".into(),
        trigger: "test".into(),
        identity: "tester".into(),
        host: "here".into(),
        secrets: Vec::new(),
    }
}

async fn carried_out(journal: &Memory, context: DrillContext) -> Arc<Invented> {
    let restorer = Arc::new(Invented::default());
    orchestrate(journal.clone(), Arc::new(context), restorer.clone()).await.unwrap();
    restorer
}

#[tokio::test]
async fn a_drill_from_declaration_to_clean_up() {
    let directory = tempfile::tempdir().unwrap();
    let steps = vec![script_step("start", &["files", "orders"]), restore_step("files"), restore_step("orders")];
    let script =
        "touch $(mktemp); cat $LIFEBOAT_SOURCE_FILES/index > started; test -f $LIFEBOAT_SOURCE_ORDERS; sleep 65 &";
    let journal = Memory::default();
    carried_out(&journal, context(directory.path(), policy(steps, checks()), &[("start.sh", script)])).await;
    let declared = journal.output("declare");
    assert_eq!(declared["evidence"], "declared");
    assert_eq!(declared["steps"], serde_json::json!(["step: start", "step: files", "step: orders"]));
    assert_eq!(declared["checks"], serde_json::json!(["check: it serves", "check: it serves (2)"]));
    let steps = journal.position("succeeded", "step: start").unwrap();
    for before in ["step: files", "step: orders", "recovered to: files", "recovered to: orders"] {
        assert!(journal.position("succeeded", before).unwrap() < steps, "{before}");
    }
    assert_eq!(journal.output("recovered to: orders")["method"], "beacon");
    assert_eq!(journal.output("recovered to: orders")["time"], "1970-01-01T00:03:15Z");
    assert_eq!(journal.output("recovered to: files")["method"], "snapshot time");
    assert_eq!(journal.output("check: it serves")["passed"], true);
    assert_eq!(journal.output("check: it serves (2)")["actual"], "exit code 0, output files-1");
    let cleaned = journal.output("clean up");
    assert_eq!(cleaned["ended_processes"], 1);
    assert_eq!(cleaned["created"].as_array().unwrap().len(), 3);
    assert_eq!(cleaned["created"], cleaned["deleted"]);
    assert!(!directory.path().join("drills/7").exists());
    assert!(journal.failures.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_failed_step_stops_what_stands_behind_it_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let steps = vec![
        script_step("broken", &[]),
        script_step("behind", &["broken"]),
        script_step("further", &["behind", "files"]),
        restore_step("files"),
        script_step("beside", &["files"]),
    ];
    let scripts = [("broken.sh", "exit 3"), ("behind.sh", "true"), ("further.sh", "true"), ("beside.sh", "sleep 0.2")];
    let journal = Memory::default();
    carried_out(&journal, context(directory.path(), policy(steps, checks()), &scripts)).await;
    assert!(journal.failures.lock().unwrap()["step: broken"].contains("exit code 3"));
    for not_reached in ["step: behind", "step: further", "check: it serves"] {
        assert_eq!(journal.position("started", not_reached), None, "{not_reached}");
    }
    assert!(journal.position("succeeded", "step: beside").is_some());
    assert!(journal.position("succeeded", "clean up").is_some());
    assert!(!directory.path().join("drills/7").exists());
}

#[tokio::test]
async fn steps_of_one_rank_run_side_by_side() {
    let directory = tempfile::tempdir().unwrap();
    let steps = vec![restore_step("files"), restore_step("orders")];
    let restorer = Arc::new(Invented { together: Some(std::sync::Barrier::new(2)), ..Invented::default() });
    let context = Arc::new(context(directory.path(), policy(steps, Vec::new()), &[]));
    let journal = Memory::default();
    let drill = orchestrate(journal.clone(), context, restorer);
    tokio::time::timeout(Duration::from_secs(30), drill).await.expect("each waits for the other").unwrap();
    assert!(journal.failures.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_continued_drill_keeps_its_start_and_its_points_and_repeats_no_finished_step() {
    let directory = tempfile::tempdir().unwrap();
    let mut orders = restore_step("orders");
    orders.after = vec!["files".into()];
    let policy = policy(vec![restore_step("files"), orders], Vec::new());
    let journal = Memory::default();
    *journal.die_in.lock().unwrap() = Some("step: orders".into());
    let first = Arc::new(context(directory.path(), policy.clone(), &[]));
    tokio::select! {
        _ = orchestrate(journal.clone(), first, Arc::new(Invented::default())) => panic!("it should have died"),
        () = journal.died.notified() => {}
    }
    assert!(directory.path().join("drills/7/orders/orders.db").exists(), "half a step is left behind");
    *journal.die_in.lock().unwrap() = None;
    let mut second = context(directory.path(), policy, &[]);
    second.points.push(point("orders", 9, 300, 310));
    second.clock = Arc::new(FixedClock(Timestamp::from_second(5_000).unwrap()));
    second.isolation.proven = false;
    let restorer = carried_out(&journal, second).await;
    assert_eq!(restorer.restored.load(Ordering::SeqCst), 1, "only the unfinished one");
    assert_eq!(journal.output("declare")["t0"], "1970-01-01T00:16:40Z");
    assert_eq!(journal.output("step: orders")["point"], "orders-2");
    assert_eq!(journal.output("isolate")["proven"], true);
    assert_eq!(journal.output("isolate after continuing")["proven"], false);
    assert!(journal.failures.lock().unwrap().is_empty(), "{:?}", journal.failures.lock().unwrap());
}

#[tokio::test]
async fn data_that_does_not_prove_its_time_fails_by_its_own_step() {
    let directory = tempfile::tempdir().unwrap();
    let mut policy = policy(vec![restore_step("orders")], checks());
    policy.sources[1].beacon = Some(Beacon::Sql("select max(at) from orders where 0".into()));
    let journal = Memory::default();
    carried_out(&journal, context(directory.path(), policy, &[])).await;
    assert!(journal.failures.lock().unwrap()["recovered to: orders"].contains("gave no value"));
    assert_eq!(journal.output("check: it serves")["passed"], true);
    assert_eq!(journal.output("check: it serves (2)")["passed"], false, "no check keeps the next from its evidence");
}

#[tokio::test]
async fn what_is_not_at_the_dr_site_fails_its_step_with_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let steps = vec![restore_step("files"), restore_step("orders"), script_step("start", &[])];
    let mut context = context(directory.path(), policy(steps, Vec::new()), &[]);
    context.at = Some(Timestamp::from_second(150).unwrap());
    let journal = Memory::default();
    carried_out(&journal, context).await;
    assert_eq!(journal.output("declare")["at"], "1970-01-01T00:02:30Z");
    assert_eq!(journal.output("step: files")["point"], "files-1");
    let failures = journal.failures.lock().unwrap().clone();
    assert_eq!(
        failures["step: orders"],
        "there is no recovery point of `orders` that was usable at 1970-01-01T00:02:30Z"
    );
    assert_eq!(failures["step: start"], "the script start.sh is not at the DR site");
}

#[tokio::test]
async fn a_panic_in_a_step_does_not_keep_the_clean_up_from_its_work() {
    let directory = tempfile::tempdir().unwrap();
    let steps = vec![restore_step("files"), restore_step("orders"), script_step("start", &["files"])];
    let restorer = Arc::new(Invented { panics_on: Some("files".into()), ..Invented::default() });
    let context = context(directory.path(), policy(steps, Vec::new()), &[("start.sh", "true")]);
    let journal = Memory::default();
    orchestrate(journal.clone(), Arc::new(context), restorer).await.unwrap();
    assert!(journal.position("failed", "step: files").is_some());
    assert_eq!(journal.position("started", "step: start"), None);
    assert!(journal.position("succeeded", "step: orders").is_some());
    assert!(!directory.path().join("drills/7").exists());
}

#[tokio::test]
async fn a_plan_that_cannot_run_starts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let run = async |policy: Policy, plan: &str| {
        let mut context = context(directory.path(), policy, &[]);
        context.plan_name = plan.into();
        let journal = Memory::default();
        let failure = orchestrate(journal.clone(), Arc::new(context), Arc::new(Invented::default())).await.unwrap_err();
        assert!(journal.events.lock().unwrap().is_empty());
        failure.message
    };
    let missing = run(policy(Vec::new(), Vec::new()), "failover").await;
    assert_eq!(missing, "the policy of shop has no plan `failover`; it has drill");
    let circle = run(policy(vec![script_step("a", &["a"])], Vec::new()), "drill").await;
    assert!(circle.contains("wait for each other"), "{circle}");
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_is_told() {
    for full_at in ["declare", "isolate", "clean up"] {
        let directory = tempfile::tempdir().unwrap();
        let context = context(directory.path(), policy(vec![restore_step("files")], Vec::new()), &[]);
        let journal = Memory { full_at: Some(full_at.into()), ..Memory::default() };
        let result = orchestrate(journal, Arc::new(context), Arc::new(Invented::default())).await;
        assert_eq!(result.unwrap_err().message, "no space left", "{full_at}");
        assert!(!directory.path().join("drills/7").exists() || full_at == "clean up");
    }
}

#[test]
fn databases_reached_by_network_are_not_hidden() {
    let directory = tempfile::tempdir().unwrap();
    let mut policy = policy(Vec::new(), Vec::new());
    policy.sources[0].kind = SourceKind::Mysql(MysqlServer {
        dsn: SecretReference::Env("DSN".into()),
        database: None,
        programs: None,
        timeout: Duration::from_secs(60),
    });
    let isolated = isolation(&context(directory.path(), policy, &[]));
    assert!(!isolated.proven);
    assert_eq!(isolated.not_proven, ["`files` is a server, and the way to it is not cut off"]);
}
