//! A worker: claims tasks while it has slots free, and runs them.
//!
//! It sleeps until something may have changed: a task became pending or due, or a slot became free.
//! Nothing is polled. It does not know where its store is.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use sidestream_core::{
    Attempt, Epoch, EventKind, LogEntry, Namespace, Seq, Task, TaskId, Timestamp, ToolName,
    WorkerId,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chance::Chance;
use crate::error::Error;
use crate::store::{Answer, Claim, Claimed, Limits, Request, Store};
use crate::stream::tail::Observer;
use crate::worker::handler::{Handler, Tool};
use crate::writer::Writer;

pub mod executor;
pub mod handler;

#[cfg(unix)]
pub mod command;
#[cfg(unix)]
pub mod process;

/// The wait before a claim is tried again that the store could not answer.
const CLAIM_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// So many tasks are claimed at a time.
const CLAIM_MAX: u32 = 256;

/// Starts futures that end with the process: none outlives [`Spawner::kill`], and
/// [`Spawner::wait`] waits for them all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spawner {
    tracker: TaskTracker,
    kill: CancellationToken,
}

impl Spawner {
    /// Starts a future. Its handle gives `None` when it was killed.
    pub(crate) fn spawn<F>(&self, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let kill = self.kill.clone();
        self.tracker
            .spawn(async move { kill.run_until_cancelled(future).await })
    }

    /// Stops every future where it stands, as a crash would.
    pub(crate) fn kill(&self) {
        self.kill.cancel();
    }

    /// Waits until every future has ended.
    pub(crate) async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// How a worker works.
#[derive(Debug, Clone)]
pub(crate) struct WorkerConfig {
    pub(crate) concurrency: u32,
    pub(crate) lease_ms: u64,
    pub(crate) grace: Duration,
    pub(crate) limits: Arc<Limits>,
}

impl WorkerConfig {
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }
}

/// What the attempts of one worker share.
pub(crate) struct Shared {
    pub(crate) worker: WorkerId,
    pub(crate) log: Epoch,
    pub(crate) config: WorkerConfig,
    pub(crate) writer: Writer,
    pub(crate) chance: Arc<dyn Chance>,
    pub(crate) spawner: Spawner,
    tools: HashMap<ToolName, Arc<dyn Handler>>,
    running: Arc<RunningTasks>,
}

impl Shared {
    pub(crate) fn handler_of(&self, task: &Task) -> Option<Arc<dyn Handler>> {
        self.tools.get(&task.identity().tool_name).cloned()
    }
}

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

    /// What the handler is told by.
    pub(crate) fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }
}

/// The attempts that run in this process, and the bell for new work. Sees every event before any
/// watcher does, so that a cancelled handler is told at once.
#[derive(Debug)]
pub(crate) struct RunningTasks {
    attempts: Mutex<Attempts>,
    work: watch::Sender<()>,
    left: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Attempts {
    running: BTreeMap<TaskKey, (Attempt, Running)>,
    /// While a claim is under way: what has been cancelled since it began, and by which event. It may be
    /// among what the claim brings.
    cancelled: Option<Vec<(TaskKey, Seq)>>,
}

type TaskKey = (Namespace, TaskId);

/// A claim is under way, until this is dropped.
struct Claiming<'a>(&'a RunningTasks);

impl Drop for Claiming<'_> {
    fn drop(&mut self) {
        self.0.attempts.lock().cancelled = None;
    }
}

impl Default for RunningTasks {
    fn default() -> Self {
        Self {
            attempts: Mutex::default(),
            work: watch::Sender::new(()),
            left: watch::Sender::new(()),
        }
    }
}

