//! Gathering the requests of concurrent callers into batches.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hashbrown::HashSet;
use sidestream_core::{Command, Namespace, Rejection, TaskId};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::standing::{Brought, StandingClaim};
use super::{Counts, Reply, WAITING_BYTES_MAX, Waiting, standing};
use crate::store::{Answer, Request};

/// So many requests at most make a batch.
const BATCH_MAX: usize = 1_024;
/// So many bytes of payload at most make a batch, but for one request that is larger alone.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Those who were answered are waited for so many turns of the runtime at most, and as long as one of them comes each
/// so many.
const TURNS_MAX: u32 = 256;
const IDLE_TURNS_MAX: u32 = 64;

/// The next batch, as it gathers.
pub(super) struct Gathering {
    pub(super) receiver: mpsc::Receiver<Waiting>,
    pub(super) standing: Arc<standing::Place>,
    pub(super) closing: CancellationToken,
    pub(super) counts: Arc<Counts>,
    pub(super) batch: Batch,
    /// Second requests for a task that the batch names already, and what it has no room for, in order.
    pub(super) deferred: VecDeque<Waiting>,
}

impl Gathering {
    /// Waits for a request, or until the worker is to claim; `false` once the writer is closed and nothing
    /// waits any more.
    pub(super) async fn wait(&mut self) -> bool {
        if !self.batch.is_empty() {
            return true;
        }
        let first = tokio::select! {
            biased;
            first = self.receiver.recv() => first,
            () = self.standing.called() => return true,
            () = self.closing.cancelled() => {
                self.receiver.close();
                self.receiver.recv().await
            }
        };
        let is_there = first.is_some();
        first.into_iter().for_each(|first| self.add(first));
        is_there
    }

    /// Gathers what comes, as long as the batch has room for it, until dropped.
    pub(super) async fn go_on(&mut self) -> Infallible {
        while self.has_room() {
            match self.receiver.recv().await {
                Some(waiting) => self.add(waiting),
                None => break,
            }
        }
        std::future::pending().await
    }

    /// How many requests are gathered, for this batch and those after it.
    pub(super) fn len(&self) -> usize {
        self.batch.len() + self.deferred.len()
    }

    /// Gathers what has come. Once the writer is closed nothing more can.
    pub(super) fn gather(&mut self) {
        if self.closing.is_cancelled() {
            self.receiver.close();
        }
        while self.has_room()
            && let Ok(waiting) = self.receiver.try_recv()
        {
            self.add(waiting);
        }
    }

    /// Gathers what comes within a moment, until there is as much more as is hoped for; says how much came.
    ///
    /// A moment is counted in turns of the runtime: those who are to come have theirs in between, if it is theirs.
    pub(super) async fn wait_for(&mut self, hoped: usize) -> usize {
        let (mut came, mut idle_turns) = (0, 0);
        for _ in 0..TURNS_MAX {
            match self.receiver.try_recv() {
                Ok(waiting) => {
                    self.add(waiting);
                    (came, idle_turns) = (came + 1, 0);
                }
                Err(_) if idle_turns == IDLE_TURNS_MAX => break,
                Err(_) => {
                    idle_turns += 1;
                    tokio::task::yield_now().await;
                }
            }
            if came == hoped || !self.has_room() {
                break;
            }
        }
        came
    }

    /// What waits now, but one request at most for each task; and a claim of the worker, where there may be
    /// work for it. Empty, if there is nothing.
    pub(super) fn take(&mut self) -> Batch {
        self.gather();
        let mut batch = std::mem::take(&mut self.batch);
        for waiting in std::mem::take(&mut self.deferred) {
            self.add(waiting);
        }
        self.count();
        let claim = self.standing.claim(batch.all());
        batch.complete(claim);
        batch
    }

    fn has_room(&self) -> bool {
        self.batch.has_room() && self.deferred.len() < BATCH_MAX
    }

    fn add(&mut self, waiting: Waiting) {
        if self.batch.reserve(&waiting.request) {
            self.batch.add(waiting);
        } else {
            self.deferred.push_back(waiting);
        }
        self.count();
    }

    fn count(&self) {
        self.counts.gathered.store(self.len(), Relaxed);
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.standing.leave();
    }
}

/// Requests that are to be one transaction.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) requests: Vec<Request>,
    pub(super) callers: Callers,
    /// Those that pick tasks themselves, until it is complete.
    late: Vec<Waiting>,
    named: HashSet<(Namespace, TaskId)>,
    bytes: usize,
}

/// Who waits for the answers to a batch: one to each request, in their order.
#[derive(Default)]
pub(super) struct Callers {
    pub(super) replies: Vec<oneshot::Sender<Reply>>,
    /// Their shares of what may wait.
    rooms: Vec<OwnedSemaphorePermit>,
    /// Of the last of them, if that is the worker's own claim.
    brought: Option<Brought>,
}

