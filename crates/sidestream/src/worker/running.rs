//! The attempts that run in this process: how each is stopped, and how it hears that it should.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use sidestream_core::{Attempt, EventKind, LogEntry, Namespace, Seq, Task, TaskId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::stream::tail::Observer;

/// So many cancellations are remembered, for tasks that are given to us and have not arrived yet.
const CANCELLED_MAX: usize = 4_096;

/// Why an attempt is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its time is up.
    TimedOut,
    /// The task was cancelled.
    Cancelled,
    /// The attempt no longer holds the task, or cannot be sure to.
    Lost,
    /// The process shuts down.
    ShutDown,
}

/// An attempt that runs: the handle by which it is stopped. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running {
    stop: CancellationToken,
    reason: Arc<OnceLock<Reason>>,
}

impl Running {
    /// Tells the handler to stop. The first reason counts.
    pub(crate) fn take(&self, reason: Reason) {
        let _ = self.reason.set(reason);
        self.stop.cancel();
    }

    /// Waits until the attempt is stopped, and says why.
    pub(crate) async fn taken(&self) -> Reason {
        self.stop.cancelled().await;
        *self
            .reason
            .get()
            .expect("set before the token is cancelled")
    }

    /// Waits until the attempt is known to have lost its task; for ever, if it does not.
    pub(crate) async fn lost(&self) {
        if self.taken().await != Reason::Lost {
            std::future::pending().await
        }
    }

    fn is_lost(&self) -> bool {
        self.reason.get() == Some(&Reason::Lost)
    }

    /// What the handler is told by.
    pub(crate) fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }
}

/// The attempts that run in this process, and the bell for new work. Sees every event before any
/// watcher does, so that a cancelled handler is told at once.
#[derive(Debug)]
pub struct RunningTasks {
    attempts: Mutex<Attempts>,
    work: watch::Sender<Work>,
    left: watch::Sender<()>,
    doubt: watch::Sender<()>,
}

/// What may have brought work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Work {
    /// How often events of others have.
    pub(crate) theirs: u64,
    /// The last event of this process that has.
    pub(crate) ours: Seq,
}

#[derive(Debug, Default)]
struct Attempts {
    running: BTreeMap<TaskKey, Entered>,
    cancelled: Cancelled,
}

/// An attempt, and the event that began it.
#[derive(Debug)]
struct Entered {
    attempt: Attempt,
    since: Seq,
    running: Running,
}

/// What was cancelled lately, and by which event. Between a claim's commit and its answer a task can be
/// cancelled that nobody here knows yet.
#[derive(Debug, Default)]
struct Cancelled {
    by_task: HashMap<TaskKey, Seq>,
    in_order: VecDeque<(TaskKey, Seq)>,
    /// Cancellations up to this event are not remembered.
    forgotten: Seq,
}

pub(crate) type TaskKey = (Namespace, TaskId);

impl Cancelled {
    fn note(&mut self, key: TaskKey, at: Seq) {
        self.by_task.insert(key.clone(), at);
        self.in_order.push_back((key, at));
        if self.in_order.len() > CANCELLED_MAX
            && let Some((key, at)) = self.in_order.pop_front()
        {
            self.forgotten = at;
            // It may have been cancelled anew.
            if self.by_task.get(&key) == Some(&at) {
                self.by_task.remove(&key);
            }
        }
    }
}

impl Default for RunningTasks {
    fn default() -> Self {
        Self {
            attempts: Mutex::default(),
            work: watch::Sender::default(),
            left: watch::Sender::new(()),
            doubt: watch::Sender::new(()),
        }
    }
}

impl RunningTasks {
    /// A task was cancelled, by this event: its attempt, if one runs here or is about to, is told. One that
    /// began later is not: the task was tried again meanwhile.
    pub fn cancelled(&self, namespace: &Namespace, id: &TaskId, at: Seq) {
        let key = (namespace.clone(), id.clone());
        let mut attempts = self.attempts.lock();
        let entered = attempts.running.get(&key);
        if let Some(entered) = entered.filter(|entered| entered.since < at) {
            entered.running.take(Reason::Cancelled);
        }
        attempts.cancelled.note(key, at);
    }

    /// Cancellations may have gone by unseen: every attempt that runs here asks at once whether it still
    /// holds its task.
    pub fn doubt(&self) {
        self.doubt.send_replace(());
    }

    /// Rings when an attempt must ask whether it still holds its task.
    pub(crate) fn doubts(&self) -> watch::Receiver<()> {
        self.doubt.subscribe()
    }

    /// Rings when a claim may bring something that the last one did not.
    pub(crate) fn work(&self) -> watch::Receiver<Work> {
        self.work.subscribe()
    }

    fn ring(&self) {
        self.work.send_modify(|work| work.theirs += 1);
    }

    pub(crate) fn enter(&self, task: &Task) -> Running {
        let running = Running::default();
        let identity = task.identity();
        let key = (identity.namespace.clone(), identity.id.clone());
        let mut attempts = self.attempts.lock();
        let cancelled = attempts.cancelled.by_task.get(&key);
        if cancelled.is_some_and(|at| *at > task.seq) {
            running.take(Reason::Cancelled);
        }
        let is_forgotten = attempts.cancelled.forgotten > task.seq;
        let entered = Entered {
            attempt: task.attempt,
            since: task.seq,
            running: running.clone(),
        };
        if let Some(earlier) = attempts.running.insert(key, entered) {
            // It is past: the task has been given out anew.
            earlier.running.take(Reason::Lost);
        }
        drop(attempts);
        if is_forgotten {
            self.doubt();
        }
        running
    }

