//! Group commit: the requests of concurrent callers become one transaction.
//!
//! There is no timer. While one batch is being committed the next gathers by itself, and who waited for the
//! one before is told: alone a caller waits for one commit, a thousand callers share one. A few callers are told
//! first, so that those who ask again at once share the next commit, too (`returning`). The claim of the
//! process's own worker goes along with whatever may bring it work (`standing`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use sidestream_core::{LogEntry, Rejection, Seq};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::{Error, StoreErrorKind};
use crate::store::{Answer, Committed, Request, Store};
use crate::stream::tail::{Lead, Tail};

mod batch;
mod returning;
mod standing;

use batch::{Batch, Callers, Gathering, share};
use returning::Returning;

pub(crate) use standing::{Claimant, StandingClaim};

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

/// What the writer has done, and has at hand.
#[derive(Debug, Default)]
struct Counts {
    commits: AtomicU64,
    requests: AtomicU64,
    /// Requests of the batch that gathers, and of those after it as far as they are known.
    gathered: AtomicUsize,
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
            gathering: Gathering {
                receiver,
                standing: Arc::clone(&writer.standing),
                closing,
                counts: Arc::clone(&counts),
                batch: Batch::default(),
                deferred: VecDeque::new(),
            },
            counts,
            returning: Returning::default(),
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
        let Counts {
            commits, requests, ..
        } = &*self.counts;
        (commits.load(Relaxed), requests.load(Relaxed))
    }

    /// How many requests wait for their commit.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let sent = self.sender.max_capacity() - self.sender.capacity();
        sent + self.counts.gathered.load(Relaxed)
    }
}

/// Gathers batches and commits them, one after the other, until every [`Writer`] is gone or one is
/// closed.
pub(crate) struct WriterLoop {
    store: Arc<dyn Store>,
    tail: Arc<Tail>,
    gathering: Gathering,
    counts: Arc<Counts>,
    returning: Returning,
    _closed: DropGuard,
}

/// A batch that has been committed, and that nobody has been told of yet.
struct Untold {
    entries: Vec<LogEntry>,
    answers: Vec<Result<Answer, Rejection>>,
    waiting: Callers,
    /// So many may ask for more as soon as they are told.
    may_return: usize,
}

impl WriterLoop {
    /// While one batch is being committed the next gathers, and who waited for the one before is told; a few are told
    /// before, and may be in it.
    pub(crate) async fn run(mut self) {
        let tail = Arc::clone(&self.tail);
        while self.gathering.wait().await {
            let lead = tail.lead().await;
            let mut untold: Option<Untold> = None;
            loop {
                self.gathering.gather();
                let (returning, others) = (&mut self.returning, self.gathering.len());
                let are_waited_for =
                    |it: &mut Untold| returning.are_waited_for(it.may_return, others);
                if let Some(last) = untold.take_if(are_waited_for) {
                    let callers = last.may_return;
                    last.tell(&lead).await;
                    let came = self.gathering.wait_for(callers).await;
                    self.returning.came(came, callers);
                }
                let batch = self.gathering.take();
                if batch.is_empty() {
                    break;
                }
                untold = self.commit(&lead, batch, untold).await;
            }
            if let Some(last) = untold {
                last.tell(&lead).await;
            }
        }
    }

    /// Commits a batch, and meanwhile tells of the one before it and gathers the next. Returns what is to be
    /// told then.
    async fn commit(
        &mut self,
        lead: &Lead<'_>,
        batch: Batch,
        before: Option<Untold>,
    ) -> Option<Untold> {
        let (requests, mut waiting) = (batch.requests, batch.callers);
        let tell = async {
            if let Some(before) = before {
                before.tell(lead).await;
            }
        };
        // Begun before anything is told, so that the store works meanwhile.
        let done = async { tokio::join!(self.store.commit(requests.clone()), tell) };
        let (committed, ()) = tokio::select! {
            biased;
            done = done => done,
            never = self.gathering.go_on() => match never {},
        };
        match committed {
            Ok(Committed { answers, entries }) => {
                self.count(answers.len());
                let may_return = waiting.committed(&answers);
                Some(Untold {
                    entries,
                    answers,
                    waiting,
                    may_return,
                })
            }
            Err(error) if error.kind() == StoreErrorKind::Bug && requests.len() > 1 => {
                self.commit_each(lead, requests, waiting).await;
                None
            }
            Err(error) => {
                tracing::warn!(%error, requests = requests.len(), "a batch was not committed");
                for reply in waiting.replies {
                    let _ = reply.send(Err(error.clone().into()));
                }
                None
            }
        }
    }

