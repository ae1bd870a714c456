//! The chained record of every run at the DR site: append-only, gap-free, each entry holds the hash of the one before.
//!
//! The formats and the rules of the chain are in [`lifeboat_verify::chain`], so that auditors can check them alone.

use std::sync::Arc;

use jiff::Timestamp;
use lifeboat_verify::chain::{self, Entry};

use crate::ground::{Failure, Result};
use crate::site::{ObjectStore, PutMode, StoreErrorKind};

/// Appends to and reads the ledger of one system.
#[derive(Clone)]
pub struct Ledger {
    store: Arc<dyn ObjectStore>,
    system: String,
}

/// Another writer took the number this many times in a row: something is wrong.
const APPEND_ATTEMPTS_MAX: u32 = 100;

impl Ledger {
    /// The ledger in a DR site's store.
    pub fn new(store: Arc<dyn ObjectStore>, system: &str) -> Self {
        Self { store, system: system.to_owned() }
    }

    /// Appends an entry made for the given number and previous hash. An entry of the same run that is there already
    /// is left as it is: the append was done before a crash.
    ///
    /// # Errors
    /// When the store cannot be read or written, or the newest entry is damaged.
    pub fn append_once(&self, run: &str, make: impl Fn(u64, String) -> Entry) -> Result<u64> {
        for _ in 0..APPEND_ATTEMPTS_MAX {
            let newest = self.newest()?;
            if let Some(number) = self.find(run, newest.as_ref().map_or(0, |(number, _)| *number))? {
                return Ok(number);
            }
            let (number, previous) = match &newest {
                Some((number, bytes)) => (number + 1, chain::entry_hash(bytes)),
                None => (1, chain::GENESIS.to_owned()),
            };
            let entry = make(number, previous);
            match self.store.put(&key(number), &entry.to_bytes(), PutMode::CreateNew) {
                Ok(()) => return Ok(number),
                Err(error) if error.kind == StoreErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::failed(format!("the ledger of {:?} grows faster than it can be appended to", self.system)))
    }

    /// All entries' bytes by number; complete, or an error.
    pub fn entries(&self) -> Result<Vec<(u64, Vec<u8>)>> {
        self.numbers()?.into_iter().map(|number| Ok((number, self.store.get(&key(number))?))).collect()
    }

    /// The time of the newest entry.
    pub fn latest_time(&self) -> Result<Option<Timestamp>> {
        self.newest()?.map(|(number, bytes)| Ok(self.parse(number, &bytes)?.at)).transpose()
    }

    fn newest(&self) -> Result<Option<(u64, Vec<u8>)>> {
        self.numbers()?.last().map(|number| Ok((*number, self.store.get(&key(*number))?))).transpose()
    }

    /// Looks among the newest entries only: a run that is continued was the last but for a few.
    fn find(&self, run: &str, newest: u64) -> Result<Option<u64>> {
        const LOOK_BACK: u64 = 50;
        for number in (newest.saturating_sub(LOOK_BACK) + 1..=newest).rev() {
            let bytes = match self.store.get(&key(number)) {
                Ok(bytes) => bytes,
                Err(error) if error.kind == StoreErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            // A damaged entry is for `ledger verify` to tell; the chain goes on from its bytes.
            if self.parse(number, &bytes).is_ok_and(|entry| entry.run == run) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    fn numbers(&self) -> Result<Vec<u64>> {
        let objects = self.store.list("ledger/")?;
        let number = |key: &str| key.strip_prefix("ledger/")?.strip_suffix(".json")?.parse().ok();
        let mut numbers: Vec<u64> = objects.iter().filter_map(|object| number(&object.key)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn parse(&self, number: u64, bytes: &[u8]) -> Result<Entry> {
        Entry::from_bytes(bytes)
            .map_err(|error| Failure::failed(format!("entry {number} of the ledger of {:?} {error}", self.system)))
    }
}

fn key(number: u64) -> String {
    format!("ledger/{number:08}.json")
}
