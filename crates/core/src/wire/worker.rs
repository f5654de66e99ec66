//! What goes between a worker and a server (`docs/protocol.md`, "Workers"): the same types at both ends.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use super::TaskRecord;
use crate::command::Command;
use crate::id::{Attempt, Invalid, ReportNumber, Seq, ToolName};
use crate::json::Json;
use crate::retry::{Jitter, RetryPolicy};
use crate::task::{Spec, Status, Task, TaskError, TaskIdentity, check_payload};

/// A worker asks for tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimRequest {
    /// Its name, of no other process.
    #[serde(default)]
    pub worker: String,
    /// The tools that it can run.
    #[serde(default)]
    pub tools: Vec<String>,
    /// At most so many tasks: 1 if left out. With 0 nothing is claimed, and the worker's claims that wait
    /// are answered at once.
    #[serde(default = "one")]
    pub limit: u32,
    /// How long the leases last unless they are renewed; as the server does, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// How long to wait for a task where there is none: not at all, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

fn one() -> u32 {
    1
}

/// What a worker gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimAnswer {
    /// The tasks, each running, at its new attempt, with what it was last resumed with.
    pub tasks: Vec<TaskRecord>,
    /// How long the claim waited: the leases began at least so long after it was sent.
    pub waited_ms: u64,
}

/// How a task stands after a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Where it stands.
    pub status: Status,
    /// The number of its latest attempt.
    pub attempt: Attempt,
    /// Its last event.
    pub seq: Seq,
}

impl From<&Task> for Standing {
    fn from(task: &Task) -> Self {
        Self {
            status: task.status,
            attempt: task.attempt,
            seq: task.seq,
        }
    }
}

/// The attempt goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Renewal {
    /// The attempt.
    #[serde(default)]
    pub attempt: Attempt,
    /// How long the lease lasts from now on; as the server does, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
}

/// The attempt emitted these, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outputs {
    /// The attempt.
    #[serde(default)]
    pub attempt: Attempt,
    /// Which of its reports this is; 0 if nobody counts.
    #[serde(default)]
    pub report: ReportNumber,
    /// Each becomes an event.
    #[serde(default)]
    pub outputs: Vec<Json>,
}

/// The attempt is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Completion {
    /// The attempt.
    #[serde(default)]
    pub attempt: Attempt,
    /// Which of its reports this is; 0 if nobody counts.
    #[serde(default)]
    pub report: ReportNumber,
    /// What it returned, if anything.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub result: Option<Json>,
}

/// The attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Failure {
    /// The attempt.
    #[serde(default)]
    pub attempt: Attempt,
    /// Which of its reports this is; 0 if nobody counts.
    #[serde(default)]
    pub report: ReportNumber,
    /// Why. Left out when its time was up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
    /// Can another attempt help? Yes, if left out.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub retryable: bool,
    /// Was its time up?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
}

fn yes() -> bool {
    true
}

/// The attempt waits for somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Suspension {
    /// The attempt.
    #[serde(default)]
    pub attempt: Attempt,
    /// Which of its reports this is; 0 if nobody counts.
    #[serde(default)]
    pub report: ReportNumber,
    /// For what.
    #[serde(default, deserialize_with = "given")]
    pub suspend_payload: Option<Json>,
}

/// A value that is there, be it `null`.
pub(super) fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// What a worker says of an attempt, each at a route of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// `…/renew`
    Renew(Renewal),
    /// `…/output`
    Output(Outputs),
    /// `…/complete`
    Complete(Completion),
    /// `…/fail`
    Fail(Failure),
    /// `…/suspend`
    Suspend(Suspension),
}

impl Report {
    /// What is sent for a command; `None` for one that is no worker's.
    #[must_use]
    pub fn of(command: &Command) -> Option<Self> {
        Some(match command.clone() {
            Command::Renew { attempt, lease_ms } => Self::Renew(Renewal {
                attempt,
                lease_ms: Some(lease_ms),
            }),
            Command::Output {
                attempt,
                report,
                payloads: outputs,
            } => Self::Output(Outputs {
                attempt,
                report,
                outputs,
            }),
            Command::Complete {
                attempt,
                report,
                result,
            } => Self::Complete(Completion {
                attempt,
                report,
                result,
            }),
            Command::Fail {
                attempt,
                report,
                error,
                is_retryable,
                jitter: _,
            } => Self::Fail(Failure {
                attempt,
                report,
                error: Some(error),
                retryable: is_retryable,
                timed_out: false,
            }),
            Command::TimeOut {
                attempt,
                report,
                jitter: _,
            } => Self::Fail(Failure {
                attempt,
                report,
                error: None,
                retryable: true,
                timed_out: true,
            }),
            Command::Suspend {
                attempt,
                report,
                payload,
            } => Self::Suspend(Suspension {
                attempt,
                report,
                suspend_payload: Some(payload),
            }),
            _ => return None,
        })
    }

