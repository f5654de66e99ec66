//! What can go wrong, named for what the caller can do about it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use sidestream_core::{Invalid, Rejection};

/// Why a call of the library did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value cannot be accepted: change it.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The task does not allow it as it stands: a normal answer.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manager has been shut down.
    #[error("the task manager has been shut down")]
    ShutDown,
    /// More callers wait for the store than can be served: try again later.
    #[error("the task manager is overloaded: {waiting} requests are waiting for the store")]
    Overloaded {
        /// How many were waiting.
        waiting: usize,
    },
}

/// What a store could not do. Cloning shares it: a failed batch fails all who had a part in it.
#[derive(Debug, Clone)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What the caller can do about a store's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// Somebody else has the store open: close it there, or choose another place.
    Locked,
    /// It was written by a newer version: use that version.
    NewerVersion,
    /// What is stored cannot be read: restore a backup.
    Damaged,
    /// There is nothing where a store should be, or something where none should be: name another place.
    WrongPlace,
    /// There is no room left, or the place cannot be written: make room.
    Full,
    /// It did not work this time: repeat it.
    Unavailable,
    /// It did not work this time, and perhaps it did: repeat it.
    OutcomeUnknown,
    /// A mistake of ours.
    Bug,
}

impl StoreError {
    /// Says what went wrong.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same error, with what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// May the batch have been committed all the same?
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        self.kind == StoreErrorKind::OutcomeUnknown
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
