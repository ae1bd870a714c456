//! A MariaDB server of the test's own, and a writer that knows when each of its commits was done.

#![allow(clippy::disallowed_methods, reason = "tests compare with the machine's clock")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use jiff::Timestamp;
use tempfile::TempDir;

/// The password of the user `backup`: with what an option file and a URL treat specially.
pub const PASSWORD: &str = "hunter2#of \"mysql\\";
/// The same as a part of a URL.
pub const PASSWORD_IN_URL: &str = "hunter2%23of%20%22mysql%5C";

/// Where one of the server's programs is.
pub fn program(name: &str) -> PathBuf {
    let directories = ["/usr/bin", "/usr/sbin", "/usr/libexec"];
    let found = directories.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is there (scripts/test installs it)"))
}

/// A command as a user that the server may run as.
fn as_server_user(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin").current_dir("/").stdin(Stdio::null());
    if super::is_root() {
        let (user, group) = server_user();
        command.uid(user).gid(group);
    }
    command
}

fn server_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("mysql:")).expect("the user mysql is there");
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

/// A running server with the database `shop` and the user `backup`, which may read everything and needs its password.
pub struct Server {
    directory: TempDir,
    server: Child,
}

impl Server {
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("lifeboat-my-").tempdir().unwrap();
        if super::is_root() {
            let (user, group) = server_user();
            std::os::unix::fs::chown(directory.path(), Some(user), Some(group)).unwrap();
        }
        let data = directory.path().join("data");
        // A server that starts removes what looks like another's leavings from a directory that they share.
        let tmpdir = format!("--tmpdir={}", directory.path().display());
        let made = as_server_user(program("mariadb-install-db"))
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", data.display()))
            .arg(&tmpdir)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let server = as_server_user(program("mariadbd"))
            .args(["--no-defaults", "--skip-networking", "--innodb-flush-log-at-trx-commit=0"])
            .arg(format!("--datadir={}", data.display()))
            .arg(&tmpdir)
            .arg(format!("--socket={}", directory.path().join("socket").display()))
            .arg(format!("--pid-file={}", directory.path().join("pid").display()))
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { directory, server };
        super::wait_until("the server answers", || {
            server.client("").args(["-e", "select 1"]).output().unwrap().status.success()
        });
        let password = PASSWORD.replace('\\', "\\\\");
        server.sql("", &format!("create user backup@localhost identified by '{password}'"));
        server.sql("", "grant select, show view, trigger, event on *.* to backup@localhost");
        server.sql("", "create database shop");
        server
    }

    /// The server's own client as root.
    pub fn client(&self, database: &str) -> Command {
        let mut command = Command::new(program("mariadb"));
        command.args(["--no-defaults", "--user=root", "--batch", "--skip-column-names", "--unbuffered"]);
        command.arg(format!("--socket={}", self.directory.path().join("socket").display()));
        command.arg(format!("--database={database}")).stdin(Stdio::null());
        command
    }

    /// What statements give.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let output = self.client(database).args(["-e", statements]).output().unwrap();
        assert!(output.status.success(), "{statements}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A connection string of this user with this password as it stands in a URL.
    pub fn dsn(&self, user: &str, password: &str) -> String {
        format!("mysql://{user}:{password}@/shop?socket={}", self.directory.path().join("socket").display())
    }

    /// Ends the server as an operator would.
    pub fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.server);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.server.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes what the writer writes into.
pub fn make_orders(server: &Server) {
    server.sql(
        "shop",
        "create table orders (id bigint primary key auto_increment, at datetime(6) not null default utc_timestamp(6), \
         padding text);
         create table accounts (id int primary key, balance bigint not null);
         insert into accounts values (1, 500), (2, 500);
         create table counted (orders bigint not null);
         insert into counted values (0);",
    );
}

/// Orders and, in the same transaction, a transfer that keeps the sum of the accounts, as fast as the server takes them.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Timestamp>>,
}

impl Writer {
    pub fn start(server: &Server) -> Self {
        let mut client = server.client("shop").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut input = client.stdin.take().unwrap();
            let mut output = BufReader::new(client.stdout.take().unwrap());
            let mut commits = Vec::new();
            while !seen.load(Ordering::Relaxed) {
                let transaction = "begin; insert into orders (padding) values (repeat(md5(rand()), 20)); \
                     update accounts set balance = balance - 3 where id = 1; \
                     update accounts set balance = balance + 3 where id = 2; \
                     update counted set orders = orders + 1; commit; select 'done';\n";
                input.write_all(transaction.as_bytes()).unwrap();
                let mut line = String::new();
                output.read_line(&mut line).unwrap();
                assert_eq!(line, "done\n");
                commits.push(Timestamp::now());
            }
            drop(input);
            assert!(client.wait().unwrap().success());
            commits
        });
        Self { stop, thread }
    }

    /// When each commit, in order, was known to be done.
    pub fn stop(self) -> Vec<Timestamp> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
