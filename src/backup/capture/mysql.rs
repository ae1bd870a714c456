//! Source kind `mysql`: all databases of a MariaDB or MySQL server, as the vendor's own program dumps them in one transaction:
//! what was committed at its beginning, whatever is written meanwhile, and no lock that anybody waits for.
//!
//! The dump flows into the repository as it comes and becomes one file. Only when its program ended with exit code 0 and its
//! last line is that of a whole dump is it taken for one.

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;

use super::command::{Counted, finish_file, give_surroundings, warn};
use super::session::Session;
use super::{Captured, Database};
use crate::database::mysql::client::Client;
use crate::database::mysql::connection::Connection;
use crate::database::mysql::dump::{self, Ended};
use crate::database::mysql::facts::Server;
use crate::database::mysql::locks::Watch;
use crate::database::mysql::programs::Program;
use crate::ground::stream::{Streamed, stream};
use crate::ground::{Failure, Result};
use crate::policy::MysqlServer;
use crate::repository::{Chunking, ContentError, StoredContent};

/// Most bytes of the statements that make users and grants; they are held in memory until the databases are dumped.
const USERS_BYTES_MAX: u64 = 64 << 20;

/// What the dump's reader gives: what was stored, and whether it was whole.
type Dumped = Streamed<(StoredContent, bool), ContentError>;

/// Captures a server.
///
/// # Errors
/// When the server cannot be reached or refuses, no program of its version is there, its dump fails, takes too long, waits too
/// long for a lock or breaks off, or the repository cannot be written.
pub(super) fn capture_mysql(session: Session<'_>, source: &MysqlServer) -> Result<Captured> {
    let mut connection = Connection::parse(&source.dsn.resolve()?)?;
    if let Some(database) = &source.database {
        connection = connection.with_database(database);
    }
    let own = source.programs.as_deref().map(Path::new);
    let prepare = |command: &mut Command| give_surroundings(&session, command);
    let client = Client::new(&connection, own, &prepare)?;
    let server = Server::ask(&client)?;
    let program = dump::program(&server, own)?;
    tell_gaps(&session, &server, &program);
    let work = Work { session: &session, source, connection: &connection, program: &program };
    let users = match dump::arguments_for_users(&program, &server) {
        Some(arguments) => work.users(arguments)?,
        None => Vec::new(),
    };
    let content = work.databases(&client, &server, &users)?;
    let database =
        Database { product: server.version.to_string(), database: server.database.clone(), role: "root".to_owned() };
    Ok(Captured { database: Some(database), ..finish_file(session, dump::FILE, content)? })
}

/// What a dump lacks or cannot promise, and would not say.
fn tell_gaps(session: &Session<'_>, server: &Server, program: &Program) {
    let warn = |text: &str| session.progress.warn(text);
    if !server.lacking.is_empty() {
        let rights = server.lacking.join(", ");
        warn(&format!(
            "the user of the connection lacks a right everywhere ({rights} on *.*): what it may not see is not in the backup"
        ));
    }
    if !server.reads_users {
        warn(
            "the user of the connection may not read the users (select on mysql.*): they and their grants are not in the backup",
        );
    }
    let (count, named) = &server.without_transactions;
    if *count > 0 {
        let named = named.join(", ");
        warn(&format!(
            "tables without transactions are read as they are at their turn, and agree with no other when they are written \
             meanwhile: {count}, for instance {named}"
        ));
    }
    if dump::lacks_history(program, server) {
        warn(&format!(
            "{} of {} leaves out the history that tables keep of their rows",
            program.name(),
            program.version
        ));
    }
}

/// What both dumps of a server share.
struct Work<'a> {
    session: &'a Session<'a>,
    source: &'a MysqlServer,
    connection: &'a Connection,
    program: &'a Program,
}

impl Work<'_> {
    fn command(&self, arguments: Vec<String>) -> Result<Command> {
        let mut command = Command::new(&self.program.path);
        give_surroundings(self.session, &mut command);
        self.connection.give(&mut command, self.program.version.vendor)?;
        command.args(arguments);
        Ok(command)
    }

    /// Statements that make users and grants.
    fn users(&self, arguments: Vec<String>) -> Result<Vec<u8>> {
        let limit = self.source.timeout;
        let read = |output: &mut dyn Read| {
            let mut statements = Vec::new();
            output.take(USERS_BYTES_MAX + 1).read_to_end(&mut statements).map(|_| statements)
        };
        let streamed = stream(self.command(arguments)?, limit, &self.connection.secrets(), read);
        let streamed = streamed.map_err(|error| self.cannot_start(&error))?;
        if let Some(trouble) = streamed.trouble(limit) {
            return Err(Failure::failed(format!(
                "users and grants cannot be dumped: {} {trouble}",
                self.program.name()
            )));
        }
        let statements = streamed.read.map_err(|error| self.cannot_read(&error))?;
        if statements.len() as u64 > USERS_BYTES_MAX {
            return Err(Failure::failed("the statements of users and grants are longer than 64 MiB"));
        }
        if !dump::ends_well(&statements) {
            return Err(self.broken_off());
        }
        Ok(statements)
    }

    /// The dump itself, and behind it what makes the users.
    fn databases(&self, client: &Client<'_>, server: &Server, users: &[u8]) -> Result<StoredContent> {
        let command = self.command(dump::arguments(self.program, server))?;
        let secrets = self.connection.secrets();
        let watch = Watch::new(client, server.session, self.source.timeout);
        let streamed = std::thread::scope(|scope| {
            let (ended, end) = channel::<()>();
            let watch = &watch;
            scope.spawn(move || watch.run(&end));
            let streamed = stream(command, self.source.timeout, &secrets, |output| self.store(output, users));
            // The watch ends with its channel.
            drop(ended);
            streamed
        });
        let streamed = streamed.map_err(|error| self.cannot_start(&error))?;
        self.content(streamed, watch.sentence())
    }

    fn store(&self, output: &mut dyn Read, users: &[u8]) -> Result<(StoredContent, bool), ContentError> {
        let mut databases = Ended::new(output);
        let mut whole = Counted { output: (&mut databases).chain(users), session: self.session };
        let stored = self.session.store.store_content(&mut whole, Chunking::Content)?;
        Ok((stored, databases.is_whole()))
    }

    fn content(&self, streamed: Dumped, lock: Option<String>) -> Result<StoredContent> {
        let trouble = streamed.trouble(self.source.timeout);
        match (streamed.read, trouble) {
            (Err(ContentError::Repository(error)), _) => Err(error.into()),
            (_, Some(trouble)) => {
                let why = lock.map(|lock| format!("{lock}; ")).unwrap_or_default();
                Err(Failure::failed(format!("the dump failed: {why}{} {trouble}", self.program.name())))
            }
            (Err(ContentError::Source(error)), None) => Err(self.cannot_read(&error)),
            (Ok((_, false)), None) => Err(self.broken_off()),
            (Ok((stored, true)), None) => {
                warn(self.session, &self.program.name(), &streamed.errors);
                Ok(stored)
            }
        }
    }

    fn cannot_start(&self, error: &std::io::Error) -> Failure {
        Failure::failed(format!("{} cannot be started: {error}", self.program.name()))
    }

    fn cannot_read(&self, error: &std::io::Error) -> Failure {
        Failure::failed(format!("cannot read what {} writes: {error}", self.program.name()))
    }

    fn broken_off(&self) -> Failure {
        Failure::failed(format!(
            "the dump breaks off: what {} wrote does not end with `-- Dump completed`",
            self.program.name()
        ))
    }
}
