//! Where a worker gets its tasks from, and to whom it reports.
//!
//! The worker loop, and each attempt, know nothing else of the world. So there is one worker, whether its
//! broker is the store of the same process ([`LocalBroker`](super::local::LocalBroker)) or a server on
//! another machine (`sidestream_client::worker`), and none can tell which.

use std::sync::Arc;

use async_trait::async_trait;
use sidestream_core::{Command, Task, TaskIdentity};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// Gives tasks to one worker, and takes its reports.
///
/// What is cancelled it tells [`RunningTasks`](super::running::RunningTasks), as soon as it hears of it.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Gives pending tasks to the worker, one at most for each of its free slots. It may wait until there is
    /// one; when `stop` is cancelled it waits no longer, but still returns what it was given. It is never
    /// dropped half-way: what was claimed must be run.
    ///
    /// # Errors
    /// [`Error::ShutDown`] when there will never be a task again; any other error is worth another try.
    async fn claim(&self, free: FreeSlots, stop: &CancellationToken) -> Result<Claimed, Error>;

    /// Says what became of an attempt, or that it goes on ([`Command::Renew`]).
    ///
    /// # Errors
    /// [`Error::Rejected`] when the attempt no longer holds the task. [`Error::Store`] and
    /// [`Error::Overloaded`]: nobody knows whether it was heard; say it again, with the same number.
    async fn report(&self, task: &TaskIdentity, command: Command) -> Result<(), Error>;
}

/// The free slots of a worker: at least one.
#[derive(Debug)]
pub struct FreeSlots {
    first: Slot,
    all: Arc<Semaphore>,
}

/// A slot of a worker, taken until this is dropped.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "held, not looked at")] OwnedSemaphorePermit);

impl FreeSlots {
    /// Waits until one is free; `None` when there never will be.
    pub(super) async fn of(all: &Arc<Semaphore>) -> Option<Self> {
        let first = Arc::clone(all).acquire_owned().await.ok()?;
        Some(Self {
            first: Slot(first),
            all: Arc::clone(all),
        })
    }

    /// Takes all that are free by now, but so many at most. A claim asks for as many tasks: so it is called
    /// as late as can be.
    #[must_use]
    pub fn take(self, max: usize) -> Vec<Slot> {
        let mut slots = vec![self.first];
        while slots.len() < max
            && let Ok(slot) = Arc::clone(&self.all).try_acquire_owned()
        {
            slots.push(Slot(slot));
        }
        slots
    }
}

/// What a worker was given.
#[derive(Debug)]
pub struct Claimed {
    /// The tasks, each running, at its new attempt, and the slot that it takes.
    pub tasks: Vec<(Task, Slot)>,
    /// Their leases began then, or later.
    pub since: Instant,
    /// Their attempts began then, as well as that can be told.
    pub began: Instant,
}

impl Claimed {
    /// Nothing.
    #[must_use]
    pub fn nothing() -> Self {
        let now = Instant::now();
        Self {
            tasks: Vec::new(),
            since: now,
            began: now,
        }
    }
}
