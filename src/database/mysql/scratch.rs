//! A MariaDB or MySQL server that a restored dump is loaded into, for the checks of a drill: with a data directory of its own
//! beside the dump, on a socket in there and on no network, as another user than root.
//!
//! It runs twice: to load the dump as a new server would, users and grants included; then, to be asked, without any of them, so
//! that no password of the primary's is needed and no event, plug-in or replica of it wakes up.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::dump;
use super::programs::{self, CLIENT, INSTALL, Program, SERVER};
use super::rows;
use super::version::{Vendor, Version};
use crate::database::server::{self, LOOK, Running};
use crate::ground::failure::OrFail;
use crate::ground::process::SEARCH_PATH;
use crate::ground::reaper::Groups;
use crate::ground::stream::{Streamed, answer, stream};
use crate::ground::{Failure, Result};

/// What is put beside the dump.
const DATA: &str = "server";
const TEMPORARY: &str = "tmp";
const LOG: &str = "server.log";
const LOADED: &str = "loaded";
/// In the data directory, by which the programs name them without its path: that may be longer than a socket's name.
const SOCKET: &str = "socket";
const PID_FILE: &str = "pid";
/// How long a server that is there may take to say so.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// Who runs it when lifeboat is root, in this order: who may on machines with such a server, who owns nothing.
const USERS: [&str; 2] = ["mysql", "nobody"];
/// What the server needs of root's powers: directories above its own may be closed to its user.
const ENTER: &str = "-all,+dac_read_search";

/// Nothing is reached from here, nothing outside of the data directory is written, nothing begins by itself, and its size is
/// that of a check.
const SETTINGS: [&str; 13] = [
    "--skip-networking",
    "--skip-log-bin",
    "--skip-slave-start",
    "--event-scheduler=OFF",
    "--local-infile=0",
    "--loose-symbolic-links=0",
    "--loose-mysqlx=OFF",
    "--performance-schema=OFF",
    "--max-connections=20",
    "--max-allowed-packet=1G",
    "--innodb-buffer-pool-size=128M",
    "--character-set-server=utf8mb4",
    // What a time without a zone is taken for.
    "--default-time-zone=+00:00",
];

/// How a server is to be run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Load,
    Ask,
}

/// A server with a restored dump.
pub struct Scratch<'a> {
    /// The restored directory.
    pub directory: &'a Path,
    /// Where the programs are; without it where distributions keep them.
    pub programs: Option<&'a Path>,
    /// Name and version of the server that was dumped.
    pub product: &'a str,
    /// Gives a command its surroundings, and the marks by which a drill's processes are known.
    pub prepare: &'a dyn Fn(&mut Command),
    /// Where process groups are remembered.
    pub groups: &'a Groups,
}

