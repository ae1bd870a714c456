//! Source kind `sqlite`: a consistent copy of a database that others go on writing to.
//!
//! SQLite's online backup copies it into the scratch directory; the copy is checked, made one self-contained file (no
//! write-ahead log beside it) and stored with the original's name, owner, mode and times. The original is only read,
//! by SQLite itself: what it does to `-wal` and `-shm` is what any reader does.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::FileType;

use super::content::{Stability, store_settled};
use super::session::Session;
use super::single::{SingleFile, fatal};
use super::{Captured, blocks};
use crate::ground::failure::OrFail;
use crate::ground::{Failure, Result};

/// How long a writer may hold its lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Pages copied while holding the read lock once, without write-ahead log: 16 MiB of the usual page size.
const BATCH_PAGES: i32 = 4096;

/// Lets waiting writers in between two batches.
const BATCH_PAUSE: Duration = Duration::from_millis(10);

/// A write between two batches begins the copy anew; after so many times the rest is taken under one lock.
const RESTARTS_MAX: usize = 3;

/// Kept free in the scratch directory beside the copy.
const SCRATCH_RESERVE_BYTES: u64 = 16 * 1024 * 1024;

/// Findings of the integrity check that are shown.
const FINDINGS_MAX: usize = 3;

/// Captures a database.
///
/// # Errors
/// When it is no database, stays locked, is damaged, does not fit into the scratch directory, or the repository cannot
/// be written.
pub(super) fn capture_sqlite(session: Session<'_>, path: &str) -> Result<Captured> {
    let original = SingleFile::reference(path)?;
    if FileType::from_raw_mode(original.stat.st_mode) != FileType::RegularFile {
        return Err(Failure::wrong_input(format!("{path} is not a file, so it cannot be a SQLite database")));
    }
    let mut node = original.node(&session);
    let scratch = tempfile::Builder::new().prefix("sqlite-").tempdir_in(session.scratch);
    let scratch = scratch.or_fail(|| format!("cannot write in {}", session.scratch.display()))?;
    let copy = copy_database(Path::new(path), scratch.path(), BUSY_TIMEOUT)?;
    check_copy(&session, path, &copy)?;
    let file = File::open(&copy).or_fail(|| format!("cannot read the copy of {path}"))?;
    let size = file.metadata().or_fail(|| format!("cannot read the copy of {path}"))?.len();
    let blocks = blocks::of_database(size);
    let read = store_settled(&session, &file, blocks, Stability::Live).map_err(|trouble| fatal(trouble, path))?;
    node.size = read.content.bytes;
    node.content = read.content.blobs;
    original.finish(session, node)
}

/// Copies the database as it was at one moment after this call began; waits so long for a writer's lock.
pub(super) fn copy_database(path: &Path, scratch: &Path, patience: Duration) -> Result<PathBuf> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let explain = |error| explain(path, &error);
    let source = Connection::open_with_flags(path, flags).map_err(explain)?;
    source.busy_timeout(patience).map_err(explain)?;
    let journal: String = source.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(explain)?;
    let sized = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let bytes: i64 = source.query_row(sized, [], |row| row.get(0)).map_err(explain)?;
    ensure_space(path, scratch, u64::try_from(bytes).unwrap_or(0))?;
    let target = scratch.join("database");
    let mut copy = Connection::open(&target).map_err(explain)?;
    // The copy is thrown away after a crash: waiting for the disk would buy nothing.
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").map_err(explain)?;
    let backup = Backup::new(&source, &mut copy).map_err(explain)?;
    if journal.eq_ignore_ascii_case("wal") { copy_at_once(path, &backup) } else { copy_in_batches(path, &backup) }?;
    Ok(target)
}

