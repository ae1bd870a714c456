//! What can go wrong with a repository, by what the caller would do differently.

use crate::ground::Failure;
use crate::site::{StoreError, StoreErrorKind};

/// Situations in which a caller acts differently.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RepositoryError {
    #[error("there is no repository in {0}")]
    NotARepository(String),
    #[error("{0} already holds a repository")]
    AlreadyExists(String),
    #[error("the password does not open the repository in {0}")]
    WrongPassword(String),
    /// What is damaged and how that was seen.
    #[error("{0}")]
    Damaged(String),
    #[error("{0}")]
    Unsupported(String),
    /// Another process holds the repository exclusively: who and since when.
    #[error("{0}")]
    Locked(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RepositoryError {
    /// A failure of this machine rather than of the store: no random bytes, a worker thread that ended.
    pub(super) fn machine(message: impl Into<String>) -> Self {
        Self::Store(StoreError { kind: StoreErrorKind::Other, message: message.into() })
    }

    /// An error that says only what is wrong, as one of this object.
    pub(super) fn of(self, object: &str) -> Self {
        match self {
            Self::Damaged(why) => Self::Damaged(format!("{object} is damaged: {why}")),
            Self::Unsupported(why) => Self::Unsupported(format!("{object} is not understood: {why}")),
            other => other,
        }
    }

    /// A store's error on an object that must be there: a missing one is damage.
    pub(super) fn on_required(error: StoreError, what: &str) -> Self {
        if error.kind == StoreErrorKind::NotFound {
            Self::Damaged(format!("{what} is missing"))
        } else {
            Self::Store(error)
        }
    }
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        match &error {
            RepositoryError::NotARepository(_)
            | RepositoryError::AlreadyExists(_)
            | RepositoryError::WrongPassword(_)
            | RepositoryError::Unsupported(_) => Failure::wrong_input(error.to_string()),
            RepositoryError::Locked(_) => Failure::busy(error.to_string()),
            RepositoryError::Damaged(_) | RepositoryError::Store(_) => Failure::failed(error.to_string()),
        }
    }
}

/// Why content could not be stored: the side that failed is never confused.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error("{0}")]
    Source(std::io::Error),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}
