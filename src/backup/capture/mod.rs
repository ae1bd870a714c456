//! Reads one source into the repository: files, logs, image, sqlite, postgres, mysql, command.
//!
//! | module | what it is |
//! |---|---|
//! | `files`, `logs`, `image`, `sqlite`, `postgres`, `mysql`, `command` | one source kind each |
//! | `walk`, `directory`, `stack`, `pseudo` | directory trees, by descriptors, with several readers; what holds no data |
//! | `blocks` | how large the fixed blocks of images and databases are |
//! | `entry`, `content`, `metadata` | one entry: opened, read, described |
//! | `holes` | large holes of sparse files |
//! | `exclude`, `held` | which entries are taken; which must not be opened |
//! | `grown`, `log_history` | what of a log is new, proven; where the earlier point has it |
//! | `single` | one file as a whole source |
//! | `cluster` | the files of a PostgreSQL cluster out of its stream |
//! | `trees` | puts what was captured under its absolute path |
//! | `session`, `store` | what all threads share; what is needed of the repository |
//!
//! Trouble of the source names the entry and goes on; trouble of the repository ends the capture at once: the two are
//! never taken for each other.

mod blocks;
mod cluster;
mod command;
mod content;
mod directory;
mod entry;
mod exclude;
mod files;
mod grown;
mod held;
mod holes;
mod image;
mod log_history;
mod logs;
mod metadata;
mod mysql;
mod postgres;
mod pseudo;
mod session;
mod single;
mod sqlite;
mod stack;
mod store;
#[cfg(test)]
mod tests;
mod trees;
mod walk;

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::ground::{Failure, Progress};
use crate::policy::{Source, SourceKind};
use crate::repository::{BlobId, BlobReader, BlobWriter};
use crate::site::records::{Database, Missing};
use session::Session;

/// The newest usable earlier point of the same source, to tell what did not change.
#[derive(Debug, Clone, Copy)]
pub struct Earlier {
    /// Its root tree.
    pub tree: BlobId,
    /// When its read began by this host's clock: entries changed later than this, less the grain of time stamps, are read again.
    pub began: Timestamp,
    /// For logs: when all files were last read whole.
    pub full_read: Option<Timestamp>,
}

/// What capture is given.
pub struct CaptureContext<'a> {
    pub writer: &'a BlobWriter,
    /// The run's time now: the data time.
    pub now: Timestamp,
    /// To read the earlier tree; `None` with `earlier` on the first backup.
    pub reader: &'a BlobReader,
    pub earlier: Option<Earlier>,
    /// A private directory for temporary files, emptied by the caller.
    pub scratch: &'a Path,
    /// Variables by which the processes of this read are known.
    pub marks: &'a [(&'static str, String)],
    pub progress: &'a dyn Progress,
}

/// One captured source.
#[derive(Debug, Clone)]
pub struct Captured {
    pub tree: BlobId,
    /// Absolute paths whose contents come directly below the restore target.
    pub roots: Vec<PathBuf>,
    pub entries: u64,
    /// Bytes as they would be restored.
    pub bytes: u64,
    /// Bytes read from the source, the checks of what need not be read again included.
    pub read_bytes: u64,
    /// For logs: when all files were last read whole; the data time when this was such a read.
    pub full_read: Option<Timestamp>,
    /// Logs in whose earlier content a full read found other bytes than are in the file; at most 1,000,
    /// `rewritten_count` has the whole number.
    pub rewritten: Vec<Missing>,
    pub rewritten_count: u64,
    /// Named, in the order met; at most 1,000, `missing_count` has the whole number.
    pub missing: Vec<Missing>,
    pub missing_count: u64,
    /// Of a database server: what it takes to ask the restored data.
    pub database: Option<Database>,
}

/// Captures a source. The data time is the moment the caller calls this.
///
/// # Errors
/// When nothing of the source can be read (a path that does not exist), the source's kind is not served here, or the
/// repository cannot be written. Single entries that cannot be read are named in [`Captured::missing`].
pub fn capture(source: &Source, context: &CaptureContext<'_>) -> Result<Captured, Failure> {
    let mut session = Session::new(context.writer, context.reader, context.earlier, context.scratch, context.progress);
    (session.now, session.marks) = (context.now, context.marks);
    let Some(period) = log_history::period_of(&source.kind) else { return capture_with(&source.kind, session) };
    session.reads_whole = log_history::is_full_read_due(period, context.earlier.as_ref(), context.now);
    let before = context.earlier.and_then(|earlier| earlier.full_read);
    let full_read = if session.reads_whole { Some(context.now) } else { before };
    Ok(Captured { full_read, ..capture_with(&source.kind, session)? })
}

fn capture_with(kind: &SourceKind, session: Session<'_>) -> Result<Captured, Failure> {
    match kind {
        SourceKind::Files { paths, exclude } => files::capture_files(session, paths, exclude),
        SourceKind::Logs { paths, exclude, .. } => logs::capture_logs(session, paths, exclude),
        SourceKind::Image { path } => image::capture_image(session, path),
        SourceKind::Sqlite { path } => sqlite::capture_sqlite(session, path),
        SourceKind::Command(command) => command::capture_command(session, command),
        SourceKind::Postgres(cluster) => postgres::capture_postgres(session, cluster),
        SourceKind::Mysql(server) => mysql::capture_mysql(session, server),
        SourceKind::Repository(_) => Err(Failure::failed("an existing repository is taken over where it is, not read")),
        SourceKind::Ebs { .. } | SourceKind::Rds { .. } => {
            let kind = kind.word();
            Err(Failure::wrong_input(format!("this build cannot back up sources of kind `{kind}` yet")).hint(
                "it takes the kinds `files`, `logs`, `image`, `sqlite`, `postgres`, `mysql`, `command` and `repository`",
            ))
        }
    }
}
