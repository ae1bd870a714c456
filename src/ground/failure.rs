//! Failures for people: what failed, on what, why, and what to do next.
//!
//! Rooms with callers that must decide differently have narrow error types of their own (`StoreError`,
//! `RepositoryError`); everything that reaches a person becomes a [`Failure`].

use std::fmt;

/// Shorthand used by rooms whose callers only pass failures on.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// What the caller should do differently; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The work was tried and did not succeed, or damage was found. Exit code 1.
    Failed,
    /// Wrong input; nothing was started. Exit code 2.
    WrongInput,
    /// Done in part; what is missing has been named. Exit code 3.
    Partial,
    /// Another run holds what is needed. Exit code 5.
    Busy,
    /// The user interrupted. Exit code 130.
    Interrupted,
}

/// One failure: a sentence, and optionally what to do next.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: FailureKind,
    /// One sentence without a full stop: what failed, on what, why.
    pub message: String,
    /// What to do next, one sentence each.
    pub hints: Vec<String>,
}

impl Failure {
    /// What failed and what to do next, for a list of several.
    pub fn in_one_line(self) -> String {
        [vec![self.message], self.hints].concat().join("; ")
    }

    fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new() }
    }

    /// The work was tried and did not succeed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Failed, message)
    }

    /// Wrong input, nothing started.
    pub fn wrong_input(message: impl Into<String>) -> Self {
        Self::new(FailureKind::WrongInput, message)
    }

    /// Done in part; what is missing has been named.
    pub fn partial(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Partial, message)
    }

    /// Somebody else holds what is needed.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Busy, message)
    }

    /// The user interrupted.
    pub fn interrupted() -> Self {
        Self::new(FailureKind::Interrupted, "interrupted")
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Puts what was being done before the message: `context: message`.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Adds a sentence to an error of any kind on its way to a person.
pub trait OrFail<T> {
    /// Turns the error into [`Failure::failed`] with `doing` before it.
    fn or_fail(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> OrFail<T> for std::result::Result<T, E> {
    fn or_fail(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Failure::failed(format!("{}: {}", doing(), without_number(&error.to_string()))))
    }
}

/// The operating system's words, without the number that Rust puts behind them.
pub fn os_reason(error: &std::io::Error) -> String {
    without_number(&error.to_string())
}

fn without_number(text: &str) -> String {
    match text.rsplit_once(" (os error ") {
        Some((words, number)) if number.ends_with(')') => words.to_owned(),
        _ => text.to_owned(),
    }
}
