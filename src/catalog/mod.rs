//! What happened, queryable: SQLite, a journal and a cache. The truth is the DR site, from which an
//! empty catalog is filled again.
//!
//! WAL with `synchronous=FULL`: an event that was appended is there after a power cut.

mod schema;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use lifeboat_verify::events::{Event, EventKind};
use lifeboat_verify::report::Report;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ground::crash_point::crash_point;
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result};
use crate::site::records::{ArchiveRecord, PointRecord};

/// Whether a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Under way, or its process died: the next command that touches its system continues it.
    Running,
    /// Over, whatever the outcome.
    Finished,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    pub id: String,
    pub system: String,
    /// `backup`, `archive`, `drill`, `restore`.
    pub kind: String,
    /// What it was asked for, as JSON; a continued run reads it again.
    pub input: String,
    pub state: RunState,
    pub created: Timestamp,
    pub finished: Option<Timestamp>,
    /// The ledger's word for how it ended.
    pub outcome: Option<String>,
    pub summary: Option<String>,
}

/// What is listed of a drill; the whole truth is its report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillRow {
    pub system: String,
    /// Gap-free within the system, from 1.
    pub drill: u64,
    pub run: String,
    pub plan: String,
    pub finished: Timestamp,
    pub passed: bool,
    pub verdict: String,
    pub rpo_seconds: Option<f64>,
    pub rto_seconds: Option<f64>,
}

impl DrillRow {
    /// What is listed of a report.
    pub fn of(report: &Report) -> Self {
        Self {
            system: report.system.clone(),
            drill: report.drill,
            run: report.run.clone(),
            plan: report.plan.clone(),
            finished: report.finished,
            passed: report.passed,
            verdict: report.verdict.overall.word().to_owned(),
            rpo_seconds: report.rpo_seconds,
            rto_seconds: report.rto_seconds,
        }
    }
}

/// What this machine last saw of a system's repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationRow {
    pub system: String,
    pub at: Timestamp,
    /// How many percent of the data were read; 0 when only the structure was looked at.
    pub percent_read: u8,
    /// Places of damage.
    pub damage: u64,
}

impl VerificationRow {
    /// What counts after this one: damage that a look at the structure found stands until the next look finds none,
    /// damage in the data until all of it was read, since a part may be another part.
    fn after(self, before: Option<Self>) -> Self {
        match before.filter(|before| before.damage > 0) {
            Some(before) if self.damage > 0 => {
                Self { percent_read: self.percent_read.max(before.percent_read), ..self }
            }
            Some(before) if before.percent_read > 0 && self.percent_read < 100 => before,
            _ => self,
        }
    }
}

/// Less room than SQLite needs to open a catalog: a page of tables, the log and its index.
fn is_full(path: &Path) -> bool {
    const NEEDED: u64 = 256 << 10;
    let directory = path.parent().unwrap_or(Path::new("."));
    rustix::fs::statvfs(directory).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < NEEDED)
}

/// The catalog of one state directory.
pub struct Catalog {
    connection: Mutex<Connection>,
}

impl Catalog {
    /// Opens or makes the catalog.
    ///
    /// # Errors
    /// When the file cannot be opened, was written by a newer lifeboat, or is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let doing = || format!("cannot open the catalog {}", path.display());
        let connection = Connection::open(path).or_fail(doing)?;
        schema::prepare(&connection).map_err(|failure| {
            // SQLite calls a full disk an I/O error here; nobody should move a sound catalog away for it.
            if is_full(path) {
                let full = Failure::failed(format!("{}: no space is left on its disk", doing()));
                return full.hint("make room and run the command again");
            }
            failure
                .context(doing())
                .hint("the catalog is only a cache: move it away and run `lifeboat rebuild --from DR` to make it anew")
        })?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic while holding the lock leaves SQLite in a consistent state: statements are atomic.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a new run.
    pub fn create_run(&self, run: &RunRow) -> Result<()> {
        self.connection()
            .execute(
                "insert into run (id, system, kind, input, state, created) values (?1, ?2, ?3, ?4, 'running', ?5)",
                params![run.id, run.system, run.kind, run.input, run.created.to_string()],
            )
            .or_fail(|| format!("cannot enter the run {} in the catalog", run.id))?;
        Ok(())
    }

    /// Marks a run as over.
    pub fn finish_run(&self, id: &str, at: Timestamp, outcome: &str, summary: &str) -> Result<()> {
        self.connection()
            .execute(
                "update run set state = 'finished', finished = ?2, outcome = ?3, summary = ?4 where id = ?1",
                params![id, at.to_string(), outcome, summary],
            )
            .or_fail(|| format!("cannot finish the run {id} in the catalog"))?;
        Ok(())
    }

