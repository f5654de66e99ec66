//! Moving commits from the log ahead (the file `-wal`) into the database, without making callers wait.
//!
//! A thread does it beside the writer, again as soon as there is enough for another pass. But what the
//! writer adds meanwhile keeps the log from beginning anew, and under load it would grow without bound
//! (1.3 GB in four seconds were seen). So once the log is long, the writer does the rest itself, at a
//! moment when the thread has left little of it: between two commits, in some milliseconds. Where the disk
//! is too slow for that moment to come, each commit waits a little for the thread, and the log is bounded
//! all the same.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::SqliteOptions;
use super::failure::Result;
use super::lock::{DirectoryLock, Mark};
use super::open::{self, Checkpointed};
use super::writer::Published;

/// From how many pages since its last pass the thread sets to work; a page is 4 KiB.
const PASS_PAGES: i32 = 2_000;
/// From how many pages on the log is to begin anew…
const RESTART_PAGES: i32 = 8_000;
/// …and how many the thread may have left for the writer to move.
const REST_PAGES: i32 = 500;
/// From how many pages on each commit waits for the thread.
const SLOW_PAGES: i32 = 12_000;
/// From how many pages on the writer moves whatever is left.
const PAGES_MAX: i32 = 16_000;

/// How long the writer waits for those who read the log ahead, when it wants it to begin anew.
const READERS_WAIT: Duration = Duration::from_millis(10);
/// How long a commit waits for the thread when the log is long.
const THREAD_WAIT: Duration = Duration::from_millis(10);

/// Notes, after a checkpoint, how far the log has come.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    pub(super) lock: Arc<DirectoryLock>,
    pub(super) published: Arc<Published>,
    pub(super) options: SqliteOptions,
}

impl Marks {
    /// Moves what it can beside the writer. What was committed before that is on the disk afterwards,
    /// whatever the commits themselves wait for.
    fn pass(&self, connection: &Connection) -> Result<Checkpointed> {
        let head = self.published.head.lock().clone();
        let done = open::checkpoint(connection, "PASSIVE")?;
        // SQLite does so only once it has moved all of a log, which here is the writer: it would wait for
        // what all passes have written.
        if let Err(error) = self.lock.sync_database() {
            tracing::warn!(%error, "the database was not synced after a pass");
        }
        if !done.was_kept {
            self.lock.set_mark(self.options.mark(&head.epoch, head.seq));
        }
        Ok(done)
    }

    /// Moves everything, when no commit will follow.
    fn close(&self, connection: &Connection) -> Result<()> {
        let done = open::checkpoint(connection, "TRUNCATE")?;
        if !done.was_kept {
            let head = self.published.head.lock().clone();
            self.lock.set_mark(Mark::of(&head.epoch, head.seq));
        }
        Ok(())
    }
}

/// How far the thread is.
#[derive(Debug, Default)]
struct Progress {
    state: Mutex<State>,
    /// Rings when a pass has ended.
    rested: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_working: bool,
    /// Which log the passes are of: how often it has begun anew.
    nth: u64,
    /// How many pages of that log are in the database.
    pages_moved: i32,
}

impl Progress {
    /// The thread's pass. What it has moved counts only if the log is still the one that it began with.
    fn work(&self, pass: impl FnOnce() -> Result<Checkpointed>) {
        let nth = self.state.lock().nth;
        let done = pass();
        let mut state = self.state.lock();
        if let Ok(done) = &done
            && state.nth == nth
        {
            state.pages_moved = done.pages_moved;
        }
        state.is_working = false;
        self.rested.notify_all();
        drop(state);
        log_failure(done);
    }

    fn begin_anew(&self) {
        let mut state = self.state.lock();
        state.nth += 1;
        state.pages_moved = 0;
    }
}

