//! The store on SQLite: one file, one process, nothing to install.
//!
//! One thread writes (`writer`): it takes batches from a channel and makes each one transaction, in
//! which SQL picks rows and the lifecycle decides what becomes of them (`transaction`, `requests`,
//! `claim`, `upkeep`). A few connections read (`readers`): each call is one short read transaction
//! and never waits for the writer (`list`, `snapshot`, `log`). Totals and limits come from
//! counters kept in the same transactions (`counters`).
//!
//! With [`Synchronous::Full`] a commit is on the disk before it is answered; since a batch is one
//! commit, that costs one sync for all of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use async_trait::async_trait;
use sidestream_core::wire::SnapshotTask;
use sidestream_core::{Epoch, Namespace, Seq, Status, Task, TaskId, ThreadId, Timestamp};
use tokio::sync::{oneshot, watch};

use super::counts::Scope;
use super::steady::SteadyClock;
use super::{
    ApiKey, Committed, Head, ListQuery, LogPage, LogQuery, Page, Pin, Pins, Request, Result,
    Snapshot, SnapshotQuery, Store,
};
use crate::clock::{Clock, SystemClock};
use crate::error::{StoreError, StoreErrorKind};

mod backup;
mod checkpoint;
mod choice;
mod claim;
mod counters;
mod events;
mod examine;
mod failure;
mod list;
mod lock;
mod log;
mod open;
#[cfg(test)]
mod plans;
mod prepare;
mod queue;
mod readers;
mod requests;
mod room;
mod row;
mod scan;
mod schema;
mod snapshot;
mod spec;
mod tasks;
mod transaction;
mod unwritten;
mod upkeep;
mod writer;

use checkpoint::{Checkpointer, Marks};
use lock::{DirectoryLock, Mark};
use prepare::prepare;
use readers::{Readers, Reading};
use spec::Specs;
use tasks::Tasks;
use transaction::Memory;
use writer::{Job, Published, Writer};

/// How a SQLite store is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// When a commit counts as done.
    pub synchronous: Synchronous,
    /// Where the store's time comes from.
    pub clock: Arc<dyn Clock>,
    /// How many calls may read at once.
    pub readers: usize,
    /// The most that the database may take, in bytes; commits beyond it get
    /// [`StoreErrorKind::Full`]. The log ahead, at most some 100 MB, comes on top.
    pub size_bytes_max: Option<u64>,
}

impl SqliteOptions {
    /// What a log that is opened so, or has been moved into the database so far, is known by.
    fn mark(&self, epoch: &Epoch, seq: Seq) -> Mark {
        match self.synchronous {
            Synchronous::Full => Mark::of(epoch, seq),
            Synchronous::Normal => Mark::of(epoch, seq).unsynced(),
        }
    }
}

impl Default for SqliteOptions {
    /// Synchronous in full, by the machine's clock, four readers, as large as the disk allows.
    fn default() -> Self {
        Self {
            synchronous: Synchronous::Full,
            clock: Arc::new(SystemClock),
            readers: 4,
            size_bytes_max: None,
        }
    }
}

/// When a commit counts as done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// When it is on the disk: it survives a power cut.
    #[default]
    Full,
    /// When the operating system has it: it survives a crash of the process. A power cut may take the
    /// last commits, and never leaves half a one.
    Normal,
}

/// Keeps everything in a SQLite database, `sidestream.db` in a data directory of its own.
///
/// One process at a time can open it. Reading calls need a tokio runtime.
///
/// Dropping it waits for the batches under way, moves what is in the log ahead into the database, and
/// releases the directory.
#[derive(Debug)]
pub struct SqliteStore {
    /// `None` once the store is being dropped.
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    readers: Arc<Readers>,
    published: Arc<Published>,
    clock: Arc<SteadyClock>,
    epoch: Epoch,
    file: PathBuf,
}

