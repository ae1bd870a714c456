//! Customers at work: a thread that keeps writing orders while the shop is backed up.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::content::Seed;
use crate::ground::Clock;
use crate::ground::failure::{Failure, OrFail, Result};

const PAUSE: Duration = Duration::from_millis(20);

/// Writes to the orders database until it is stopped or dropped.
pub struct Writer {
    stop: Sender<()>,
    thread: JoinHandle<rusqlite::Result<u64>>,
    database: PathBuf,
}

impl Writer {
    /// Starts writing, one commit about every 20 ms.
    pub fn start(database: &Path, clock: impl Clock + 'static) -> Result<Self> {
        let connection = open(database).or_fail(|| format!("cannot open {}", database.display()))?;
        let (stop, stopped) = mpsc::channel::<()>();
        let work = move || {
            let mut connection = connection;
            let mut seed = Seed::new(clock.now().as_nanosecond() as u64);
            let mut commits = 0;
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                write_order(&mut connection, &mut seed, &clock)?;
                commits += 1;
            }
            Ok(commits)
        };
        let thread = std::thread::Builder::new().name("orders".to_owned()).spawn(work);
        let thread = thread.or_fail(|| "cannot start the thread that writes orders".to_owned())?;
        Ok(Self { stop, thread, database: database.to_owned() })
    }

    /// Ends the writing; gives the number of commits.
    pub fn stop(self) -> Result<u64> {
        drop(self.stop);
        let written = self.thread.join().map_err(|_| Failure::failed("the thread that writes orders broke off"))?;
        written.or_fail(|| format!("cannot write orders to {}", self.database.display()))
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(30))?;
    // A crash of this process loses nothing; only a power cut could, and these are sample orders.
    connection.pragma_update(None, "synchronous", "normal")?;
    Ok(connection)
}

/// One order and the transfer that pays it, in one transaction: the total of all accounts stays what it was.
fn write_order(connection: &mut Connection, seed: &mut Seed, clock: &impl Clock) -> rusqlite::Result<()> {
    let amount = 1 + seed.below(500) as i64;
    let customer = format!("customer-{}", seed.below(400));
    let (from, to) = (1 + seed.below(50) as i64, 1 + seed.below(50) as i64);
    let work = connection.transaction()?;
    work.execute("update accounts set balance = balance - ?1 where id = ?2", params![amount, from])?;
    work.execute("update accounts set balance = balance + ?1 where id = ?2", params![amount, to])?;
    work.execute(
        "insert into orders (at, customer, amount) values (?1, ?2, ?3)",
        params![format!("{:.3}", clock.now()), customer, amount],
    )?;
    work.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::quickstart::{place::Place, sample};
    use crate::ground::clock::SystemClock;

    #[test]
    fn orders_arrive_and_the_books_balance() {
        let directory = tempfile::tempdir().unwrap();
        let (place, _) = Place::claim(directory.path()).unwrap();
        sample::make(&place, SystemClock.now(), false).unwrap();
        let writer = Writer::start(&place.database(), SystemClock).unwrap();
        let reader = Connection::open(place.database()).unwrap();
        let count = || reader.query_row("select count(*) from orders", [], |row| row.get::<_, i64>(0)).unwrap();
        while count() < 2_003 {
            std::thread::yield_now();
        }
        let commits = writer.stop().unwrap();
        assert_eq!(count(), 2_000 + commits as i64);
        let total = reader.query_row("select sum(balance) from accounts", [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(total, 1_000_000);
    }
}