    /// Runs of a system that are not over, oldest first.
    pub fn unfinished_runs(&self, system: &str) -> Result<Vec<RunRow>> {
        self.rows(
            "select id, system, kind, input, state, created, finished, outcome, summary from run
             where system = ?1 and state = 'running' order by created, id",
            params![system],
            run_row,
        )
    }

    /// The newest finished run of a kind.
    pub fn last_run(&self, system: &str, kind: &str) -> Result<Option<RunRow>> {
        let runs = self.rows(
            "select id, system, kind, input, state, created, finished, outcome, summary from run
             where system = ?1 and kind = ?2 and state = 'finished' order by finished desc, id desc limit 1",
            params![system, kind],
            run_row,
        )?;
        Ok(runs.into_iter().next())
    }

    /// Appends an event and gives it its number. The time is read together with the number, so that events of parallel
    /// steps lie in the order of their times.
    pub fn append_event(
        &self,
        run: &str,
        now: &dyn Fn() -> Timestamp,
        step: &str,
        attempt: u32,
        kind: EventKind,
        data: &serde_json::Value,
    ) -> Result<()> {
        crash_point();
        let connection = self.connection();
        connection
            .execute(
                "insert into event (run, seq, at, step, attempt, kind, data)
                 select ?1, coalesce(max(seq), 0) + 1, ?2, ?3, ?4, ?5, ?6 from event where run = ?1",
                params![run, now().to_string(), step, attempt, to_json(&kind)?, to_json(data)?],
            )
            .or_fail(|| format!("cannot journal the step {step:?} of run {run}"))?;
        crash_point();
        Ok(())
    }

    /// The journal of a run, in order.
    pub fn events(&self, run: &str) -> Result<Vec<Event>> {
        let rows = self.rows(
            "select seq, at, step, attempt, kind, data from event where run = ?1 order by seq",
            params![run],
            |row| {
                let texts: (u64, String, String, u32, String, String) = (
                    row.get::<_, i64>(0)?.cast_unsigned(),
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get(5)?,
                );
                Ok(texts)
            },
        )?;
        rows.into_iter()
            .map(|(seq, at, step, attempt, kind, data)| {
                Ok(Event { seq, at: timestamp(&at)?, step, attempt, kind: from_json(&kind)?, data: from_json(&data)? })
            })
            .collect()
    }

    /// Enters a point, or replaces what was known of it.
    pub fn put_point(&self, point: &PointRecord) -> Result<()> {
        self.connection()
            .execute(
                "insert or replace into point (id, system, source, sequence, record) values (?1, ?2, ?3, ?4, ?5)",
                params![point.id, point.system, point.source, point.sequence.cast_signed(), to_json(point)?],
            )
            .or_fail(|| format!("cannot enter the point {} in the catalog", point.id))?;
        Ok(())
    }

    /// All points of a system by rising sequence.
    pub fn points(&self, system: &str) -> Result<Vec<PointRecord>> {
        self.records("select record from point where system = ?1 order by sequence, id", system)
    }

    /// Enters an archive.
    pub fn put_archive(&self, archive: &ArchiveRecord) -> Result<()> {
        self.connection()
            .execute(
                "insert or replace into archive (id, system, record) values (?1, ?2, ?3)",
                params![archive.id, archive.system, to_json(archive)?],
            )
            .or_fail(|| format!("cannot enter the archive {} in the catalog", archive.id))?;
        Ok(())
    }

    /// All archives of a system.
    pub fn archives(&self, system: &str) -> Result<Vec<ArchiveRecord>> {
        self.records("select record from archive where system = ?1 order by id", system)
    }

    /// Enters a drill.
    pub fn put_drill(&self, drill: &DrillRow) -> Result<()> {
        self.connection()
            .execute(
                "insert or replace into drill (system, number, run, record) values (?1, ?2, ?3, ?4)",
                params![drill.system, drill.drill.cast_signed(), drill.run, to_json(drill)?],
            )
            .or_fail(|| format!("cannot enter drill {} in the catalog", drill.drill))?;
        Ok(())
    }

    /// The id of the DR site that this machine backs the system up to, once it did.
    pub fn dr_site(&self, system: &str) -> Result<Option<String>> {
        self.connection()
            .query_row("select id from dr_site where system = ?1", params![system], |row| row.get(0))
            .optional()
            .or_fail(|| "cannot read the catalog".to_owned())
    }

    /// Notes the id of a system's DR site.
    pub fn put_dr_site(&self, system: &str, id: &str) -> Result<()> {
        self.connection()
            .execute("insert or ignore into dr_site (system, id) values (?1, ?2)", params![system, id])
            .or_fail(|| "cannot note the DR site in the catalog".to_owned())?;
        Ok(())
    }

