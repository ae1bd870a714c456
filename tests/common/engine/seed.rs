//! Randomness that can be repeated: every test that draws says its seed when it fails, and takes it from `LIFEBOAT_SEED`.

use crate::common::noise;

/// A stream of numbers.
pub struct Seed {
    state: u64,
}

/// The seed of this run, told to stderr, which the harness shows when the test fails.
pub fn seed() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "another seed each time")]
    let fresh = || jiff::Timestamp::now().as_nanosecond() as u64 % 1_000_000_007;
    let seed = std::env::var("LIFEBOAT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(fresh);
    eprintln!("repeat this with LIFEBOAT_SEED={seed}");
    seed
}

impl Seed {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        u64::from_le_bytes(noise(self.state, 8).try_into().unwrap())
    }

    /// Below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Does the work for each number below `count`, on two threads. A panic names the case.
pub fn each(count: usize, work: impl Fn(usize) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let take = || {
        loop {
            let case = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if case >= count {
                return;
            }
            work(case);
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(take);
        take();
        other.join().unwrap();
    });
}
