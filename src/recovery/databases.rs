//! Restored databases as a drill uses them: brought up where they need a server, asked, and ended.

use std::process::Command;
use std::time::Duration;

use super::sqlite;
use super::surroundings::{RestoredSource, Surroundings};
use crate::database::scratch::Scratch;
use crate::ground::{Failure, Result};

/// How long a server that was up already may take to come up again: when the drill was continued after a restart of the
/// machine.
const AGAIN: Duration = Duration::from_secs(600);

/// Starts what answers for a restored source, when it is of a kind that needs a server; the file of another answers by
/// itself. `step` is the name in the journal. Blocks.
///
/// # Errors
/// When the server does not come up on the restored data within `limit`.
pub fn bring_up(restored: &RestoredSource, surroundings: &Surroundings, step: &str, limit: Duration) -> Result<()> {
    match restored.kind.as_str() {
        "postgres" => with_scratch(restored, surroundings, step, |scratch, _| scratch.bring_up(limit)),
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
    match restored.kind.as_str() {
        "sqlite" => sqlite::value(&sqlite::restored_file(&restored.directory, &restored.roots)?, query, limit),
        "postgres" => with_scratch(restored, surroundings, step, |scratch, database| {
            scratch.bring_up(AGAIN)?;
            scratch.value(database, query, limit)
        }),
        kind => Err(Failure::failed(format!("queries on sources of kind {kind} are not served yet"))),
    }
}

/// Whether sources of this kind can be asked at all.
pub fn can_be_asked(kind: &str) -> bool {
    ["sqlite", "postgres"].contains(&kind)
}

/// Ends what [`bring_up`] started, as an operator would. Blocks.
pub fn stop(restored: &RestoredSource, surroundings: &Surroundings) {
    if restored.kind == "postgres" {
        // One that was never up has nothing to end.
        let _ = with_scratch(restored, surroundings, "clean up", |scratch, _| {
            scratch.stop();
            Ok(())
        });
    }
}

fn with_scratch<T>(
    restored: &RestoredSource,
    surroundings: &Surroundings,
    step: &str,
    work: impl FnOnce(&Scratch<'_>, &str) -> Result<T>,
) -> Result<T> {
    let database = restored.database.as_ref().ok_or_else(|| {
        Failure::failed(format!(
            "the record of the point restored to {} names no database",
            restored.directory.display()
        ))
    })?;
    let scratch = Scratch {
        directory: &restored.directory,
        programs: restored.programs.as_deref(),
        role: &database.role,
        settings: &[],
        prepare: &|command: &mut Command| surroundings.prepare(command, step),
        groups: &surroundings.groups,
    };
    work(&scratch, &database.database)
}