    /// Notes a verification; one that looked less closely does not take damage back.
    pub fn put_verification(&self, verification: VerificationRow) -> Result<()> {
        let before = self.verification(&verification.system)?;
        let verification = verification.after(before);
        self.connection()
            .execute(
                "insert or replace into verification (system, record) values (?1, ?2)",
                params![verification.system, to_json(&verification)?],
            )
            .or_fail(|| "cannot note the verification in the catalog".to_owned())?;
        Ok(())
    }

    /// The verification of a system that counts, once there was one.
    pub fn verification(&self, system: &str) -> Result<Option<VerificationRow>> {
        Ok(self.records("select record from verification where system = ?1", system)?.pop())
    }

    /// All drills of a system by number.
    pub fn drills(&self, system: &str) -> Result<Vec<DrillRow>> {
        self.records("select record from drill where system = ?1 order by number", system)
    }

    fn records<T: DeserializeOwned>(&self, sql: &str, system: &str) -> Result<Vec<T>> {
        let texts = self.rows(sql, params![system], |row| row.get::<_, String>(0))?;
        texts.iter().map(|text| from_json(text)).collect()
    }

    fn rows<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let connection = self.connection();
        let query = || -> rusqlite::Result<Vec<T>> {
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_map(parameters, read)?.collect()
        };
        query().or_fail(|| "cannot read the catalog".to_owned())
    }

    /// Reads one run.
    pub fn run(&self, id: &str) -> Result<Option<RunRow>> {
        self.connection()
            .query_row(
                "select id, system, kind, input, state, created, finished, outcome, summary from run where id = ?1",
                params![id],
                run_row,
            )
            .optional()
            .or_fail(|| format!("cannot read the run {id} in the catalog"))
    }
}

fn run_row(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    let time = |index: usize, text: Option<String>| -> rusqlite::Result<Option<Timestamp>> {
        text.map(|text| text.parse::<Timestamp>()).transpose().map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, error.into())
        })
    };
    let state = if row.get::<_, String>(4)? == "running" { RunState::Running } else { RunState::Finished };
    Ok(RunRow {
        id: row.get(0)?,
        system: row.get(1)?,
        kind: row.get(2)?,
        input: row.get(3)?,
        state,
        created: time(5, Some(row.get(5)?))?.unwrap_or(Timestamp::UNIX_EPOCH),
        finished: time(6, row.get(6)?)?,
        outcome: row.get(7)?,
        summary: row.get(8)?,
    })
}

fn timestamp(text: &str) -> Result<Timestamp> {
    text.parse().or_fail(|| "the catalog holds a time that is none".to_owned())
}

fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).or_fail(|| "cannot write a record as JSON".to_owned())
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Failure::failed(format!("the catalog holds a record that cannot be read: {error}"))
            .hint("move the catalog away and run `lifeboat rebuild --from DR`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_stands_until_a_look_as_thorough_finds_none() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&directory.path().join("catalog.db")).unwrap();
        assert_eq!(catalog.verification("shop").unwrap(), None);
        // Percent read and damage, and what counts then.
        for (percent_read, damage, counts) in
            [(0, 0, 0), (10, 2, 2), (0, 0, 2), (10, 0, 2), (0, 1, 1), (0, 0, 1), (100, 0, 0), (0, 1, 1), (0, 0, 0)]
        {
            let at = Timestamp::UNIX_EPOCH;
            catalog.put_verification(VerificationRow { system: "shop".into(), at, percent_read, damage }).unwrap();
            assert_eq!(catalog.verification("shop").unwrap().unwrap().damage, counts);
        }
        assert_eq!(catalog.verification("other").unwrap(), None);
    }

    #[test]
    fn events_come_back_in_order_with_gap_free_numbers() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&directory.path().join("catalog.db")).unwrap();
        let at: Timestamp = "2026-01-02T03:04:05.000000006Z".parse().unwrap();
        let run = RunRow {
            id: "r1".into(),
            system: "shop".into(),
            kind: "backup".into(),
            input: "{}".into(),
            state: RunState::Running,
            created: at,
            finished: None,
            outcome: None,
            summary: None,
        };
        catalog.create_run(&run).unwrap();
        catalog.append_event("r1", &|| at, "a", 1, EventKind::Started, &serde_json::Value::Null).unwrap();
        catalog.append_event("r1", &|| at, "a", 1, EventKind::Succeeded, &serde_json::json!({"x": 1})).unwrap();
        let events = catalog.events("r1").unwrap();
        assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(events[1].at, at);
        assert_eq!(catalog.unfinished_runs("shop").unwrap(), [run]);
        catalog.finish_run("r1", at, "done", "all good").unwrap();
        assert_eq!(catalog.unfinished_runs("shop").unwrap(), []);
        let twice = catalog.append_event("r1", &|| at, "a", 2, EventKind::Succeeded, &serde_json::Value::Null);
        assert!(twice.is_err(), "a step succeeds once");
    }
}
