//! One value from a restored SQLite database, opened read-only and within a time limit.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result};

/// Reads the first column of the first row as text; `None` when there is no row or the value is NULL. Blocks.
///
/// # Errors
/// When the database cannot be opened, the query fails or takes longer than `limit`.
pub fn value(database: &Path, query: &str, limit: Duration) -> Result<Option<String>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(database, flags)
        .or_fail(|| format!("cannot open the restored database {}", database.display()))?;
    connection.busy_timeout(limit).or_fail(|| "cannot set the database's time limit".into())?;
    let interrupt = connection.get_interrupt_handle();
    let (done, over) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if over.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
        });
        let read = read(&connection, query);
        drop(done);
        read.map_err(|error| explain(query, limit, &error))
    })
}

fn read(connection: &Connection, query: &str) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare(query)?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(match row.get_ref(0)? {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Some(hex::encode(bytes)),
    })
}

fn explain(query: &str, limit: Duration, error: &rusqlite::Error) -> Failure {
    if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) {
        return Failure::failed(format!("the query `{query}` took longer than {} s", limit.as_secs_f64()));
    }
    Failure::failed(format!("the query `{query}` failed: {error}"))
}

/// The database file that a restore step for a source of kind `sqlite` left in `directory`.
///
/// # Errors
/// When no such file is there.
pub fn restored_file(directory: &Path, roots: &[PathBuf]) -> Result<PathBuf> {
    let missing = || Failure::failed(format!("there is no restored file in {}", directory.display()));
    let root = roots.first().ok_or_else(missing)?;
    let by_name = root.file_name().map(|name| directory.join(name));
    let by_path = root.strip_prefix("/").ok().map(|path| directory.join(path));
    by_name.into_iter().chain(by_path).find(|path| is_plain_file(path)).ok_or_else(missing)
}

fn is_plain_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(sql: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.db");
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        (directory, path)
    }

    #[test]
    fn values_of_all_types_become_text() {
        let (_directory, path) = database("create table t(a); insert into t values ('x');");
        let cases = [
            ("select 7", Some("7")),
            ("select 1.5", Some("1.5")),
            ("select a from t", Some("x")),
            ("select x'0aff'", Some("0aff")),
            ("select null", None),
            ("select a from t where 0", None),
        ];
        for (query, expected) in cases {
            assert_eq!(value(&path, query, Duration::from_secs(5)).unwrap().as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn nothing_is_written_and_a_missing_database_is_not_made() {
        let (directory, path) = database("create table t(a);");
        assert!(value(&path, "insert into t values (1) returning 1", Duration::from_secs(5)).is_err());
        let missing = directory.path().join("none.db");
        assert!(value(&missing, "select 1", Duration::from_secs(5)).is_err());
        assert!(!missing.exists());
    }

    #[test]
    fn a_database_left_in_wal_mode_can_be_read() {
        let (_directory, path) = database("pragma journal_mode=wal; create table t(a); insert into t values (1);");
        assert_eq!(value(&path, "select count(*) from t", Duration::from_secs(5)).unwrap().as_deref(), Some("1"));
    }

    #[test]
    fn an_endless_query_is_ended() {
        let (_directory, path) = database("create table t(a);");
        let query = "with recursive n(i) as (select 1 union all select i+1 from n) select max(i) from n";
        let error = value(&path, query, Duration::from_millis(100)).unwrap_err();
        assert!(error.message.contains("took longer"), "{error}");
    }

    #[test]
    fn the_restored_file_is_found_by_name_and_by_path() {
        let directory = tempfile::tempdir().unwrap();
        let roots = [PathBuf::from("/var/lib/shop/orders.db")];
        assert!(restored_file(directory.path(), &roots).is_err());
        let deep = directory.path().join("var/lib/shop/orders.db");
        std::fs::create_dir_all(deep.parent().unwrap()).unwrap();
        std::fs::write(&deep, "").unwrap();
        assert_eq!(restored_file(directory.path(), &roots).unwrap(), deep);
        std::fs::write(directory.path().join("orders.db"), "").unwrap();
        assert_eq!(restored_file(directory.path(), &roots).unwrap(), directory.path().join("orders.db"));
    }
}
