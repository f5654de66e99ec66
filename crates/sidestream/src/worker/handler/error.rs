//! What goes wrong in a handler, and what it is told when it may not go on.

use std::error::Error;

use sidestream_core::{Invalid, Json, TaskError};

use super::Outcome;

/// Why a handler returns without a result.
///
/// Any error converts into one that another attempt may mend, so `?` works as usual, on an
/// `anyhow::Error`, a boxed error or a text, too; say [`HandlerError::permanent`] where none can.
///
/// ```
/// use sidestream::HandlerError;
///
/// fn boxed() -> Result<(), HandlerError> {
///     Err(Box::<dyn std::error::Error + Send + Sync>::from("the network is down"))?
/// }
///
/// assert_eq!(boxed(), Err(HandlerError::retryable("the network is down")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerError(Outcome);

impl HandlerError {
    /// Another attempt may help: the network was down, the model was busy.
    pub fn retryable(message: impl AsRef<str>) -> Self {
        Self(Outcome::Failed {
            error: TaskError::new(message),
            is_retryable: true,
        })
    }

    /// No other attempt can help: the arguments make no sense, the account is closed.
    pub fn permanent(message: impl AsRef<str>) -> Self {
        Self(Outcome::Failed {
            error: TaskError::new(message),
            is_retryable: false,
        })
    }

    /// Not an error at all: the task waits for somebody. Usually made by
    /// [`Context::suspend`](super::Context::suspend).
    #[must_use]
    pub fn suspended(payload: Json) -> Self {
        Self(Outcome::Suspended(payload))
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let error = error.into();
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self::retryable(message)
    }
}

impl From<HandlerError> for Outcome {
    fn from(error: HandlerError) -> Self {
        error.0
    }
}

/// The attempt no longer holds its task: it was cancelled, timed out, or given to another worker.
/// Whatever the handler does now is discarded, so it should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the attempt no longer holds the task")]
pub struct Stopped;

/// Why an output was not taken.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The attempt no longer holds its task.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The value cannot be written as JSON.
    #[error("the output cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The value is too large.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}
