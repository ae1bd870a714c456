//! What every room stands on: clock, secrets, failures, progress, byte paths, other processes.

pub mod byte_path;
pub mod clock;
pub mod crash_point;
pub mod durable_file;
pub mod failure;
pub mod output;
pub mod process;
pub mod progress;
pub mod reaper;
pub mod secret;
pub mod stream;
mod work;

pub use clock::Clock;
pub use failure::os_reason;
pub use failure::{Failure, FailureKind, Result};
pub use lifeboat_verify::report::sha256_hex;
pub use progress::{NoProgress, Progress};
pub use secret::{Secret, SecretReference};
pub use work::blocking;