impl Scratch<'_> {
    /// Loads the dump when that is not done yet, starts the server when it does not run yet, and waits until it answers. Blocks.
    ///
    /// # Errors
    /// When the dump cannot be loaded, no program of its version is there, or the server does not come up within `limit`.
    pub fn bring_up(&self, limit: Duration) -> Result<()> {
        let client = self.client()?;
        let is_loaded = self.directory.join(LOADED).exists();
        if is_loaded && self.is_ready(&client) {
            return Ok(());
        }
        let deadline = Deadline { begun: Instant::now(), limit };
        let program = self.server()?;
        if !is_loaded {
            self.make(&program, &deadline)?;
            let mut child = self.start(&program, Purpose::Load, &client, &deadline)?;
            self.load(&client, &deadline)?;
            self.end_loading(&mut child, &deadline)?;
            fs::write(self.directory.join(LOADED), "").or_fail(|| self.cannot_prepare())?;
        }
        self.start(&program, Purpose::Ask, &client, &deadline)?;
        Ok(())
    }

    /// The first column of the first row as text; `None` when there is no row or the value is NULL. Blocks.
    ///
    /// # Errors
    /// When the server does not run, the query fails or takes longer than `limit`.
    pub fn value(&self, database: &str, query: &str, limit: Duration) -> Result<Option<String>> {
        let client = self.client()?;
        let said = self.ask(&client, database, query, limit)?;
        let failed = |why: &str| Failure::failed(format!("the query `{query}` {why}"));
        if let Some(trouble) = said.trouble(limit) {
            let errors = rows::error(&said.errors);
            return Err(if errors.is_empty() { failed(&trouble) } else { failed(&format!("failed: {errors}")) });
        }
        let bytes = said.read.map_err(|error| failed(&format!("has no answer: {error}")))?;
        let answer = rows::parse(&String::from_utf8_lossy(&bytes));
        match answer.rows.into_iter().next().and_then(|row| row.into_iter().next()) {
            None if !answer.whole => Err(failed("has an answer longer than it may be")),
            value => Ok(value.flatten()),
        }
    }

    /// Ends the server as an operator would, waiting for it. Blocks.
    pub fn stop(&self) {
        if let Some(running) = self.running() {
            running.end(Signal::TERM, || self.running());
        }
    }

    fn running(&self) -> Option<Running> {
        let data = self.data();
        SERVER.iter().find_map(|name| Running::find(&data.join(PID_FILE), name, &data))
    }

    fn data(&self) -> PathBuf {
        self.directory.join(DATA)
    }

    fn version(&self) -> Result<Version> {
        let version = Version::of_product(self.product);
        version.ok_or_else(|| Failure::failed(format!("`{}` is no version of MariaDB or MySQL", self.product)))
    }

    /// Of the vendor of the server that was dumped, and not older: a dump is for its own version and newer ones.
    fn server(&self) -> Result<Program> {
        let dumped = self.version()?;
        programs::suitable(&SERVER, self.programs, &format!("the restored dump of {dumped}"), |version| {
            version.vendor == dumped.vendor && version.numbers >= dumped.numbers
        })
    }

    fn client(&self) -> Result<Program> {
        let dumped = self.version()?;
        programs::suitable(&CLIENT, self.programs, &format!("the restored dump of {dumped}"), |version| {
            version.vendor == dumped.vendor
        })
    }

    /// Directories that are the server's user's, and in them a server without any data.
    fn make(&self, program: &Program, deadline: &Deadline) -> Result<()> {
        let user = server::user(&USERS);
        for name in [DATA, TEMPORARY] {
            let directory = self.directory.join(name);
            fs::create_dir(&directory).or_fail(|| self.cannot_prepare())?;
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).or_fail(|| self.cannot_prepare())?;
            if let Some((user, group)) = user {
                server::give(&directory, user, group).or_fail(|| self.cannot_prepare())?;
            }
        }
        let mut command = match program.version.vendor {
            Vendor::MariaDb => {
                let path = programs::file(&INSTALL, self.programs).ok_or_else(|| {
                    Failure::failed(format!("there is no {}, which makes the data directory of a server", INSTALL[0]))
                        .hint("install the server's packages, or name their directory with `programs`")
                })?;
                let mut command = self.command(&path, ENTER)?;
                command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
                command
            }
            Vendor::MySql => {
                let mut command = self.command(&program.path, ENTER)?;
                command.args(["--no-defaults", "--initialize-insecure"]);
                command
            }
        };
        command.arg(with("--datadir=", &self.data())).arg(with("--tmpdir=", &self.directory.join(TEMPORARY)));
        self.give_base(&mut command);
        command.stdin(Stdio::null());
        let left = deadline.left();
        let said = answer(command, left, &[]).or_fail(|| "a server's data directory cannot be made".into())?;
        match said.trouble(left) {
            None => Ok(()),
            Some(trouble) => {
                let told = String::from_utf8_lossy(&said.read.unwrap_or_default()).trim().to_owned();
                Err(Failure::failed(format!("a server's data directory cannot be made: {trouble}; it said: {told}")))
            }
        }
    }

    /// Programs of a directory of their own look for what belongs to them beside it.
    fn give_base(&self, command: &mut Command) {
        if let Some(base) = self.programs.and_then(Path::parent) {
            command.arg(with("--basedir=", base));
        }
    }

    fn start(&self, program: &Program, purpose: Purpose, client: &Program, deadline: &Deadline) -> Result<Child> {
        let log = File::options().create(true).append(true).open(self.directory.join(LOG));
        let log = log.or_fail(|| self.cannot_prepare())?;
        let errors = log.try_clone().or_fail(|| self.cannot_prepare())?;
        let mut command = self.command(&program.path, ENTER)?;
        command.arg("--no-defaults");
        self.give_base(&mut command);
        command.arg(with("--datadir=", &self.data())).arg(with("--tmpdir=", &self.directory.join(TEMPORARY)));
        command.arg(with("--secure-file-priv=", &self.directory.join(TEMPORARY)));
        command.arg(format!("--socket={SOCKET}")).arg(format!("--pid-file={PID_FILE}")).args(SETTINGS);
        if purpose == Purpose::Ask {
            command.arg("--skip-grant-tables");
        }
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        let cannot = || format!("the server {} cannot be started", program.path.display());
        let mut child = command.spawn().or_fail(cannot)?;
        self.groups.add(Some(child.id()));
        while !self.is_ready(client) {
            if let Some(status) = child.try_wait().or_fail(cannot)? {
                let (version, log) = (&program.version, self.log());
                return Err(Failure::failed(format!("{version} does not start ({status}); the end of its log: {log}")));
            }
            if deadline.left().is_zero() {
                self.stop();
                let (version, limit, log) = (&program.version, deadline.limit.as_secs_f64(), self.log());
                return Err(Failure::failed(format!(
                    "{version} did not answer within {limit} s; the end of its log: {log}"
                )));
            }
            std::thread::sleep(LOOK);
        }
        Ok(child)
    }

    fn load(&self, client: &Program, deadline: &Deadline) -> Result<()> {
        let file = self.directory.join(dump::FILE);
        let dump = File::open(&file).or_fail(|| format!("{} cannot be read", file.display()))?;
        let mut command = self.client_command(client)?;
        // No command in a dump is the client's to carry out.
        command.args(["--binary-mode", "--max-allowed-packet=1G"]).stdin(Stdio::from(dump));
        let left = deadline.left();
        let said = stream(command, left, &[], |output| io::copy(output, &mut io::sink()));
        let said = said.or_fail(|| format!("the program {} cannot be used", client.name()))?;
        match said.ending.trouble(left) {
            None => Ok(()),
            Some(how) => {
                self.stop();
                let (name, why) = (client.name(), rows::error(&said.errors));
                Err(Failure::failed(format!("the dump cannot be loaded: {name} {how}: {why}")))
            }
        }
    }

    /// Waits until everything is in its files.
    fn end_loading(&self, child: &mut Child, deadline: &Deadline) -> Result<()> {
        let cannot = || "the server that loaded the dump does not end".to_owned();
        let running = self.running().ok_or_else(|| Failure::failed(cannot()))?;
        running.signal(Signal::TERM).or_fail(cannot)?;
        while child.try_wait().or_fail(cannot)?.is_none() {
            if deadline.left().is_zero() {
                return Err(Failure::failed(cannot()));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn ask(
        &self,
        client: &Program,
        database: &str,
        query: &str,
        limit: Duration,
    ) -> Result<Streamed<Vec<u8>, io::Error>> {
        let mut command = self.client_command(client)?;
        // The server ends what outlives its client.
        let longest = limit.as_secs().saturating_add(2);
        let session = match client.version.vendor {
            Vendor::MariaDb => format!("set session tx_read_only = 1, max_statement_time = {longest}"),
            Vendor::MySql => format!("set session transaction_read_only = 1, max_execution_time = {longest}000"),
        };
        command.arg(format!("--init-command={session}")).args(["--xml", "--quick"]);
        if !database.is_empty() {
            command.arg(format!("--database={database}"));
        }
        command.args(["--execute", query]).stdin(Stdio::null());
        answer(command, limit, &[]).or_fail(|| format!("the program {} cannot be used", client.name()))
    }

    fn is_ready(&self, client: &Program) -> bool {
        self.running().is_some()
            && self.data().join(SOCKET).exists()
            && self.ask(client, "", "select 1", READY_LIMIT).is_ok_and(|said| said.trouble(READY_LIMIT).is_none())
    }

    fn client_command(&self, client: &Program) -> Result<Command> {
        let mut command = self.command(&client.path, "-all")?;
        command.arg("--no-defaults").arg(format!("--socket={SOCKET}"));
        command.args(["--user=root", "--default-character-set=utf8mb4", "--local-infile=0"]);
        command.env("MYSQL_TEST_LOGIN_FILE", "/dev/null");
        Ok(command)
    }

    /// A command in the data directory as the server's user, with these of root's powers and no way to more.
    fn command(&self, program: &Path, powers: &str) -> Result<Command> {
        let mut command = match server::user(&USERS) {
            None => Command::new(program),
            Some((user, group)) => {
                let mut command = Command::new(setpriv()?);
                command.args([format!("--reuid={user}"), format!("--regid={group}")]);
                // A program that asks whether it may is answered for what it may.
                command.args(["--clear-groups", "--no-new-privs", "--securebits=+no_setuid_fixup"]);
                for set in ["inh-caps", "ambient-caps", "bounding-set"] {
                    command.arg(format!("--{set}={powers}"));
                }
                command.arg("--").arg(program);
                command
            }
        };
        (self.prepare)(&mut command);
        command.current_dir(self.data()).env("TMPDIR", self.directory.join(TEMPORARY));
        Ok(command)
    }

    fn cannot_prepare(&self) -> String {
        format!("cannot prepare a server in {}", self.directory.display())
    }

    fn log(&self) -> String {
        server::log_end(&self.directory.join(LOG))
    }
}

/// The program that gives powers away.
fn setpriv() -> Result<PathBuf> {
    let mut paths = SEARCH_PATH.split(':').map(|directory| Path::new(directory).join("setpriv"));
    paths.find(|path| path.is_file()).ok_or_else(|| {
        Failure::failed("the program setpriv is not there, without which a scratch server would run as root")
            .hint("install util-linux, or run the drill as another user than root")
    })
}

/// When what was begun must be done.
struct Deadline {
    begun: Instant,
    limit: Duration,
}

impl Deadline {
    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.begun.elapsed())
    }
}

fn with(option: &str, path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(option);
    argument.push(path);
    argument
}
