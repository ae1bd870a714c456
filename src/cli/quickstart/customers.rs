//! Customers in a PostgreSQL cluster of the shop's own, where a server's programs are installed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use super::place::Place;
use crate::database::postgres::programs;
use crate::database::postgres::scratch::Scratch;
use crate::ground::failure::{Failure, OrFail, Result};
use crate::ground::process::clean_environment;
use crate::ground::reaper::Groups;

/// The role that made the cluster.
const OWNER: &str = "shop";
/// The database.
const DATABASE: &str = "shop";
/// The usual room for base backups, which a scratch server does not need.
const SETTINGS: [&str; 1] = ["max_wal_senders=4"];
const START_LIMIT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);
/// Longest name of a socket: `sun_path` of unix(7), with its zero byte.
const SOCKET_NAME_MAX: usize = 107;

const TABLES: &str = "
create table if not exists signups (
    id bigserial primary key, at timestamptz not null default clock_timestamp(), customer text not null);
create table if not exists wallets (id int primary key, coins bigint not null);
insert into wallets select n, 100 from generate_series(1, 50) n on conflict do nothing;
insert into signups (customer) select 'customer-' || n from generate_series(1, 2000) n
    where not exists (select from signups);";

/// One customer and a transfer that keeps the sum of all wallets, in one transaction.
const SIGN_UP: &str = "begin;
insert into signups (customer) values ('customer-' || floor(random() * 100000));
update wallets set coins = coins - 1 where id = (select 1 + floor(random() * 24)::int);
update wallets set coins = coins + 1 where id = 26;
commit;
\\echo done
";

/// The running cluster; ended when it is let go of.
pub struct Customers {
    directory: PathBuf,
}

impl Customers {
    /// Why there can be no cluster in this place; nothing when there can.
    pub fn obstacle(place: &Place) -> Option<String> {
        let versions = |name| programs::installed(name, None).last().map(|program| program.major);
        let needed = ["postgres", "initdb", "pg_controldata", "pg_basebackup", "psql"];
        if let Some(missing) =
            needed.iter().find(|name| versions(name).is_none() || versions(name) < versions("postgres"))
        {
            return Some(format!("PostgreSQL's program {missing} is not installed"));
        }
        let socket = place.customers().join(".s.PGSQL.5432");
        let long = socket.as_os_str().len() > SOCKET_NAME_MAX;
        long.then(|| format!("{} is too long a path for its socket", place.customers().display()))
    }

    /// Makes the cluster when it is not there, and starts it when it does not run.
    pub fn start(place: &Place) -> Result<Self> {
        let directory = place.customers();
        if !directory.exists() {
            let making = directory.with_extension("making");
            match fs::remove_dir_all(&making) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => fs::create_dir_all(&making),
            }
            .or_fail(|| format!("cannot make {}", making.display()))?;
            with_server(&making, |server| server.initialise())?;
            fs::rename(&making, &directory).or_fail(|| format!("cannot make {}", directory.display()))?;
        }
        let customers = Self { directory };
        with_server(&customers.directory, |server| server.bring_up(START_LIMIT))?;
        if customers.ask("postgres", "select count(*) from pg_database where datname = 'shop'")?.trim() == "0" {
            customers.ask("postgres", "create database shop")?;
        }
        customers.ask(DATABASE, TABLES)?;
        Ok(customers)
    }

    /// The connection string, as the policy's file holds it.
    pub fn dsn(place: &Place) -> String {
        let host = place.customers().to_string_lossy().replace('\\', "\\\\").replace('\'', "\\'");
        format!("host='{host}' user={OWNER} dbname={DATABASE}\n")
    }

    fn ask(&self, database: &str, statement: &str) -> Result<String> {
        let output = psql(&self.directory, database)?.args(["-c", statement]).stdin(Stdio::null()).output();
        let output = output.or_fail(|| "cannot run psql".to_owned())?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Failure::failed(format!("the customers' database refuses: {}", errors.trim())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Customers {
    fn drop(&mut self) {
        let _ = with_server(&self.directory, |server| {
            server.stop();
            Ok(())
        });
    }
}

fn with_server<T>(directory: &Path, work: impl FnOnce(&Scratch<'_>) -> Result<T>) -> Result<T> {
    work(&Scratch {
        directory,
        programs: None,
        role: OWNER,
        settings: &SETTINGS,
        prepare: &|command: &mut Command| clean_environment(command),
        groups: &Groups::default(),
    })
}

fn psql(directory: &Path, database: &str) -> Result<Command> {
    let program = programs::newest("psql", None, "the customers' database")?;
    let mut command = Command::new(program.path);
    clean_environment(&mut command);
    command.env("PGHOST", directory).env("PGUSER", OWNER).env("PGDATABASE", database);
    command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]);
    Ok(command)
}

/// Signs customers up until it is stopped or dropped.
pub struct SignUps {
    stop: Sender<()>,
    thread: JoinHandle<std::io::Result<u64>>,
}

impl SignUps {
    /// Starts, one commit about every 20 ms.
    pub fn start(customers: &Customers) -> Result<Self> {
        let mut command = psql(&customers.directory, DATABASE)?;
        let client =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().or_fail(|| "cannot run psql".to_owned())?;
        let (stop, stopped) = mpsc::channel::<()>();
        let work = move || sign_up(client, || stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout));
        let thread = std::thread::Builder::new().name("customers".to_owned()).spawn(work);
        let thread = thread.or_fail(|| "cannot start the thread that signs customers up".to_owned())?;
        Ok(Self { stop, thread })
    }

    /// Ends it; gives the number of commits.
    pub fn stop(self) -> Result<u64> {
        drop(self.stop);
        let written =
            self.thread.join().map_err(|_| Failure::failed("the thread that signs customers up broke off"))?;
        written.or_fail(|| "cannot sign customers up".to_owned())
    }
}

fn sign_up(mut client: Child, goes_on: impl Fn() -> bool) -> std::io::Result<u64> {
    let (input, output) = (client.stdin.take(), client.stdout.take());
    let (Some(mut input), Some(output)) = (input, output) else { return Err(std::io::ErrorKind::BrokenPipe.into()) };
    let mut output = BufReader::new(output);
    let (mut commits, mut line) = (0, String::new());
    while goes_on() {
        input.write_all(SIGN_UP.as_bytes())?;
        line.clear();
        if output.read_line(&mut line)? == 0 {
            return Err(std::io::Error::other("the server ended the connection"));
        }
        commits += 1;
    }
    drop(input);
    client.wait()?;
    Ok(commits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_no_socket_can_have_is_an_obstacle() {
        let outer = tempfile::tempdir().unwrap();
        let (place, _) = Place::claim(&outer.path().join("x".repeat(100))).unwrap();
        assert!(Customers::obstacle(&place).is_some());
    }

    #[test]
    fn the_connection_string_names_the_socket_whatever_the_path_holds() {
        let outer = tempfile::tempdir().unwrap();
        let (place, _) = Place::claim(&outer.path().join("it's")).unwrap();
        let dsn = Customers::dsn(&place);
        let connection =
            crate::database::postgres::connection::Connection::parse(&crate::ground::Secret::new(dsn.trim()));
        let mut command = Command::new("psql");
        connection.unwrap().give(&mut command);
        let host = command.get_envs().find(|(name, _)| *name == "PGHOST").unwrap().1.unwrap();
        assert_eq!(host, place.customers().as_os_str());
    }
}
