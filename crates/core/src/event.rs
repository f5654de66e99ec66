//! What happened to a task: an entry of the log.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{Attempt, ReportNumber, Seq, WorkerId};
use crate::json::Json;
use crate::record::Record;
use crate::task::{Spec, TaskError, TaskIdentity};
use crate::time::Timestamp;

/// Something that happened to a task, at its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in the log.
    pub seq: Seq,
    /// When, by the clock of the store.
    pub at: Timestamp,
    /// Which of its attempt's reports told it; none where nobody numbered it, or no worker said it.
    pub report: ReportNumber,
    /// What.
    pub kind: EventKind,
}

/// An event together with the task it is of: what the log hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// The task's unchanging part.
    pub task: Arc<TaskIdentity>,
    /// What happened to it.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// It was created, and is pending.
    Dispatched(Arc<Spec>),
    /// A worker began an attempt.
    Started {
        /// The attempt.
        attempt: Attempt,
        /// Who.
        worker: WorkerId,
        /// The first attempt since it was resumed?
        is_resumed: bool,
    },
    /// The handler emitted something.
    Output {
        /// Which attempt.
        attempt: Attempt,
        /// What.
        payload: Json,
    },
    /// The handler waits for somebody.
    Suspended {
        /// Which attempt.
        attempt: Attempt,
        /// For what.
        payload: Json,
    },
    /// What it waited for is here; it is pending until a slot is free.
    Resumed {
        /// What the handler is called with next.
        data: Json,
    },
    /// It ended with a result.
    Completed {
        /// Which attempt.
        attempt: Attempt,
        /// The result, if any.
        result: Option<Json>,
    },
    /// An attempt failed, and another will follow.
    Retrying {
        /// The one that failed.
        attempt: Attempt,
        /// Why.
        error: TaskError,
        /// When the next may start.
        next_attempt_at: Timestamp,
    },
    /// It ended with an error.
    Failed {
        /// Which attempt.
        attempt: Attempt,
        /// Why.
        error: TaskError,
    },
    /// It ended because its last attempt took too long.
    TimedOut {
        /// Which attempt.
        attempt: Attempt,
        /// Says how long was allowed.
        error: TaskError,
    },
    /// It ended because somebody said so.
    Cancelled,
    /// Somebody wants it tried again; it is pending.
    Retried,
    /// Its owner elsewhere reported how it stands.
    Recorded(Arc<Record>),
}

/// An event's kind as a store keeps it: a number, the attempt, and JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKind {
    /// Which kind: see `docs/data-model.md`.
    pub code: u8,
    /// The attempt it belongs to; 0 where it belongs to none.
    pub attempt: Attempt,
    /// The rest of it, as JSON; none where there is no more to say.
    pub body: Option<Json>,
}

/// An event that cannot be read back: the database is damaged or from a newer version.
#[derive(Debug, thiserror::Error)]
#[error("event of kind {code} cannot be read: {problem}")]
pub struct Unreadable {
    code: u8,
    problem: String,
}

/// The stored form of [`EventKind::Started`].
#[derive(Serialize, Deserialize)]
struct StartedBody {
    worker: WorkerId,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    resumed: bool,
}

/// The stored form of [`EventKind::Retrying`].
#[derive(Serialize, Deserialize)]
struct RetryingBody {
    error: TaskError,
    next_attempt_at: i64,
}

impl LogEntry {
    /// How large the payloads are that the event shows, in bytes.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        let args = self.task.args.bytes();
        match &self.event.kind {
            EventKind::Dispatched(_) | EventKind::Started { .. } => args,
            EventKind::Suspended { payload, .. } => args + payload.bytes(),
            EventKind::Output { payload, .. } => payload.bytes(),
            EventKind::Resumed { data } => data.bytes(),
            EventKind::Completed { result, .. } => result.as_ref().map_or(0, Json::bytes),
            EventKind::Recorded(record) => record.document().bytes(),
            _ => 0,
        }
    }
}

impl EventKind {
    /// The attempt that the event belongs to.
    #[must_use]
    pub fn attempt(&self) -> Option<Attempt> {
        match self {
            Self::Started { attempt, .. }
            | Self::Output { attempt, .. }
            | Self::Suspended { attempt, .. }
            | Self::Completed { attempt, .. }
            | Self::Retrying { attempt, .. }
            | Self::Failed { attempt, .. }
            | Self::TimedOut { attempt, .. } => Some(*attempt),
            Self::Dispatched(_)
            | Self::Resumed { .. }
            | Self::Cancelled
            | Self::Retried
            | Self::Recorded(_) => None,
        }
    }

