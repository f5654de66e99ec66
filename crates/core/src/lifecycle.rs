//! *The* state machine: which command leads to which event, and what an event makes of a task.
//!
//! [`decide`] and [`apply`] are all there is. Stores, servers and handlers may ask for a command and
//! hand on its events; nothing else changes a status. Both are pure: the same arguments give the same
//! answer, on any machine.
//!
//! `docs/state-machine.md` shows every command against every status; a test compares it with this
//! file.

use std::sync::Arc;
use std::time::Duration;

use crate::command::{Command, Loss, Rejection};
use crate::event::{Event, EventKind};
use crate::id::{Attempt, Namespace, ReportNumber, TaskId, ToolName, WorkerId};
use crate::json::Json;
use crate::record::Record;
use crate::retry::{Jitter, RetryPolicy};
use crate::task::{
    Lease, Spec, Status, TIMEOUT_MS_DEFAULT, Task, TaskError, TaskIdentity, check_payload,
};
use crate::time::Timestamp;

/// What a command leads to: events for the log, and what becomes of the lease.
///
/// Nothing at all is a valid answer: the command asked for what is so already, as a report repeated
/// after a lost answer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// In order; each gets its place in the log when it is committed.
    pub events: Vec<EventKind>,
    /// The lease is not part of the log: renewing it every few seconds is nobody's news.
    pub lease: LeaseChange,
    /// The number of the report that tells the events: each of them bears it.
    pub report: ReportNumber,
}

/// What becomes of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseChange {
    /// It stays as it is.
    Keep,
    /// It is given, or prolonged.
    Hold(Lease),
    /// It ends.
    Release,
}

impl Change {
    const NONE: Self = Self {
        events: Vec::new(),
        lease: LeaseChange::Keep,
        report: ReportNumber::NONE,
    };

    fn event(kind: EventKind, lease: LeaseChange) -> Self {
        Self {
            events: vec![kind],
            lease,
            report: ReportNumber::NONE,
        }
    }

    /// Does it change nothing?
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.events.is_empty() && self.lease == LeaseChange::Keep
    }
}

/// Decides what a command leads to. `task` is `None` when there is no such task.
///
/// # Errors
/// A [`Rejection`] says why the command changes nothing. Only [`Command::Dispatch`] and
/// [`Command::Record`] may find no task; the others answer [`Rejection::NotFound`] for `id`.
pub fn decide(
    id: &TaskId,
    task: Option<&Task>,
    command: &Command,
    now: Timestamp,
) -> Result<Change, Rejection> {
    let Some((attempt, report)) = command.report() else {
        return decide_anew(id, task, command, now);
    };
    if task.is_some_and(|task| is_known(task, attempt, report)) {
        return Ok(Change::NONE);
    }
    let change = decide_anew(id, task, command, now)?;
    Ok(Change { report, ..change })
}

/// Was this report of the task's latest attempt accepted before? Then its answer was lost, and it is the
/// same report: whatever has become of the task since.
fn is_known(task: &Task, attempt: Attempt, report: ReportNumber) -> bool {
    report != ReportNumber::NONE && task.attempt == attempt && report <= task.reported
}

/// As [`decide`], for a command that was not carried out before.
fn decide_anew(
    id: &TaskId,
    task: Option<&Task>,
    command: &Command,
    now: Timestamp,
) -> Result<Change, Rejection> {
    match (command, task) {
        (Command::Dispatch(spec), None) => Ok(Change::event(
            EventKind::Dispatched(Arc::clone(spec)),
            LeaseChange::Keep,
        )),
        (Command::Dispatch(spec), Some(task)) => dispatch_again(task, spec),
        (Command::Record(record), task) => report(task, record),
        (_, None) => Err(Rejection::NotFound(id.clone())),
        (_, Some(task)) if task.is_external() => Err(Rejection::OwnedElsewhere),
        (Command::Cancel, Some(task)) => cancel(task),
        (Command::Retry, Some(task)) => retry_by_hand(task),
        (Command::Resume { data }, Some(task)) => resume(task, data),
        (Command::Claim { worker, lease_ms }, Some(task)) => {
            let until = now.plus(Duration::from_millis(*lease_ms));
            let worker = worker.clone();
            claim(task, Lease { worker, until })
        }
        (Command::Renew { attempt, lease_ms }, Some(task)) => {
            let until = now.plus(Duration::from_millis(*lease_ms));
            renew(task, *attempt, until)
        }
        (
            Command::Output {
                attempt, payloads, ..
            },
            Some(task),
        ) => output(task, *attempt, payloads),
        (
            Command::Suspend {
                attempt, payload, ..
            },
            Some(task),
        ) => suspend(task, *attempt, payload),
        (
            Command::Complete {
                attempt, result, ..
            },
            Some(task),
        ) => complete(task, *attempt, result.as_ref()),
        (
            Command::Fail {
                attempt,
                error,
                is_retryable,
                jitter,
                ..
            },
            Some(task),
        ) => {
            let jitter = is_retryable.then_some(*jitter);
            fail(task, *attempt, error, jitter, now)
        }
        (
            Command::TimeOut {
                attempt, jitter, ..
            },
            Some(task),
        ) => time_out(task, *attempt, *jitter, now),
        (
            Command::ExpireLease {
                attempt,
                loss,
                jitter,
            },
            Some(task),
        ) => expire_lease(task, *attempt, *loss, *jitter, now),
    }
}

