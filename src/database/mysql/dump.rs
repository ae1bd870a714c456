//! How a dump is ordered, and how its end is known.

use std::io::{self, Read};
use std::path::Path;

use super::facts::Server;
use super::programs::{self, DUMP, Program};
use super::version::Vendor;
use crate::ground::Result;

/// Name of the file of a point.
pub const FILE: &str = "dump.sql";

/// The last line of a whole dump.
const LAST_LINE: &[u8] = b"-- Dump completed";

/// Bytes at the end in which the last line must be: it may tell the time.
const END_BYTES: usize = 64;

/// The first MariaDB whose program writes the history of rows.
const HISTORY_SINCE: (u32, u32) = (10, 11);

/// All that is dumped in one transaction, whatever the machine's option files say: it takes no lock that others wait for.
const CONSISTENT: [&str; 8] = [
    "--default-character-set=utf8mb4",
    "--single-transaction",
    "--quick",
    "--hex-blob",
    "--routines",
    "--events",
    "--triggers",
    "--max-allowed-packet=1G",
];

/// The program that dumps this server: its vendor's, and not of an older generation.
///
/// # Errors
/// Names what is needed and which versions are there.
pub fn program(server: &Server, own: Option<&Path>) -> Result<Program> {
    let needed = format!("a dump of this server of {}", server.version);
    programs::suitable(&DUMP, own, &needed, |version| {
        version.vendor == server.version.vendor && version.numbers.0 >= server.version.numbers.0
    })
}

/// Whether this program leaves the history of rows out, which the server keeps.
pub fn lacks_history(program: &Program, server: &Server) -> bool {
    server.has_history && program.version.numbers < HISTORY_SINCE
}

/// Arguments for the dump of all databases; with MySQL's program of users and grants, too.
pub fn arguments(program: &Program, server: &Server) -> Vec<String> {
    let mut arguments: Vec<String> = CONSISTENT.map(str::to_owned).to_vec();
    // Equal databases give equal dumps.
    arguments.push("--skip-dump-date".into());
    if program.version.vendor == Vendor::MySql {
        // Tablespaces need a right of their own and are those of clusters; where a replica went on is nothing to restore.
        arguments.extend(["--no-tablespaces", "--set-gtid-purged=OFF"].map(str::to_owned));
        if server.reads_users {
            arguments.extend(["--all-databases", "--flush-privileges"].map(str::to_owned));
            return arguments;
        }
    } else if server.has_history && !lacks_history(program, server) {
        arguments.push("--dump-history".into());
    }
    arguments.extend(["--databases", "--"].map(str::to_owned));
    arguments.extend(server.databases.iter().cloned());
    arguments
}

/// Arguments for a second dump, of users and grants as statements, where the first does not hold them: MariaDB's table of them
/// changes from version to version.
pub fn arguments_for_users(program: &Program, server: &Server) -> Option<Vec<String>> {
    let wanted = program.version.vendor == Vendor::MariaDb && server.reads_users;
    // A new server has users of its own, of the same names; one of them loads the dump, and must not be made anew meanwhile.
    wanted.then(|| ["--system=users,servers", "--insert-ignore", "--skip-dump-date"].map(str::to_owned).to_vec())
}

/// Reads a dump and remembers its end.
pub struct Ended<R> {
    dump: R,
    end: Vec<u8>,
}

impl<R: Read> Ended<R> {
    /// Nothing read yet.
    pub fn new(dump: R) -> Self {
        Self { dump, end: Vec::new() }
    }

    /// Whether the last line of what was read is that of a whole dump.
    pub fn is_whole(&self) -> bool {
        ends_well(&self.end)
    }
}

/// Whether the last line is that of a whole dump.
pub fn ends_well(dump: &[u8]) -> bool {
    let last = dump.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    last.starts_with(LAST_LINE)
}

impl<R: Read> Read for Ended<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.dump.read(buffer)?;
        let read = &buffer[..length];
        self.end.extend_from_slice(&read[read.len().saturating_sub(END_BYTES)..]);
        self.end.drain(..self.end.len().saturating_sub(END_BYTES));
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::mysql::version::Version;

    fn server(version: &str, reads_users: bool) -> Server {
        Server {
            version: Version::of_product(version).unwrap(),
            database: "shop".into(),
            session: 7,
            databases: vec!["-x".into(), "shop".into()],
            without_transactions: (0, Vec::new()),
            has_history: version.starts_with("MariaDB"),
            lacking: Vec::new(),
            reads_users,
        }
    }

    fn program(version: &str) -> Program {
        Program { path: "/usr/bin/dump".into(), version: Version::of_product(version).unwrap() }
    }

    #[test]
    fn each_vendors_program_is_told_what_it_knows() {
        let (mariadb, old) = (program("MariaDB 10.11.19"), program("MariaDB 10.5.2"));
        let of = |program: &Program, server: &Server| arguments(program, server).join(" ");
        let text = of(&mariadb, &server("MariaDB 10.11.19", true));
        assert!(
            text.contains("--single-transaction") && text.ends_with("--dump-history --databases -- -x shop"),
            "{text}"
        );
        assert!(!of(&old, &server("MariaDB 10.5.2", true)).contains("--dump-history"));
        assert!(lacks_history(&old, &server("MariaDB 10.5.2", true)));
        assert!(arguments_for_users(&mariadb, &server("MariaDB 10.11.19", true)).is_some());
        assert!(arguments_for_users(&mariadb, &server("MariaDB 10.11.19", false)).is_none());

        let mysql = program("MySQL 8.0.36");
        let text = of(&mysql, &server("MySQL 8.0.36", true));
        assert!(text.ends_with("--set-gtid-purged=OFF --all-databases --flush-privileges"), "{text}");
        assert!(of(&mysql, &server("MySQL 8.0.36", false)).ends_with("--databases -- -x shop"));
        assert!(arguments_for_users(&mysql, &server("MySQL 8.0.36", true)).is_none());
    }

    #[test]
    fn a_dump_is_whole_with_its_last_line() {
        for (dump, whole) in [
            ("x;\n\n-- Dump completed\n", true),
            ("x;\n\n-- Dump completed on 2026-11-22 15:36:34\n", true),
            ("x;\n-- Dump comple", false),
            ("insert into t values ('-- Dump completed\n", false),
            ("", false),
            ("-- Dump completed\nselect 1;\n", false),
        ] {
            let dump = format!("{}\n{dump}", "a".repeat(500));
            // However it comes.
            for step in [1, 7, 1000] {
                let mut ended = Ended::new(dump.as_bytes());
                let mut buffer = vec![0; step];
                while ended.read(&mut buffer).unwrap() > 0 {}
                assert_eq!(ended.is_whole(), whole, "{dump:?}");
            }
        }
    }
}
