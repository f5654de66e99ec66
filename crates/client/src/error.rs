//! Why a call did not do what was asked, by what the caller can do about it.

use std::fmt;

use serde::Deserialize;
use sidestream_core::{Attempt, Status};

/// Why a call did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was sent cannot be accepted: change it.
    #[error("{0}")]
    Invalid(Problem),
    /// The server wants another API key (401), or this one may not do it (403).
    #[error("{0}")]
    Denied(Problem),
    /// There is no such task, or no such route: see [`Problem::kind`].
    #[error("{0}")]
    NotFound(Problem),
    /// The task does not allow it as it stands: a normal answer.
    #[error("{0}")]
    Rejected(Problem),
    /// No slot is free, and the server does not queue; or it is asked too often.
    #[error("{0}")]
    AtCapacity(Problem),
    /// The server cannot do it now: repeat it later.
    #[error("{0}")]
    Unavailable(Problem),
    /// The server cannot be reached, or was lost before it answered: then it may have done it.
    #[error("{server} cannot be reached: {cause}")]
    Unreachable {
        /// Its address.
        server: String,
        /// Why, to the root of it.
        cause: String,
    },
    /// The connection to the server was lost in the middle of a stream.
    #[error("the connection to {server} was lost: {cause}")]
    Lost {
        /// Its address.
        server: String,
        /// How it was lost.
        cause: String,
    },
    /// The answer is not one of a Sidestream server.
    #[error("{server} does not answer like a Sidestream server: {problem}")]
    Protocol {
        /// Its address.
        server: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The client cannot be made like this.
    #[error("{0}")]
    Configuration(String),
}

impl Error {
    /// Can the same call succeed later, without anybody changing anything?
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_)
                | Self::Unreachable { .. }
                | Self::Lost { .. }
                | Self::AtCapacity(_)
        )
    }

    /// What the server said about it, if it said anything.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Invalid(problem)
            | Self::Denied(problem)
            | Self::NotFound(problem)
            | Self::Rejected(problem)
            | Self::AtCapacity(problem)
            | Self::Unavailable(problem) => Some(problem),
            Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::Protocol { .. }
            | Self::Configuration(_) => None,
        }
    }
}

/// What a server says about a refused request: problem details (RFC 9457).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// The status of the answer.
    pub status: u16,
    /// Which kind of problem, as a URI; machines may compare it.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of problem it is, for people.
    pub title: String,
    /// What happened this time, for people.
    pub detail: Option<String>,
    /// The field that cannot be accepted, where it is one.
    pub field: Option<String>,
    /// How the task stands, where a worker's report came too late.
    #[serde(rename = "taskStatus")]
    pub task_status: Option<Status>,
    /// The task's latest attempt, where a worker's report came too late.
    #[serde(rename = "currentAttempt")]
    pub current_attempt: Option<Attempt>,
}

impl Problem {
    /// Reads what came with a status that says no; something is always found to say.
    #[must_use]
    pub fn read(status: u16, body: &[u8]) -> Self {
        let problem = serde_json::from_slice::<Self>(body).unwrap_or_default();
        Self { status, ..problem }
    }

    /// The error that the problem is, by its status.
    #[must_use]
    pub fn into_error(self) -> Error {
        match self.status {
            401 | 403 => Error::Denied(self),
            404 => Error::NotFound(self),
            409 => Error::Rejected(self),
            429 => Error::AtCapacity(self),
            408 | 500.. => Error::Unavailable(self),
            _ => Error::Invalid(self),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.detail, self.title.as_str()) {
            (Some(detail), _) => f.write_str(detail),
            (None, "") => write!(f, "the server answered with status {}", self.status),
            (None, title) => f.write_str(title),
        }
    }
}
