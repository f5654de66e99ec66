//! What a store must do: keep tasks and the log of what happened to them, together.
//!
//! A store knows how to find and save rows. It does not know the rules: for every change it asks
//! [`sidestream_core::lifecycle::decide`] what the command leads to, with the row it just read, inside
//! the transaction that saves the outcome. SQL picks rows; Rust decides what becomes of them.
//!
//! All writing goes through one method, [`Store::commit`], which takes a *batch*, because that is where
//! the speed is. [`crate::writer`] gathers the requests of concurrent callers into batches.
//!
//! What every store promises stands once, in [`conformance`]; a store joins by one line.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use sidestream_core::command::Loss;
use sidestream_core::wire::SnapshotTask;
use sidestream_core::{
    Attempt, Command, Epoch, Jitter, LogEntry, Namespace, Record, Rejection, ReportNumber, Seq,
    Spec, Status, Task, TaskId, ThreadId, Timestamp, ToolName, WorkerId,
};
use tokio::sync::watch;

use crate::error::StoreError;

pub mod conformance;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod counts;
pub mod finding;
mod list;
pub mod memory;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod order;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod recent;
mod snapshot;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod steady;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod stored;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod waiting;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod wanted;

pub use list::{ListQuery, Page, PageKey, PageStart, TimeField};
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresStore};
pub use snapshot::{Pin, Pins, Snapshot, SnapshotQuery};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore, Synchronous};

/// What came of a store's work.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Keeps tasks and their log. Shared by all who use it; every method may be called concurrently.
///
/// Dropping a future of a reading method abandons the read. Dropping that of [`Store::commit`] does
/// *not* undo the batch: it may still be committed.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Carries out a batch of requests, in order, as one transaction (L1).
    ///
    /// One request never spoils another: a rejected one changes nothing and the rest goes on. At most
    /// one request of a batch may name a given task, except that [`Request::Claim`] and
    /// [`Request::Rescue`], which come last, pick tasks themselves.
    ///
    /// The events get the next places of the log, without a hole (L2), and the doorbell rings.
    ///
    /// # Errors
    /// Nothing of the batch is kept — or, where the error says so ([`StoreError::is_outcome_unknown`]),
    /// perhaps all of it is. Every request is made so that repeating it is harmless.
    async fn commit(&self, batch: Vec<Request>) -> Result<Committed>;

    /// Where the log begins and ends.
    async fn head(&self) -> Result<Head>;

    /// One task.
    async fn get(&self, namespace: &Namespace, id: &TaskId) -> Result<Option<Task>>;

    /// A page of tasks, with the exact number of all that match.
    async fn list(&self, query: &ListQuery) -> Result<Page>;

    /// Which tasks match, and the place in the log that this is the state after (S1): one moment, fixed when
    /// this returns. It may return before it has found them all: see [`Pins`].
    ///
    /// What it finds is small; [`Store::resolve`] reads the rest, page by page, with no transaction
    /// held open in between.
    async fn snapshot(&self, query: &SnapshotQuery) -> Result<Snapshot>;

    /// How the pinned tasks stood at their snapshot's moment, in the order given. One that has been
    /// deleted since, and whose events are pruned, is left out.
    async fn resolve(&self, pins: &[Pin]) -> Result<Vec<SnapshotTask>>;

    /// A page of the log.
    async fn log(&self, query: &LogQuery) -> Result<LogPage>;

    /// The tasks of a thread that ended and whose end nobody has acknowledged, oldest end first (R6).
    async fn completions(
        &self,
        namespace: &Namespace,
        thread: &ThreadId,
        limit: usize,
    ) -> Result<Vec<Task>>;

    /// How many tasks stand where, over all namespaces: for metrics. Cheap at any size.
    async fn counts(&self) -> Result<HashMap<Status, u64>>;

    /// The API keys, revoked ones included, oldest first.
    async fn keys(&self) -> Result<Vec<ApiKey>>;

    /// Rings after every commit that this process can see and that added to the log, its own or
    /// another's, with the head of the log at that time. It carries nothing else, and may skip values.
    /// A commit that added nothing is silent: an idle worker's empty claim must not wake the worker.
    fn doorbell(&self) -> watch::Receiver<Seq>;

    /// Is this process the only one that can write here? Then whoever held a lease before it started,
    /// as a worker inside the process, is gone.
    fn is_exclusive(&self) -> bool;

    /// The time by which this store decides.
    fn now(&self) -> Timestamp;
}

