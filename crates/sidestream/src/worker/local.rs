//! The broker of a worker in the process that has the store: no wire, no polling.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sidestream_core::{Command, TaskIdentity, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::store::{self, Answer, Request, Store};
use crate::worker::broker::{Broker, Claimed};
use crate::worker::running::RunningTasks;
use crate::writer::Writer;

/// Claims from a store of this process, and is woken by its events.
pub(crate) struct LocalBroker {
    store: Arc<dyn Store>,
    writer: Writer,
    /// What is claimed, but for how many.
    claim: store::Claim,
    waiting: Mutex<Waiting>,
}

/// What the next claim waits for.
struct Waiting {
    work: watch::Receiver<u64>,
    next: Next,
}

/// When to claim next.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// At once: there may be more.
    Now,
    /// Then, or when something changes.
    Due(Timestamp),
    /// When something changes.
    WhenToldTo,
}

impl LocalBroker {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        writer: Writer,
        claim: store::Claim,
        running: &RunningTasks,
    ) -> Self {
        let (work, next) = (running.work(), Next::Now);
        Self {
            store,
            writer,
            claim,
            waiting: Mutex::new(Waiting { work, next }),
        }
    }
}

#[async_trait]
impl Broker for LocalBroker {
    async fn ready(&self) {
        let (mut work, next) = {
            let waiting = self.waiting.lock();
            (waiting.work.clone(), waiting.next)
        };
        let until = match next {
            Next::Now => return,
            Next::Due(at) => Some(at.since(self.store.now())),
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
            // The sender is gone only with the whole process's work.
            _ = work.changed() => {}
            () = due => {}
        }
    }

    async fn claim(&self, limit: u32, _stop: &CancellationToken) -> Result<Claimed, Error> {
        // Seen before the claim: what changes during it rings again.
        self.waiting.lock().work.mark_unchanged();
        let claim = store::Claim {
            limit,
            ..self.claim.clone()
        };
        let since = Instant::now();
        let claimed = match self.writer.submit(Request::Claim(claim)).await {
            Ok(Answer::Claimed(claimed)) => claimed,
            Ok(other) => unreachable!("a claim is answered as one: {other:?}"),
            Err(error) => {
                self.waiting.lock().next = Next::Now;
                return Err(error);
            }
        };
        self.waiting.lock().next = match claimed.next_due {
            _ if claimed.tasks.len() == limit as usize => Next::Now,
            Some(at) => Next::Due(at),
            None => Next::WhenToldTo,
        };
        let tasks = claimed.tasks;
        let (now, started_at) = (
            Instant::now(),
            tasks.first().and_then(|task| task.started_at),
        );
        let age = started_at.map_or(Duration::ZERO, |at| self.store.now().since(at));
        let began = now.checked_sub(age).unwrap_or(since);
        Ok(Claimed {
            tasks,
            since,
            began,
        })
    }

    async fn report(&self, task: &TaskIdentity, command: Command) -> Result<(), Error> {
        let request = Request::Command {
            namespace: task.namespace.clone(),
            id: task.id.clone(),
            command,
        };
        self.writer.submit(request).await.map(drop)
    }
}

impl fmt::Debug for LocalBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBroker")
            .field("worker", &self.claim.worker)
            .finish_non_exhaustive()
    }
}