    /// A batch that trips over one of its requests must not fail the others.
    async fn commit_each(&self, lead: &Lead<'_>, requests: Vec<Request>, waiting: Callers) {
        for (request, reply) in requests.into_iter().zip(waiting.replies) {
            match self.store.commit(vec![request]).await {
                Ok(Committed { answers, entries }) => {
                    self.count(answers.len());
                    let untold = Untold {
                        entries,
                        answers,
                        waiting: Callers::one(reply),
                        may_return: 0,
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
        for (reply, answer) in self.waiting.replies.into_iter().zip(self.answers) {
            let answer = answer.map(|answer| (answer, last));
            // Who no longer waits does not want the answer.
            let _ = reply.send(answer.map_err(Error::from));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use parking_lot::Mutex;
    use sidestream_core::{Namespace, NewTask, TaskId, ToolName, WorkerId};

    use super::*;
    use crate::store::{Admission, Claim, MemoryStore};
    use crate::stream::RingLimits;
    use crate::stream::ring::Ring;
    use crate::testing::{Faults, FaultyStore, SeededChance};

    /// Claims one task at a time, and notes what it hears.
    struct Claims {
        tools: Arc<[ToolName]>,
        heard: Arc<Mutex<Vec<String>>>,
    }

    impl Claimant for Claims {
        fn tools(&self) -> &[ToolName] {
            &self.tools
        }

        fn claim(&self) -> Option<StandingClaim> {
            self.heard.lock().push("claims".into());
            let heard = Arc::clone(&self.heard);
            let (reply, _) = oneshot::channel();
            Some(StandingClaim {
                request: Request::Claim(Claim {
                    worker: WorkerId::new("w").expect("it is a name"),
                    tools: Arc::clone(&self.tools),
                    namespace: None,
                    limit: 1,
                    lease_ms: 1_000,
                    limits: Arc::default(),
                }),
                reply,
                brought: Box::new(move |tasks| heard.lock().push(format!("brought {tasks}"))),
            })
        }
    }

    /// The dispatch of a task of the tool `tool`.
    pub(crate) fn dispatch(id: &str) -> Request {
        let id = TaskId::new(id).expect("a fit id");
        let spec = NewTask::new("tool").into_spec(Namespace::default(), id, Default::default());
        Request::Dispatch {
            spec: Arc::new(spec.expect("a fit task")),
            admission: Admission::Queue,
        }
    }

    /// What a claim did not need the next one can ask for: it is told before that one is made, though nobody has been
    /// told yet of what was committed.
    #[tokio::test]
    async fn a_claim_hears_what_it_brought_before_the_next_is_made() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let ring = Arc::new(Ring::new(Seq(0), RingLimits::default()));
        let tail = Arc::new(Tail::new(Arc::clone(&store), ring, Vec::new()));
        let (writer, writer_loop) = Writer::new(store, tail);
        let heard = Arc::<Mutex<Vec<String>>>::default();
        writer.stand(Arc::new(Claims {
            tools: Arc::from([ToolName::new("tool").expect("a fit name")]),
            heard: Arc::clone(&heard),
        }));
        // The second names a task that the first names, so it waits for the batch after.
        let both = [dispatch("a"), dispatch("a")].map(|request| writer.enqueue(request));
        let both = both.map(|answer| answer.expect("there is room"));
        let told = async {
            for answer in both {
                let answer = answer.await.expect("it is answered");
                answer.expect("it is committed");
            }
            writer.close().await;
        };
        tokio::join!(writer_loop.run(), told);
        let heard = heard.lock().clone();
        assert_eq!(heard, ["claims", "brought 1", "claims", "brought 0"]);
    }

    /// Callers who each wait for an answer before they ask again share every commit, though they began apart.
    #[tokio::test(start_paused = true)]
    async fn callers_who_ask_again_at_once_share_every_commit() {
        const CALLERS: usize = 8;
        const EACH: usize = 100;
        let chance = Arc::new(SeededChance::new(1));
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new()), chance));
        store.set_faults(Faults {
            delays: 1_000,
            delay_max: Duration::from_millis(10),
            ..Faults::NONE
        });
        let ring = Arc::new(Ring::new(Seq(0), RingLimits::default()));
        let tail = Arc::new(Tail::new(Arc::clone(&store) as _, ring, Vec::new()));
        let (writer, writer_loop) = Writer::new(store, tail);
        let caller = |number: usize| {
            let writer = writer.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(number as u64)).await;
                for nth in 0..EACH {
                    let id = format!("{number}-{nth}");
                    let answer = writer.submit(dispatch(&id)).await;
                    answer.expect("it is committed");
                }
            }
        };
        let all = async {
            futures::future::join_all((0..CALLERS).map(caller)).await;
            writer.close().await;
        };
        tokio::join!(writer_loop.run(), all);
        let (commits, requests) = writer.commits_and_requests();
        assert_eq!(requests, (CALLERS * EACH) as u64);
        assert!(commits < EACH as u64 + 10, "{commits} commits");
    }

    /// Callers who never pause do not keep a writer from closing: they are refused, and it ends.
    #[tokio::test(start_paused = true)]
    async fn callers_who_never_pause_do_not_hold_up_the_end() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let ring = Arc::new(Ring::new(Seq(0), RingLimits::default()));
        let tail = Arc::new(Tail::new(Arc::clone(&store), ring, Vec::new()));
        let (writer, writer_loop) = Writer::new(store, tail);
        let caller = |number: usize| {
            let writer = writer.clone();
            async move {
                for nth in 0.. {
                    let id = format!("{number}-{nth}");
                    if let Err(error) = writer.submit(dispatch(&id)).await {
                        return (error, nth);
                    }
                    if nth == 100 {
                        writer.closing.cancel();
                    }
                    assert!(nth < 200, "it goes on");
                }
                unreachable!("it counts on and on")
            }
        };
        let callers = futures::future::join_all((0..4).map(caller));
        let ((), ended) = tokio::join!(writer_loop.run(), callers);
        for (error, nth) in ended {
            assert!(matches!(error, Error::ShutDown), "{error:?} at {nth}");
        }
    }
}
