//! The broker of a worker in the process that has the store: no wire, no polling.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sidestream_core::{Command, TaskIdentity, Timestamp, ToolName};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::store::{self, Answer, Request, Store};
use crate::worker::broker::{Broker, Claimed, FreeSlots, Slots};
use crate::worker::running::{RunningTasks, Work};
use crate::writer::{Claimant, Reply, StandingClaim, Writer};

/// So many tasks at most are claimed at a time: as many as a batch has requests.
const CLAIM_MAX: u32 = 1_024;

/// Claims from a store of this process. What is committed here takes a claim along; when others commit, or
/// a task comes due, one goes by itself.
pub(crate) struct LocalBroker {
    store: Arc<dyn Store>,
    writer: Writer,
    /// What is claimed, but for how many.
    claim: store::Claim,
    work: watch::Receiver<Work>,
    last: Mutex<Last>,
    /// Where claims come from, until the worker first asks for one.
    gone: Mutex<Option<mpsc::UnboundedSender<Gone>>>,
    /// The claims that have gone, in order. Only the worker waits here.
    going: tokio::sync::Mutex<mpsc::UnboundedReceiver<Gone>>,
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

/// A claim that has gone, and what it took along.
#[derive(Debug)]
struct Gone {
    /// For how many tasks.
    limit: u32,
    /// Those for what it brings, once that is known; till then all that it asked for.
    slots: Arc<Mutex<FreeSlots>>,
    since: Instant,
    /// What had happened by then.
    seen: Work,
    answer: oneshot::Receiver<Reply>,
}

/// Makes the claims.
struct Claims {
    claim: store::Claim,
    slots: Slots,
    work: watch::Receiver<Work>,
    gone: mpsc::UnboundedSender<Gone>,
}

impl Claimant for Claims {
    fn tools(&self) -> &[ToolName] {
        &self.claim.tools
    }

    fn claim(&self) -> Option<StandingClaim> {
        let slots = self.slots.take(CLAIM_MAX);
        let limit = slots.left();
        if limit == 0 {
            return None;
        }
        let claim = store::Claim {
            limit,
            ..self.claim.clone()
        };
        let (reply, answer) = oneshot::channel();
        let slots = Arc::new(Mutex::new(slots));
        let gone = Gone {
            limit,
            slots: Arc::clone(&slots),
            since: Instant::now(),
            // Seen before the claim: what changes during it is seen again.
            seen: *self.work.borrow(),
            answer,
        };
        self.gone.send(gone).ok()?;
        Some(StandingClaim {
            request: Request::Claim(claim),
            reply,
            brought: Box::new(move |tasks| slots.lock().keep(tasks)),
        })
    }
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
        let (gone, going) = mpsc::unbounded_channel();
        Self {
            store,
            writer,
            claim,
            work,
            last: Mutex::new(last),
            gone: Mutex::new(Some(gone)),
            going: tokio::sync::Mutex::new(going),
        }
    }

    /// Has claims go along with what is committed, from the first time that this is called.
    fn stand(&self, slots: &Slots) {
        if let Some(gone) = self.gone.lock().take() {
            self.writer.stand(Arc::new(Claims {
                claim: self.claim.clone(),
                slots: slots.clone(),
                work: self.work.clone(),
                gone,
            }));
        }
    }

    /// Waits until there may be work that no batch of this process took a claim along for.
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

    /// The next claim to go, or that has gone; `None` once there will be no more. From when it is to stop, none goes
    /// along with anything.
    async fn next_claim(&self, slots: &Slots, stop: &CancellationToken) -> Option<Gone> {
        let mut going = self.going.lock().await;
        let worth_it = async {
            self.called().await;
            slots.free().await;
        };
        let gone = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            gone = going.recv() => return gone,
            () = worth_it => {
                self.writer.claim_now();
                stop.run_until_cancelled(going.recv()).await
            }
        };
        match gone {
            Some(gone) => gone,
            None => {
                self.writer.leave();
                going.try_recv().ok()
            }
        }
    }

    /// What a claim brought.
    async fn brought(&self, gone: Gone) -> Result<Claimed, Error> {
        let answer = gone.answer.await.unwrap_or(Err(Error::ShutDown));
        let (claimed, last) = match answer {
            Ok((Answer::Claimed(claimed), last)) => (claimed, last),
            Ok((other, _)) => unreachable!("a claim is answered as one: {other:?}"),
            Err(error) => {
                self.last.lock().next = Next::Now;
                return Err(error);
            }
        };
        let next = match claimed.next_due {
            _ if claimed.tasks.len() == gone.limit as usize => Next::Now,
            Some(at) => Next::Due(at),
            None => Next::WhenToldTo,
        };
        let mut before = self.last.lock();
        let seen = Work {
            // It was the last of its batch, and saw all that those before it saw.
            ours: gone
                .seen
                .ours
                .max(before.seen.ours)
                .max(last.unwrap_or_default()),
            ..gone.seen
        };
        *before = Last { seen, next };
        drop(before);
        let mut slots = gone.slots.lock();
        let started_at = claimed.tasks.first().and_then(|task| task.started_at);
        let age = started_at.map_or(Duration::ZERO, |at| self.store.now().since(at));
        Ok(Claimed {
            tasks: claimed.tasks.into_iter().zip(&mut *slots).collect(),
            since: gone.since,
            began: Instant::now().checked_sub(age).unwrap_or(gone.since),
        })
    }
}

