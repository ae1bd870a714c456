//! A PostgreSQL server of the test's own, and a writer that knows when each of its commits was done.

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

/// The password of the role `backup`.
pub const PASSWORD: &str = "hunter2-of-postgres";

/// Where the newest version's programs are.
pub fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is there (scripts/test installs it)");
    let mut versions: Vec<u32> =
        versions.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable();
    Path::new("/usr/lib/postgresql").join(versions.last().expect("a version of PostgreSQL").to_string()).join("bin")
}

/// A command as the user that PostgreSQL may run as: it refuses root.
pub fn as_server_user(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").current_dir("/").stdin(Stdio::null());
    if super::is_root() {
        let (user, group) = server_user();
        command.uid(user).gid(group);
    }
    command
}

fn server_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("the user postgres is there");
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

/// A running cluster with the database `shop` and the role `backup`, which may replicate and needs its password.
pub struct Cluster {
    directory: TempDir,
    server: Child,
}

impl Cluster {
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("lifeboat-pg-").tempdir().unwrap();
        if super::is_root() {
            let (user, group) = server_user();
            std::os::unix::fs::chown(directory.path(), Some(user), Some(group)).unwrap();
        }
        let data = directory.path().join("data");
        let made = as_server_user(programs().join("initdb"))
            .args(["-N", "-U", "owner", "--auth=scram-sha-256", "--pwfile=/dev/stdin", "-D"])
            .arg(&data)
            .stdin(fs::File::open(owner_password(directory.path())).unwrap())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let access = "local all owner trust\nlocal all all scram-sha-256\nlocal replication all scram-sha-256\n";
        fs::write(data.join("pg_hba.conf"), access).unwrap();
        let server = Self::spawn(directory.path());
        let cluster = Self { directory, server };
        cluster.wait();
        // Another test looks at all argument lists for the password.
        let mut psql = cluster.psql("postgres").stdin(Stdio::piped()).spawn().unwrap();
        let statement = format!("create role backup login replication password '{PASSWORD}';\n");
        psql.stdin.take().unwrap().write_all(statement.as_bytes()).unwrap();
        assert!(psql.wait().unwrap().success());
        cluster.sql("postgres", "create database shop");
        cluster
    }

    fn spawn(directory: &Path) -> Child {
        let log = fs::File::create(directory.join("log")).unwrap();
        as_server_user(programs().join("postgres"))
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "checkpoint_timeout=30s", "-k"])
            .arg(directory)
            .arg("-D")
            .arg(directory.join("data"))
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn wait(&self) {
        super::wait_until("the server answers", || {
            self.psql("postgres").args(["-c", "select 1"]).output().unwrap().status.success()
        });
    }

    /// psql as the cluster's owner.
    pub fn psql(&self, database: &str) -> Command {
        let mut command = as_server_user(programs().join("psql"));
        command.env("PGHOST", self.directory.path()).env("PGUSER", "owner").env("PGDATABASE", database);
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]);
        command
    }

    /// What one statement gives.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let output = self.psql(database).args(["-c", statement]).output().unwrap();
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A connection string with this password.
    pub fn dsn(&self, password: &str) -> String {
        format!("postgresql://backup:{password}@/shop?host={}", self.directory.path().display())
    }

    /// A path that the server's user may reach.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Gives a directory to the server's user.
    pub fn own(&self, directory: &Path) {
        fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        if super::is_root() {
            let owner = format!("{}:{}", server_user().0, server_user().1);
            assert!(Command::new("chown").arg("-R").arg(owner).arg(directory).status().unwrap().success());
        }
    }

    /// Ends the server as an operator would.
    pub fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.server);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.server.wait();
    }
}

fn owner_password(directory: &Path) -> PathBuf {
    let path = directory.join("owner.password");
    fs::write(&path, "owner\n").unwrap();
    path
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes what the writer writes into.
pub fn make_orders(cluster: &Cluster) {
    cluster.sql(
        "shop",
        "create table orders (id bigserial primary key, at timestamptz not null default clock_timestamp(), padding text);
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
    pub fn start(cluster: &Cluster) -> Self {
        let mut psql = cluster.psql("shop").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut input = psql.stdin.take().unwrap();
            let mut output = BufReader::new(psql.stdout.take().unwrap());
            let mut commits = Vec::new();
            while !seen.load(Ordering::Relaxed) {
                let transaction = "begin; insert into orders (padding) values (repeat(md5(random()::text), 20)); \
                     update accounts set balance = balance - 3 where id = 1; \
                     update accounts set balance = balance + 3 where id = 2; \
                     update counted set orders = orders + 1; commit;\n\\echo done\n";
                input.write_all(transaction.as_bytes()).unwrap();
                let mut line = String::new();
                output.read_line(&mut line).unwrap();
                assert_eq!(line, "done\n");
                commits.push(Timestamp::now());
            }
            drop(input);
            assert!(psql.wait().unwrap().success());
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