    /// Can the event let a worker claim a task that it could not claim before: because one became
    /// pending, or because a slot became free?
    #[must_use]
    pub fn may_free_work(&self) -> bool {
        !matches!(
            self,
            Self::Started { .. } | Self::Output { .. } | Self::Recorded(_)
        )
    }

    /// The form in which a store keeps it.
    ///
    /// What [`TaskIdentity`] says already is not repeated, so the body of a dispatch is made by the
    /// store from the task's own row.
    #[must_use]
    pub fn to_stored(&self) -> StoredKind {
        let (code, body) = match self {
            Self::Dispatched(_) => (0, None),
            Self::Started {
                worker, is_resumed, ..
            } => {
                let body = StartedBody {
                    worker: worker.clone(),
                    resumed: *is_resumed,
                };
                (1, Some(json(&body)))
            }
            Self::Output { payload, .. } => (2, Some(payload.clone())),
            Self::Suspended { payload, .. } => (3, Some(payload.clone())),
            Self::Resumed { data } => (4, Some(data.clone())),
            Self::Completed { result, .. } => (5, result.clone()),
            Self::Retrying {
                error,
                next_attempt_at,
                ..
            } => {
                let body = RetryingBody {
                    error: error.clone(),
                    next_attempt_at: next_attempt_at.ms(),
                };
                (6, Some(json(&body)))
            }
            Self::Failed { error, .. } => (7, Some(json(error))),
            Self::TimedOut { error, .. } => (8, Some(json(error))),
            Self::Cancelled => (9, None),
            Self::Retried => (10, None),
            Self::Recorded(record) => (11, Some(record.document().clone())),
        };
        StoredKind {
            code,
            attempt: self.attempt().unwrap_or_default(),
            body,
        }
    }

    /// Reads the stored form. `spec` is asked for only when the event is a dispatch.
    ///
    /// # Errors
    /// When the stored form is not one that [`EventKind::to_stored`] makes.
    pub fn from_stored(
        stored: StoredKind,
        spec: impl FnOnce() -> Option<Arc<Spec>>,
    ) -> Result<Self, Unreadable> {
        let StoredKind {
            code,
            attempt,
            body,
        } = stored;
        let unreadable = |problem: String| Unreadable { code, problem };
        let need = |body: Option<Json>| body.ok_or_else(|| unreadable("it has no body".into()));
        Ok(match code {
            0 => Self::Dispatched(spec().ok_or_else(|| unreadable("its task is gone".into()))?),
            1 => {
                let body: StartedBody = parse(&need(body)?).map_err(unreadable)?;
                Self::Started {
                    attempt,
                    worker: body.worker,
                    is_resumed: body.resumed,
                }
            }
            2 => Self::Output {
                attempt,
                payload: need(body)?,
            },
            3 => Self::Suspended {
                attempt,
                payload: need(body)?,
            },
            4 => Self::Resumed { data: need(body)? },
            5 => Self::Completed {
                attempt,
                result: body,
            },
            6 => {
                let body: RetryingBody = parse(&need(body)?).map_err(unreadable)?;
                Self::Retrying {
                    attempt,
                    error: body.error,
                    next_attempt_at: Timestamp::from_ms(body.next_attempt_at),
                }
            }
            7 => Self::Failed {
                attempt,
                error: parse(&need(body)?).map_err(unreadable)?,
            },
            8 => Self::TimedOut {
                attempt,
                error: parse(&need(body)?).map_err(unreadable)?,
            },
            9 => Self::Cancelled,
            10 => Self::Retried,
            11 => {
                let record = Record::from_document(need(body)?);
                Self::Recorded(Arc::new(record.map_err(|e| unreadable(e.to_string()))?))
            }
            _ => return Err(unreadable("this version does not know it".into())),
        })
    }
}

fn json<T: Serialize>(value: &T) -> Json {
    Json::from_value(value).expect("texts and numbers are JSON")
}

fn parse<T: serde::de::DeserializeOwned>(body: &Json) -> Result<T, String> {
    body.parse().map_err(|e| e.to_string())
}
