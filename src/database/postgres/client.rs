//! What is asked of a PostgreSQL server that is backed up: by its own client, so that every way of signing in that the
//! client knows is served.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde::Deserialize;

use super::connection::Connection;
use super::programs;
use crate::ground::process::Ending;
use crate::ground::stream::answer;
use crate::ground::{Failure, Result, output};

/// Oldest version served: the first whose backups carry a list of what belongs to them.
pub const OLDEST: u32 = 13;

/// Longest time that a question to a server may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(120);

/// Exit code of psql when there is no connection.
const NOT_CONNECTED: i32 = 2;

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Server {
    /// For instance `15.18 (Debian 15.18-0+deb12u1)`.
    pub version: String,
    /// For instance 150018.
    pub number: u32,
    /// The database that was connected to.
    pub database: String,
    /// The role that made the cluster; it may do everything.
    pub owner: String,
    /// Whether the user may read the whole cluster.
    pub may_replicate: bool,
    /// Bytes of all databases that the user may see.
    pub bytes: u64,
    /// Whether it follows another server, whose data it may lag behind.
    pub standby: bool,
    /// Numbers of all databases: names of their directories.
    pub databases: Vec<u32>,
    /// Tablespaces outside of the data directory.
    pub tablespaces: Vec<String>,
}

impl Server {
    /// The first number of the version: what data of it can be read by.
    pub fn major(&self) -> u32 {
        self.number / 10_000
    }

    /// The version without what the distribution added.
    pub fn plain_version(&self) -> &str {
        self.version.split_whitespace().next().unwrap_or_default()
    }
}

/// A role by its number and not by its name: the one that made the cluster always has this one.
const FACTS: &str = "select json_build_object(
    'version', current_setting('server_version'),
    'number', current_setting('server_version_num')::int,
    'database', current_database(),
    'owner', (select rolname from pg_catalog.pg_roles where oid = 10),
    'may_replicate', (select rolsuper or rolreplication from pg_catalog.pg_roles where rolname = current_user),
    'bytes', (select coalesce(sum(pg_database_size(oid)), 0) from pg_catalog.pg_database
              where has_database_privilege(oid, 'connect')),
    'standby', pg_is_in_recovery(),
    'databases', (select json_agg(oid::bigint) from pg_catalog.pg_database),
    'tablespaces', (select coalesce(json_agg(spcname), '[]') from pg_catalog.pg_tablespace
                    where spcname not in ('pg_default', 'pg_global')))";

/// A way to ask one server.
pub struct Client<'a> {
    /// psql.
    program: std::path::PathBuf,
    connection: &'a Connection,
    /// Gives a command its surroundings.
    prepare: &'a dyn Fn(&mut Command),
}

impl<'a> Client<'a> {
    /// With the newest psql there is, in `own` when it is given: it speaks to every server.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(connection: &'a Connection, own: Option<&Path>, prepare: &'a dyn Fn(&mut Command)) -> Result<Self> {
        let program = programs::newest("psql", own, "a source of kind `postgres`")?;
        Ok(Self { program: program.path, connection, prepare })
    }

    /// What the server says of itself.
    ///
    /// # Errors
    /// When it cannot be reached, refuses the user, or is older than what is served.
    pub fn server(&self) -> Result<Server> {
        let text = self.ask(FACTS)?;
        let server: Server = serde_json::from_str(&text)
            .map_err(|_| Failure::failed("the server's answer about itself cannot be understood"))?;
        if server.major() < OLDEST {
            return Err(Failure::failed(format!(
                "the server is PostgreSQL {}; versions from {OLDEST} on are backed up",
                server.plain_version()
            ))
            .hint("for an older one use a source of kind `command` with pg_dumpall"));
        }
        Ok(server)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        (self.prepare)(&mut command);
        self.connection.give(&mut command);
        command.args(["-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1"]);
        command
    }

    fn ask(&self, query: &str) -> Result<String> {
        let mut command = self.command();
        command.args(["-c", query]);
        let secrets = self.connection.secrets();
        let cannot = |error: std::io::Error| Failure::failed(format!("the program psql cannot be used: {error}"));
        let said = answer(command, QUESTION_LIMIT, &secrets).map_err(cannot)?;
        match said.ending {
            Ending::Exited(0) => {}
            Ending::Exited(NOT_CONNECTED) => {
                let why = said.errors.trim().trim_start_matches("psql: error: ").to_owned();
                return Err(Failure::failed(format!("no connection to the PostgreSQL server: {why}"))
                    .hint("look at the server, and at what `dsn` refers to"));
            }
            _ => {
                let trouble = said.trouble(QUESTION_LIMIT).unwrap_or_default();
                return Err(Failure::failed(format!("the PostgreSQL server did not answer: psql {trouble}")));
            }
        }
        let bytes = said.read.map_err(cannot)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// Has the server keep its write-ahead log from now on, for as long as what is returned lives.
    ///
    /// # Errors
    /// When the server has no place for another replication slot, or does not write what one needs.
    pub fn keep_log(&self, name: &str) -> Result<LogKept> {
        let mut command = self.command();
        // Read from its input, so that the session ends with us however we end.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let cannot = |error: std::io::Error| Failure::failed(format!("the program psql cannot be used: {error}"));
        let mut child = command.spawn().map_err(cannot)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else { return Err(Failure::failed("psql has no input")) };
        let mut kept = LogKept { input: Some(input), child };
        let order = format!("select pg_create_physical_replication_slot('{name}', true, true);\n");
        let asked = kept.input.as_mut().map(|input| std::io::Write::write_all(input, order.as_bytes()));
        let (sender, made) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // An empty line is an end without an answer.
            let _ = BufReader::new(output).read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = made.recv_timeout(QUESTION_LIMIT).unwrap_or_default();
        if matches!(asked, Some(Ok(()))) && line.contains(name) {
            return Ok(kept);
        }
        Err(Failure::failed(format!("it cannot be made to keep its write-ahead log: {}", kept.errors(self.connection))))
    }
}

/// While it lives the server keeps its write-ahead log.
pub struct LogKept {
    input: Option<ChildStdin>,
    child: Child,
}

impl LogKept {
    fn errors(mut self, connection: &Connection) -> String {
        self.input = None;
        let _ = self.child.kill();
        let mut text = String::new();
        if let Some(errors) = self.child.stderr.take() {
            let _ = std::io::Read::read_to_string(&mut std::io::Read::take(errors, 4096), &mut text);
        }
        output::mask_text(text.trim(), &connection.secrets())
    }
}

impl Drop for LogKept {
    fn drop(&mut self) {
        // The end of its input ends the session, and with it the slot.
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