    /// The last part of its route.
    #[must_use]
    pub fn route(&self) -> &'static str {
        match self {
            Self::Renew(_) => "renew",
            Self::Output(_) => "output",
            Self::Complete(_) => "complete",
            Self::Fail(_) => "fail",
            Self::Suspend(_) => "suspend",
        }
    }

    /// The command that it asks for. `lease_ms` is for a renewal that does not say, `jitter` for a failure.
    ///
    /// # Errors
    /// Names the field that is missing, or cannot be accepted.
    pub fn into_command(self, lease_ms: u64, jitter: Jitter) -> Result<Command, Invalid> {
        Ok(match self {
            Self::Renew(renewal) => Command::Renew {
                attempt: named(renewal.attempt)?,
                lease_ms: renewal.lease_ms.unwrap_or(lease_ms),
            },
            Self::Output(outputs) => Command::Output {
                attempt: named(outputs.attempt)?,
                report: outputs.report,
                payloads: match outputs.outputs {
                    none if none.is_empty() => {
                        return Err(Invalid::new("outputs", "is missing, or empty"));
                    }
                    some => {
                        for (n, output) in some.iter().enumerate() {
                            check_payload(&format!("outputs[{n}]"), output)?;
                        }
                        some
                    }
                },
            },
            Self::Complete(completion) => Command::Complete {
                attempt: named(completion.attempt)?,
                report: completion.report,
                result: completion.result,
            },
            Self::Fail(failure) => return failure.into_command(jitter),
            Self::Suspend(suspension) => Command::Suspend {
                attempt: named(suspension.attempt)?,
                report: suspension.report,
                payload: suspension
                    .suspend_payload
                    .ok_or_else(|| Invalid::new("suspendPayload", "is missing"))?,
            },
        })
    }
}

impl Failure {
    fn into_command(self, jitter: Jitter) -> Result<Command, Invalid> {
        let (attempt, report) = (named(self.attempt)?, self.report);
        match self.error {
            Some(_) if self.timed_out => Err(Invalid::new(
                "error",
                "is given with timedOut, which says it already",
            )),
            None if self.timed_out && !self.retryable => Err(Invalid::new(
                "retryable",
                "is false with timedOut: after a timeout the retries decide",
            )),
            None if self.timed_out => Ok(Command::TimeOut {
                attempt,
                report,
                jitter,
            }),
            None => Err(Invalid::new("error", "is missing")),
            Some(TaskError { message, stack }) => {
                // Made anew, so that what is too long is cut.
                let error = TaskError::new(message);
                Ok(Command::Fail {
                    attempt,
                    report,
                    error: match stack {
                        Some(stack) => error.with_stack(stack),
                        None => error,
                    },
                    is_retryable: self.retryable,
                    jitter,
                })
            }
        }
    }
}

/// Attempts are numbered from 1, so 0 is nobody's.
fn named(attempt: Attempt) -> Result<Attempt, Invalid> {
    match attempt {
        Attempt(0) => Err(Invalid::new(
            "attempt",
            "is missing, or 0: attempts are numbered from 1",
        )),
        attempt => Ok(attempt),
    }
}

impl TaskRecord {
    /// A task as its worker gets it: with what it was last resumed with.
    #[must_use]
    pub fn claimed(task: &Task) -> Self {
        Self {
            resume_data: task.resume_data.clone(),
            ..Self::from(task)
        }
    }

    /// The task that a worker was given. The waits between its retries, which are not its worker's business,
    /// are not known.
    ///
    /// # Errors
    /// Names the field that no task has so.
    pub fn into_task(self) -> Result<Task, Invalid> {
        fn id<T: std::str::FromStr<Err = Invalid>>(
            text: Option<&Arc<str>>,
        ) -> Result<Option<T>, Invalid> {
            text.map(|text| text.parse()).transpose()
        }
        let identity = TaskIdentity {
            namespace: self.namespace,
            id: self.id,
            tool_name: ToolName::new(&*self.tool_name)?,
            tool_call_id: id(self.tool_call_id.as_ref())?,
            agent_id: id(self.agent_id.as_ref())?,
            run_id: id(self.run_id.as_ref())?,
            thread_id: id(self.thread_id.as_ref())?,
            resource_id: id(self.resource_id.as_ref())?,
            args: self.args,
        };
        let spec = Spec {
            identity: Arc::new(identity),
            timeout_ms: self.timeout_ms,
            retry: RetryPolicy {
                max_retries: self.max_retries,
                ..RetryPolicy::default()
            },
            priority: self.priority,
            run_at: None,
            description: self.description,
            subagent_type: self.subagent_type,
            metadata: self.metadata,
            idempotency_key: self.idempotency_key,
        };
        Ok(Task {
            spec: Arc::new(spec),
            status: self.status,
            attempt: self.attempt,
            reported: ReportNumber::NONE,
            retry_count: self.retry_count,
            created_at: self.created_at,
            updated_at: self.updated_at,
            run_at: self.run_at,
            started_at: self.started_at,
            suspended_at: self.suspended_at,
            completed_at: self.completed_at,
            result: self.result,
            error: self.error,
            suspend_payload: self.suspend_payload,
            resume_data: self.resume_data,
            is_resuming: false,
            worker_id: self.worker_id,
            lease: None,
            seq: self.seq,
            record: None,
        })
    }
}
