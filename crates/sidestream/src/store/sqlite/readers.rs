//! Connections that only read: a few, each used by one call at a time, on threads that may block.
//!
//! A call is one read transaction, short, and never waits for the writer: SQLite shows it the state
//! after the last commit.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
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
    /// Those that nobody uses; `None` once the store is closed.
    idle: Mutex<Option<Vec<Connection>>>,
    /// As many as may be in use at once.
    permits: Arc<Semaphore>,
    file: PathBuf,
    specs: Arc<Specs>,
    /// Nobody else may open the database while one of our connections is.
    _lock: Arc<DirectoryLock>,
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
            idle: Mutex::new(Some(Vec::new())),
            permits: Arc::new(Semaphore::new(count.max(1))),
            file,
            specs,
            _lock: lock,
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
        let idle = self.idle.lock().as_mut().and_then(Vec::pop);
        let connection = match idle {
            Some(connection) => connection,
            None => open::connect_to_read(&self.file)?,
        };
        let found = within_transaction(&connection, &self.specs, read);
        // One that could not be brought back to rest is closed instead.
        if connection.is_autocommit()
            && let Some(idle) = self.idle.lock().as_mut()
        {
            idle.push(connection);
        }
        found
    }

    /// Closes the connections; those in use, when their reads are done.
    pub(super) fn close(&self) {
        *self.idle.lock() = None;
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
