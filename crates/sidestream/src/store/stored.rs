//! A task as a database keeps it.

use std::sync::Arc;

use sidestream_core::{
    Event, EventKind, Invalid, Record, ReportNumber, Seq, Status, Task, TaskIdentity, Timestamp,
    lifecycle,
};

/// A task, and what the store alone knows of it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// The store's own number of it.
    pub(super) key: i64,
    /// The task.
    pub(super) task: Task,
    /// When its last event happened: a record's `updated_at` is its owner's.
    pub(super) event_at: Timestamp,
    /// Where it waits, while it does.
    pub(super) queue: Option<Queue>,
    /// Has it ended without its thread's agent having acknowledged it?
    pub(super) is_untold: bool,
}

impl Stored {
    /// Since when it stands as it does.
    pub(super) fn since(&self) -> Timestamp {
        let task = &self.task;
        let since = match task.status {
            Status::Running => task.started_at,
            Status::Suspended => task.suspended_at,
            status if status.is_terminal() => task.completed_at,
            _ => None,
        };
        since.unwrap_or(task.updated_at)
    }

    /// Puts a task whose status is new into the queue it belongs to, and marks an end as untold.
    pub(super) fn place(&mut self, now: Timestamp) {
        let task = &self.task;
        let is_ours = !task.is_external();
        let is_waiting = is_ours && task.status == Status::Pending;
        self.queue = is_waiting.then(|| match task.due_at() > now {
            true => Queue::Delayed,
            false => Queue::Ready,
        });
        let has_thread = task.identity().thread_id.is_some();
        self.is_untold = is_ours && has_thread && task.status.is_terminal();
    }
}

/// Where a pending task waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    /// To be claimed.
    Ready,
    /// For its time to come.
    Delayed,
}

impl Queue {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Delayed => "delayed",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, Invalid> {
        match text {
            "ready" => Ok(Self::Ready),
            "delayed" => Ok(Self::Delayed),
            _ => Err(Invalid::new("queue", format!("is {text:?}"))),
        }
    }
}

/// What its owner's last report makes of a task.
pub(super) fn reported(
    identity: &Arc<TaskIdentity>,
    record: Arc<Record>,
    seq: Seq,
    at: Timestamp,
) -> Task {
    let kind = EventKind::Recorded(record);
    let mut task = None;
    let report = ReportNumber::NONE;
    let event = Event {
        seq,
        at,
        report,
        kind,
    };
    lifecycle::apply(&mut task, &identity.namespace, &event);
    let mut task = task.expect("a report makes a task");
    Arc::make_mut(&mut task.spec).identity = Arc::clone(identity);
    task
}
