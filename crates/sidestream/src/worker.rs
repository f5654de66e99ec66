//! A worker: claims tasks while it has slots free, and runs them.
//!
//! It sleeps until its broker may have work for it and a slot is free. It does not know where its tasks
//! come from: see [`broker`].

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sidestream_core::{Epoch, Task, ToolName, WorkerId};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chance::Chance;
use crate::error::Error;
use crate::worker::broker::{Broker, Slot, Slots};
use crate::worker::handler::Handler;
use crate::worker::running::{Reason, RunningTasks};

pub mod broker;
pub mod running;

pub mod executor;
pub mod handler;

pub mod local;

#[cfg(unix)]
pub mod command;
#[cfg(unix)]
pub mod process;

/// The wait before a claim is tried again that the broker could not answer.
const CLAIM_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long a worker that drains waits for the last reports after the handlers have been stopped.
const REPORT_GRACE: Duration = Duration::from_secs(1);

/// Starts futures that end with the process: none outlives [`Spawner::kill`], and
/// [`Spawner::wait`] waits for them all. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Spawner {
    tracker: TaskTracker,
    kill: CancellationToken,
}

impl Spawner {
    /// Starts a future. Its handle gives `None` when it was killed.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let kill = self.kill.clone();
        self.tracker
            .spawn(async move { kill.run_until_cancelled(future).await })
    }

    /// Stops every future where it stands, as a crash would.
    pub fn kill(&self) {
        self.kill.cancel();
    }

    /// Waits until every future has ended.
    pub async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// At most so many tasks run at once.
    pub concurrency: u32,
    /// How long each lease lasts, in milliseconds. Renewed three times as often.
    pub lease_ms: u64,
    /// How long a handler may take to stop once told.
    pub grace: Duration,
}

impl WorkerConfig {
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }
}

/// What a worker is made of.
pub struct Parts {
    /// Its name, of no other process.
    pub worker: WorkerId,
    /// The log that its tasks are in.
    pub log: Epoch,
    /// How it works.
    pub config: WorkerConfig,
    /// What it can run.
    pub tools: HashMap<ToolName, Arc<dyn Handler>>,
    /// Where its tasks come from.
    pub broker: Arc<dyn Broker>,
    /// What it runs; the broker tells it what was cancelled.
    pub running: Arc<RunningTasks>,
    /// Where its random numbers come from.
    pub chance: Arc<dyn Chance>,
    /// Where its futures run.
    pub spawner: Spawner,
}

impl Parts {
    pub(crate) fn handler_of(&self, task: &Task) -> Option<Arc<dyn Handler>> {
        self.tools.get(&task.identity().tool_name).cloned()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("worker", &self.worker)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Claims and runs tasks until told to stop. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Worker {
    parts: Arc<Parts>,
    slots: Slots,
    /// Ends the claiming.
    stop: CancellationToken,
    /// Says that it has ended.
    claims_no_more: CancellationToken,
}

impl Worker {
    /// A worker that does nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            slots: Slots::new(parts.config.concurrency),
            parts: Arc::new(parts),
            stop: CancellationToken::new(),
            claims_no_more: CancellationToken::new(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &WorkerId {
        &self.parts.worker
    }

    /// What it runs.
    #[must_use]
    pub fn running(&self) -> &Arc<RunningTasks> {
        &self.parts.running
    }

    /// Cancelled when it is told to claim no more.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Can a task that it runs start programs?
    #[must_use]
    pub fn starts_programs(&self) -> bool {
        let mut handlers = self.parts.tools.values();
        handlers.any(|handler| handler.starts_programs())
    }

    /// Kills the programs that a former process left running on this machine: one whose tasks were in the
    /// same log, and that is gone.
    pub async fn kill_leftovers(&self) {
        #[cfg(unix)]
        {
            let log = self.parts.log.clone();
            let search = move || process::kill_leftovers(log.as_str());
            match tokio::task::spawn_blocking(search).await {
                Ok(0) => {}
                Ok(killed) => tracing::warn!(killed, "programs of a former process killed"),
                Err(error) => {
                    tracing::error!(%error, "programs of a former process not looked for")
                }
            }
        }
    }

    /// Claims and runs from now on.
    pub fn start(&self) {
        let worker = self.clone();
        let stopped = self.claims_no_more.clone().drop_guard();
        self.parts.spawner.spawn(async move {
            worker.run().await;
            drop(stopped);
        });
    }

    /// Ends well: claims no more, gives running handlers the grace to finish, and stops those that do
    /// not. Their tasks go the way their retries say.
    pub async fn drain(&self) {
        self.stop.cancel();
        let (grace, running) = (self.parts.config.grace, &self.parts.running);
        let _ = timeout(grace, self.claims_no_more.cancelled()).await;
        if timeout(grace, running.idle()).await.is_err() {
            running.take_all(Reason::ShutDown);
            // The handlers' own grace, and a little for their reports.
            let _ = timeout(grace + REPORT_GRACE, running.idle()).await;
        }
    }

    /// Claims and runs until told to stop. Attempts that run go on; all that were claimed have begun when
    /// this returns.
    async fn run(&self) {
        if self.parts.tools.is_empty() {
            return;
        }
        loop {
            // Never given up half-way: what was claimed must be run, or be lost to its lease.
            match self.parts.broker.claim(&self.slots, &self.stop).await {
                Ok(claimed) if claimed.tasks.is_empty() && self.stop.is_cancelled() => return,
                Ok(claimed) => self.begin(claimed),
                Err(Error::ShutDown) => return,
                Err(error) => {
                    tracing::warn!(%error, "tasks were not claimed");
                    let again = tokio::time::sleep(CLAIM_AGAIN_AFTER);
                    self.stop.run_until_cancelled(again).await;
                }
            }
        }
    }

    fn begin(&self, claimed: broker::Claimed) {
        for (task, slot) in claimed.tasks {
            let span = self.span(&task, claimed.since, claimed.began);
            self.begin_one(task, span, slot);
        }
    }

    /// An attempt has its whole time, however long the claim's answer took: but no more than the grace
    /// longer than its broker gives it, after which it is ended on the worker's behalf.
    fn span(&self, task: &Task, since: Instant, began: Instant) -> Span {
        let whole = Duration::from_millis(task.spec.timeout_ms);
        let config = &self.parts.config;
        let overdue_at = began + whole + config.grace;
        let deadline = overdue_at.min(Instant::now() + whole);
        Span::new(deadline, since, config.lease())
    }

    fn begin_one(&self, task: Task, span: Span, slot: Slot) {
        let running = self.parts.running.enter(&task);
        let (parts, spawner) = (Arc::clone(&self.parts), &self.parts.spawner);
        spawner.spawn(async move {
            let identity = task.identity();
            let key = (identity.namespace.clone(), identity.id.clone());
            let attempt = task.attempt;
            executor::execute(Arc::clone(&parts), task, span, running).await;
            parts.running.leave(&key, attempt);
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
    fn new(deadline: Instant, since: Instant, lease: Duration) -> Self {
        Self {
            deadline,
            renew_at: since + lease / 3,
            give_up_at: since + lease * 5 / 6,
        }
    }

    /// The lease began anew when its renewal was asked for, or later.
    pub(crate) fn renewed(self, asked: Instant, lease: Duration) -> Self {
        Self::new(self.deadline, asked, lease)
    }
}
