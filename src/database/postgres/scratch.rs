//! A PostgreSQL server on restored data, for the checks of a drill: on a socket in its own data directory, with a
//! configuration of its own, as another user than root, and cut off from everything the primary's configuration names.
//!
//! The data directory is given to the programs as an open directory, their standard input: it may lie below directories
//! that their user cannot enter, and its path may be longer than the name of a socket may be.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::programs::{self, Program};
use crate::database::server::{self, LOOK, Running};
use crate::ground::failure::OrFail;
use crate::ground::reaper::Groups;
use crate::ground::stream::{Streamed, answer};
use crate::ground::{Failure, Result};

/// The data directory as the programs see it.
const DATA: &str = "/proc/self/fd/0";
/// What is put beside the data.
const CONFIGURATION: &str = "lifeboat-scratch.conf";
/// Where the server keeps what `alter system` sets.
const SET_BY_SQL: &str = "postgresql.auto.conf";
const ACCESS: &str = "lifeboat-scratch-hba.conf";
const LOG: &str = "lifeboat-scratch.log";
/// How long a new cluster may take to be made.
const MAKE_LIMIT: Duration = Duration::from_secs(120);
/// Of a session that asks: it changes nothing, and nothing is loaded for it that a role or database was given.
const OPTIONS: &str = "-c default_transaction_read_only=on -c session_preload_libraries= -c local_preload_libraries=";
/// How psql is asked to print.
const FIELD_END: char = '\u{1f}';
const ROW_END: char = '\u{1e}';
const NULL: &str = "\u{1}";
/// How long a server that is there may take to say so.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// Who runs it when lifeboat is root: nobody who owns another server of this machine.
const USERS: [&str; 1] = ["nobody"];

/// Settings that outrank the restored ones: nothing is reached from here, nothing of the primary's is written, no job
/// of an extension runs, and its size is that of a check.
const SETTINGS: [&str; 22] = [
    "listen_addresses=",
    "archive_mode=off",
    "archive_command=",
    "archive_library=",
    "restore_command=",
    "recovery_end_command=",
    "archive_cleanup_command=",
    "primary_conninfo=",
    "shared_preload_libraries=",
    "max_logical_replication_workers=0",
    "max_wal_senders=0",
    "synchronous_standby_names=",
    "logging_collector=off",
    "log_destination=stderr",
    "log_statement=none",
    "external_pid_file=",
    "ssl=off",
    "huge_pages=off",
    "shared_buffers=64MB",
    "max_connections=20",
    "dynamic_shared_memory_type=mmap",
    "port=5432",
];
/// Those that older versions do not know, with the first that does.
const SINCE: [(&str, u32); 1] = [("archive_library=", 15)];

/// A server on restored data.
pub struct Scratch<'a> {
    /// The restored data directory.
    pub directory: &'a Path,
    /// Where the programs are; without it where distributions keep them.
    pub programs: Option<&'a Path>,
    /// The role that is asked as.
    pub role: &'a str,
    /// Settings (`NAME=VALUE`) that outrank a scratch server's.
    pub settings: &'a [&'a str],
    /// Gives a command its surroundings, and the marks by which a drill's processes are known.
    pub prepare: &'a dyn Fn(&mut Command),
    /// Where process groups are remembered.
    pub groups: &'a Groups,
}

