//! Whom a dump waits for, and for how long: a table that a session has locked for writing lets no dump read it, and a server
//! waits a day for it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::client::Client;

/// Longest time that a dump waits for one table.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Longest time between two looks.
const LOOK_MAX: Duration = Duration::from_secs(15);

/// Looks at the sessions of a dump.
pub struct Watch<'a> {
    client: &'a Client<'a>,
    /// Sessions up to this number began before the dump.
    before: u64,
    wait: Duration,
    ended: Mutex<Option<String>>,
}

/// A session that waits.
#[derive(Debug, PartialEq, Eq)]
struct Waiting {
    session: u64,
    seconds: u64,
    table: String,
}

impl<'a> Watch<'a> {
    /// Of dumps that begin after the session `before` and may take `timeout`: of it, one table may use up half.
    pub fn new(client: &'a Client<'a>, before: u64, timeout: Duration) -> Self {
        Self { client, before, wait: WAIT_MAX.min(timeout / 2), ended: Mutex::new(None) }
    }

    /// Looks again and again until the other end of `end` is let go of, and ends what waits too long.
    pub fn run(&self, end: &Receiver<()>) {
        let look = (self.wait / 4).min(LOOK_MAX);
        while end.recv_timeout(look) == Err(RecvTimeoutError::Timeout) {
            // A look that fails says nothing: the dump itself has its limit.
            for waiting in self.waiting().into_iter().filter(|waiting| waiting.seconds >= self.wait.as_secs()) {
                if self.client.rows(&format!("kill query {}", waiting.session)).is_ok() {
                    *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiting.table);
                }
            }
        }
    }

    /// Why the dump was ended, when it was.
    pub fn sentence(&self) -> Option<String> {
        let table = self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(format!(
            "the table {table} is locked by another session, for longer than the {} s that a dump waits for one",
            self.wait.as_secs()
        ))
    }

    fn waiting(&self) -> Vec<Waiting> {
        // A user's own sessions are shown to it, whatever it may. The comment is how dumps begin to read a table.
        let query = format!(
            "select id, time, ifnull(db, ''), info from information_schema.processlist where id > {} \
             and user = substring_index(user(), '@', 1) and state like 'Waiting for table%' \
             and info like 'SELECT /*!40001%'",
            self.before
        );
        let rows = self.client.rows(&query).unwrap_or_default();
        rows.into_iter()
            .filter_map(|row| waiting(&row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>()))
            .collect()
    }
}

fn waiting(row: &[String]) -> Option<Waiting> {
    let [session, seconds, database, statement] = row else { return None };
    let table = statement.rsplit_once(" FROM ")?.1;
    let table = table.split(" WHERE ").next().unwrap_or(table).trim();
    Some(Waiting {
        session: session.parse().ok()?,
        seconds: seconds.parse().ok()?,
        table: format!("`{database}`.{table}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_waits_names_its_table() {
        let row = ["23", "4", "shop", "SELECT /*!40001 SQL_NO_CACHE */ `id`, `at` FROM `orders`"].map(str::to_owned);
        assert_eq!(waiting(&row), Some(Waiting { session: 23, seconds: 4, table: "`shop`.`orders`".into() }));
        assert_eq!(waiting(&["23", "4", "shop", "SELECT 1"].map(str::to_owned)), None);
    }
}
