//! Asks a MariaDB or MySQL server that is backed up: by its vendors' own client, so that every way of signing in that the
//! client knows is served.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::connection::Connection;
use super::programs::{self, CLIENT, Program};
use super::rows;
use crate::ground::failure::OrFail;
use crate::ground::stream::{Streamed, answer};
use crate::ground::{Failure, Result};

/// Longest time that a question to a server may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(120);

/// Rows of values; `None` for NULL.
pub type Rows = Vec<Vec<Option<String>>>;

/// A way to ask one server.
pub struct Client<'a> {
    program: Program,
    connection: &'a Connection,
    /// Gives a command its surroundings.
    prepare: &'a (dyn Fn(&mut Command) + Sync),
}

impl<'a> Client<'a> {
    /// With the newest client there is, in `own` when it is given: those of both vendors speak to both servers.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(
        connection: &'a Connection,
        own: Option<&Path>,
        prepare: &'a (dyn Fn(&mut Command) + Sync),
    ) -> Result<Self> {
        let program = programs::installed(&CLIENT, own).into_iter().next().ok_or_else(|| {
            Failure::failed("neither the program mariadb nor mysql is there, so that no such server can be asked")
                .hint("install the client programs of MariaDB or MySQL, or name their directory with `programs`")
        })?;
        Ok(Self { program, connection, prepare })
    }

    /// What the connection gives at all.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses the user.
    pub fn first(&self, query: &str) -> Result<Rows> {
        let said = self.ask(query)?;
        if said.trouble(QUESTION_LIMIT).is_some() {
            let why = rows::error(&said.errors);
            return Err(Failure::failed(format!("no connection to the MariaDB or MySQL server: {why}"))
                .hint("look at the server, and at what `dsn` refers to"));
        }
        self.rows_of(said)
    }

    /// The rows of an answer.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses the query, or answers with more than is kept of an answer.
    pub fn rows(&self, query: &str) -> Result<Rows> {
        let said = self.ask(query)?;
        if let Some(how) = said.ending.trouble(QUESTION_LIMIT) {
            let (name, why) = (self.program.name(), rows::error(&said.errors));
            return Err(Failure::failed(format!("the server did not answer: {name} {how}: {why}")));
        }
        self.rows_of(said)
    }

    fn ask(&self, query: &str) -> Result<Streamed<Vec<u8>, std::io::Error>> {
        let mut command = Command::new(&self.program.path);
        (self.prepare)(&mut command);
        self.connection.give(&mut command, self.program.version.vendor)?;
        command.args(["--default-character-set=utf8mb4", "--xml", "--quick", "--execute", query]);
        answer(command, QUESTION_LIMIT, &self.connection.secrets()).or_fail(|| self.cannot())
    }

    fn rows_of(&self, said: Streamed<Vec<u8>, std::io::Error>) -> Result<Rows> {
        let bytes = said.read.or_fail(|| self.cannot())?;
        let answer = rows::parse(&String::from_utf8_lossy(&bytes));
        if !answer.whole {
            return Err(Failure::failed("the server's answer about itself is longer than it may be"));
        }
        Ok(answer.rows)
    }

    fn cannot(&self) -> String {
        format!("the program {} cannot be used", self.program.name())
    }
}