/// A dispatch repeated after a lost answer is the same dispatch; another task under its id is not.
fn dispatch_again(task: &Task, spec: &Spec) -> Result<Change, Rejection> {
    // A record may look like what is asked for, but nobody here would ever run it.
    if !task.is_external() && *task.spec == *spec {
        return Ok(Change::NONE);
    }
    Err(Rejection::AlreadyExists)
}

/// The owner's word counts: any status may follow any other. What is said already changes nothing.
fn report(task: Option<&Task>, record: &Arc<Record>) -> Result<Change, Rejection> {
    match task.map(|task| &task.record) {
        Some(None) => Err(Rejection::OwnedHere),
        Some(Some(known)) if known == record => Ok(Change::NONE),
        Some(Some(_)) | None => Ok(Change::event(
            EventKind::Recorded(Arc::clone(record)),
            LeaseChange::Keep,
        )),
    }
}

fn cancel(task: &Task) -> Result<Change, Rejection> {
    match task.status {
        Status::Cancelled => Ok(Change::NONE),
        status if status.is_terminal() => Err(Rejection::AlreadyEnded(status)),
        _ => Ok(Change::event(EventKind::Cancelled, LeaseChange::Release)),
    }
}

fn retry_by_hand(task: &Task) -> Result<Change, Rejection> {
    match task.status {
        Status::Failed | Status::TimedOut | Status::Cancelled => {
            Ok(Change::event(EventKind::Retried, LeaseChange::Keep))
        }
        status => Err(Rejection::NotRetryable(status)),
    }
}

fn resume(task: &Task, data: &Json) -> Result<Change, Rejection> {
    check_payload("resumeData", data)?;
    match task.status {
        Status::Suspended => {
            let data = data.clone();
            Ok(Change::event(
                EventKind::Resumed { data },
                LeaseChange::Keep,
            ))
        }
        status if status.is_terminal() => Err(Rejection::AlreadyEnded(status)),
        status => Err(Rejection::NotSuspended(status)),
    }
}

fn claim(task: &Task, lease: Lease) -> Result<Change, Rejection> {
    match task.status {
        Status::Pending => Ok(Change::event(
            EventKind::Started {
                attempt: Attempt(task.attempt.0.saturating_add(1)),
                worker: lease.worker.clone(),
                is_resumed: task.is_resuming,
            },
            LeaseChange::Hold(lease),
        )),
        status => Err(Rejection::NotPending(status)),
    }
}

/// Who holds the task, if this attempt does. Every report of a worker passes here (R1).
fn held(task: &Task, attempt: Attempt) -> Result<&WorkerId, Rejection> {
    match &task.worker_id {
        Some(worker) if task.status == Status::Running && task.attempt == attempt => Ok(worker),
        _ => Err(Rejection::StaleAttempt {
            reported: attempt,
            current: task.attempt,
            status: task.status,
        }),
    }
}

fn renew(task: &Task, attempt: Attempt, until: Timestamp) -> Result<Change, Rejection> {
    let worker = held(task, attempt)?.clone();
    Ok(Change {
        lease: LeaseChange::Hold(Lease { worker, until }),
        ..Change::NONE
    })
}

fn output(task: &Task, attempt: Attempt, payloads: &[Json]) -> Result<Change, Rejection> {
    held(task, attempt)?;
    for payload in payloads {
        check_payload("payload", payload)?;
    }
    let event = |payload: &Json| EventKind::Output {
        attempt,
        payload: payload.clone(),
    };
    Ok(Change {
        events: payloads.iter().map(event).collect(),
        ..Change::NONE
    })
}

fn suspend(task: &Task, attempt: Attempt, payload: &Json) -> Result<Change, Rejection> {
    check_payload("suspendPayload", payload)?;
    let is_repeated = task.status == Status::Suspended
        && task.attempt == attempt
        && task.suspend_payload.as_ref() == Some(payload);
    if is_repeated {
        return Ok(Change::NONE);
    }
    held(task, attempt)?;
    let payload = payload.clone();
    Ok(Change::event(
        EventKind::Suspended { attempt, payload },
        LeaseChange::Release,
    ))
}

