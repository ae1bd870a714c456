//! Tables, their version, and the settings that make an appended event durable.

use rusqlite::Connection;

use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result};

/// What leads from one `PRAGMA user_version` to the next; the first makes a new catalog.
const MIGRATIONS: [&str; 2] = [FIRST_TABLES, VERIFICATIONS];

/// Older ones can corrupt a WAL database when two connections checkpoint and write (fixed in 3.51.3).
const SQLITE_VERSION_MIN: i32 = 3_051_003;

const FIRST_TABLES: &str = "
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

const VERIFICATIONS: &str = "
create table verification (system text primary key, record text not null) strict;
";

/// Sets the connection up, brings an older catalog up to date and makes the tables of a new catalog.
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
        version if version == newest() => Ok(()),
        version if version < newest() => migrate(connection).or_fail(|| "cannot make its tables".to_owned()),
        newer => Err(Failure::failed(format!(
            "its version is {newer}, this lifeboat knows {}: a newer lifeboat wrote it",
            newest()
        ))),
    }
}

fn newest() -> i64 {
    MIGRATIONS.len() as i64
}

fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    // Immediate, and the version read again inside: two first commands may meet here.
    connection.execute_batch("begin immediate")?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for migration in MIGRATIONS.iter().skip(version.max(0) as usize) {
        connection.execute_batch(migration)?;
    }
    // Never back: a newer lifeboat may have been here in between.
    connection.pragma_update(None, "user_version", version.max(newest()))?;
    connection.execute_batch("commit")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(connection: &Connection) -> Vec<String> {
        let mut statement = connection.prepare("select name || sql from sqlite_schema order by name").unwrap();
        let rows = statement.query_map([], |row| row.get::<_, Option<String>>(0)).unwrap();
        rows.map(|row| row.unwrap().unwrap_or_default()).collect()
    }

    #[test]
    fn every_older_catalog_is_brought_to_the_same_tables() {
        let directory = tempfile::tempdir().unwrap();
        let fresh = Connection::open(directory.path().join("fresh.db")).unwrap();
        prepare(&fresh).unwrap();
        for version in 1..MIGRATIONS.len() {
            let old = Connection::open(directory.path().join(format!("{version}.db"))).unwrap();
            MIGRATIONS[..version].iter().for_each(|migration| old.execute_batch(migration).unwrap());
            old.pragma_update(None, "user_version", version as i64).unwrap();
            prepare(&old).unwrap();
            prepare(&old).unwrap();
            assert_eq!(tables(&old), tables(&fresh));
        }
    }

    #[test]
    fn a_newer_catalog_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", newest() + 1).unwrap();
        assert!(prepare(&connection).unwrap_err().message.contains("newer lifeboat"));
    }
}