impl Scratch<'_> {
    /// Starts the server when it does not run yet, and waits until it answers. Blocks.
    ///
    /// # Errors
    /// When the data is no cluster, no program of its version is there, or it does not come up within `limit`.
    pub fn bring_up(&self, limit: Duration) -> Result<()> {
        let server = self.program("postgres")?;
        let psql = self.psql()?;
        let begun = Instant::now();
        // One that is there and slow is waited for: nothing below it may be touched.
        while self.running().is_some() {
            if self.is_ready(&psql) {
                return Ok(());
            }
            if begun.elapsed() > limit {
                return Err(self.silent(server.major, limit));
            }
            std::thread::sleep(LOOK);
        }
        let user = self.make_ready_to_start(&server)?;
        let log = server::fresh_file(&self.directory.join(LOG)).or_fail(|| "cannot write the server's log".into())?;
        let errors = log.try_clone().or_fail(|| "cannot write the server's log".into())?;
        let mut command = self.command(&server, user)?;
        command.args(["-D", DATA, "-c", &format!("config_file={DATA}/{CONFIGURATION}")]);
        command.args(["-c", &format!("hba_file={DATA}/{ACCESS}"), "-c", &format!("unix_socket_directories={DATA}")]);
        for setting in SETTINGS.iter().filter(|setting| is_known(setting, server.major)).chain(self.settings) {
            command.args(["-c", setting]);
        }
        command.args(["-c", &format!("max_prepared_transactions={}", self.prepared_transactions(user)?)]);
        command.stdout(log).stderr(errors).process_group(0);
        let cannot = || format!("the server {} cannot be started", server.path.display());
        let mut child = command.spawn().or_fail(cannot)?;
        self.groups.add(Some(child.id()));
        while !self.is_ready(&psql) {
            if let Some(status) = child.try_wait().or_fail(cannot)? {
                return Err(Failure::failed(format!(
                    "PostgreSQL {} does not start on the restored data ({status}); the end of its log: {}",
                    server.major,
                    self.log()
                )));
            }
            if begun.elapsed() > limit {
                self.stop();
                return Err(self.silent(server.major, limit));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn silent(&self, major: u32, limit: Duration) -> Failure {
        let (limit, log) = (limit.as_secs_f64(), self.log());
        Failure::failed(format!(
            "PostgreSQL {major} did not answer on the restored data within {limit} s; the end of its log: {log}"
        ))
    }

    /// The first column of the first row as text; `None` when there is no row or the value is NULL. Blocks.
    ///
    /// # Errors
    /// When the server does not run, the query fails or takes longer than `limit`.
    pub fn value(&self, database: &str, query: &str, limit: Duration) -> Result<Option<String>> {
        let psql = self.psql()?;
        let said = self.ask(&psql, database, query, limit)?;
        let failed = |why: &str| Failure::failed(format!("the query `{query}` {why}"));
        if let Some(trouble) = said.trouble(limit) {
            let errors = said.errors.trim().trim_start_matches("ERROR:").trim();
            return Err(if errors.is_empty() { failed(&trouble) } else { failed(&format!("failed: {errors}")) });
        }
        let bytes = said.read.map_err(|error| failed(&format!("has no answer: {error}")))?;
        Ok(first_value(&String::from_utf8_lossy(&bytes)))
    }

    /// Makes a new cluster in the empty directory, whose owner is the role. Blocks.
    ///
    /// # Errors
    /// When no program for that is there, or it fails.
    pub fn initialise(&self) -> Result<()> {
        let program = programs::newest("initdb", self.programs, "a new cluster")?;
        let user = server::user(&USERS);
        if let Some((user, group)) = user {
            server::give(self.directory, user, group)
                .or_fail(|| format!("cannot give {} away", self.directory.display()))?;
        }
        let shell = Program { path: "/bin/sh".into(), major: program.major };
        let mut command = self.command(&shell, user)?;
        // It starts programs with another standard input.
        let line = "exec 9<&0 </dev/null; exec \"$0\" -D /proc/self/fd/9 -A trust -E UTF8 --locale=C -U \"$1\"";
        command.args(["-c", line]).arg(&program.path).arg(self.role);
        let said = answer(command, MAKE_LIMIT, &[]).or_fail(|| "initdb cannot be used".into())?;
        match said.trouble(MAKE_LIMIT) {
            None => Ok(()),
            Some(trouble) => Err(Failure::failed(format!("no cluster was made: initdb {trouble}"))),
        }
    }

    /// Ends the server as an operator would, waiting for it. Blocks.
    pub fn stop(&self) {
        let Some(running) = self.running() else { return };
        // Fast shutdown (PostgreSQL's documentation, section "Shutting Down the Server").
        running.end(Signal::INT, || self.running());
    }

    fn running(&self) -> Option<Running> {
        Running::find(&self.directory.join("postmaster.pid"), "postgres", self.directory)
    }

    fn psql(&self) -> Result<Program> {
        // A newer one than the server speaks to it as well.
        programs::newest("psql", self.programs, "the restored database")
    }

    /// A program of exactly the version that the data is of.
    fn program(&self, name: &str) -> Result<Program> {
        let text = fs::read_to_string(self.directory.join("PG_VERSION"));
        let text = text.or_fail(|| format!("{} holds no PostgreSQL cluster", self.directory.display()))?;
        let version: u32 = text.trim().parse().or_fail(|| "the restored cluster does not tell its version".into())?;
        let needed = format!("the restored cluster of PostgreSQL {version}");
        programs::suitable(name, self.programs, &needed, |major| major == version)
    }

    fn command(&self, program: &Program, user: Option<(u32, u32)>) -> Result<Command> {
        let mut command = Command::new(&program.path);
        (self.prepare)(&mut command);
        let directory = File::open(self.directory).or_fail(|| format!("cannot open {}", self.directory.display()))?;
        command.current_dir("/").stdin(Stdio::from(directory));
        if let Some((user, group)) = user {
            command.uid(user).gid(group);
        }
        Ok(command)
    }

    fn ask(
        &self,
        psql: &Program,
        database: &str,
        query: &str,
        limit: Duration,
    ) -> Result<Streamed<Vec<u8>, io::Error>> {
        let mut command = self.command(psql, server::user(&USERS))?;
        command.args(["-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-P", &format!("null={NULL}")]);
        command.args(["-F", &FIELD_END.to_string(), "-R", &ROW_END.to_string(), "-c", query]);
        command.env("PGHOST", DATA).env("PGPORT", "5432").env("PGUSER", self.role).env("PGDATABASE", database);
        command.env("PGCONNECT_TIMEOUT", "15").env("PGAPPNAME", "lifeboat");
        command.env("PGOPTIONS", OPTIONS);
        answer(command, limit, &[]).or_fail(|| "psql cannot be used".into())
    }

    fn is_ready(&self, psql: &Program) -> bool {
        self.running().is_some()
            && self
                .ask(psql, "template1", "select 1", READY_LIMIT)
                .is_ok_and(|said| said.trouble(READY_LIMIT).is_none())
    }

    /// Puts the configuration beside the data and gives all of it to the server's user, whom it names.
    fn make_ready_to_start(&self, server: &Program) -> Result<Option<(u32, u32)>> {
        let directory = self.directory;
        let cannot = || format!("cannot make the restored cluster in {} ready", directory.display());
        remove_what_speaks_of_others(directory).or_fail(cannot)?;
        let note =
            format!("# Scratch server of PostgreSQL {}: everything it needs is on its command line.\n", server.major);
        let write = |name: &str, text: &str| server::fresh_file(&directory.join(name))?.write_all(text.as_bytes());
        write(CONFIGURATION, &note).or_fail(cannot)?;
        // What was set there would be loaded and obeyed beside the command line.
        write(SET_BY_SQL, &note).or_fail(cannot)?;
        // Whoever reaches the socket may ask: it lies in a directory of one user's.
        write(ACCESS, "local all all trust\nlocal replication all trust\n").or_fail(cannot)?;
        fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o700)).or_fail(cannot)?;
        let user = server::user(&USERS);
        if let Some((user, group)) = user {
            server::give(directory, user, group).or_fail(cannot)?;
        }
        Ok(user)
    }

    /// A server with less room than the primary had for them would not come up with transactions that wait prepared.
    fn prepared_transactions(&self, user: Option<(u32, u32)>) -> Result<u32> {
        let mut command = self.command(&self.program("pg_controldata")?, user)?;
        command.args(["-D", DATA]).env("LC_ALL", "C");
        let said = answer(command, READY_LIMIT, &[]).or_fail(|| "pg_controldata cannot be used".into())?;
        if let Some(trouble) = said.trouble(READY_LIMIT) {
            return Err(Failure::failed(format!("the restored cluster cannot be read: pg_controldata {trouble}")));
        }
        let text = String::from_utf8_lossy(&said.read.unwrap_or_default()).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("max_prepared_xacts setting:"));
        Ok(line.and_then(|number| number.trim().parse().ok()).unwrap_or(0))
    }

    fn log(&self) -> String {
        server::log_end(&self.directory.join(LOG))
    }
}

