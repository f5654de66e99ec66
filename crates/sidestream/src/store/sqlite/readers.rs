//! Connections that only read: a few, each used by one call at a time, on threads that may block.
//!
//! A call is one read transaction, short, and never waits for the writer: SQLite shows it the state
//! after the last commit.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::failure::{Failure, Result};
use super::lock::DirectoryLock;
use super::open;
use super::prepare::prepare;
use super::spec::Specs;
use crate::error::{StoreError, StoreErrorKind};

/// A few connections.
#[derive(Debug)]
pub(super) struct Readers {
    pool: Mutex<Pool>,
    /// Rings when a connection has come to rest.
    rested: Condvar,
    /// As many as may be in use at once.
    permits: Arc<Semaphore>,
    file: PathBuf,
    specs: Arc<Specs>,
}

#[derive(Debug)]
struct Pool {
    idle: Vec<Connection>,
    busy: usize,
    /// Nobody else may open the database while one of our connections is. `None` once the store is
    /// closed.
    lock: Option<Arc<DirectoryLock>>,
}

/// A connection within a read transaction.
#[derive(Debug)]
pub(super) struct Reading<'c> {
    pub(super) connection: &'c Connection,
    pub(super) specs: &'c Specs,
}

impl Readers {
    /// At most `count` calls read at once.
    pub(super) fn new(
        count: usize,
        file: PathBuf,
        specs: Arc<Specs>,
        lock: Arc<DirectoryLock>,
    ) -> Self {
        Self {
            pool: Mutex::new(Pool {
                idle: Vec::new(),
                busy: 0,
                lock: Some(lock),
            }),
            rested: Condvar::new(),
            permits: Arc::new(Semaphore::new(count.max(1))),
            file,
            specs,
        }
    }

    /// Reads, all at one moment. When the future is dropped the read goes on and is for nothing.
    pub(super) async fn read<T, F>(self: &Arc<Self>, read: F) -> std::result::Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Reading<'_>) -> Result<T> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let readers = Arc::clone(self);
        let work = move || {
            let found = readers.read_now(read).map_err(|e| e.at(&readers.file));
            drop(permit);
            found
        };
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| {
                let message = format!("a read did not end: {error}");
                Err(StoreError::new(StoreErrorKind::Bug, message).caused_by(error))
            })
    }

    fn read_now<T>(&self, read: impl FnOnce(&Reading<'_>) -> Result<T>) -> Result<T> {
        let mut borrowed = self.borrow()?;
        let connection = match borrowed.connection.take() {
            Some(connection) => connection,
            None => open::connect_to_read(&self.file)?,
        };
        let found = within_transaction(&connection, &self.specs, read);
        // One that could not be brought back to rest is closed instead.
        borrowed.connection = connection.is_autocommit().then_some(connection);
        found
    }

    fn borrow(&self) -> Result<Borrowed<'_>> {
        let mut pool = self.pool.lock();
        if pool.lock.is_none() {
            return Err(Failure::Bug("the store has been closed".into()));
        }
        pool.busy += 1;
        Ok(Borrowed {
            connection: pool.idle.pop(),
            readers: self,
        })
    }

    /// Closes the connections. Waits for those in use: their reads are short.
    pub(super) fn close(&self) {
        let mut pool = self.pool.lock();
        let lock = pool.lock.take();
        self.rested.wait_while(&mut pool, |pool| pool.busy > 0);
        pool.idle.clear();
        drop(lock);
    }
}

/// A connection in use, or about to be made. Comes to rest when dropped, also by a panic.
#[derive(Debug)]
struct Borrowed<'r> {
    connection: Option<Connection>,
    readers: &'r Readers,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.pool.lock();
        pool.busy -= 1;
        pool.idle.extend(self.connection.take());
        self.readers.rested.notify_all();
    }
}

fn within_transaction<T>(
    connection: &Connection,
    specs: &Specs,
    read: impl FnOnce(&Reading<'_>) -> Result<T>,
) -> Result<T> {
    prepare(connection, "BEGIN")?.execute([])?;
    let found = read(&Reading { connection, specs });
    let ended = prepare(connection, "COMMIT").and_then(|mut end| end.execute([]));
    match ended {
        Ok(_) => found,
        Err(error) => found.and(Err(Failure::Sqlite(error))),
    }
}
