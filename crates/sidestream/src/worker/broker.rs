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
    /// Gives pending tasks to the worker, each with a slot that was free. It waits until there is one, and
    /// may return without any. When `stop` is cancelled it waits no longer, but still returns what it was
    /// given: call it until it returns nothing. It is never dropped half-way: what was claimed must be run.
    ///
    /// # Errors
    /// [`Error::ShutDown`] when there will never be a task again; any other error is worth another try.
    async fn claim(&self, slots: &Slots, stop: &CancellationToken) -> Result<Claimed, Error>;

    /// Says what became of an attempt, or that it goes on ([`Command::Renew`]).
    ///
    /// # Errors
    /// [`Error::Rejected`] when the attempt no longer holds the task. [`Error::Store`] and
    /// [`Error::Overloaded`]: nobody knows whether it was heard; say it again, with the same number.
    async fn report(&self, task: &TaskIdentity, command: Command) -> Result<(), Error>;
}

/// The slots of a worker: so many tasks run at once. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Slots(Arc<Semaphore>);

/// A slot that a task takes, until this is dropped.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "held, not looked at")] OwnedSemaphorePermit);

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        Self(Arc::new(Semaphore::new(count as usize)))
    }

    /// Waits until one is free.
    pub async fn free(&self) {
        let free = self.0.acquire().await;
        drop(free.expect("it is never closed"));
    }

    /// Takes those that are free, but so many at most. A claim asks for as many tasks: so it is made as late
    /// as can be.
    #[must_use]
    pub fn take(&self, max: u32) -> FreeSlots {
        loop {
            let free = u32::try_from(self.0.available_permits()).unwrap_or(u32::MAX);
            // Another may have been quicker.
            let taken = Arc::clone(&self.0).try_acquire_many_owned(free.min(max));
            if let Ok(taken) = taken {
                return FreeSlots(taken);
            }
        }
    }
}

/// Slots that were free, and are taken: one after the other for a task each, the rest until this is dropped.
#[derive(Debug)]
pub struct FreeSlots(OwnedSemaphorePermit);

impl FreeSlots {
    /// How many are left.
    #[must_use]
    pub fn left(&self) -> u32 {
        u32::try_from(self.0.num_permits()).unwrap_or(u32::MAX)
    }

    /// Keeps so many; the rest are free again.
    pub(super) fn keep(&mut self, count: usize) {
        let rest = self.0.num_permits().saturating_sub(count);
        drop(self.0.split(rest));
    }
}

impl Iterator for FreeSlots {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        self.0.split(1).map(Slot)
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
