//! Group commit: the requests of concurrent callers become one transaction.
//!
//! There is no timer. While one batch is being committed the next gathers by itself, and who waited for the
//! one before is told: alone a caller waits for one commit, a thousand callers share one. The claim of the
//! process's own worker goes along with whatever may bring it work (`standing`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::HashSet;
use sidestream_core::{Command, LogEntry, Namespace, Rejection, Seq, TaskId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::{Error, StoreErrorKind};
use crate::store::{Answer, Committed, Request, Store};
use crate::stream::tail::{Lead, Tail};

mod standing;

pub(crate) use standing::Claimant;

/// So many requests at most make a batch.
const BATCH_MAX: usize = 1_024;
/// So many bytes of payload at most make a batch, but for one request that is larger alone.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// So many requests at most wait for their batch; a further caller waits for its place among them.
const WAITING_MAX: usize = 16_384;
/// So many bytes of payload at most wait for their batch, or are in it.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// What became of a request; and, for whoever looks at what happens next, the last event of its batch.
pub(crate) type Reply = Result<(Answer, Option<Seq>), Error>;

/// Where every request of the process goes. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Writer {
    sender: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    standing: Arc<standing::Place>,
    counts: Arc<Counts>,
    closing: CancellationToken,
    closed: CancellationToken,
}

/// What the writer has done.
#[derive(Debug, Default)]
struct Counts {
    commits: AtomicU64,
    requests: AtomicU64,
}

/// A request, and who waits for its answer.
#[derive(Debug)]
struct Waiting {
    request: Request,
    reply: oneshot::Sender<Reply>,
    /// Its share of [`WAITING_BYTES_MAX`], until it is answered. The worker's own claim needs none.
    room: Option<OwnedSemaphorePermit>,
}

impl Writer {
    /// The writer, and the loop that must be run for it to do anything.
    pub(crate) fn new(store: Arc<dyn Store>, tail: Arc<Tail>) -> (Self, WriterLoop) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let counts = Arc::<Counts>::default();
        let (closing, closed) = (CancellationToken::new(), CancellationToken::new());
        let writer = Self {
            sender,
            room: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
            standing: Arc::default(),
            counts: Arc::clone(&counts),
            closing: closing.clone(),
            closed: closed.clone(),
        };
        let writer_loop = WriterLoop {
            store,
            tail,
            receiver,
            standing: Arc::clone(&writer.standing),
            deferred: VecDeque::new(),
            counts,
            closing,
            _closed: closed.drop_guard(),
        };
        (writer, writer_loop)
    }

    /// Commits a request, together with those of other callers.
    ///
    /// Once this returns, streams of this process can read what it did. Dropping the future does not
    /// undo the request.
    ///
    /// # Errors
    /// [`Error::Rejected`] when the task does not allow it, [`Error::Store`] when the store could not
    /// do it, [`Error::Overloaded`] when too many wait already, [`Error::ShutDown`] afterwards.
    pub async fn submit(&self, request: Request) -> Result<Answer, Error> {
        let answered = self.enqueue(request)?.await;
        let (answer, _) = answered.unwrap_or(Err(Error::ShutDown))?;
        Ok(answer)
    }

    /// Commits requests of one caller, in few batches. The answers are in the order of the requests.
    pub async fn submit_all(&self, requests: Vec<Request>) -> Vec<Result<Answer, Error>> {
        let mut replies = Vec::with_capacity(requests.len());
        for request in requests {
            // A large batch waits for room rather than be refused in its middle.
            let (reply, answer) = oneshot::channel();
            let room = Arc::clone(&self.room).acquire_many_owned(share(&request));
            let room = room.await.expect("it is never closed");
            let waiting = Waiting {
                request,
                reply,
                room: Some(room),
            };
            let sent = self.sender.send(waiting).await;
            replies.push(sent.map(|()| answer));
        }
        let mut answers = Vec::with_capacity(replies.len());
        for reply in replies {
            let answered = match reply {
                Ok(answer) => answer.await.unwrap_or(Err(Error::ShutDown)),
                Err(_) => Err(Error::ShutDown),
            };
            answers.push(answered.map(|(answer, _)| answer));
        }
        answers
    }

    fn enqueue(&self, request: Request) -> Result<oneshot::Receiver<Reply>, Error> {
        let (reply, answer) = oneshot::channel();
        let overloaded = || Error::Overloaded {
            waiting: self.waiting(),
        };
        let room = Arc::clone(&self.room).try_acquire_many_owned(share(&request));
        let waiting = Waiting {
            request,
            reply,
            room: Some(room.map_err(|_| overloaded())?),
        };
        match self.sender.try_send(waiting) {
            Ok(()) => Ok(answer),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Error::ShutDown),
            Err(mpsc::error::TrySendError::Full(_)) => Err(overloaded()),
        }
    }

    /// From now on a claim of this worker goes along with each batch that may bring it work. There is one
    /// worker at a time.
    pub(crate) fn stand(&self, claimant: Arc<dyn Claimant>) {
        self.standing.stand(claimant);
    }

    /// The worker claims no more. A claim that has been made is answered.
    pub(crate) fn leave(&self) {
        self.standing.leave();
    }

    /// A claim of the worker goes now, with whatever waits.
    pub(crate) fn claim_now(&self) {
        self.standing.call();
    }

    /// Takes no more requests, and waits until those that wait are committed.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.closed.cancelled().await;
    }

    /// How many batches have been committed so far, and how many requests they held.
    #[must_use]
    pub fn commits_and_requests(&self) -> (u64, u64) {
        let Counts { commits, requests } = &*self.counts;
        (commits.load(Relaxed), requests.load(Relaxed))
    }

    /// How many requests wait for their commit.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }
}