/// Something to write.
#[derive(Debug, Clone)]
pub enum Request {
    /// Create a task, unless it is a repetition.
    Dispatch {
        /// What was asked for.
        spec: Arc<Spec>,
        /// What to do when no slot is free.
        admission: Admission,
    },
    /// Carry out a command. Not for [`Command::Dispatch`], [`Command::Claim`] and
    /// [`Command::Record`], which have requests of their own.
    Command {
        /// The tenant's room.
        namespace: Namespace,
        /// Which task.
        id: TaskId,
        /// What is asked of it.
        command: Command,
    },
    /// Keep what an owner elsewhere reports, creating the task if need be.
    Record {
        /// The tenant's room.
        namespace: Namespace,
        /// The report.
        record: Arc<Record>,
    },
    /// Give pending tasks to a worker.
    Claim(Claim),
    /// End the running attempts whose worker is gone or whose time is up, by the rule their retries
    /// say.
    Rescue(Rescue),
    /// Remove an ended task. Its events stay until they are pruned.
    Delete {
        /// The tenant's room.
        namespace: Namespace,
        /// Which task.
        id: TaskId,
    },
    /// Remove ended tasks that are older than their retention.
    Cleanup(Cleanup),
    /// Forget the beginning of the log.
    Prune(Prune),
    /// The ends of these tasks have been told (R6).
    Acknowledge {
        /// The tenant's room.
        namespace: Namespace,
        /// Whose ends.
        thread: ThreadId,
        /// What was told: one whose task has ended anew since is not taken as told.
        told: Told,
    },
    /// Keep a new API key.
    AddKey(ApiKey),
    /// Make an API key worthless from now on.
    RevokeKey {
        /// Which, by [`ApiKey::id`].
        id: String,
    },
}

/// What a request came to.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The task as it stands, and whether this very request created it.
    Dispatched {
        /// The task, new or met again.
        task: Task,
        /// `false` when the dispatch was a repetition.
        is_new: bool,
    },
    /// Nothing was created: the caller should run the tool itself, now.
    FallbackToSync,
    /// The task as it stands now.
    Applied(Task),
    /// What the worker got.
    Claimed(Claimed),
    /// What the rescue did.
    Rescued(Rescued),
    /// How many tasks, or keys, are gone.
    Removed(u64),
    /// How many events are gone.
    Pruned(u64),
    /// How many ends were newly acknowledged.
    Acknowledged(u64),
    /// The key is kept.
    KeyAdded,
}

/// A batch, committed.
#[derive(Debug)]
pub struct Committed {
    /// One for each request, in the order of the batch.
    pub answers: Vec<std::result::Result<Answer, Rejection>>,
    /// The events, in the order of the log.
    pub entries: Vec<LogEntry>,
}

/// What a dispatch does when no slot is free: when as many tasks as the limit allows are running or
/// pending, whenever those are due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Admission {
    /// It waits: there is always room in the queue.
    #[default]
    Queue,
    /// It is refused: [`Rejection::AtCapacity`].
    Reject(Limits),
    /// It is not created, and the caller is told to run it: [`Answer::FallbackToSync`].
    FallbackToSync(Limits),
}

/// How many may run at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// In all, over all namespaces: looked at by [`Admission`] only, since a worker claims no more
    /// than it has slots for.
    pub total: Option<u32>,
    /// Of one agent of one namespace. Tasks without an agent are not limited by it.
    pub per_agent: Option<u32>,
    /// Of one tool, over all namespaces.
    pub per_tool: HashMap<ToolName, u32>,
}

/// Asks for pending tasks whose time has come: highest priority first, then the longest due.
///
/// A task whose agent or tool has no slot left is passed over, however many such tasks there are.
/// Counting and claiming are one transaction, so the limits hold exactly (R4).
#[derive(Debug, Clone)]
pub struct Claim {
    /// Who asks.
    pub worker: WorkerId,
    /// Only tasks of these tools.
    pub tools: Arc<[ToolName]>,
    /// Only tasks of this namespace; all, if `None`.
    pub namespace: Option<Namespace>,
    /// At most so many.
    pub limit: u32,
    /// How long the lease lasts, in milliseconds.
    pub lease_ms: u64,
    /// How many may run at once.
    pub limits: Arc<Limits>,
}

/// What a worker got.
#[derive(Debug, Clone, Default)]
pub struct Claimed {
    /// The tasks, each running, with the lease of its new attempt.
    pub tasks: Vec<Task>,
    /// When the next pending task of these tools, whose time has not come yet, is due.
    pub next_due: Option<Timestamp>,
}

/// Looks for running attempts that nobody will end: in the order in which their tasks were dispatched.
#[derive(Debug, Clone)]
pub struct Rescue {
    /// At most so many in one transaction.
    pub limit: u32,
    /// How long after its deadline an attempt is timed out on its worker's behalf, in milliseconds.
    pub overtime_ms: u64,
    /// Chance; each task gets a factor of its own mixed from it.
    pub jitter: Jitter,
    /// Where set: only attempts held by workers whose id begins so are ended, at once and whatever
    /// their lease says. For a process that knows that its predecessor is gone.
    pub gone: Option<Gone>,
    /// Attempts that are left alone, whatever the clock says: those that the asking process runs itself.
    /// Leases go by the clock of the store, which jumps when a machine wakes up or its time is set; what
    /// keeps them does not.
    pub spared: Arc<HashSet<(Namespace, TaskId, Attempt)>>,
}