#[async_trait]
impl Broker for LocalBroker {
    async fn claim(&self, slots: &Slots, stop: &CancellationToken) -> Result<Claimed, Error> {
        self.stand(slots);
        while let Some(gone) = self.next_claim(slots, stop).await {
            let claimed = self.brought(gone).await?;
            // When it is to stop, one that went after this may still have brought something.
            if !claimed.tasks.is_empty() || !stop.is_cancelled() {
                return Ok(claimed);
            }
        }
        match stop.is_cancelled() {
            true => Ok(Claimed::nothing()),
            false => Err(Error::ShutDown),
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

#[cfg(test)]
mod tests {
    use sidestream_core::{Namespace, Seq, Status, TaskId, WorkerId};

    use super::*;
    use crate::store::MemoryStore;
    use crate::stream::RingLimits;
    use crate::stream::ring::Ring;
    use crate::stream::tail::Tail;
    use crate::writer::tests::dispatch;

    /// The cancellation of the task `t`.
    fn cancel() -> Request {
        Request::Command {
            namespace: Namespace::default(),
            id: TaskId::new("t").expect("a fit id"),
            command: Command::Cancel,
        }
    }

    /// Two claims have gone when the worker is told to stop: one that brought nothing, and after it one for the only
    /// slot, which the first did not need. What that one brought is given to the worker; nothing else is claimed.
    #[tokio::test]
    async fn a_worker_that_stops_is_given_all_that_was_claimed_for_it() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let ring = Arc::new(Ring::new(Seq(0), RingLimits::default()));
        let running = Arc::<RunningTasks>::default();
        let tail = Tail::new(Arc::clone(&store), ring, vec![Arc::clone(&running) as _]);
        let (writer, writer_loop) = Writer::new(Arc::clone(&store), Arc::new(tail));
        let claim = store::Claim {
            worker: WorkerId::new("w").expect("a fit name"),
            tools: Arc::from([ToolName::new("tool").expect("a fit name")]),
            namespace: None,
            limit: 0,
            lease_ms: 1_000,
            limits: Arc::default(),
        };
        let broker = LocalBroker::new(Arc::clone(&store), writer.clone(), claim, &running);
        let (slots, stop) = (Slots::new(1), CancellationToken::new());
        let story = async {
            let first = broker.claim(&slots, &stop).await.expect("it is answered");
            assert!(first.tasks.is_empty(), "there is nothing yet");
            // Both name one task, so each has a batch of its own; the first is of no task that is there.
            let (refused, made) =
                tokio::join!(writer.submit(cancel()), writer.submit(dispatch("t")));
            assert!(refused.is_err(), "{refused:?}");
            made.expect("it is accepted");
            stop.cancel();
            let last = broker.claim(&slots, &stop).await.expect("it is answered");
            assert_eq!(last.tasks.len(), 1, "{last:?}");
            drop(last);
            writer.submit(cancel()).await.expect("it is cancelled");
            let nothing = broker.claim(&slots, &stop).await.expect("it is answered");
            assert!(nothing.tasks.is_empty(), "{nothing:?}");
            let other = TaskId::new("other").expect("a fit id");
            let later = writer.submit(dispatch("other")).await;
            later.expect("it is accepted");
            let found = store.get(&Namespace::default(), &other).await;
            let found = found.expect("the store works").expect("it is there");
            assert_eq!(found.status, Status::Pending, "nobody would run it");
            writer.close().await;
        };
        tokio::join!(writer_loop.run(), story);
    }
}