/// Gathers batches and commits them, one after the other, until every [`Writer`] is gone or one is
/// closed.
pub(crate) struct WriterLoop {
    store: Arc<dyn Store>,
    tail: Arc<Tail>,
    receiver: mpsc::Receiver<Waiting>,
    standing: Arc<standing::Place>,
    /// Second requests for a task that the last batch named already, in order.
    deferred: VecDeque<Waiting>,
    counts: Arc<Counts>,
    closing: CancellationToken,
    _closed: DropGuard,
}

/// A batch that has been committed, and that nobody has been told of yet.
struct Untold {
    entries: Vec<LogEntry>,
    answers: Vec<Result<Answer, Rejection>>,
    replies: Vec<oneshot::Sender<Reply>>,
    _room: Vec<Option<OwnedSemaphorePermit>>,
}

impl WriterLoop {
    /// While one batch is being committed, who waited for the one before it is told.
    pub(crate) async fn run(mut self) {
        let tail = Arc::clone(&self.tail);
        while let Some(batch) = self.gather().await {
            if batch.is_empty() {
                continue;
            }
            let lead = tail.lead().await;
            let mut untold = self.commit(&lead, batch, None).await;
            while let Some(before) = untold {
                let batch = self.gather_waiting();
                untold = match batch.is_empty() {
                    true => {
                        before.tell(&lead).await;
                        None
                    }
                    false => self.commit(&lead, batch, Some(before)).await,
                };
            }
        }
    }

    /// The next batch, once anything waits; `None` once the writer is closed and nothing waits any more.
    async fn gather(&mut self) -> Option<Vec<Waiting>> {
        let first = match self.deferred.is_empty() {
            true => self.first().await?,
            false => None,
        };
        Some(self.gather_with(first))
    }

    /// What waits now.
    fn gather_waiting(&mut self) -> Vec<Waiting> {
        self.gather_with(None)
    }

    /// What waits now, but one request at most for each task.
    fn gather_with(&mut self, first: Option<Waiting>) -> Vec<Waiting> {
        let mut batch = Batch::default();
        for waiting in std::mem::take(&mut self.deferred) {
            batch.add(waiting, &mut self.deferred);
        }
        if let Some(first) = first {
            batch.add(first, &mut self.deferred);
        }
        while batch.has_room() && self.deferred.len() < BATCH_MAX {
            match self.receiver.try_recv() {
                Ok(waiting) => batch.add(waiting, &mut self.deferred),
                Err(_) => break,
            }
        }
        let requests = batch.members.iter().map(|waiting| &waiting.request);
        if let Some((request, reply)) = self.standing.claim(requests) {
            let room = None;
            batch.members.push(Waiting {
                request,
                reply,
                room,
            });
        }
        batch.in_order()
    }