    pub(crate) fn leave(&self, task: &TaskKey, attempt: Attempt) {
        let mut attempts = self.attempts.lock();
        let of_task = attempts.running.get(task);
        if of_task.is_some_and(|current| current.attempt == attempt) {
            attempts.running.remove(task);
        }
        drop(attempts);
        self.left.send_replace(());
    }

    /// Waits until no attempt runs.
    pub(crate) async fn idle(&self) {
        let mut left = self.left.subscribe();
        while !self.is_empty() {
            // The sender is in `self`, so it cannot be gone.
            let _ = left.changed().await;
        }
    }

    /// What runs here, but for what has been given up.
    pub(crate) fn held(&self) -> HashSet<(Namespace, TaskId, Attempt)> {
        let attempts = self.attempts.lock();
        let held = attempts
            .running
            .iter()
            .filter(|(_, it)| !it.running.is_lost());
        held.map(|((namespace, id), it)| (namespace.clone(), id.clone(), it.attempt))
            .collect()
    }

    /// Stops all.
    pub(crate) fn take_all(&self, reason: Reason) {
        for entered in self.attempts.lock().running.values() {
            entered.running.take(reason);
        }
    }

    /// How many attempts run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.attempts.lock().running.len()
    }

    /// Does none run?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Observer for RunningTasks {
    fn observe(&self, entries: &[LogEntry], is_ours: bool) {
        for entry in entries {
            if entry.event.kind == EventKind::Cancelled {
                let task = &entry.task;
                self.cancelled(&task.namespace, &task.id, entry.event.seq);
            }
        }
        let mut entries = entries.iter().rev();
        match entries.find(|entry| entry.event.kind.may_free_work()) {
            Some(last) if is_ours => self.work.send_modify(|work| work.ours = last.event.seq),
            Some(_) => self.ring(),
            None => {}
        }
    }

    fn missed(&self) {
        self.ring();
        self.doubt();
    }
}

#[cfg(test)]
mod tests {
    use sidestream_core::{Event, NewTask, ReportNumber, Timestamp, WorkerId, lifecycle};

    use super::*;

    fn entry(task: &Task, seq: u64, kind: EventKind) -> LogEntry {
        LogEntry {
            task: Arc::clone(task.identity()),
            event: Event {
                seq: Seq(seq),
                at: Timestamp::from_ms(0),
                report: ReportNumber::NONE,
                kind,
            },
        }
    }

    /// A task that attempt 1 has been given, by event 2 of the log.
    fn claimed() -> Task {
        let (namespace, id) = (Namespace::default(), TaskId::new("t").expect("a fit id"));
        let spec = NewTask::new("tool").into_spec(namespace.clone(), id, Default::default());
        let dispatched = EventKind::Dispatched(Arc::new(spec.expect("a fit task")));
        let started = EventKind::Started {
            attempt: Attempt(1),
            worker: WorkerId::new("w").expect("a fit id"),
            is_resumed: false,
        };
        let mut task = None;
        for (seq, kind) in [(1, dispatched), (2, started)] {
            let (seq, at) = (Seq(seq), Timestamp::from_ms(0));
            let report = ReportNumber::NONE;
            let event = Event {
                seq,
                at,
                report,
                kind,
            };
            lifecycle::apply(&mut task, &namespace, &event);
        }
        task.expect("it was dispatched")
    }

    fn is_told(running: &Running) -> bool {
        running.stop_token().is_cancelled()
    }

    /// R3: a cancellation that comes between a claim's commit and its answer is not lost.
    #[test]
    fn a_task_cancelled_while_its_claim_is_answered_is_told_at_once() {
        let (attempts, task) = (RunningTasks::default(), claimed());
        attempts.observe(&[entry(&task, 3, EventKind::Cancelled)], true);
        assert!(is_told(&attempts.enter(&task)));

        // What was cancelled before it was claimed has been retried since.
        let attempts = RunningTasks::default();
        attempts.observe(&[entry(&task, 1, EventKind::Cancelled)], true);
        let running = attempts.enter(&task);
        assert!(!is_told(&running));
        // Read again, late.
        attempts.observe(&[entry(&task, 1, EventKind::Cancelled)], true);
        assert!(!is_told(&running));
        attempts.observe(&[entry(&task, 3, EventKind::Cancelled)], true);
        assert!(is_told(&running));
    }

    /// R3: where cancellations have been forgotten, an attempt that may be among them asks.
    #[test]
    fn an_attempt_asks_when_its_cancellation_may_be_forgotten() {
        let (attempts, mut task) = (RunningTasks::default(), claimed());
        let mut doubts = attempts.doubts();
        for seq in 3..4 + CANCELLED_MAX as u64 {
            attempts.cancelled(&Namespace::default(), task.id(), Seq(seq));
        }
        assert!(is_told(&attempts.enter(&task)), "the last one is known");
        assert!(doubts.has_changed().expect("the sender is there"));
        doubts.mark_unchanged();
        task.seq = Seq(4 + CANCELLED_MAX as u64);
        attempts.enter(&task);
        assert!(!doubts.has_changed().expect("the sender is there"));
    }

    /// R1: an attempt whose task this process is given again has lost it.
    #[test]
    fn an_earlier_attempt_is_told_when_a_later_begins() {
        let (attempts, mut task) = (RunningTasks::default(), claimed());
        let earlier = attempts.enter(&task);
        task.attempt = Attempt(2);
        let later = attempts.enter(&task);
        assert!(is_told(&earlier) && !is_told(&later));
        attempts.leave(&(Namespace::default(), task.id().clone()), Attempt(1));
        assert_eq!(attempts.len(), 1);
    }
}
