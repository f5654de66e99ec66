//! A store that fails when told to, as networks, disks and databases do.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sidestream_core::wire::SnapshotTask;
use sidestream_core::{
    Command, Namespace, ReportNumber, Seq, Status, Task, TaskId, ThreadId, Timestamp,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::chance::Chance;
use crate::error::{StoreError, StoreErrorKind};
use crate::store::{
    ApiKey, Committed, Head, ListQuery, LogPage, LogQuery, Page, Pin, Pins, Request, Result,
    Snapshot, SnapshotQuery, Store,
};

/// What goes wrong, and how often: each in so many of a thousand cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// A commit fails, and nothing of it is kept.
    pub fails_before: u16,
    /// A commit fails though all of it is kept: [`StoreErrorKind::OutcomeUnknown`].
    pub fails_after: u16,
    /// A commit fails as one of unknown outcome, and is kept later.
    pub lands_later: u16,
    /// The requests of a commit that may be repeated are carried out twice: before the batch, or after.
    pub repeats: u16,
    /// A reading fails.
    pub fails_reads: u16,
    /// A snapshot's moment is told, and some of its tasks, and then its reading fails.
    pub breaks_snapshots: u16,
    /// The doorbell does not ring.
    pub drops_bells: u16,
    /// A call takes time before it is carried out, and again after.
    pub delays: u16,
    /// So long at most.
    pub delay_max: Duration,
}

impl Faults {
    /// All goes well.
    pub const NONE: Self = Self {
        fails_before: 0,
        fails_after: 0,
        lands_later: 0,
        repeats: 0,
        fails_reads: 0,
        breaks_snapshots: 0,
        drops_bells: 0,
        delays: 0,
        delay_max: Duration::ZERO,
    };
    /// Nothing gets through, in either direction.
    pub const OUTAGE: Self = Self {
        fails_before: 1_000,
        fails_reads: 1_000,
        drops_bells: 1_000,
        ..Self::NONE
    };
}

/// A store that fails when told to. One stands for one process's connection to a database that others
/// share; what goes wrong is drawn from a [`Chance`], and can be changed while it runs.
///
/// Every fault is one that a store may have by the words of [`Store`]: whoever keeps the promises on
/// this store keeps them on all.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    chance: Arc<dyn Chance>,
    faults: Arc<Mutex<Faults>>,
    cut: CancellationToken,
    bell: watch::Sender<Seq>,
    /// What rings the bell, and what lands later. Ends with the store.
    background: Mutex<JoinSet<()>>,
}

impl FaultyStore {
    /// A store without faults, until it is told which.
    ///
    /// # Panics
    /// When called outside a tokio runtime.
    pub fn new(inner: Arc<dyn Store>, chance: Arc<dyn Chance>) -> Self {
        let faults = Arc::new(Mutex::new(Faults::NONE));
        let mut rung = inner.doorbell();
        let bell = watch::Sender::new(*rung.borrow());
        let mut background = JoinSet::new();
        background.spawn({
            let (bell, faults, chance) = (bell.clone(), Arc::clone(&faults), Arc::clone(&chance));
            async move {
                while rung.changed().await.is_ok() {
                    let head = *rung.borrow_and_update();
                    let drops = faults.lock().drops_bells;
                    if !is_hit(&*chance, drops) {
                        bell.send_replace(head);
                    }
                }
            }
        });
        Self {
            inner,
            chance,
            faults,
            cut: CancellationToken::new(),
            bell,
            background: Mutex::new(background),
        }
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        *self.faults.lock() = faults;
    }

    /// What goes wrong now.
    pub fn faults(&self) -> Faults {
        *self.faults.lock()
    }

