//! Moving commits from the log ahead (the file `-wal`) into the database, without making callers wait.
//!
//! A thread does it from [`PASSIVE_PAGES`] on, beside the writer. But what the writer adds meanwhile
//! keeps the log from beginning anew, and under load it would grow without bound (1.3 GB in four seconds
//! were seen), so above [`RESTART_PAGES`] the writer itself finishes the work before it goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use super::SqliteOptions;
use super::failure::Result;
use super::lock::{DirectoryLock, Mark};
use super::open;
use super::writer::Published;

/// From how many new pages in the log ahead the thread sets to work; a page is 4 KiB.
const PASSIVE_PAGES: i32 = 1_000;
/// From how many pages in the log ahead the writer does.
const RESTART_PAGES: i32 = 16_000;

/// How long the writer waits for those who read the log ahead, when it wants it to begin anew.
const RESTART_WAIT: Duration = Duration::from_millis(100);

/// Notes, after each checkpoint, how far the log has come.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    pub(super) lock: Arc<DirectoryLock>,
    pub(super) published: Arc<Published>,
    pub(super) options: SqliteOptions,
}

impl Marks {
    /// Moves what is in the log ahead into the database. What was committed before that is on the disk
    /// afterwards, whatever the commits themselves wait for.
    fn checkpoint(&self, connection: &Connection, mode: &str) -> Result<bool> {
        let head = self.published.head.lock().clone();
        let was_kept = open::checkpoint(connection, mode)?;
        if !was_kept {
            self.lock.set_mark(self.options.mark(&head.epoch, head.seq));
        }
        Ok(was_kept)
    }

    /// As [`Marks::checkpoint`], when no commit will follow.
    fn close(&self, connection: &Connection) -> Result<bool> {
        let was_kept = open::checkpoint(connection, "TRUNCATE")?;
        if !was_kept {
            let head = self.published.head.lock().clone();
            self.lock.set_mark(Mark::of(&head.epoch, head.seq));
        }
        Ok(was_kept)
    }
}

