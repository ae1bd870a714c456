//! Source kind `postgres`: a whole PostgreSQL cluster, as its own base backup streams it: all databases, roles and
//! settings as of the end of the backup, whatever is written meanwhile.
//!
//! The files of the stream are stored as files, in fixed blocks: pages are updated in place, so that the next backup adds
//! the blocks that changed. The server's list of what belongs to the backup is held against what was stored.

use std::path::Path;
use std::process::Command;

use super::blocks;
use super::cluster::{CLUSTER_ROOT, Cluster};
use super::command::{Counted, give_surroundings, warn};
use super::session::Session;
use super::trees::{Captive, plant};
use super::{Captured, Database};
use crate::database::postgres::client::{Client, Server};
use crate::database::postgres::connection::Connection;
use crate::database::postgres::programs;
use crate::ground::stream::stream;
use crate::ground::{Failure, Result};
use crate::policy::PostgresCluster;
use crate::repository::ContentError;

/// Captures a cluster.
///
/// # Errors
/// When the server cannot be reached or refuses, no program of its version is there, its base backup fails or takes too
/// long, something of it is missing, or the repository cannot be written.
pub(super) fn capture_postgres(session: Session<'_>, source: &PostgresCluster) -> Result<Captured> {
    let mut connection = Connection::parse(&source.dsn.resolve()?)?;
    if let Some(database) = &source.database {
        connection = connection.with_database(database);
    }
    let own = source.programs.as_deref().map(Path::new);
    let prepare = |command: &mut Command| give_surroundings(&session, command);
    let client = Client::new(&connection, own, &prepare)?;
    let server = client.server()?;
    refuse(&server)?;
    let program = base_backup_program(&server, own)?;
    let kept = client.keep_log(&format!("lifeboat_{}", std::process::id()));
    if let Err(failure) = &kept {
        session.progress.warn(&format!(
            "the server may remove its write-ahead log before the backup has read it, which then fails: {}",
            failure.message
        ));
    }
    let mut command = Command::new(&program.path);
    prepare(&mut command);
    connection.give(&mut command);
    command.args(["--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast", "--no-password"]);
    command.arg("--label=lifeboat");
    let cluster = read_stream(&session, command, source, &connection, &server)?;
    drop(kept);
    let node = cluster.finish(&session, &server.databases)?;
    let path = CLUSTER_ROOT.as_bytes().to_vec();
    let tree = plant(&session, vec![Captive { path, node }])?;
    let database = Database {
        product: format!("PostgreSQL {}", server.plain_version()),
        database: server.database.clone(),
        role: server.owner.clone(),
    };
    Ok(Captured { database: Some(database), ..session.finish(tree, vec![CLUSTER_ROOT.into()])? })
}

fn read_stream(
    session: &Session<'_>,
    command: Command,
    source: &PostgresCluster,
    connection: &Connection,
    server: &Server,
) -> Result<Cluster> {
    let secrets = connection.secrets();
    let mut cluster = Cluster::new(blocks::of_database(server.bytes), session.now);
    let streamed =
        stream(command, source.timeout, &secrets, |output| cluster.read(session, &mut Counted { output, session }));
    let streamed = streamed.map_err(|error| Failure::failed(format!("pg_basebackup cannot be started: {error}")))?;
    let trouble = streamed.trouble(source.timeout);
    match (streamed.read, trouble) {
        (Err(ContentError::Repository(error)), _) => Err(error.into()),
        (_, Some(trouble)) => Err(Failure::failed(format!("the base backup failed: pg_basebackup {trouble}"))),
        (Err(ContentError::Source(error)), None) => {
            Err(Failure::failed(format!("the base backup cannot be read: {error}")))
        }
        (Ok(()), None) => {
            name_what_was_skipped(session, &streamed.errors);
            Ok(cluster)
        }
    }
}

/// A server leaves symbolic links out and says so; a socket that lies in the data directory is left out as it should be.
fn name_what_was_skipped(session: &Session<'_>, errors: &str) {
    let (skipped, other): (Vec<&str>, Vec<&str>) =
        errors.lines().partition(|line| line.contains("skipping special file"));
    for line in skipped.into_iter().filter(|line| !line.contains("/.s.PGSQL.")) {
        let path = line.split('"').nth(1).unwrap_or(line).trim_start_matches("./");
        let path = format!("{CLUSTER_ROOT}/{path}");
        session.miss(path.as_bytes(), "it is no plain file, and PostgreSQL's base backup leaves such out");
    }
    warn(session, "pg_basebackup", &other.join("\n"));
}

/// What would fail later, or only at the restore.
fn refuse(server: &Server) -> Result<()> {
    if !server.may_replicate {
        return Err(Failure::failed("the user of the connection may not read the whole cluster")
            .hint("as a superuser: alter role NAME replication; and let it connect in pg_hba.conf"));
    }
    if server.standby {
        return Err(Failure::failed("the server is a standby: what it has may be older than the moment of the backup")
            .hint("connect to its primary"));
    }
    if !server.tablespaces.is_empty() {
        return Err(Failure::failed(format!(
            "the cluster has tablespaces outside of its data directory ({}), which are not backed up by this kind of source",
            server.tablespaces.join(", ")
        ))
        .hint("use a source of kind `command` with pg_dumpall for this cluster"));
    }
    Ok(())
}

/// A program reads servers of its own version and of older ones.
fn base_backup_program(server: &Server, own: Option<&Path>) -> Result<programs::Program> {
    let needed = format!("a backup of this server of PostgreSQL {}", server.plain_version());
    programs::suitable("pg_basebackup", own, &needed, |major| major >= server.major())
}
