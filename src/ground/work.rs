//! Blocking work from asynchronous runs.

use super::failure::{OrFail, Result};

/// Runs blocking work on a thread of its own; a panic in it becomes a failure.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.or_fail(|| "a worker thread ended unexpectedly".to_owned())?
}