    /// From now on no call is answered or carried out, those under way included, as when the process
    /// that makes them is killed. What is to land later still does.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    async fn unless_cut<T>(&self, call: impl Future<Output = T> + Send) -> T {
        tokio::select! {
            biased;
            () = self.cut.cancelled() => std::future::pending().await,
            answer = call => answer,
        }
    }

    fn is_hit(&self, per_mille: u16) -> bool {
        is_hit(&*self.chance, per_mille)
    }

    async fn dawdle(&self) {
        let faults = self.faults();
        if self.is_hit(faults.delays) {
            tokio::time::sleep(self.some_of(faults.delay_max)).await;
        }
    }

    fn some_of(&self, max: Duration) -> Duration {
        let max_ms = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
        match max_ms {
            0 => Duration::ZERO,
            max_ms => Duration::from_millis(1 + self.chance.next() % max_ms),
        }
    }

    /// A reading: takes its time, and may fail.
    async fn read<T: Send>(&self, read: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.unless_cut(async {
            self.dawdle().await;
            if self.is_hit(self.faults().fails_reads) {
                return Err(unavailable());
            }
            let answer = read.await;
            self.dawdle().await;
            answer
        })
        .await
    }

    async fn snapshot_perhaps(&self, query: &SnapshotQuery) -> Result<Snapshot> {
        let snapshot = self.inner.snapshot(query).await?;
        if !self.is_hit(self.faults().breaks_snapshots) {
            return Ok(snapshot);
        }
        let Snapshot { head, pins } = snapshot;
        let mut found = pins.all().await?;
        let kept = self.chance.next() % (found.len() as u64 + 1);
        found.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        let pins = Pins::found_by(found, |_| async { Err(unavailable()) });
        Ok(Snapshot { head, pins })
    }

    async fn commit_perhaps(&self, batch: Vec<Request>) -> Result<Committed> {
        let faults = self.faults();
        self.dawdle().await;
        if self.is_hit(faults.fails_before) {
            return Err(unavailable());
        }
        if self.is_hit(faults.lands_later) {
            self.land_later(batch, faults.delay_max);
            return Err(outcome_unknown());
        }
        let again: Vec<Request> = match self.is_hit(faults.repeats) {
            true => batch
                .iter()
                .filter(|r| may_be_repeated(r))
                .cloned()
                .collect(),
            false => Vec::new(),
        };
        // The answer to the first was lost, or the repetition came late.
        let (before, after) = match self.is_hit(500) {
            true => (again, Vec::new()),
            false => (Vec::new(), again),
        };
        if !before.is_empty() {
            self.inner.commit(before).await?;
            self.dawdle().await;
        }
        let committed = self.inner.commit(batch).await?;
        if !after.is_empty() {
            self.dawdle().await;
            self.inner.commit(after).await?;
        }
        self.dawdle().await;
        match self.is_hit(faults.fails_after) {
            true => Err(outcome_unknown()),
            false => Ok(committed),
        }
    }

    fn land_later(&self, batch: Vec<Request>, delay_max: Duration) {
        let (inner, wait) = (Arc::clone(&self.inner), self.some_of(delay_max));
        self.background.lock().spawn(async move {
            tokio::time::sleep(wait).await;
            // Nobody waits for the answer.
            let _ = inner.commit(batch).await;
        });
    }
}

fn is_hit(chance: &dyn Chance, per_mille: u16) -> bool {
    per_mille > 0 && chance.next() % 1_000 < u64::from(per_mille)
}

fn unavailable() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "the store fails as told")
}

fn outcome_unknown() -> StoreError {
    let message = "the store fails as told, and may have committed";
    StoreError::new(StoreErrorKind::OutcomeUnknown, message)
}

/// Is a request that is carried out twice, one right after the other, as if it were once? Outputs without
/// a number are not: an equal one may be meant. Nor are those that wait for somebody, or find other tasks each time.
fn may_be_repeated(request: &Request) -> bool {
    match request {
        Request::Dispatch { .. }
        | Request::Record { .. }
        | Request::Rescue(_)
        | Request::Cleanup(_)
        | Request::Prune(_) => true,
        Request::Command { command, .. } => match command {
            Command::Output { report, .. } => *report != ReportNumber::NONE,
            Command::Renew { .. }
            | Command::Suspend { .. }
            | Command::Complete { .. }
            | Command::Fail { .. }
            | Command::TimeOut { .. }
            | Command::Cancel => true,
            _ => false,
        },
        Request::Claim(_)
        | Request::Delete { .. }
        | Request::Acknowledge { .. }
        | Request::AddKey(_)
        | Request::RevokeKey { .. } => false,
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore")
            .field("inner", &self.inner)
            .field("faults", &self.faults())
            .field("is_cut", &self.cut.is_cancelled())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn commit(&self, batch: Vec<Request>) -> Result<Committed> {
        self.unless_cut(self.commit_perhaps(batch)).await
    }

    async fn head(&self) -> Result<Head> {
        self.read(self.inner.head()).await
    }

    async fn get(&self, namespace: &Namespace, id: &TaskId) -> Result<Option<Task>> {
        self.read(self.inner.get(namespace, id)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        self.read(self.inner.list(query)).await
    }

    async fn snapshot(&self, query: &SnapshotQuery) -> Result<Snapshot> {
        self.read(self.snapshot_perhaps(query)).await
    }

    async fn resolve(&self, pins: &[Pin]) -> Result<Vec<SnapshotTask>> {
        self.read(self.inner.resolve(pins)).await
    }

    async fn log(&self, query: &LogQuery) -> Result<LogPage> {
        self.read(self.inner.log(query)).await
    }

    async fn completions(
        &self,
        namespace: &Namespace,
        thread: &ThreadId,
        limit: usize,
    ) -> Result<Vec<Task>> {
        self.read(self.inner.completions(namespace, thread, limit))
            .await
    }

    async fn counts(&self) -> Result<HashMap<Status, u64>> {
        self.read(self.inner.counts()).await
    }

    async fn keys(&self) -> Result<Vec<ApiKey>> {
        self.read(self.inner.keys()).await
    }

    fn doorbell(&self) -> watch::Receiver<Seq> {
        self.bell.subscribe()
    }

    fn is_exclusive(&self) -> bool {
        self.inner.is_exclusive()
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }
}
