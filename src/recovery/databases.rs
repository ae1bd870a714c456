//! Restored databases as a drill uses them: brought up where they need a server, asked, and ended.

use std::process::Command;
use std::time::Duration;

use super::sqlite;
use super::surroundings::{RestoredSource, Surroundings};
use crate::database::{mysql, postgres};
use crate::ground::{Failure, Result};
use crate::site::records::Database;

/// How long a server that was up already may take to come up again: when the drill was continued after a restart of the
/// machine.
const AGAIN: Duration = Duration::from_secs(600);

/// Starts what answers for a restored source, when it is of a kind that needs a server; the file of another answers by
/// itself. `step` is the name in the journal. Blocks.
///
/// # Errors
/// When the server does not come up on the restored data within `limit`.
pub fn bring_up(restored: &RestoredSource, surroundings: &Surroundings, step: &str, limit: Duration) -> Result<()> {
    let prepare = |command: &mut Command| surroundings.prepare(command, step);
    match restored.kind.as_str() {
        "postgres" => cluster(restored, surroundings, &prepare)?.bring_up(limit),
        "mysql" => dump(restored, surroundings, &prepare)?.bring_up(limit),
        _ => Ok(()),
    }
}

/// One value from a restored database: the first column of the first row as text; `None` when there is no row or the
/// value is NULL. `step` is the name in the journal. Blocks.
///
/// # Errors
/// When the source is of a kind that cannot be asked, its database does not answer, the query fails or takes longer
/// than `limit`.
pub fn value(
    restored: &RestoredSource,
    surroundings: &Surroundings,
    step: &str,
    query: &str,
    limit: Duration,
) -> Result<Option<String>> {
    let prepare = |command: &mut Command| surroundings.prepare(command, step);
    match restored.kind.as_str() {
        "sqlite" => sqlite::value(&sqlite::restored_file(&restored.directory, &restored.roots)?, query, limit),
        "postgres" => {
            let server = cluster(restored, surroundings, &prepare)?;
            server.bring_up(AGAIN)?;
            server.value(&described(restored)?.database, query, limit)
        }
        "mysql" => {
            let server = dump(restored, surroundings, &prepare)?;
            server.bring_up(AGAIN)?;
            server.value(&described(restored)?.database, query, limit)
        }
        kind => Err(Failure::failed(format!("queries on sources of kind {kind} are not served yet"))),
    }
}

/// Whether sources of this kind can be asked at all.
pub fn can_be_asked(kind: &str) -> bool {
    ["sqlite", "postgres", "mysql"].contains(&kind)
}

/// Ends what [`bring_up`] started, as an operator would. Blocks.
pub fn stop(restored: &RestoredSource, surroundings: &Surroundings) {
    let prepare = |command: &mut Command| surroundings.prepare(command, "clean up");
    // One that was never up has nothing to end.
    match restored.kind.as_str() {
        "postgres" => {
            let _ = cluster(restored, surroundings, &prepare).map(|server| server.stop());
        }
        "mysql" => {
            let _ = dump(restored, surroundings, &prepare).map(|server| server.stop());
        }
        _ => {}
    }
}

fn cluster<'a>(
    restored: &'a RestoredSource,
    surroundings: &'a Surroundings,
    prepare: &'a dyn Fn(&mut Command),
) -> Result<postgres::scratch::Scratch<'a>> {
    Ok(postgres::scratch::Scratch {
        directory: &restored.directory,
        programs: restored.programs.as_deref(),
        role: &described(restored)?.role,
        settings: &[],
        prepare,
        groups: &surroundings.groups,
    })
}

fn dump<'a>(
    restored: &'a RestoredSource,
    surroundings: &'a Surroundings,
    prepare: &'a dyn Fn(&mut Command),
) -> Result<mysql::scratch::Scratch<'a>> {
    Ok(mysql::scratch::Scratch {
        directory: &restored.directory,
        programs: restored.programs.as_deref(),
        product: &described(restored)?.product,
        prepare,
        groups: &surroundings.groups,
    })
}

fn described(restored: &RestoredSource) -> Result<&Database> {
    restored.database.as_ref().ok_or_else(|| {
        Failure::failed(format!(
            "the record of the point restored to {} names no database",
            restored.directory.display()
        ))
    })
}
