//! Wall-clock marks that a clock change during the run cannot bend.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// Anchored once to the wall clock, driven by the monotonic one from there.
pub struct SteadyClock {
    wall: Timestamp,
    steady: Instant,
}

impl SteadyClock {
    /// Anchors the clock at `wall`, which must be now.
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the monotonic clock")]
    pub fn new(wall: Timestamp) -> Self {
        Self { wall, steady: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.steady.elapsed()).unwrap_or(SignedDuration::ZERO);
        self.wall.checked_add(elapsed).unwrap_or(self.wall)
    }
}
