//! Tables, their version, and the settings that make an appended event durable.

use rusqlite::Connection;

use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result};

/// `PRAGMA user_version` of this code.
const SCHEMA_VERSION: i64 = 1;

/// Older ones can corrupt a WAL database when two connections checkpoint and write (fixed in 3.51.3).
const SQLITE_VERSION_MIN: i32 = 3_051_003;

const TABLES: &str = "
create table run (
    id       text primary key,
    system   text not null,
    kind     text not null,
    input    text not null,
    state    text not null check (state in ('running', 'finished')),
    created  text not null,
    finished text,
    outcome  text,
    summary  text
) strict;
create index run_by_system on run (system, state);
create table event (
    run     text not null references run (id),
    seq     integer not null,
    at      text not null,
    step    text not null,
    attempt integer not null,
    kind    text not null,
    data    text not null,
    primary key (run, seq)
) strict;
create unique index event_succeeds_once on event (run, step) where kind = '\"succeeded\"';
create table point (
    id       text primary key,
    system   text not null,
    source   text not null,
    sequence integer not null,
    record   text not null
) strict;
create index point_by_system on point (system, sequence);
create table archive (id text primary key, system text not null, record text not null) strict;
create table dr_site (system text primary key, id text not null) strict;
create table drill (
    system text not null,
    number integer not null,
    run    text not null,
    record text not null,
    primary key (system, number)
) strict;
";

/// Sets the connection up and makes the tables of a new catalog.
pub fn prepare(connection: &Connection) -> Result<()> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Err(Failure::failed(format!("SQLite {} is too old, 3.51.3 is needed", rusqlite::version())));
    }
    let settings = || -> rusqlite::Result<i64> {
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_query_value(None, "user_version", |row| row.get(0))
    };
    match settings().or_fail(|| "it is no readable SQLite database".to_owned())? {
        0 => create(connection).or_fail(|| "cannot make its tables".to_owned()),
        SCHEMA_VERSION => Ok(()),
        newer => Err(Failure::failed(format!(
            "its version is {newer}, this lifeboat knows {SCHEMA_VERSION}: a newer lifeboat wrote it"
        ))),
    }
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    // Immediate, and the version read again inside: two first commands may meet here.
    connection.execute_batch("begin immediate")?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        connection.execute_batch(TABLES)?;
        connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    connection.execute_batch("commit")
}
