//! Three bugs that the simulation must find, planted by stores that lie.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use sidestream::core::wire::SnapshotTask;
use sidestream::core::{Attempt, Command};
use sidestream::store::{
    ApiKey, Committed, Head, ListQuery, LogPage, LogQuery, Page, Pin, Request, Result, Snapshot,
    SnapshotQuery, Store,
};
use sidestream::testing::{Chance, SeededChance};
use sidestream::{Namespace, Seq, Status, Task, TaskId, ThreadId, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Which bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// A doorbell that sometimes does not ring, and no poll that makes up for it: the process knows of
    /// no event that neither the bell nor a commit of its own told it about.
    LostWakeUp,
    /// Reports are taken whatever their attempt.
    NoAttemptCheck,
    /// A snapshot's rows are read, and then the place in the log that they are said to be the state after.
    EarlySnapshot,
}

#[derive(Debug)]
pub(crate) struct PlantedStore {
    planted: Planted,
    inner: Arc<dyn Store>,
    /// The last event that the process may know of.
    told: Arc<Mutex<Seq>>,
    bell: watch::Sender<Seq>,
    _ringing: JoinSet<()>,
}

impl PlantedStore {
    pub(crate) fn new(planted: Planted, inner: Arc<dyn Store>, chance: Arc<SeededChance>) -> Self {
        let mut rung = inner.doorbell();
        let bell = watch::Sender::new(*rung.borrow());
        let told = Arc::new(Mutex::new(*rung.borrow()));
        let mut ringing = JoinSet::new();
        ringing.spawn({
            let (bell, told) = (bell.clone(), Arc::clone(&told));
            async move {
                while rung.changed().await.is_ok() {
                    let head = *rung.borrow_and_update();
                    if planted != Planted::LostWakeUp || !chance.next().is_multiple_of(4) {
                        *told.lock() = head;
                        bell.send_replace(head);
                    }
                }
            }
        });
        Self {
            planted,
            inner,
            told,
            bell,
            _ringing: ringing,
        }
    }

    async fn with_current_attempt(&self, mut request: Request) -> Result<Request> {
        if let Request::Command {
            namespace,
            id,
            command,
        } = &mut request
            && let Some(attempt) = attempt_of(command)
            && let Some(task) = self.inner.get(namespace, id).await?
        {
            *attempt = task.attempt;
        }
        Ok(request)
    }
}

fn attempt_of(command: &mut Command) -> Option<&mut Attempt> {
    match command {
        Command::Renew { attempt, .. }
        | Command::Output { attempt, .. }
        | Command::Suspend { attempt, .. }
        | Command::Complete { attempt, .. }
        | Command::Fail { attempt, .. }
        | Command::TimeOut { attempt, .. } => Some(attempt),
        _ => None,
    }
}

#[async_trait]
impl Store for PlantedStore {
    async fn commit(&self, mut batch: Vec<Request>) -> Result<Committed> {
        if self.planted == Planted::NoAttemptCheck {
            let mut forged = Vec::with_capacity(batch.len());
            for request in batch {
                forged.push(self.with_current_attempt(request).await?);
            }
            batch = forged;
        }
        let committed = self.inner.commit(batch).await?;
        if let Some(last) = committed.entries.last() {
            let mut told = self.told.lock();
            *told = last.event.seq.max(*told);
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
        let snapshot = self.inner.snapshot(query).await?;
        if self.planted != Planted::EarlySnapshot {
            return Ok(snapshot);
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        Ok(Snapshot {
            head: self.inner.head().await?,
            pins: snapshot.pins,
        })
    }

    async fn resolve(&self, pins: &[Pin]) -> Result<Vec<SnapshotTask>> {
        self.inner.resolve(pins).await
    }

    async fn log(&self, query: &LogQuery) -> Result<LogPage> {
        let mut page = self.inner.log(query).await?;
        if self.planted == Planted::LostWakeUp {
            let told = *self.told.lock();
            let is_full = page.entries.len() == query.limit;
            page.entries.retain(|entry| entry.event.seq <= told);
            page.head.seq = told.max(query.after);
            if !is_full {
                page.through = page.head.seq;
            }
        }
        Ok(page)
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
        self.bell.subscribe()
    }

    fn is_exclusive(&self) -> bool {
        self.inner.is_exclusive()
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }
}
