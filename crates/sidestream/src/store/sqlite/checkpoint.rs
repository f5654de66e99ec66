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

use rusqlite::Connection;

use super::SqliteOptions;
use super::failure::Result;
use super::open;

/// From how many new pages in the log ahead the thread sets to work; a page is 4 KiB.
const PASSIVE_PAGES: i32 = 1_000;
/// From how many pages in the log ahead the writer does.
const RESTART_PAGES: i32 = 16_000;

/// Watches how long the log ahead grows.
#[derive(Debug)]
pub(super) struct Checkpointer {
    /// How many pages it had after the last commit.
    pages: Arc<AtomicI32>,
    /// How many it had when the thread was last sent.
    pages_sent: i32,
    /// At how many the writer tries next.
    pages_restart: i32,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread, and listens to the writer's commits.
    pub(super) fn start(
        writer: &mut Connection,
        file: &Path,
        options: &SqliteOptions,
    ) -> Result<Self> {
        let pages = Arc::new(AtomicI32::new(0));
        let counted = Arc::clone(&pages);
        writer.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            counted.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        let connection = open::connect(file, options)?;
        let (wake, woken) = sync_channel::<()>(1);
        let work = move || {
            while woken.recv().is_ok() {
                log_failure(open::checkpoint(&connection, "PASSIVE"));
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
            let was_kept = open::checkpoint(writer, "RESTART");
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
        log_failure(open::checkpoint(writer, "TRUNCATE"));
    }
}

/// A checkpoint that was not made is no harm yet: the commits are safe in the log ahead, and the next
/// one tries again.
fn log_failure(done: Result<bool>) {
    if let Err(error) = done {
        tracing::warn!(?error, "checkpoint not made");
    }
}