pub(super) fn ensure_space(path: &Path, scratch: &Path, bytes: u64) -> Result<()> {
    let system = rustix::fs::statvfs(scratch).or_fail(|| format!("cannot look at {}", scratch.display()))?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    if free < bytes.saturating_add(SCRATCH_RESERVE_BYTES) {
        let mib = |bytes: u64| bytes.div_ceil(1024 * 1024);
        return Err(Failure::failed(format!(
            "no room for a copy of {}: {} MiB are needed in {} and {} MiB are free",
            path.display(),
            mib(bytes.saturating_add(SCRATCH_RESERVE_BYTES)),
            scratch.display(),
            mib(free)
        ))
        .hint("free some space there, or keep the state directory on a larger disk"));
    }
    Ok(())
}

/// All pages in one step: with a write-ahead log readers do not hold up writers.
fn copy_at_once(path: &Path, backup: &Backup<'_, '_>) -> Result<()> {
    match backup.step(-1).map_err(|error| explain(path, &error))? {
        StepResult::Done => Ok(()),
        StepResult::More => copy_at_once(path, backup),
        _ => Err(locked(path)),
    }
}

/// A few pages at a time: with a rollback journal a reader holds up writers. A write in between begins anew.
fn copy_in_batches(path: &Path, backup: &Backup<'_, '_>) -> Result<()> {
    let mut restarts = 0;
    let mut remaining = i32::MAX;
    while restarts <= RESTARTS_MAX {
        match backup.step(BATCH_PAGES).map_err(|error| explain(path, &error))? {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            _ => return Err(locked(path)),
        }
        let left = backup.progress().remaining;
        if left >= remaining {
            restarts += 1;
        }
        remaining = left;
        std::thread::sleep(BATCH_PAUSE);
    }
    copy_at_once(path, backup)
}

fn locked(path: &Path) -> Failure {
    Failure::failed(format!("the database {} stayed locked by another process for too long", path.display()))
        .hint("find a transaction that stays open; the next backup tries again")
}

/// The sentence for an error of SQLite's.
fn explain(path: &Path, error: &rusqlite::Error) -> Failure {
    let database = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            Failure::failed(format!("{database} is not a SQLite database, or it is encrypted"))
                .hint("for other files use a source of kind `files`")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => locked(path),
        Some(ErrorCode::DatabaseCorrupt) => Failure::failed(format!("the database {database} is damaged: {error}"))
            .hint("the last recovery point still holds its state from before"),
        Some(ErrorCode::ReadOnly) => Failure::failed(format!(
            "{database} was left in the middle of a write by a crash and must be recovered first"
        ))
        .hint("open it once with its own application, or with `sqlite3`, by a user who may write to it"),
        Some(ErrorCode::CannotOpen) => Failure::failed(format!("cannot open the database {database}: {error}"))
            .hint("its user needs to read the file, and with a write-ahead log to write in its directory"),
        Some(ErrorCode::DiskFull) => Failure::failed(format!("no room for a copy of {database}: the disk is full")),
        _ => Failure::failed(format!("cannot copy the database {database}: {error}")),
    }
}

/// Makes the copy self-contained and checks its structure.
fn check_copy(session: &Session<'_>, path: &str, copy: &Path) -> Result<()> {
    let broken = |error: rusqlite::Error| Failure::failed(format!("cannot open the copy of {path}: {error}"));
    let connection = Connection::open(copy).map_err(broken)?;
    connection.execute_batch("PRAGMA synchronous = OFF").map_err(broken)?;
    connection.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0)).map_err(broken)?;
    match findings(&connection) {
        Ok(findings) if findings.is_empty() => Ok(()),
        Ok(findings) => Err(Failure::failed(format!("the database {path} is damaged: {}", findings.join("; ")))
            .hint("the last recovery point still holds its state from before")),
        // Functions and collations of the application are unknown here; the pages were copied all the same.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::Unknown) => {
            session.progress.warn(&format!("the copy of {path} could not be checked: {error}"));
            Ok(())
        }
        Err(error) => Err(explain(Path::new(path), &error)),
    }
}

/// What `quick_check` finds; nothing when all is well.
fn findings(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA quick_check({FINDINGS_MAX})"))?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    rows.filter(|row| row.as_ref().map_or(true, |text| text != "ok")).collect()
}