impl SqliteStore {
    /// Opens the database in a data directory; makes both if they are not there.
    ///
    /// # Errors
    /// [`StoreErrorKind::Locked`]: another process has it open, and the message says which.
    /// [`StoreErrorKind::NewerVersion`], [`StoreErrorKind::Damaged`]: nothing has been touched.
    /// [`StoreErrorKind::Full`]: the directory cannot be written.
    pub fn open(data_dir: impl AsRef<Path>, options: SqliteOptions) -> Result<Self> {
        let directory = data_dir.as_ref();
        open::create_directory(directory)?;
        let lock = Arc::new(DirectoryLock::take(directory, options.clock.now())?);
        let mut opened = open::open(directory, &lock, &options)?;
        let file = opened.file.clone();
        let clock = SteadyClock::starting_after(Arc::clone(&options.clock), opened.last_at);
        let clock = Arc::new(clock);
        let published = Arc::new(Published::new(Head {
            epoch: opened.epoch.clone(),
            seq: opened.seq,
            floor: opened.floor,
        }));
        let marks = Marks {
            lock: Arc::clone(&lock),
            published: Arc::clone(&published),
            options: options.clone(),
        };
        let checkpointer = Checkpointer::start(&mut opened.connection, &file, &options, marks);
        let checkpointer = checkpointer.map_err(|e| e.at(&file))?;
        let specs = Arc::new(Specs::default());
        let writer = Writer {
            connection: opened.connection,
            memory: Memory {
                seq: opened.seq,
                floor: opened.floor,
                last_key: opened.last_key,
                counters: counters::Counters::default(),
                updates: row::Updates::default(),
                tasks: Tasks::new(Arc::clone(&specs)),
            },
            clock: Arc::clone(&clock),
            published: Arc::clone(&published),
            checkpointer,
            file: file.clone(),
            lock: Arc::clone(&lock),
        };
        let (jobs, received) = mpsc::channel();
        let thread = std::thread::Builder::new().name("sidestream-writer".into());
        let writer = thread.spawn(move || writer.run(&received)).map_err(|e| {
            StoreError::new(StoreErrorKind::Unavailable, "the writer cannot be started")
                .caused_by(e)
        })?;
        Ok(Self {
            jobs: Some(jobs),
            writer: Some(writer),
            readers: Arc::new(Readers::new(options.readers, file.clone(), specs, lock)),
            published,
            clock,
            epoch: opened.epoch,
            file,
        })
    }

    fn writer_is_gone(&self) -> StoreError {
        let file = self.file.display();
        let message = format!("the writer of the database {file} has stopped");
        StoreError::new(StoreErrorKind::OutcomeUnknown, message)
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.readers.close();
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn commit(&self, batch: Vec<Request>) -> Result<Committed> {
        let (answer, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(|| self.writer_is_gone())?;
        let sent = jobs.send(Job { batch, answer });
        sent.map_err(|_| self.writer_is_gone())?;
        answered.await.map_err(|_| self.writer_is_gone())?
    }

    async fn head(&self) -> Result<Head> {
        Ok(self.published.head.lock().clone())
    }

    async fn get(&self, namespace: &Namespace, id: &TaskId) -> Result<Option<Task>> {
        let (namespace, id) = (namespace.clone(), id.clone());
        self.readers
            .read(move |reading| {
                let (connection, specs) = (reading.connection, reading.specs);
                let stored = row::by_id(connection, specs, &namespace, &id)?;
                Ok(stored.map(|stored| stored.task))
            })
            .await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        let query = query.clone();
        self.readers
            .read(move |reading| list::list(reading, &query))
            .await
    }

    async fn snapshot(&self, query: &SnapshotQuery) -> Result<Snapshot> {
        let (query, epoch) = (query.clone(), self.epoch.clone());
        let (moment, head) = oneshot::channel();
        let readers = Arc::clone(&self.readers);
        let mut pins = Pins::found_by(Vec::new(), |finder| async move {
            let search = move |reading: &Reading<'_>| match moment.send(log::head(reading, epoch)?)
            {
                Ok(()) => snapshot::find_pins(reading, &query, &finder),
                // Who asked has gone.
                Err(_) => Ok(()),
            };
            readers.read(search).await
        });
        pins.next(1).await?;
        let gone = |_| StoreError::new(StoreErrorKind::Bug, "a snapshot without its moment");
        let head = head.await.map_err(gone)?;
        Ok(Snapshot { head, pins })
    }

    async fn resolve(&self, pins: &[Pin]) -> Result<Vec<SnapshotTask>> {
        let pins = pins.to_vec();
        self.readers
            .read(move |reading| {
                let resolved = pins.iter().map(|pin| snapshot::resolve(reading, pin));
                resolved.filter_map(failure::Result::transpose).collect()
            })
            .await
    }

    async fn log(&self, query: &LogQuery) -> Result<LogPage> {
        let (query, epoch) = (query.clone(), self.epoch.clone());
        self.readers
            .read(move |reading| log::page(reading, epoch, &query))
            .await
    }

    async fn completions(
        &self,
        namespace: &Namespace,
        thread: &ThreadId,
        limit: usize,
    ) -> Result<Vec<Task>> {
        let (namespace, thread) = (namespace.clone(), thread.clone());
        self.readers
            .read(move |reading| snapshot::completions(reading, &namespace, &thread, limit))
            .await
    }

    async fn counts(&self) -> Result<HashMap<Status, u64>> {
        self.readers
            .read(|reading| {
                let [ours, theirs] = counters::read_both(reading.connection, &Scope::All)?;
                let counts = ours.plus(theirs);
                let counts = Status::ALL.map(|status| (status, counts.of(status)));
                Ok(counts.into_iter().filter(|(_, count)| *count > 0).collect())
            })
            .await
    }

    async fn keys(&self) -> Result<Vec<ApiKey>> {
        self.readers
            .read(|reading| {
                let sql = format!("{} ORDER BY created_at_ms, position", requests::SELECT_KEYS);
                let mut statement = prepare(reading.connection, &sql)?;
                let keys = statement.query_map([], requests::read_key)?;
                Ok(keys.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    fn doorbell(&self) -> watch::Receiver<Seq> {
        self.published.doorbell.subscribe()
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