fn is_known(setting: &str, major: u32) -> bool {
    SINCE.iter().all(|(name, since)| *name != setting || major >= *since)
}

/// As psql prints it with the signs it was asked to use; nothing at all when there is no row.
fn first_value(text: &str) -> Option<String> {
    let first = text.split([FIELD_END, ROW_END]).next().unwrap_or_default();
    let first = first.strip_suffix('\n').unwrap_or(first);
    if text.is_empty() || first == NULL { None } else { Some(first.to_owned()) }
}

/// What a copy holds that is true of the server it was taken from alone: a standby would wait for its primary for ever, and
/// a lock names a process that may be there.
fn remove_what_speaks_of_others(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let exact = ["standby.signal", "recovery.signal", "postmaster.pid"].contains(&&*name);
        if exact || name.starts_with(".s.PGSQL.") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_is_not_null() {
        for (text, value) in [
            ("42\n", Some("42")),
            ("\u{1}\n", None),
            ("", None),
            ("a\nb\n", Some("a\nb")),
            ("\n", Some("")),
            ("1\u{1f}2\u{1e}3\u{1f}4\n", Some("1")),
            ("\u{1}\u{1e}3\n", None),
        ] {
            assert_eq!(first_value(text).as_deref(), value, "{text:?}");
        }
    }

    #[test]
    fn settings_are_given_to_servers_that_know_them() {
        assert!(!is_known("archive_library=", 14) && is_known("archive_library=", 15) && is_known("port=5432", 13));
        let names: Vec<&str> = SETTINGS.iter().filter_map(|setting| Some(setting.split_once('=')?.0)).collect();
        assert_eq!(names.len(), SETTINGS.len());
        assert!(SINCE.iter().all(|(setting, _)| SETTINGS.contains(setting)));
    }
}