impl RunningTasks {
    /// Between a claim's commit and its answer a task can be cancelled that nobody here knows yet: so it
    /// is noted.
    fn begin_claim(&self) -> Claiming<'_> {
        self.attempts.lock().cancelled = Some(Vec::new());
        Claiming(self)
    }

    fn enter(&self, task: &Task) -> Running {
        let running = Running::default();
        let identity = task.identity();
        let key = (identity.namespace.clone(), identity.id.clone());
        let mut attempts = self.attempts.lock();
        let mut cancelled = attempts.cancelled.iter().flatten();
        if cancelled.any(|(cancelled, at)| *cancelled == key && *at > task.seq) {
            running.take(Reason::Cancelled);
        }
        let entered = (task.attempt, running.clone());
        if let Some((_, earlier)) = attempts.running.insert(key, entered) {
            // It is past: the task has been given out anew.
            earlier.take(Reason::Lost);
        }
        running
    }

    fn leave(&self, task: &TaskKey, attempt: Attempt) {
        let mut attempts = self.attempts.lock();
        let of_task = attempts.running.get(task);
        if of_task.is_some_and(|(current, _)| *current == attempt) {
            attempts.running.remove(task);
        }
        drop(attempts);
        self.left.send_replace(());
    }

    /// Waits until no attempt runs.
    pub(crate) async fn idle(&self) {
        let mut left = self.left.subscribe();
        while self.len() > 0 {
            // The sender is in `self`, so it cannot be gone.
            let _ = left.changed().await;
        }
    }

    /// Stops all.
    pub(crate) fn take_all(&self, reason: Reason) {
        for (_, running) in self.attempts.lock().running.values() {
            running.take(reason);
        }
    }

    /// How many attempts run.
    pub(crate) fn len(&self) -> usize {
        self.attempts.lock().running.len()
    }
}

impl Observer for RunningTasks {
    fn observe(&self, entries: &[LogEntry], _is_ours: bool) {
        for entry in entries {
            if entry.event.kind == EventKind::Cancelled {
                let task = &entry.task;
                let key = (task.namespace.clone(), task.id.clone());
                let mut attempts = self.attempts.lock();
                if let Some((_, running)) = attempts.running.get(&key) {
                    running.take(Reason::Cancelled);
                }
                if let Some(cancelled) = &mut attempts.cancelled {
                    cancelled.push((key, entry.event.seq));
                }
            }
        }
        if entries.iter().any(|entry| entry.event.kind.may_free_work()) {
            self.work.send_replace(());
        }
    }

    /// There may be work; and what was cancelled unseen is told when its lease is not renewed.
    fn missed(&self) {
        self.work.send_replace(());
    }
}

/// Claims and runs tasks until told to stop.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    tools: Arc<[ToolName]>,
    slots: Arc<Semaphore>,
}