fn complete(task: &Task, attempt: Attempt, result: Option<&Json>) -> Result<Change, Rejection> {
    if let Some(result) = result {
        check_payload("result", result)?;
    }
    let is_repeated = task.status == Status::Completed
        && task.attempt == attempt
        && task.result.as_ref() == result;
    if is_repeated {
        return Ok(Change::NONE);
    }
    held(task, attempt)?;
    let result = result.cloned();
    Ok(Change::event(
        EventKind::Completed { attempt, result },
        LeaseChange::Release,
    ))
}

/// `jitter` is there when another attempt can help.
fn fail(
    task: &Task,
    attempt: Attempt,
    error: &TaskError,
    jitter: Option<Jitter>,
    now: Timestamp,
) -> Result<Change, Rejection> {
    if has_failed_so(task, attempt, error) {
        return Ok(Change::NONE);
    }
    held(task, attempt)?;
    let end = |error| EventKind::Failed { attempt, error };
    Ok(retry_or(end, task, error.clone(), jitter, now))
}

fn time_out(
    task: &Task,
    attempt: Attempt,
    jitter: Jitter,
    now: Timestamp,
) -> Result<Change, Rejection> {
    let error = TaskError::new(format!("Task timed out after {}ms", task.spec.timeout_ms));
    if has_failed_so(task, attempt, &error) {
        return Ok(Change::NONE);
    }
    held(task, attempt)?;
    let end = |error| EventKind::TimedOut { attempt, error };
    Ok(retry_or(end, task, error, Some(jitter), now))
}

fn expire_lease(
    task: &Task,
    attempt: Attempt,
    loss: Loss,
    jitter: Jitter,
    now: Timestamp,
) -> Result<Change, Rejection> {
    let worker = held(task, attempt)?;
    let is_leased = task.lease.as_ref().is_some_and(|lease| lease.until > now);
    if loss == Loss::LeaseEnded && is_leased {
        return Err(Rejection::LeaseHeld);
    }
    let why = match loss {
        Loss::LeaseEnded => "its lease ended without being renewed",
        Loss::ProcessGone => "its process is gone",
    };
    let error = TaskError::new(format!(
        "worker {worker} was lost during attempt {attempt}: {why}"
    ));
    let end = |error| EventKind::Failed { attempt, error };
    Ok(retry_or(end, task, error, Some(jitter), now))
}

/// Is this the report of a failure that is known already?
fn has_failed_so(task: &Task, attempt: Attempt, error: &TaskError) -> bool {
    matches!(
        task.status,
        Status::Pending | Status::Failed | Status::TimedOut
    ) && task.attempt == attempt
        && task.error.as_ref() == Some(error)
}

/// After a failure: another attempt if one can help and one is left, else the end.
fn retry_or(
    end: impl FnOnce(TaskError) -> EventKind,
    task: &Task,
    error: TaskError,
    jitter: Option<Jitter>,
    now: Timestamp,
) -> Change {
    let jitter = jitter.filter(|_| task.retry_count < task.spec.retry.max_retries);
    let kind = match jitter {
        Some(jitter) => EventKind::Retrying {
            attempt: task.attempt,
            error,
            next_attempt_at: now.plus(task.spec.retry.backoff(task.retry_count, jitter)),
        },
        None => end(error),
    };
    Change::event(kind, LeaseChange::Release)
}

/// What an event makes of a task: a row is the fold of its events (L3).
///
/// Leases are not in the log: the store sets them from [`Change::lease`].
///
/// # Panics
/// When an event other than [`EventKind::Dispatched`] and [`EventKind::Recorded`] meets no task: no
/// log that [`decide`] made holds such a one.
pub fn apply(task: &mut Option<Task>, namespace: &Namespace, event: &Event) {
    match &event.kind {
        EventKind::Dispatched(spec) => *task = Some(dispatched(spec, event)),
        EventKind::Recorded(record) => {
            let mut spec = recorded_spec(namespace, record);
            // What every event of a task shows never changes, even if its owner renames its kind.
            if let Some(known) = task {
                spec.identity = Arc::clone(known.identity());
            }
            *task = Some(recorded(spec, record, event));
        }
        _ => {
            let task = task
                .as_mut()
                .expect("a task's log begins with its dispatch");
            happened(task, event);
        }
    }
}