    /// Waits for a request, or until the worker is to claim; `None` once the writer is closed and nothing
    /// waits any more.
    async fn first(&mut self) -> Option<Option<Waiting>> {
        let first = tokio::select! {
            biased;
            first = self.receiver.recv() => first,
            () = self.standing.called() => return Some(None),
            () = self.closing.cancelled() => {
                self.receiver.close();
                self.receiver.recv().await
            }
        };
        first.map(Some)
    }

    /// Commits a batch, and meanwhile tells of the one before it. Returns what is to be told then.
    async fn commit(
        &self,
        lead: &Lead<'_>,
        batch: Vec<Waiting>,
        before: Option<Untold>,
    ) -> Option<Untold> {
        let (requests, (replies, room)): (Vec<_>, (Vec<_>, Vec<_>)) = batch
            .into_iter()
            .map(|waiting| (waiting.request, (waiting.reply, waiting.room)))
            .unzip();
        let tell = async {
            if let Some(before) = before {
                before.tell(lead).await;
            }
        };
        // Begun before anything is told, so that the store works meanwhile.
        let (committed, ()) = tokio::join!(self.store.commit(requests.clone()), tell);
        match committed {
            Ok(Committed { answers, entries }) => {
                self.count(answers.len());
                Some(Untold {
                    entries,
                    answers,
                    replies,
                    _room: room,
                })
            }
            Err(error) if error.kind() == StoreErrorKind::Bug && replies.len() > 1 => {
                self.commit_each(lead, requests, replies).await;
                None
            }
            Err(error) => {
                tracing::warn!(%error, requests = replies.len(), "a batch was not committed");
                for reply in replies {
                    let _ = reply.send(Err(error.clone().into()));
                }
                None
            }
        }
    }

    /// A batch that trips over one of its requests must not fail the others.
    async fn commit_each(
        &self,
        lead: &Lead<'_>,
        requests: Vec<Request>,
        replies: Vec<oneshot::Sender<Reply>>,
    ) {
        for (request, reply) in requests.into_iter().zip(replies) {
            match self.store.commit(vec![request]).await {
                Ok(Committed { answers, entries }) => {
                    self.count(answers.len());
                    let untold = Untold {
                        entries,
                        answers,
                        replies: vec![reply],
                        _room: Vec::new(),
                    };
                    untold.tell(lead).await;
                }
                Err(error) => {
                    let _ = reply.send(Err(error.into()));
                }
            }
        }
    }

    fn count(&self, requests: usize) {
        self.counts.commits.fetch_add(1, Relaxed);
        self.counts.requests.fetch_add(requests as u64, Relaxed);
    }
}

impl Untold {
    /// Publishes, then answers: who asked can read what it wrote.
    async fn tell(self, lead: &Lead<'_>) {
        lead.publish(&self.entries).await;
        let last = self.entries.last().map(|entry| entry.event.seq);
        for (reply, answer) in self.replies.into_iter().zip(self.answers) {
            let answer = answer.map(|answer| (answer, last));
            // Who no longer waits does not want the answer.
            let _ = reply.send(answer.map_err(Error::from));
        }
    }
}

impl Drop for WriterLoop {
    fn drop(&mut self) {
        self.standing.leave();
    }
}

/// A batch being gathered.
#[derive(Default)]
struct Batch {
    members: Vec<Waiting>,
    named: HashSet<(Namespace, TaskId)>,
    bytes: usize,
}

impl Batch {
    fn has_room(&self) -> bool {
        self.members.len() < BATCH_MAX && self.bytes < BATCH_BYTES_MAX
    }

