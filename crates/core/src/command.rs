//! What is asked of a task, and why it may change nothing.

use std::sync::Arc;

use crate::id::{Attempt, Invalid, ReportNumber, TaskId, WorkerId};
use crate::json::Json;
use crate::record::Record;
use crate::retry::Jitter;
use crate::task::{Spec, Status, TaskError};

/// What is asked of one task. Every change of a task begins as one of these.
#[derive(Debug, Clone)]
pub enum Command {
    /// Create it.
    Dispatch(Arc<Spec>),
    /// Give it to a worker, for `lease_ms` milliseconds unless renewed.
    Claim {
        /// Who gets it.
        worker: WorkerId,
        /// For how long.
        lease_ms: u64,
    },
    /// The worker still works on it: from now, `lease_ms` milliseconds more.
    Renew {
        /// The attempt that the worker holds.
        attempt: Attempt,
        /// For how long.
        lease_ms: u64,
    },
    /// The handler emitted these, in this order.
    Output {
        /// The attempt that emitted them.
        attempt: Attempt,
        /// Which of the attempt's reports this is.
        report: ReportNumber,
        /// Each becomes an event.
        payloads: Vec<Json>,
    },
    /// The handler waits for somebody.
    Suspend {
        /// The attempt that asks.
        attempt: Attempt,
        /// Which of the attempt's reports this is.
        report: ReportNumber,
        /// What it waits for.
        payload: Json,
    },
    /// What a suspended task waited for is here.
    Resume {
        /// What the handler is called with next.
        data: Json,
    },
    /// The handler returned.
    Complete {
        /// The attempt that did it.
        attempt: Attempt,
        /// Which of the attempt's reports this is.
        report: ReportNumber,
        /// What it returned, if anything.
        result: Option<Json>,
    },
    /// The handler failed.
    Fail {
        /// The attempt that failed.
        attempt: Attempt,
        /// Which of the attempt's reports this is.
        report: ReportNumber,
        /// Why.
        error: TaskError,
        /// Can another attempt help?
        is_retryable: bool,
        /// Chance, for the wait before it.
        jitter: Jitter,
    },
    /// The attempt took too long.
    TimeOut {
        /// The attempt that did.
        attempt: Attempt,
        /// Which of the attempt's reports this is.
        report: ReportNumber,
        /// Chance, for the wait before the next one.
        jitter: Jitter,
    },
    /// The worker is gone.
    ExpireLease {
        /// The attempt that it held.
        attempt: Attempt,
        /// How that is known.
        loss: Loss,
        /// Chance, for the wait before the next attempt.
        jitter: Jitter,
    },
    /// Somebody no longer wants it.
    Cancel,
    /// Somebody wants an ended one tried again.
    Retry,
    /// Its owner elsewhere says how it stands.
    Record(Arc<Record>),
}

impl Command {
    /// The attempt that says so, and which of its reports it is, where a worker reports what became of
    /// an attempt.
    ///
    /// A report's number tells it from every other of its attempt, so that one that is repeated because
    /// its answer was lost is known as the same, whatever it says and whatever happened since.
    #[must_use]
    pub fn report(&self) -> Option<(Attempt, ReportNumber)> {
        match self {
            Self::Output {
                attempt, report, ..
            }
            | Self::Suspend {
                attempt, report, ..
            }
            | Self::Complete {
                attempt, report, ..
            }
            | Self::Fail {
                attempt, report, ..
            }
            | Self::TimeOut {
                attempt, report, ..
            } => Some((*attempt, *report)),
            Self::Dispatch(_)
            | Self::Claim { .. }
            | Self::Renew { .. }
            | Self::Resume { .. }
            | Self::ExpireLease { .. }
            | Self::Cancel
            | Self::Retry
            | Self::Record(_) => None,
        }
    }

    /// The same report with a number; a command that is no report is left as it is.
    #[must_use]
    pub fn numbered(mut self, number: ReportNumber) -> Self {
        match &mut self {
            Self::Output { report, .. }
            | Self::Suspend { report, .. }
            | Self::Complete { report, .. }
            | Self::Fail { report, .. }
            | Self::TimeOut { report, .. } => *report = number,
            Self::Dispatch(_)
            | Self::Claim { .. }
            | Self::Renew { .. }
            | Self::Resume { .. }
            | Self::ExpireLease { .. }
            | Self::Cancel
            | Self::Retry
            | Self::Record(_) => {}
        }
        self
    }
}

/// How it is known that a worker is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Its lease ended without being renewed. Checked again inside the decision: a lease that was
    /// renewed in the meantime is left alone.
    LeaseEnded,
    /// Its process no longer exists, as the exclusive lock on the data directory proves.
    ProcessGone,
}

/// Why a command changes nothing. A normal answer, not a failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// No such task in this namespace.
    #[error("task {0} does not exist")]
    NotFound(TaskId),
    /// A task with that id is there, and is another one.
    #[error("a task with this id already exists")]
    AlreadyExists,
    /// It ended, so it can no longer be changed.
    #[error("the task has already ended: it is {0}")]
    AlreadyEnded(Status),
    /// The report is of an attempt that no longer holds the task.
    #[error("attempt {reported} is stale: the task is {status} at attempt {current}")]
    StaleAttempt {
        /// The attempt that the report named.
        reported: Attempt,
        /// The latest attempt.
        current: Attempt,
        /// Where the task stands.
        status: Status,
    },
    /// Only a suspended task can be resumed.
    #[error("only a suspended task can be resumed: this one is {0}")]
    NotSuspended(Status),
    /// Only a pending task can be claimed.
    #[error("only a pending task can be claimed: this one is {0}")]
    NotPending(Status),
    /// Only a failed, timed-out or cancelled task can be retried.
    #[error("only a failed, timed-out or cancelled task can be retried: this one is {0}")]
    NotRetryable(Status),
    /// Only an ended task can be deleted.
    #[error("only an ended task can be deleted: this one is {0}")]
    NotEnded(Status),
    /// The lease was renewed in time.
    #[error("the lease has not ended")]
    LeaseHeld,
    /// Its state is reported by its owner, so only its owner can change it.
    #[error("the task is kept for an owner elsewhere, which alone reports its state")]
    OwnedElsewhere,
    /// It was dispatched here, so no owner elsewhere can report its state.
    #[error("the task was dispatched here: its state cannot be reported from elsewhere")]
    OwnedHere,
    /// No slot is free, and the policy says not to queue.
    #[error("no slot is free: {running} of {limit} {scope} are taken")]
    AtCapacity {
        /// What is limited, such as `tasks of agent a1`.
        scope: String,
        /// How many are running or waiting to.
        running: u64,
        /// How many may run.
        limit: u64,
    },
    /// A value of the command cannot be accepted.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}