impl Worker {
    #[allow(
        clippy::too_many_arguments,
        reason = "made in one place, from its parts"
    )]
    pub(crate) fn new(
        worker: WorkerId,
        log: Epoch,
        config: WorkerConfig,
        tools: &BTreeMap<ToolName, Tool>,
        store: Arc<dyn Store>,
        writer: Writer,
        chance: Arc<dyn Chance>,
        spawner: Spawner,
        running: Arc<RunningTasks>,
    ) -> Self {
        let handlers = tools
            .iter()
            .map(|(name, tool)| (name.clone(), Arc::clone(&tool.handler)));
        Self {
            slots: Arc::new(Semaphore::new(config.concurrency as usize)),
            tools: tools.keys().cloned().collect(),
            store,
            shared: Arc::new(Shared {
                tools: handlers.collect(),
                worker,
                log,
                config,
                writer,
                chance,
                spawner,
                running,
            }),
        }
    }

    /// Claims and runs until `stop` is cancelled. Attempts that run go on; all that were claimed have
    /// begun when this returns.
    pub(crate) async fn run(self, stop: CancellationToken) {
        if self.tools.is_empty() {
            return;
        }
        let mut work = self.shared.running.work.subscribe();
        loop {
            let Some(Some(free)) = stop.run_until_cancelled(self.free_slots()).await else {
                return;
            };
            // Seen before the claim: what changes during it rings again.
            work.mark_unchanged();
            // Never given up half-way: what was claimed must be run, or be lost to its lease.
            let claiming = self.shared.running.begin_claim();
            let next = self.claim(free).await;
            drop(claiming);
            let until = match next {
                Next::MoreAtOnce => continue,
                Next::Due(at) => Some(at.since(self.store.now())),
                Next::Again => Some(CLAIM_AGAIN_AFTER),
                Next::WhenToldTo => None,
            };
            let due = async {
                match until {
                    Some(wait) => tokio::time::sleep(wait.max(Duration::from_millis(1))).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = work.changed() => {}
                () = due => {}
            }
        }
    }

    /// Waits for a free slot, and takes all that are free, up to what one claim asks for.
    async fn free_slots(&self) -> Option<Vec<OwnedSemaphorePermit>> {
        let first = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        let mut free = vec![first];
        while free.len() < CLAIM_MAX as usize {
            match Arc::clone(&self.slots).try_acquire_owned() {
                Ok(slot) => free.push(slot),
                Err(_) => break,
            }
        }
        Some(free)
    }

    async fn claim(&self, mut free: Vec<OwnedSemaphorePermit>) -> Next {
        let wanted = free.len();
        let config = &self.shared.config;
        let claim = Claim {
            worker: self.shared.worker.clone(),
            tools: Arc::clone(&self.tools),
            namespace: None,
            limit: u32::try_from(wanted).unwrap_or(CLAIM_MAX),
            lease_ms: config.lease_ms,
            limits: Arc::clone(&config.limits),
        };
        let asked = Instant::now();
        let Claimed { tasks, next_due } =
            match self.shared.writer.submit(Request::Claim(claim)).await {
                Ok(Answer::Claimed(claimed)) => claimed,
                Ok(other) => unreachable!("a claim is answered as one: {other:?}"),
                Err(Error::ShutDown) => return Next::WhenToldTo,
                Err(error) => {
                    tracing::warn!(%error, "tasks were not claimed");
                    return Next::Again;
                }
            };
        let claimed = tasks.len();
        for task in tasks {
            let slot = free
                .pop()
                .expect("a claim brings no more than was asked for");
            let span = self.span(&task, asked);
            self.start(task, span, slot);
        }
        match next_due {
            _ if claimed == wanted => Next::MoreAtOnce,
            Some(at) => Next::Due(at),
            None => Next::WhenToldTo,
        }
    }

    /// An attempt has its whole time, however long the claim's answer took: but no more than the grace
    /// longer than the store gives it, after which it is ended on the worker's behalf.
    fn span(&self, task: &Task, asked: Instant) -> Span {
        let whole = Duration::from_millis(task.spec.timeout_ms);
        let config = &self.shared.config;
        let overdue_at = task.deadline().map(|at| at.plus(config.grace));
        let left = overdue_at.map_or(whole, |at| at.since(self.store.now()));
        Span::new(Instant::now() + whole.min(left), asked, config.lease())
    }

    fn start(&self, task: Task, span: Span, slot: OwnedSemaphorePermit) {
        let running = self.shared.running.enter(&task);
        let (shared, spawner) = (Arc::clone(&self.shared), &self.shared.spawner);
        spawner.spawn(async move {
            let identity = task.identity();
            let key = (identity.namespace.clone(), identity.id.clone());
            let attempt = task.attempt;
            executor::execute(Arc::clone(&shared), task, span, running).await;
            shared.running.leave(&key, attempt);
            drop(slot);
        });
    }
}

/// The bounds of an attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// When its time is up.
    pub(crate) deadline: Instant,
    /// When its lease should be renewed.
    pub(crate) renew_at: Instant,
    /// When it must stop unless the lease has been renewed: a sixth of it is left for that.
    pub(crate) give_up_at: Instant,
}

impl Span {
    fn new(deadline: Instant, asked: Instant, lease: Duration) -> Self {
        Self {
            deadline,
            renew_at: asked + lease / 3,
            give_up_at: asked + lease * 5 / 6,
        }
    }

    /// The lease began anew when its renewal was asked for, or later.
    pub(crate) fn renewed(self, asked: Instant, lease: Duration) -> Self {
        Self::new(self.deadline, asked, lease)
    }
}

/// When to claim next.
enum Next {
    /// As soon as a slot is free: there may be more.
    MoreAtOnce,
    /// Then, or when something changes.
    Due(Timestamp),
    /// Soon: the store did not answer.
    Again,
    /// When something changes.
    WhenToldTo,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sidestream_core::{Event, NewTask, ReportNumber, lifecycle};

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
        let claiming = attempts.begin_claim();
        attempts.observe(&[entry(&task, 3, EventKind::Cancelled)], true);
        assert!(is_told(&attempts.enter(&task)));
        drop(claiming);
        attempts.leave(&(Namespace::default(), task.id().clone()), Attempt(1));

        // What was cancelled before it was claimed has been retried since.
        let claiming = attempts.begin_claim();
        attempts.observe(&[entry(&task, 1, EventKind::Cancelled)], true);
        let running = attempts.enter(&task);
        drop(claiming);
        assert!(!is_told(&running));
        attempts.observe(&[entry(&task, 3, EventKind::Cancelled)], true);
        assert!(is_told(&running));
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