/// Watches how long the log ahead grows.
#[derive(Debug)]
pub(super) struct Checkpointer {
    /// How many pages it had after the last commit.
    pages: Arc<AtomicI32>,
    /// The same, when that was last looked at.
    pages_seen: i32,
    /// How many it had when the thread was last sent.
    pages_sent: i32,
    /// From how many on the writer has it begin anew.
    pages_restart: i32,
    progress: Arc<Progress>,
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
        let progress = Arc::new(Progress::default());
        marks.lock.hold(file).map_err(|error| {
            super::failure::Failure::Bug(format!(
                "the database cannot be opened to sync it: {error}"
            ))
        })?;
        let progress_of_thread = Arc::clone(&progress);
        let marks_of_thread = marks.clone();
        let work = move || {
            while woken.recv().is_ok() {
                progress_of_thread.work(|| marks_of_thread.pass(&connection));
            }
        };
        let thread = std::thread::Builder::new().name("sidestream-checkpoint".into());
        let thread = thread.spawn(work).map_err(|error| {
            super::failure::Failure::Bug(format!("a thread cannot be started: {error}"))
        })?;
        Ok(Self {
            pages,
            pages_seen: 0,
            pages_sent: 0,
            pages_restart: RESTART_PAGES,
            progress,
            marks,
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// Does, or has done, what is due.
    pub(super) fn after_commit(&mut self, writer: &Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < self.pages_seen {
            self.begin_anew();
        }
        self.pages_seen = pages;
        if pages < PASS_PAGES {
            return;
        }
        if pages >= SLOW_PAGES {
            self.wait_for_thread();
        }
        let state = self.progress.state.lock();
        let (is_working, left) = (state.is_working, pages - state.pages_moved);
        drop(state);
        let is_rest_small = !is_working && left <= REST_PAGES;
        if pages >= self.pages_restart && (is_rest_small || pages >= PAGES_MAX) {
            self.restart(writer, pages);
        } else if !is_working && pages - self.pages_sent >= PASS_PAGES {
            self.send(pages);
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

    /// Another log has begun, over the old one.
    fn begin_anew(&mut self) {
        self.progress.begin_anew();
        self.pages_sent = 0;
        self.pages_restart = RESTART_PAGES;
    }

    fn wait_for_thread(&self) {
        let mut state = self.progress.state.lock();
        let is_working = |state: &mut State| state.is_working;
        self.progress
            .rested
            .wait_while_for(&mut state, is_working, THREAD_WAIT);
    }

    fn send(&mut self, pages: i32) {
        let Some(wake) = &self.wake else {
            return;
        };
        self.progress.state.lock().is_working = true;
        self.pages_sent = pages;
        if let Err(TrySendError::Disconnected(())) = wake.try_send(()) {
            self.progress.state.lock().is_working = false;
        }
    }

    /// Moves what is left and has the log ahead begin anew with the next commit, if those who read it are
    /// done soon.
    fn restart(&mut self, writer: &Connection, pages: i32) {
        let done = restart(writer);
        if matches!(done, Ok(Checkpointed { was_kept, .. }) if !was_kept) {
            self.begin_anew();
            self.pages_seen = 0;
            self.pages.store(0, Ordering::Relaxed);
        } else {
            // Whoever still reads the old log keeps it from beginning anew: not each commit waits.
            self.pages_restart = pages + PASS_PAGES;
        }
        log_failure(done);
    }
}

fn restart(writer: &Connection) -> Result<Checkpointed> {
    writer.busy_timeout(READERS_WAIT)?;
    let done = open::checkpoint(writer, "RESTART");
    writer.busy_timeout(open::BUSY_TIMEOUT)?;
    done
}

/// A checkpoint that was not made is no harm yet: the commits are safe in the log ahead, and the next
/// one tries again.
fn log_failure<T>(done: Result<T>) {
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

    /// What the writer has to move itself is little, since the thread has moved the rest beside it: then it
    /// does so long before the log is as long as it may become.
    #[test]
    fn the_log_begins_anew_once_the_thread_has_left_little_of_it() {
        let directory = TempDir::new().expect("a directory");
        let (writer, mut checkpointer) = alone(&directory);
        let file = directory.path().join("database");
        let reader = open::connect_to_read(&file).expect("a connection");
        let thread = Connection::open(&file).expect("a connection");
        for _ in 0..100 {
            // Without a reader SQLite would begin the log anew by itself after a pass that moved all of it.
            let read = "BEGIN; SELECT count(*) FROM some";
            reader.execute_batch(read).expect("it reads");
            let pass = || open::checkpoint(&thread, "PASSIVE");
            checkpointer.progress.work(pass);
            let insert = "INSERT INTO some VALUES (zeroblob(1000000))";
            writer.execute(insert, []).expect("it is written");
            reader.execute_batch("COMMIT").expect("it is done");
            checkpointer.after_commit(&writer);
        }
        let bytes = wal_bytes(&directory);
        assert!(bytes < 40_000_000, "the log ahead takes {bytes} bytes");
    }

    /// A pass that ends when another log has begun says nothing about that one.
    #[test]
    fn what_was_moved_of_the_old_log_does_not_count_for_the_new() {
        let progress = Progress::default();
        let moved = |pages_moved| {
            Ok(Checkpointed {
                was_kept: false,
                pages_moved,
            })
        };
        progress.work(|| moved(700));
        assert_eq!(progress.state.lock().pages_moved, 700);
        progress.work(|| {
            progress.begin_anew();
            moved(900)
        });
        assert_eq!(progress.state.lock().pages_moved, 0);
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
