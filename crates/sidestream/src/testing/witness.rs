//! A store that shows every commit to a witness, and a witness that remembers all of it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use sidestream_core::wire::SnapshotTask;
use sidestream_core::{
    Attempt, ChunkType, EventKind, Filter, LogEntry, Namespace, Seq, Status, Task, TaskId,
    ThreadId, Timestamp,
};
use tokio::sync::watch;

use crate::store::{
    ApiKey, Committed, Head, ListQuery, LogPage, LogQuery, Page, Pin, Request, Result, Snapshot,
    SnapshotQuery, Store,
};
use crate::testing::Known;

/// Sees what is committed, each batch once, before whoever asked for it does.
pub trait Witness: Send + Sync + 'static {
    /// A batch has been committed. Batches that different callers commit at the same time may come in
    /// another order than the log's.
    fn saw(&self, batch: &[Request], committed: &Committed);
}

/// A store that shows every commit to a witness. It stands right before the real one, so that nothing
/// is committed unseen.
///
/// Its doorbell rings those who listen in the order in which they came, so that a run on one thread
/// repeats itself exactly.
pub struct WitnessedStore {
    inner: Arc<dyn Store>,
    witness: Arc<dyn Witness>,
    bells: Mutex<Vec<watch::Sender<Seq>>>,
}

impl WitnessedStore {
    /// Shows the commits of a store to a witness.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, witness: Arc<dyn Witness>) -> Self {
        Self {
            inner,
            witness,
            bells: Mutex::default(),
        }
    }

    fn ring(&self, head: Seq) {
        let mut bells = self.bells.lock();
        bells.retain(|bell| bell.receiver_count() > 0);
        for bell in &*bells {
            // Two commits may ring in the wrong order; a head never goes back.
            bell.send_if_modified(|rung| {
                let is_later = head > *rung;
                *rung = head.max(*rung);
                is_later
            });
        }
    }
}

impl fmt::Debug for WitnessedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WitnessedStore")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for WitnessedStore {
    async fn commit(&self, batch: Vec<Request>) -> Result<Committed> {
        let committed = self.inner.commit(batch.clone()).await?;
        self.witness.saw(&batch, &committed);
        if let Some(last) = committed.entries.last() {
            self.ring(last.event.seq);
        }
        Ok(committed)
    }

    async fn head(&self) -> Result<Head> {
        self.inner.head().await
    }

    async fn get(&self, namespace: &Namespace, id: &TaskId) -> Result<Option<Task>> {
        self.inner.get(namespace, id).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        self.inner.list(query).await
    }

    async fn snapshot(&self, query: &SnapshotQuery) -> Result<Snapshot> {
        self.inner.snapshot(query).await
    }

    async fn resolve(&self, pins: &[Pin]) -> Result<Vec<SnapshotTask>> {
        self.inner.resolve(pins).await
    }

    async fn log(&self, query: &LogQuery) -> Result<LogPage> {
        self.inner.log(query).await
    }

    async fn completions(
        &self,
        namespace: &Namespace,
        thread: &ThreadId,
        limit: usize,
    ) -> Result<Vec<Task>> {
        self.inner.completions(namespace, thread, limit).await
    }

    async fn counts(&self) -> Result<HashMap<Status, u64>> {
        self.inner.counts().await
    }

    async fn keys(&self) -> Result<Vec<ApiKey>> {
        self.inner.keys().await
    }

    fn doorbell(&self) -> watch::Receiver<Seq> {
        let bell = watch::Sender::new(*self.inner.doorbell().borrow());
        let listener = bell.subscribe();
        self.bells.lock().push(bell);
        listener
    }

    fn is_exclusive(&self) -> bool {
        self.inner.is_exclusive()
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }
}

/// Remembers every event, whatever is pruned from the store: what streams are measured against.
#[derive(Debug, Default)]
pub struct History(RwLock<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// The event of `Seq(n)` is at `n - 1`; `None` while its commit has not been seen.
    entries: Vec<Option<LogEntry>>,
    /// Up to here all have been seen.
    head: usize,
}

impl Witness for History {
    fn saw(&self, _batch: &[Request], committed: &Committed) {
        let mut seen = self.0.write();
        for entry in &committed.entries {
            let index = usize::try_from(entry.event.seq.0 - 1).expect("a log fits in memory here");
            if seen.entries.len() <= index {
                seen.entries.resize(index + 1, None);
            }
            let place = &mut seen.entries[index];
            assert!(
                place.is_none(),
                "L2: {} is given out twice",
                entry.event.seq
            );
            *place = Some(entry.clone());
        }
        while seen.entries.get(seen.head).is_some_and(Option::is_some) {
            seen.head += 1;
        }
    }
}

impl History {
    /// The last event up to which all have been seen.
    #[must_use]
    pub fn head(&self) -> Seq {
        Seq(self.0.read().head as u64)
    }