/// Workers known to be gone.
#[derive(Debug, Clone)]
pub struct Gone {
    /// Those whose id begins with this…
    pub prefix: String,
    /// …but not those whose id begins with this.
    pub except: String,
}

impl Gone {
    /// Is this worker one of them?
    #[must_use]
    pub fn names(&self, worker: &WorkerId) -> bool {
        let worker = worker.as_str();
        worker.starts_with(&self.prefix) && !worker.starts_with(&self.except)
    }
}

impl Rescue {
    /// Is the attempt that the task is at to be left alone?
    #[must_use]
    pub fn spares(&self, task: &Task) -> bool {
        let identity = task.identity();
        let attempt = || {
            let (namespace, id) = (identity.namespace.clone(), identity.id.clone());
            (namespace, id, task.attempt)
        };
        !self.spared.is_empty() && self.spared.contains(&attempt())
    }

    /// So many must be looked at to find as many as the limit allows.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn looks_at_most(&self) -> u32 {
        let spared = u32::try_from(self.spared.len()).unwrap_or(u32::MAX);
        self.limit.saturating_add(spared)
    }

    /// What a rescue does to a task that it found.
    #[must_use]
    pub fn command_for(&self, task: &Task, nth: u64, now: Timestamp) -> Command {
        let jitter = self.jitter.nth(nth);
        let attempt = task.attempt;
        let is_held = task.lease.as_ref().is_some_and(|lease| lease.until > now);
        if self.gone.is_some() {
            let loss = Loss::ProcessGone;
            return Command::ExpireLease {
                attempt,
                loss,
                jitter,
            };
        }
        if is_held {
            return Command::TimeOut {
                attempt,
                report: ReportNumber::NONE,
                jitter,
            };
        }
        Command::ExpireLease {
            attempt,
            loss: Loss::LeaseEnded,
            jitter,
        }
    }
}

/// What a rescue did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rescued {
    /// How many attempts it ended.
    pub ended: u64,
    /// When the next lease, or deadline with overtime, ends.
    pub next: Option<Timestamp>,
}

/// Which ended tasks are old enough to go: those that ended strictly before these times.
///
/// Records of an owner elsewhere are not touched: their expiry is their owner's.
#[derive(Debug, Clone)]
pub struct Cleanup {
    /// For completed ones.
    pub completed_before: Timestamp,
    /// For failed, timed-out and cancelled ones.
    pub failed_before: Timestamp,
    /// For those of a thread whose end is not acknowledged (R6), if that is earlier.
    pub untold_before: Timestamp,
    /// At most so many in one transaction.
    pub limit: u32,
}

/// How much of the log may go: events older than `before`, and the oldest beyond `events_max`.
#[derive(Debug, Clone)]
pub struct Prune {
    /// Strictly older events may go.
    pub before: Timestamp,
    /// No more than so many stay.
    pub events_max: u64,
    /// At most so many in one transaction.
    pub limit: u32,
}

/// Which ends an agent was told.
#[derive(Debug, Clone)]
pub enum Told {
    /// All that ended at or before this event.
    UpTo(Seq),
    /// These tasks, each with the event that was told.
    These(Vec<(TaskId, Seq)>),
}

/// Where the log begins and ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The log's name.
    pub epoch: Epoch,
    /// Its last event.
    pub seq: Seq,
    /// The last event that has been pruned: a cursor before it cannot be honoured.
    pub floor: Seq,
}

/// A page of the log.
#[derive(Debug, Clone)]
pub struct LogQuery {
    /// Events after this one.
    pub after: Seq,
    /// At most so many.
    pub limit: usize,
    /// The page ends with the event that brings it to so many bytes.
    pub bytes_max: usize,
    /// Only events of this task.
    pub task: Option<(Namespace, TaskId)>,
}

impl LogQuery {
    /// As large as a page of the log needs to be, in bytes: so a page of outputs of a megabyte each, or of
    /// tasks with such arguments, stays small.
    pub const BYTES_MAX: usize = 4 << 20;
}

/// A page of the log.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// In order.
    pub entries: Vec<LogEntry>,
    /// Where the log began and ended when the page was read, in the same transaction. When the query's
    /// `after` is before [`Head::floor`], events are missing and the entries must not be used.
    pub head: Head,
    /// Everything up to here has been looked at: the last entry's place if the page is full, else the
    /// head.
    pub through: Seq,
}

/// An API key as it is kept: never the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its public name, shown in listings and used to revoke it.
    pub id: String,
    /// For people.
    pub name: String,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// What it allows: `read`, `write`, `worker` or `admin`.
    pub role: String,
    /// Where it allows that.
    pub namespace: Namespace,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}
