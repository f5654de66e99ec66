//! The broker of a worker in the process that has the store: no wire, no polling.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sidestream_core::{Command, Seq, TaskIdentity, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::store::{self, Answer, Request, Store};
use crate::worker::broker::{Broker, Claimed, FreeSlots, Slot};
use crate::worker::running::{RunningTasks, Work};
use crate::writer::Writer;

/// So many tasks at most are claimed at a time: as many as a batch has requests.
const CLAIM_MAX: usize = 1_024;

/// Claims from a store of this process. Its claim stands until something may have brought work: what is
/// committed here takes it along, what others commit rings.
pub(crate) struct LocalBroker {
    store: Arc<dyn Store>,
    writer: Writer,
    /// What is claimed, but for how many.
    claim: store::Claim,
    work: watch::Receiver<Work>,
    last: Mutex<Last>,
}

/// What the last claim saw.
#[derive(Debug, Clone, Copy)]
struct Last {
    /// What had happened that may have brought work.
    seen: Work,
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

/// What a claim took when it went.
#[derive(Debug)]
struct Gone {
    slots: Vec<Slot>,
    since: Instant,
    /// What had happened by then.
    seen: Work,
}

impl LocalBroker {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        writer: Writer,
        claim: store::Claim,
        running: &RunningTasks,
    ) -> Self {
        let work = running.work();
        let last = Last {
            seen: *work.borrow(),
            next: Next::Now,
        };
        Self {
            store,
            writer,
            claim,
            work,
            last: Mutex::new(last),
        }
    }

    /// Waits until there may be work that no batch of this process takes the claim along for.
    async fn called(&self) {
        let Last { seen, next } = *self.last.lock();
        let due = async {
            match next {
                Next::Now => {}
                Next::Due(at) => {
                    let wait = at.since(self.store.now());
                    tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
                }
                Next::WhenToldTo => std::future::pending().await,
            }
        };
        let mut work = self.work.clone();
        tokio::select! {
            biased;
            // The sender is gone only with the whole process's work.
            _ = work.wait_for(|now| now.theirs != seen.theirs || now.ours > seen.ours) => {}
            () = due => {}
        }
    }

    /// What a claim brought.
    fn brought(&self, gone: Gone, tasks: store::Claimed, last: Option<Seq>) -> Claimed {
        let next = match tasks.next_due {
            _ if tasks.tasks.len() == gone.slots.len() => Next::Now,
            Some(at) => Next::Due(at),
            None => Next::WhenToldTo,
        };
        let seen = Work {
            // It was the last of its batch.
            ours: last.map_or(gone.seen.ours, |last| last.max(gone.seen.ours)),
            ..gone.seen
        };
        *self.last.lock() = Last { seen, next };
        let started_at = tasks.tasks.first().and_then(|task| task.started_at);
        let age = started_at.map_or(Duration::ZERO, |at| self.store.now().since(at));
        Claimed {
            tasks: tasks.tasks.into_iter().zip(gone.slots).collect(),
            since: gone.since,
            began: Instant::now().checked_sub(age).unwrap_or(gone.since),
        }
    }
}

#[async_trait]
impl Broker for LocalBroker {
    async fn claim(&self, free: FreeSlots, stop: &CancellationToken) -> Result<Claimed, Error> {
        let gone = Arc::new(Mutex::new(None));
        let make = {
            let (gone, claim, work) = (Arc::clone(&gone), self.claim.clone(), self.work.clone());
            move || {
                let slots = free.take(CLAIM_MAX);
                let limit = u32::try_from(slots.len()).unwrap_or(u32::MAX);
                *gone.lock() = Some(Gone {
                    slots,
                    since: Instant::now(),
                    // Seen before the claim: what changes during it is seen again.
                    seen: *work.borrow(),
                });
                Request::Claim(store::Claim { limit, ..claim })
            }
        };
        let mut standing = self.writer.stand(Arc::clone(&self.claim.tools), make);
        let early = tokio::select! {
            biased;
            answer = standing.answered() => Some(answer),
            () = self.called() => standing.hurry().map(|()| None)?,
            () = stop.cancelled() => {
                if standing.withdraw() {
                    return Ok(Claimed::nothing());
                }
                None
            }
        };
        let answer = match early {
            Some(answer) => answer,
            None => standing.answered().await,
        };
        let gone = gone.lock().take();
        match (answer, gone) {
            (Ok((Answer::Claimed(tasks), last)), Some(gone)) => Ok(self.brought(gone, tasks, last)),
            (Ok((answer, _)), _) => unreachable!("a claim is answered as one: {answer:?}"),
            (Err(error), _) => {
                self.last.lock().next = Next::Now;
                Err(error)
            }
        }
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