    /// Looks at one event; `None` when it has not been seen.
    pub(super) fn with<T>(&self, seq: Seq, look: impl FnOnce(&LogEntry) -> T) -> Option<T> {
        let seen = self.0.read();
        let entry = seen
            .entries
            .get(seq.0 as usize - 1)
            .and_then(Option::as_ref);
        entry.map(look)
    }

    /// The places of the events in `(after, through]` that a stream of this filter must bring.
    ///
    /// # Panics
    /// When one of them has not been seen: L2 is broken.
    #[must_use]
    pub fn wanted(
        &self,
        namespace: &Namespace,
        filter: &Filter,
        after: Seq,
        through: Seq,
    ) -> Vec<Seq> {
        self.visit(after, through, |entry| {
            (entry.task.namespace == *namespace
                && filter.matches_task(&entry.task)
                && filter.matches_type(ChunkType::of(&entry.event.kind)))
            .then_some(entry.event.seq)
        })
    }

    /// The tasks that match, and that stand so right after `at`: what a snapshot of that moment shows.
    #[must_use]
    pub fn standing(
        &self,
        namespace: &Namespace,
        filter: &Filter,
        statuses: &[Status],
        at: Seq,
    ) -> BTreeMap<TaskId, (Status, Attempt)> {
        let mut standing = BTreeMap::new();
        self.visit::<()>(Seq(0), at, |entry| {
            if entry.task.namespace == *namespace && filter.matches_task(&entry.task) {
                let before = standing.get(&entry.task.id).copied();
                let now = stands_after(before, &entry.event.kind);
                standing.insert(entry.task.id.clone(), now);
            }
            None
        });
        standing.retain(|_, (status, _)| statuses.contains(status));
        standing
    }

    /// What a watcher must know that saw a snapshot of `statuses` at `from`, or resumed there with
    /// nothing in mind (no statuses), and then everything up to `to`.
    #[must_use]
    pub fn known(
        &self,
        namespace: &Namespace,
        filter: &Filter,
        statuses: &[Status],
        from: Seq,
        to: Seq,
    ) -> BTreeMap<TaskId, Known> {
        let mut known: BTreeMap<TaskId, Known> = BTreeMap::new();
        for (id, (status, attempt)) in self.standing(namespace, filter, statuses, from) {
            let chunk_type = match status {
                Status::Pending => ChunkType::Started,
                Status::Suspended => ChunkType::Suspended,
                _ => ChunkType::Running,
            };
            if filter.matches_type(chunk_type) {
                known.insert(id, Known::in_snapshot(chunk_type, attempt));
            }
        }
        self.visit::<()>(from, to, |entry| {
            let chunk_type = ChunkType::of(&entry.event.kind);
            if entry.task.namespace == *namespace
                && filter.matches_task(&entry.task)
                && filter.matches_type(chunk_type)
            {
                let of_task = known.entry(entry.task.id.clone()).or_default();
                of_task.see(chunk_type, entry.event.kind.attempt(), entry.event.seq);
            }
            None
        });
        known
    }

    fn visit<T>(
        &self,
        after: Seq,
        through: Seq,
        visit: impl FnMut(&LogEntry) -> Option<T>,
    ) -> Vec<T> {
        let entries = &self.0.read().entries;
        let (first, last) = (after.0 as usize, through.0 as usize);
        assert!(
            last <= entries.len(),
            "{through} has been shown, but never committed"
        );
        let range = entries[first.min(last)..last].iter();
        let seen = range.map(|entry| entry.as_ref().expect("the log has no hole"));
        seen.filter_map(visit).collect()
    }
}

/// Where a task stands after an event, by the plain words of the event.
pub(super) fn stands_after(
    before: Option<(Status, Attempt)>,
    kind: &EventKind,
) -> (Status, Attempt) {
    let (status, attempt) = before.unwrap_or((Status::Pending, Attempt(0)));
    let status = match kind {
        EventKind::Dispatched(_)
        | EventKind::Resumed { .. }
        | EventKind::Retrying { .. }
        | EventKind::Retried => Status::Pending,
        EventKind::Started { .. } => Status::Running,
        EventKind::Output { .. } => status,
        EventKind::Suspended { .. } => Status::Suspended,
        EventKind::Completed { .. } => Status::Completed,
        EventKind::Failed { .. } => Status::Failed,
        EventKind::TimedOut { .. } => Status::TimedOut,
        EventKind::Cancelled => Status::Cancelled,
        EventKind::Recorded(record) => record.status().into(),
    };
    let attempt = match kind {
        // A task deleted and dispatched anew under its old id begins anew.
        EventKind::Dispatched(_) | EventKind::Recorded(_) => Attempt(0),
        _ => kind.attempt().unwrap_or(attempt),
    };
    (status, attempt)
}