fn dispatched(spec: &Arc<Spec>, event: &Event) -> Task {
    Task {
        spec: Arc::clone(spec),
        status: Status::Pending,
        attempt: Attempt(0),
        reported: ReportNumber::NONE,
        retry_count: 0,
        created_at: event.at,
        updated_at: event.at,
        run_at: spec.run_at,
        started_at: None,
        suspended_at: None,
        completed_at: None,
        result: None,
        error: None,
        suspend_payload: None,
        resume_data: None,
        is_resuming: false,
        worker_id: None,
        lease: None,
        seq: event.seq,
        record: None,
    }
}

/// What a record's task runs: the name of its kind of subagent, where that can be a tool's name.
fn recorded_tool(record: &Record) -> ToolName {
    ToolName::new(record.subagent_type())
        .or_else(|_| ToolName::new("subagent"))
        .expect("a plain word is a tool's name")
}

/// What we ask of a task that its owner elsewhere runs: nothing, but to show it.
fn recorded_spec(namespace: &Namespace, record: &Record) -> Spec {
    Spec {
        identity: Arc::new(TaskIdentity {
            namespace: namespace.clone(),
            id: record.id().clone(),
            tool_name: recorded_tool(record),
            tool_call_id: None,
            agent_id: None,
            run_id: None,
            thread_id: None,
            resource_id: None,
            args: Json::empty_object(),
        }),
        timeout_ms: TIMEOUT_MS_DEFAULT,
        retry: RetryPolicy::default(),
        priority: 0,
        run_at: None,
        description: Some(Arc::from(record.description())),
        subagent_type: Some(Arc::from(record.subagent_type())),
        metadata: record.metadata().cloned(),
        idempotency_key: None,
    }
}

fn recorded(spec: Spec, record: &Arc<Record>, event: &Event) -> Task {
    let status = Status::from(record.status());
    let updated_at = record.updated_at().unwrap_or(event.at);
    let ended_at = record.completed_at().unwrap_or(updated_at);
    Task {
        spec: Arc::new(spec),
        status,
        attempt: Attempt(0),
        reported: ReportNumber::NONE,
        retry_count: 0,
        created_at: record.created_at().unwrap_or(event.at),
        updated_at,
        run_at: None,
        started_at: (status == Status::Running).then_some(updated_at),
        suspended_at: None,
        completed_at: status.is_terminal().then_some(ended_at),
        result: record.result().cloned(),
        error: record.error().map(TaskError::new),
        suspend_payload: None,
        resume_data: None,
        is_resuming: false,
        worker_id: None,
        lease: None,
        seq: event.seq,
        record: Some(Arc::clone(record)),
    }
}

fn happened(task: &mut Task, event: &Event) {
    task.seq = event.seq;
    task.updated_at = event.at;
    task.reported = task.reported.max(event.report);
    match &event.kind {
        EventKind::Dispatched(_) | EventKind::Recorded(_) => unreachable!("made by apply"),
        EventKind::Output { .. } => {}
        EventKind::Started {
            attempt, worker, ..
        } => {
            task.status = Status::Running;
            task.attempt = *attempt;
            task.reported = ReportNumber::NONE;
            task.worker_id = Some(worker.clone());
            task.started_at = Some(event.at);
            task.run_at = None;
            task.is_resuming = false;
        }
        EventKind::Suspended { payload, .. } => {
            task.status = Status::Suspended;
            task.suspended_at = Some(event.at);
            task.suspend_payload = Some(payload.clone());
        }
        EventKind::Resumed { data } => {
            task.status = Status::Pending;
            task.suspended_at = None;
            task.suspend_payload = None;
            task.resume_data = Some(data.clone());
            task.is_resuming = true;
        }
        EventKind::Retrying {
            error,
            next_attempt_at,
            ..
        } => {
            task.status = Status::Pending;
            task.retry_count += 1;
            task.run_at = Some(*next_attempt_at);
            task.error = Some(error.clone());
        }
        EventKind::Completed { result, .. } => {
            ended(task, Status::Completed, event.at);
            task.result = result.clone();
            task.error = None;
        }
        EventKind::Failed { error, .. } => {
            ended(task, Status::Failed, event.at);
            task.error = Some(error.clone());
        }
        EventKind::TimedOut { error, .. } => {
            ended(task, Status::TimedOut, event.at);
            task.error = Some(error.clone());
        }
        EventKind::Cancelled => ended(task, Status::Cancelled, event.at),
        EventKind::Retried => {
            task.status = Status::Pending;
            task.retry_count = 0;
            task.completed_at = None;
            task.result = None;
            task.error = None;
            task.resume_data = None;
        }
    }
}

/// The end, however it came: nothing is waited for any more.
fn ended(task: &mut Task, status: Status, at: Timestamp) {
    task.status = status;
    task.completed_at = Some(at);
    task.run_at = None;
    task.suspended_at = None;
    task.suspend_payload = None;
    task.is_resuming = false;
}