/// Watches how long the log ahead grows.
#[derive(Debug)]
pub(super) struct Checkpointer {
    /// How many pages it had after the last commit.
    pages: Arc<AtomicI32>,
    /// How many it had when the thread was last sent.
    pages_sent: i32,
    /// At how many the writer tries next.
    pages_restart: i32,
    marks: Marks,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread, and listens to the writer's commits.
    pub(super) fn start(
        writer: &mut Connection,
        file: &Path,
        options: &SqliteOptions,
        marks: Marks,
    ) -> Result<Self> {
        let pages = Arc::new(AtomicI32::new(0));
        let counted = Arc::clone(&pages);
        writer.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            counted.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        let connection = open::connect(file, options)?;
        let (wake, woken) = sync_channel::<()>(1);
        let marks_of_thread = marks.clone();
        let work = move || {
            while woken.recv().is_ok() {
                log_failure(marks_of_thread.checkpoint(&connection, "PASSIVE"));
            }
        };
        let thread = std::thread::Builder::new().name("sidestream-checkpoint".into());
        let thread = thread.spawn(work).map_err(|error| {
            super::failure::Failure::Bug(format!("a thread cannot be started: {error}"))
        })?;
        Ok(Self {
            pages,
            pages_sent: 0,
            pages_restart: RESTART_PAGES,
            marks,
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// Does, or has done, what is due.
    pub(super) fn after_commit(&mut self, writer: &Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < self.pages_sent {
            // The log has begun anew.
            self.pages_sent = 0;
            self.pages_restart = RESTART_PAGES;
        }
        if pages >= self.pages_restart {
            let was_kept = self.restart(writer);
            // Whoever still reads the old log keeps it from beginning anew: not each commit waits.
            let is_done = matches!(was_kept, Ok(false));
            self.pages_restart = if is_done {
                RESTART_PAGES
            } else {
                pages + PASSIVE_PAGES
            };
            self.pages_sent = if is_done { 0 } else { pages };
            if is_done {
                self.pages.store(0, Ordering::Relaxed);
            }
            log_failure(was_kept);
        } else if pages >= self.pages_sent + PASSIVE_PAGES {
            let sent = self.wake.as_ref().map(|wake| wake.try_send(()));
            if !matches!(sent, Some(Err(TrySendError::Disconnected(())))) {
                self.pages_sent = pages;
            }
        }
    }

    /// Stops the thread and moves everything.
    pub(super) fn close(&mut self, writer: &Connection) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        log_failure(self.marks.close(writer));
    }

    /// Moves everything and has the log ahead begin anew, if those who read it are done soon.
    fn restart(&self, writer: &Connection) -> Result<bool> {
        writer.busy_timeout(RESTART_WAIT)?;
        let was_kept = self.marks.checkpoint(writer, "RESTART");
        writer.busy_timeout(open::BUSY_TIMEOUT)?;
        was_kept
    }
}

/// A checkpoint that was not made is no harm yet: the commits are safe in the log ahead, and the next
/// one tries again.
fn log_failure(done: Result<bool>) {
    if let Err(error) = done {
        tracing::warn!(?error, "checkpoint not made");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Head;
    use sidestream_core::{Epoch, Seq};
    use tempfile::TempDir;

    /// A writer whose thread is always too late.
    fn alone(directory: &TempDir) -> (Connection, Checkpointer) {
        let file = directory.path().join("database");
        let options = SqliteOptions::default();
        let mut writer = open::connect(&file, &options).expect("a connection");
        let wal = "PRAGMA journal_mode = WAL";
        writer.query_row(wal, [], |_| Ok(())).expect("it is set");
        let table = "CREATE TABLE some (bytes)";
        writer.execute_batch(table).expect("a table");
        let lock = DirectoryLock::take(directory.path(), options.clock.now());
        let marks = Marks {
            lock: Arc::new(lock.expect("it is free")),
            published: Arc::new(Published::new(Head {
                epoch: Epoch::new("a").expect("a fit name"),
                seq: Seq(0),
                floor: Seq(0),
            })),
            options: options.clone(),
        };
        let mut checkpointer =
            Checkpointer::start(&mut writer, &file, &options, marks).expect("it starts");
        checkpointer.wake = None;
        (writer, checkpointer)
    }

    fn write(writer: &Connection, checkpointer: &mut Checkpointer, megabytes: usize) {
        for _ in 0..megabytes {
            let insert = "INSERT INTO some VALUES (zeroblob(1000000))";
            writer.execute(insert, []).expect("it is written");
            checkpointer.after_commit(writer);
        }
    }

    fn wal_bytes(directory: &TempDir) -> u64 {
        let wal = directory.path().join("database-wal");
        std::fs::metadata(wal).expect("it is there").len()
    }

    #[test]
    fn the_writer_keeps_the_log_ahead_short_by_itself() {
        let directory = TempDir::new().expect("a directory");
        let (writer, mut checkpointer) = alone(&directory);
        write(&writer, &mut checkpointer, 200);
        assert!(wal_bytes(&directory) < 70_000_000);
    }

    #[test]
    fn a_long_read_delays_it_and_no_more() {
        let directory = TempDir::new().expect("a directory");
        let (writer, mut checkpointer) = alone(&directory);
        let reader = open::connect_to_read(&directory.path().join("database"));
        let reader = reader.expect("a connection");
        reader
            .execute_batch("BEGIN; SELECT count(*) FROM some")
            .expect("it reads");
        write(&writer, &mut checkpointer, 80);
        let bytes = wal_bytes(&directory);
        assert!(bytes > 80_000_000);
        reader.execute_batch("COMMIT").expect("it is done");
        write(&writer, &mut checkpointer, 100);
        assert!(wal_bytes(&directory) < bytes + 6_000_000);
    }
}
