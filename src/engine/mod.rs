//! How work survives: a run is an async function whose steps are journalled before and after their effect.
//!
//! After a crash the same function is called again with the same [`Run`]: a finished step returns what it returned,
//! the first unfinished one is tried again and looks for what an earlier attempt left before it makes anything.
//! There is no separate recovery mode.

pub mod closing;
pub mod existing;
pub mod lock;
mod steady_clock;
pub mod system;

use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use lifeboat_verify::events::{Event, EventKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::catalog::{Catalog, RunRow, RunState};
use crate::ground::failure::OrFail;
use crate::ground::{Clock, Failure, Result};
use steady_clock::SteadyClock;

/// One run under way; shared by the parallel steps of a plan.
#[derive(Clone)]
pub struct Run {
    row: Arc<RunRow>,
    catalog: Arc<Catalog>,
    clock: Arc<SteadyClock>,
    continued: bool,
}

impl Run {
    /// Enters a new run of `kind` in the catalog. `input` is what [`Run::input`] gives back after a crash.
    pub fn begin<I: Serialize>(
        catalog: &Arc<Catalog>,
        clock: &dyn Clock,
        system: &str,
        kind: &str,
        input: &I,
    ) -> Result<Self> {
        let created = clock.now();
        let row = RunRow {
            id: new_run_id(created)?,
            system: system.to_owned(),
            kind: kind.to_owned(),
            input: serde_json::to_string(input).or_fail(|| "cannot note what the run was asked for".to_owned())?,
            state: RunState::Running,
            created,
            finished: None,
            outcome: None,
            summary: None,
        };
        catalog.create_run(&row)?;
        Ok(Self::new(row, catalog, created, false))
    }

    /// Takes up a run whose process died; notes so in its journal.
    pub fn resume(catalog: &Arc<Catalog>, clock: &dyn Clock, row: RunRow) -> Result<Self> {
        let now = clock.now();
        catalog.append_event(&row.id, &|| now, "run", 1, EventKind::Continued, &Value::Null)?;
        Ok(Self::new(row, catalog, now, true))
    }

    fn new(row: RunRow, catalog: &Arc<Catalog>, now: Timestamp, continued: bool) -> Self {
        let clock = Arc::new(SteadyClock::new(now));
        Self { row: Arc::new(row), catalog: Arc::clone(catalog), clock, continued }
    }

    /// Whether a process before this one began it.
    pub fn is_continued(&self) -> bool {
        self.continued
    }

    /// Whether a step has its output already.
    pub fn has_succeeded(&self, name: &str) -> Result<bool> {
        let events = self.catalog.events(&self.row.id)?;
        Ok(events.iter().any(|event| event.step == name && event.kind == EventKind::Succeeded))
    }

    /// The run's id, for instance `20261122T003012Z-7f3a`.
    pub fn id(&self) -> &str {
        &self.row.id
    }

    /// The system it belongs to.
    pub fn system(&self) -> &str {
        &self.row.system
    }

    /// When it was entered.
    pub fn created(&self) -> Timestamp {
        self.row.created
    }

    /// What it was asked for.
    pub fn input<I: DeserializeOwned>(&self) -> Result<I> {
        serde_json::from_str(&self.row.input)
            .or_fail(|| format!("the run {} was begun by another version and cannot be continued", self.row.id))
    }

    /// Wall-clock time that never runs backwards within this process.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Performs a step once. When an earlier attempt succeeded its output is returned and `effect` is not called;
    /// when `effect` fails the failure is journalled and returned. The name is unique within the run.
    pub async fn step<T, F>(&self, name: &str, effect: impl FnOnce() -> F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T>>,
    {
        let events = self.catalog.events(&self.row.id)?;
        let earlier: Vec<&Event> = events.iter().filter(|event| event.step == name).collect();
        if let Some(done) = earlier.iter().find(|event| event.kind == EventKind::Succeeded) {
            return serde_json::from_value(done.data.clone())
                .or_fail(|| format!("the step {name:?} was done by another version and cannot be continued"));
        }
        let attempt = earlier.iter().map(|event| event.attempt).max().unwrap_or(0) + 1;
        self.journal(name, attempt, EventKind::Started, &Value::Null)?;
        match effect().await {
            Ok(output) => {
                let data = serde_json::to_value(&output).or_fail(|| format!("cannot journal the step {name:?}"))?;
                self.journal(name, attempt, EventKind::Succeeded, &data)?;
                Ok(output)
            }
            Err(failure) => {
                self.journal(name, attempt, EventKind::Failed, &json!({ "error": failure.message }))?;
                Err(failure)
            }
        }
    }

    fn journal(&self, step: &str, attempt: u32, kind: EventKind, data: &Value) -> Result<()> {
        self.catalog.append_event(&self.row.id, &|| self.now(), step, attempt, kind, data)
    }

    /// The journal so far, in order.
    pub fn events(&self) -> Result<Vec<Event>> {
        self.catalog.events(&self.row.id)
    }

    /// Marks the run as over; nothing may follow.
    pub fn finish(&self, outcome: &str, summary: &str) -> Result<()> {
        self.catalog.finish_run(&self.row.id, self.now(), outcome, summary)
    }
}

/// A run is a clock: its marks never run backwards.
impl Clock for Run {
    fn now(&self) -> Timestamp {
        Run::now(self)
    }
}

/// Sortable by time, unique by 16 random bits within the second.
fn new_run_id(now: Timestamp) -> Result<String> {
    let mut random = [0_u8; 2];
    getrandom::fill(&mut random).map_err(|error| Failure::failed(format!("no random bytes to be had: {error}")))?;
    Ok(format!("{}-{}", now.strftime("%Y%m%dT%H%M%SZ"), hex::encode(random)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::clock::SystemClock;

    fn catalog() -> (tempfile::TempDir, Arc<Catalog>) {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&directory.path().join("catalog.db")).unwrap();
        (directory, Arc::new(catalog))
    }

    #[tokio::test]
    async fn a_finished_step_is_not_done_again_and_an_unfinished_one_is() {
        let (_directory, catalog) = catalog();
        let run = Run::begin(&catalog, &SystemClock, "shop", "backup", &7_u32).unwrap();
        assert_eq!(run.step("one", || async { Ok(1_u32) }).await.unwrap(), 1);
        let failed: Result<u32> = run.step("two", || async { Err(Failure::failed("disk on fire")) }).await;
        assert_eq!(failed.unwrap_err().message, "disk on fire");

        let row = catalog.unfinished_runs("shop").unwrap().remove(0);
        let again = Run::resume(&catalog, &SystemClock, row).unwrap();
        assert_eq!(again.input::<u32>().unwrap(), 7);
        let kept = again.step("one", || async { panic!("done already") as Result<u32> }).await.unwrap();
        assert_eq!(kept, 1);
        assert_eq!(again.step("two", || async { Ok(2_u32) }).await.unwrap(), 2);
        let kinds: Vec<(String, u32, EventKind)> =
            again.events().unwrap().into_iter().map(|event| (event.step, event.attempt, event.kind)).collect();
        assert_eq!(
            kinds,
            [
                ("one".to_owned(), 1, EventKind::Started),
                ("one".to_owned(), 1, EventKind::Succeeded),
                ("two".to_owned(), 1, EventKind::Started),
                ("two".to_owned(), 1, EventKind::Failed),
                ("run".to_owned(), 1, EventKind::Continued),
                ("two".to_owned(), 2, EventKind::Started),
                ("two".to_owned(), 2, EventKind::Succeeded),
            ]
        );
    }
}
