//! Times, sizes and numbers of the talk with a server. The environment may set some, for lines and servers that are
//! unlike the usual ones.

use std::time::Duration;

use crate::ground::{Failure, Result};

/// Times, sizes and numbers.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest time to make a connection.
    pub connect: Duration,
    /// Longest time without any answer; an upload gets the time its bytes need besides.
    pub silence: Duration,
    /// Bytes in a second below which a transfer is broken off and tried again.
    pub slowest: u64,
    /// After this time no call is tried again.
    pub budget: Duration,
    /// Pauses between tries lie between nothing and this, doubled each time up to `longest_pause`.
    pub first_pause: Duration,
    pub longest_pause: Duration,
    /// Requests under way at the same time.
    pub requests: usize,
    /// Puts that a writer should have under way at the same time.
    pub parallel_puts: usize,
    /// Larger objects are put in parts.
    pub parts_from: usize,
    /// Bytes of a part; S3 refuses less than 5 MiB.
    pub part: usize,
    /// Uploads in parts that are older were broken off.
    pub abandoned_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            silence: Duration::from_secs(30),
            slowest: 16 << 10,
            budget: Duration::from_secs(15 * 60),
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(20),
            requests: 16,
            parallel_puts: 4,
            parts_from: 64 << 20,
            part: 16 << 20,
            abandoned_after: Duration::from_secs(48 * 3600),
        }
    }
}

impl Limits {
    /// The usual ones, changed by `LIFEBOAT_S3_SILENCE`, `LIFEBOAT_S3_BUDGET` (seconds), `LIFEBOAT_S3_SLOWEST` (bytes
    /// in a second), `LIFEBOAT_S3_PUTS` (a number) and `LIFEBOAT_S3_ABANDONED` (seconds).
    ///
    /// # Errors
    /// Wrong input when one of them is no whole number above zero.
    pub fn from_environment() -> Result<Self> {
        let mut limits = Self::default();
        if let Some(seconds) = number("LIFEBOAT_S3_SILENCE")? {
            limits.silence = Duration::from_secs(seconds);
        }
        if let Some(seconds) = number("LIFEBOAT_S3_BUDGET")? {
            limits.budget = Duration::from_secs(seconds);
        }
        if let Some(bytes) = number("LIFEBOAT_S3_SLOWEST")? {
            limits.slowest = bytes;
        }
        if let Some(puts) = number("LIFEBOAT_S3_PUTS")? {
            limits.parallel_puts = usize::try_from(puts).unwrap_or(usize::MAX).min(64);
            limits.requests = limits.requests.max(limits.parallel_puts);
        }
        if let Some(seconds) = number("LIFEBOAT_S3_ABANDONED")? {
            limits.abandoned_after = Duration::from_secs(seconds);
        }
        Ok(limits)
    }

    /// Longest time that moving so many bytes may take.
    pub(super) fn moving(&self, bytes: u64) -> Duration {
        self.silence.saturating_add(Duration::from_secs(bytes / self.slowest.max(1)))
    }
}

fn number(name: &str) -> Result<Option<u64>> {
    let Some(text) = std::env::var_os(name) else { return Ok(None) };
    let number = text.to_str().and_then(|text| text.trim().parse().ok()).filter(|number| *number > 0);
    number.map(Some).ok_or_else(|| Failure::wrong_input(format!("{name} is no whole number above zero")))
}