    /// Takes a request in, or defers it: behind another for the same task, order must be kept.
    fn add(&mut self, waiting: Waiting, deferred: &mut VecDeque<Waiting>) {
        let name = names(&waiting.request);
        let is_second = match name {
            Some(name) => !self.named.insert(name),
            None => false,
        };
        if is_second || !self.has_room() {
            deferred.push_back(waiting);
            return;
        }
        self.bytes += bytes(&waiting.request);
        self.members.push(waiting);
    }

    /// Those that pick tasks themselves come last, so that they find what the others left: claims after all
    /// that may bring them work, so that whoever claims has seen its whole batch.
    fn in_order(mut self) -> Vec<Waiting> {
        self.members.sort_by_key(|waiting| match waiting.request {
            Request::Claim(_) => 2,
            Request::Rescue(_) => 1,
            _ => 0,
        });
        self.members
    }
}

/// The task that a request names.
fn names(request: &Request) -> Option<(Namespace, TaskId)> {
    match request {
        Request::Dispatch { spec, .. } => {
            Some((spec.identity.namespace.clone(), spec.identity.id.clone()))
        }
        Request::Command { namespace, id, .. } | Request::Delete { namespace, id } => {
            Some((namespace.clone(), id.clone()))
        }
        Request::Record { namespace, record } => Some((namespace.clone(), record.id().clone())),
        Request::Claim(_)
        | Request::Rescue(_)
        | Request::Cleanup(_)
        | Request::Prune(_)
        | Request::Acknowledge { .. }
        | Request::AddKey(_)
        | Request::RevokeKey { .. } => None,
    }
}

/// What a request takes of the room for those that wait. One that is larger alone takes all of it.
fn share(request: &Request) -> u32 {
    u32::try_from(bytes(request).min(WAITING_BYTES_MAX)).expect("it is of limited size")
}

/// What a request adds to a batch, roughly, in bytes.
fn bytes(request: &Request) -> usize {
    const ROW: usize = 256;
    match request {
        Request::Dispatch { spec, .. } => ROW + spec.identity.args.bytes(),
        Request::Record { record, .. } => ROW + record.document().bytes(),
        Request::Command { command, .. } => match command {
            Command::Output { payloads, .. } => payloads.iter().map(|p| ROW + p.bytes()).sum(),
            Command::Complete { result, .. } => ROW + result.as_ref().map_or(0, |r| r.bytes()),
            Command::Suspend { payload, .. } => ROW + payload.bytes(),
            Command::Resume { data } => ROW + data.bytes(),
            _ => ROW,
        },
        _ => ROW,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Claim, Rescue};
    use sidestream_core::{Jitter, WorkerId};

    fn waiting(request: Request) -> Waiting {
        let (reply, _) = oneshot::channel();
        let room = None;
        Waiting {
            request,
            reply,
            room,
        }
    }

    /// Whoever claims has seen its whole batch: else what a rescue frees rings no bell that it hears.
    #[test]
    fn claims_come_after_all_that_may_bring_them_work() {
        let claim = Request::Claim(Claim {
            worker: WorkerId::new("w").expect("it is a name"),
            tools: Arc::from([]),
            namespace: None,
            limit: 1,
            lease_ms: 1,
            limits: Arc::default(),
        });
        let rescue = Request::Rescue(Rescue {
            limit: 1,
            overtime_ms: 1,
            jitter: Jitter(0),
            gone: None,
            spared: Arc::default(),
        });
        let revoke = |id: &str| Request::RevokeKey { id: id.into() };
        let batch = Batch {
            members: [claim, revoke("1"), rescue, revoke("2")]
                .map(waiting)
                .into(),
            ..Batch::default()
        };
        let order = batch.in_order();
        let order = order.iter().map(|waiting| &waiting.request);
        let order: Vec<&str> = order
            .map(|request| match request {
                Request::Claim(_) => "claim",
                Request::Rescue(_) => "rescue",
                Request::RevokeKey { id } => id,
                _ => "another",
            })
            .collect();
        assert_eq!(order, ["1", "2", "rescue", "claim"]);
    }
}
