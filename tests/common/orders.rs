//! A database of orders with known times, written while lifeboat works on it.

#![allow(clippy::disallowed_methods, reason = "tests compare with the machine's clock")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;

/// Makes the database with one order of now and 1,000 units of money in two accounts.
pub fn make(path: &Path) {
    let database = Connection::open(path).unwrap();
    database.pragma_update(None, "journal_mode", "wal").unwrap();
    database
        .execute_batch(
            "create table orders (id integer primary key, at text not null, padding blob);
             create table accounts (id integer primary key, balance integer not null);
             insert into accounts (balance) values (500), (500);",
        )
        .unwrap();
    add(&database);
}

/// One order, and a transfer in the same transaction that keeps the sum of the accounts.
fn add(database: &Connection) {
    let now = format!("{:.3}", Timestamp::now());
    database
        .execute_batch(&format!(
            "begin immediate;
             insert into orders (at, padding) values ('{now}', randomblob(4000));
             update accounts set balance = balance - 3 where id = 1;
             update accounts set balance = balance + 3 where id = 2;
             commit;"
        ))
        .unwrap();
}

/// Keeps adding an order about every 5 ms.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Writer {
    pub fn start(path: &Path) -> Self {
        let database = Connection::open(path).unwrap();
        database.busy_timeout(Duration::from_secs(30)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                add(&database);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { stop, thread }
    }

    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// The newest order's time.
pub fn newest(path: &Path) -> Timestamp {
    let text: String =
        Connection::open(path).unwrap().query_row("select max(at) from orders", [], |row| row.get(0)).unwrap();
    text.parse().unwrap()
}

/// Fails the test unless the database is whole and its accounts sum up.
pub fn assert_whole(path: &Path) {
    let database = Connection::open(path).unwrap();
    let verdict: String = database.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let sum: i64 = database.query_row("select sum(balance) from accounts", [], |row| row.get(0)).unwrap();
    assert_eq!(sum, 1000, "no half transaction");
}
