//! Trying again: pauses with full jitter, a budget for all tries together, and one pace for all calls of a store when
//! the server says that it is asked too often.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::Client;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Shared;
use super::trouble::{Remedy, Trouble};
use crate::site::object_store::StoreError;

/// Longest distance between requests that overload brings about.
const SLOWEST_PACE: Duration = Duration::from_secs(2);
/// The first one.
const FIRST_PACE: Duration = Duration::from_millis(50);

/// How far apart requests start. Doubled each time the server is overloaded, and shortened by each success.
#[derive(Default)]
pub(super) struct Pace {
    state: Mutex<Paced>,
}

#[derive(Default)]
struct Paced {
    apart: Duration,
    next: Option<Instant>,
}

impl Pace {
    /// Waits for this request's turn.
    async fn turn(&self) {
        let start = {
            let mut paced = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if paced.apart.is_zero() {
                return;
            }
            let start = paced.next.unwrap_or_else(Instant::now).max(Instant::now());
            paced.next = Some(start + paced.apart);
            start
        };
        sleep_until(start).await;
    }

    fn slower(&self) {
        let mut paced = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        paced.apart = (paced.apart * 2).clamp(FIRST_PACE, SLOWEST_PACE);
    }

    fn faster(&self) {
        let mut paced = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !paced.apart.is_zero() {
            paced.apart = paced.apart.mul_f32(0.8);
            if paced.apart < Duration::from_millis(1) {
                *paced = Paced::default();
            }
        }
    }
}

/// What a try knows of those before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    /// Whether one of them may have been carried out although no answer said so.
    pub(super) maybe_done: bool,
}

/// A call that failed for good.
pub(super) enum Ended {
    /// Before any request: no client.
    Store(StoreError),
    Call(Trouble),
}

impl Ended {
    pub(super) fn into_error(self, doing: &str) -> StoreError {
        match self {
            Self::Store(error) => StoreError { message: format!("cannot {doing}: {}", error.message), ..error },
            Self::Call(trouble) => trouble.into_error(doing),
        }
    }
}

impl Shared {
    /// Tries until it succeeds, cannot succeed, or the budget is spent. One try takes at most `longest`.
    pub(super) async fn persist<T, W>(
        &self,
        longest: Duration,
        mut work: impl FnMut(Client, Before) -> W,
    ) -> Result<T, Ended>
    where
        W: Future<Output = Result<T, Trouble>>,
    {
        let began = Instant::now();
        let (mut pause, mut renewed, mut tries) = (self.limits.first_pause, false, 0_u32);
        let mut before = Before { maybe_done: false };
        loop {
            self.pace.turn().await;
            let client = self.client().await.map_err(Ended::Store)?;
            let outcome = {
                let _permit = self.gate.acquire().await;
                match timeout(longest, work(client, before)).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        Err(Trouble::unclear(format!("the server did not answer within {} s", longest.as_secs())))
                    }
                }
            };
            tries += 1;
            let trouble = match outcome {
                Ok(value) => {
                    self.pace.faster();
                    return Ok(value);
                }
                Err(trouble) => trouble,
            };
            before.maybe_done |= !trouble.undone;
            match trouble.remedy {
                Remedy::None => return Err(Ended::Call(trouble)),
                Remedy::Renew if renewed => return Err(Ended::Call(trouble)),
                Remedy::Renew => {
                    renewed = true;
                    self.forget_client().await;
                }
                Remedy::Slower => self.pace.slower(),
                Remedy::Again => {}
            }
            let wait = jitter(pause);
            if began.elapsed() + wait >= self.limits.budget {
                return Err(Ended::Call(given_up(trouble, tries, began.elapsed())));
            }
            sleep(wait).await;
            pause = (pause * 2).min(self.limits.longest_pause);
        }
    }
}

fn given_up(trouble: Trouble, tries: u32, spent: Duration) -> Trouble {
    let reason = format!("{}; given up after {tries} tries in {} s", trouble.reason, spent.as_secs());
    Trouble { reason, remedy: Remedy::None, ..trouble }
}

/// Anything from nothing to `most`, so that many clients do not come back together. Without random bytes, half.
fn jitter(most: Duration) -> Duration {
    let part = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    most.mul_f64(part)
}