impl Callers {
    pub(super) fn one(reply: oneshot::Sender<Reply>) -> Self {
        let replies = vec![reply];
        Self {
            replies,
            ..Self::default()
        }
    }

    /// Takes note that the batch is committed: the worker has back at once the slots that its claim did not need. Says
    /// how many may ask for more once they are told: as many as asked now, or as have tasks now that may end at once.
    pub(super) fn committed(&mut self, answers: &[Result<Answer, Rejection>]) -> usize {
        let Some(brought) = self.brought.take() else {
            return answers.len();
        };
        let tasks = match answers.last() {
            Some(Ok(Answer::Claimed(claimed))) => claimed.tasks.len(),
            _ => 0,
        };
        brought(tasks);
        tasks.max(answers.len() - 1)
    }
}

impl Batch {
    fn len(&self) -> usize {
        self.requests.len() + self.late.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn has_room(&self) -> bool {
        self.len() < BATCH_MAX && self.bytes < BATCH_BYTES_MAX
    }

    fn all(&self) -> impl Iterator<Item = &Request> {
        let late = self.late.iter().map(|waiting| &waiting.request);
        self.requests.iter().chain(late)
    }

    /// Is there a place for this request? Behind another for the same task there is none: order must be kept.
    fn reserve(&mut self, request: &Request) -> bool {
        if !self.has_room() {
            return false;
        }
        let is_first = names(request).is_none_or(|name| self.named.insert(name));
        if is_first {
            self.bytes += bytes(request);
        }
        is_first
    }

    /// Takes a request in, for which there is a place.
    fn add(&mut self, waiting: Waiting) {
        match waiting.request {
            Request::Claim(_) | Request::Rescue(_) => self.late.push(waiting),
            _ => self.push(waiting),
        }
    }

    fn push(&mut self, waiting: Waiting) {
        self.requests.push(waiting.request);
        self.callers.replies.push(waiting.reply);
        self.callers.rooms.extend(waiting.room);
    }

    /// Those that pick tasks themselves come last, so that they find what the others left: claims after all
    /// that may bring them work, so that whoever claims has seen its whole batch. The very last is the claim of the
    /// process's own worker, if one goes along.
    fn complete(&mut self, claim: Option<StandingClaim>) {
        let mut late = std::mem::take(&mut self.late);
        late.sort_by_key(|waiting| matches!(waiting.request, Request::Claim(_)));
        late.into_iter().for_each(|waiting| self.push(waiting));
        if let Some(claim) = claim {
            self.requests.push(claim.request);
            self.callers.replies.push(claim.reply);
            self.callers.brought = Some(claim.brought);
        }
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
pub(super) fn share(request: &Request) -> u32 {
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
        let mut batch = Batch::default();
        for request in [claim, revoke("1"), rescue, revoke("2")] {
            assert!(batch.reserve(&request));
            batch.add(waiting(request));
        }
        batch.complete(None);
        let order: Vec<&str> = batch
            .requests
            .iter()
            .map(|request| match request {
                Request::Claim(_) => "claim",
                Request::Rescue(_) => "rescue",
                Request::RevokeKey { id } => id,
                _ => "another",
            })
            .collect();
        assert_eq!(order, ["1", "2", "rescue", "claim"]);
    }

    /// While a batch is being committed the next gathers, and all that wait are counted.
    #[tokio::test]
    async fn a_second_request_for_a_task_waits_for_the_batch_after() {
        let (sender, receiver) = mpsc::channel(8);
        let mut gathering = Gathering {
            receiver,
            standing: Arc::default(),
            closing: CancellationToken::new(),
            counts: Arc::default(),
            batch: Batch::default(),
            deferred: VecDeque::new(),
        };
        let counts = Arc::clone(&gathering.counts);
        let delete = |id: &str| Request::Delete {
            namespace: Namespace::default(),
            id: TaskId::new(id).expect("a plain id"),
        };
        for id in ["a", "b", "a", "c", "a"] {
            let sent = sender.send(waiting(delete(id))).await;
            assert!(sent.is_ok());
        }
        tokio::select! {
            biased;
            never = gathering.go_on() => match never {},
            () = tokio::task::yield_now() => {}
        }
        let mut batches = Vec::new();
        let mut left = vec![counts.gathered.load(Relaxed)];
        while !gathering.batch.is_empty() {
            let batch = gathering.take();
            let ids = batch.requests.iter().map(|request| match request {
                Request::Delete { id, .. } => id.to_string(),
                other => panic!("{other:?}"),
            });
            batches.push(ids.collect::<Vec<_>>().concat());
            left.push(counts.gathered.load(Relaxed));
        }
        assert_eq!(batches, ["abc", "a", "a"]);
        assert_eq!(left, [5, 2, 1, 0]);
    }
}
