//! The one thread that writes.
//!
//! It owns the writing connection, takes batches from a channel, and makes each one transaction. After
//! the commit, first the head is published and the doorbell rings, then the caller gets its answer: who
//! has been answered can read what it wrote.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;
use sidestream_core::{Seq, Timestamp};
use tokio::sync::{oneshot, watch};

use super::checkpoint::Checkpointer;
use super::failure::{Failure, Result};
use super::lock::DirectoryLock;
use super::prepare::prepare;
use super::transaction::{Memory, Transaction};
use crate::error::StoreError;
use crate::store::steady::SteadyClock;
use crate::store::{Committed, Head, Request};

/// So long the thread stays awake after a commit: some tenth of what one takes.
const AWAKE: Duration = Duration::from_micros(50);

/// A batch on its way to the writer, and the way back.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) batch: Vec<Request>,
    pub(super) answer: oneshot::Sender<std::result::Result<Committed, StoreError>>,
}

/// What everybody may know of the latest commit.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) head: Mutex<Head>,
    pub(super) doorbell: watch::Sender<Seq>,
}

impl Published {
    pub(super) fn new(head: Head) -> Self {
        let doorbell = watch::Sender::new(head.seq);
        let head = Mutex::new(head);
        Self { head, doorbell }
    }

    fn publish(&self, seq: Seq, floor: Seq) {
        let mut head = self.head.lock();
        let has_news = seq > head.seq;
        (head.seq, head.floor) = (seq, floor);
        drop(head);
        if has_news {
            self.doorbell.send_replace(seq);
        }
    }
}

/// Writes.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) memory: Memory,
    pub(super) clock: Arc<SteadyClock>,
    pub(super) published: Arc<Published>,
    pub(super) checkpointer: Checkpointer,
    pub(super) file: PathBuf,
    /// Dropped last: nobody else may come while a connection is open.
    pub(super) lock: Arc<DirectoryLock>,
}

impl Writer {
    /// Writes until nobody is left who could ask for it, then closes the database.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        while let Some(job) = next(jobs) {
            let committed = self.commit(job.batch);
            // A caller that has gone away is told nothing; its batch is committed all the same.
            let _ = job.answer.send(committed);
            self.checkpointer.after_commit(&self.connection);
        }
        self.checkpointer.close(&self.connection);
        let Self {
            connection, lock, ..
        } = self;
        drop(connection);
        drop(lock);
    }

    fn commit(&mut self, batch: Vec<Request>) -> std::result::Result<Committed, StoreError> {
        let now = self.clock.now();
        let work = AssertUnwindSafe(|| self.transact(batch, now));
        let done = catch_unwind(work).unwrap_or_else(|panic| Err(Failure::Bug(said(&*panic))));
        if done.is_err() {
            self.undo();
        }
        done.map_err(|failure| failure.at(&self.file))
    }

    fn transact(&mut self, batch: Vec<Request>, now: Timestamp) -> Result<Committed> {
        self.execute("BEGIN IMMEDIATE")?;
        // A dispatch that is claimed at once is two.
        let events = 2 * batch.len();
        let mut transaction = Transaction::new(&self.connection, &mut self.memory, now, events);
        let mut answers = Vec::with_capacity(batch.len());
        for request in batch {
            answers.push(transaction.carry_out(request)?);
        }
        transaction.finish()?;
        let (seq, floor, entries) = (transaction.seq, transaction.floor, transaction.entries);
        self.execute("COMMIT").map_err(|failure| match failure {
            Failure::Sqlite(error) => Failure::Commit(error),
            other => other,
        })?;
        (self.memory.seq, self.memory.floor) = (seq, floor);
        self.published.publish(seq, floor);
        Ok(Committed { answers, entries })
    }

    fn execute(&self, sql: &str) -> Result<()> {
        prepare(&self.connection, sql)?.execute([])?;
        Ok(())
    }

    /// Leaves everything as the last commit left it.
    fn undo(&mut self) {
        self.memory.counters.forget();
        self.memory.tasks.forget();
        // After some errors SQLite has rolled back by itself.
        if !self.connection.is_autocommit()
            && let Err(error) = self.execute("ROLLBACK")
        {
            tracing::error!(file = %self.file.display(), ?error, "rollback failed");
        }
    }
}

/// The next batch; `None` once nobody is left who could send one.
///
/// Who has been answered often has the next one ready in a moment: for that long the thread lets others go first,
/// but does not go to sleep, from which it would have to be woken.
#[expect(clippy::disallowed_methods, reason = "a plain thread, and a moment")]
fn next(jobs: &Receiver<Job>) -> Option<Job> {
    let began = Instant::now();
    while began.elapsed() < AWAKE {
        match jobs.try_recv() {
            Ok(job) => return Some(job),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => std::thread::yield_now(),
        }
    }
    jobs.recv().ok()
}

/// What a panic said.
pub(super) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!(
        "the store panicked: {}",
        text.as_deref().unwrap_or("it did not say why")
    )
}
