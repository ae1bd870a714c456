//! Progress as a trait: work reports what it did, a face decides how to show it.

/// Receiver of progress. Methods are called from several threads and must be cheap.
pub trait Progress: Send + Sync {
    /// A new stage begins, for instance `backing up files`; `total_bytes` when it is known beforehand.
    fn begin(&self, stage: &str, total_bytes: Option<u64>);
    /// So many more bytes were worked on in the current stage.
    fn advance(&self, bytes: u64);
    /// The current stage is over.
    fn end(&self);
    /// A warning for people, one sentence, shown once.
    fn warn(&self, message: &str);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn begin(&self, _stage: &str, _total_bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn end(&self) {}
    fn warn(&self, _message: &str) {}
}

/// Passes warnings on and nothing else: for work whose bytes are counted elsewhere.
pub struct WarningsOnly(pub std::sync::Arc<dyn Progress>);

impl Progress for WarningsOnly {
    fn begin(&self, _stage: &str, _total_bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn end(&self) {}
    fn warn(&self, message: &str) {
        self.0.warn(message);
    }
}
