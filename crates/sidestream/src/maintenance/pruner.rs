//! Forgets what is older than its retention: ended tasks, and the beginning of the log (R7).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::store::{Answer, Cleanup, Prune, Request, Store};
use crate::writer::Writer;

/// So many tasks at most go in one transaction, so that nobody waits long for it: with its places in all
/// indexes one takes some 20 µs of SQLite's writer (2,000 at once held others up for 70 ms).
const TASKS_MAX: u32 = 250;
/// So many events, which take less.
const EVENTS_MAX: u32 = 2_000;

/// How long things are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Completed tasks: 1 hour.
    pub completed: Duration,
    /// Failed, timed-out and cancelled tasks: 24 hours.
    pub failed: Duration,
    /// Ended tasks of a thread whose end nobody has acknowledged (R6): at least 24 hours.
    pub untold: Duration,
    /// Events: 24 hours. A cursor older than this gets `stream-reset`.
    pub log: Duration,
    /// No more events than this, whatever their age: 10 million.
    pub log_events_max: u64,
    /// How often all this is looked at: every minute.
    pub every: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        Self {
            completed: HOUR,
            failed: 24 * HOUR,
            untold: 24 * HOUR,
            log: 24 * HOUR,
            log_events_max: 10_000_000,
            every: Duration::from_secs(60),
        }
    }
}

impl Retention {
    /// Nothing is removed: for a process that only helps others with their data.
    #[must_use]
    pub fn for_ever() -> Self {
        const YEARS: Duration = Duration::from_secs(1_000 * 365 * 24 * 60 * 60);
        Self {
            completed: YEARS,
            failed: YEARS,
            untold: YEARS,
            log: YEARS,
            log_events_max: 1 << 50,
            every: YEARS,
        }
    }
}

/// What a cleanup removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// So many tasks.
    pub tasks: u64,
    /// So many events.
    pub events: u64,
}

/// Removes what is too old.
#[derive(Debug, Clone)]
pub(crate) struct Pruner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) writer: Writer,
    pub(crate) retention: Retention,
}

impl Pruner {
    /// Removes what is too old, again and again, until dropped.
    pub(crate) async fn run(self) {
        loop {
            tokio::time::sleep(self.retention.every).await;
            match self.clean().await {
                Ok(Cleaned {
                    tasks: 0,
                    events: 0,
                }) => {}
                Ok(cleaned) => {
                    tracing::debug!(tasks = cleaned.tasks, events = cleaned.events, "cleaned up");
                }
                Err(Error::ShutDown) => return,
                Err(error) => tracing::warn!(%error, "not cleaned up"),
            }
        }
    }

    /// Removes what is too old now, in slices. Events go first: a task whose events have gone goes whole.
    pub(crate) async fn clean(&self) -> Result<Cleaned, Error> {
        let events = in_slices(EVENTS_MAX, || self.prune_log()).await?;
        let tasks = in_slices(TASKS_MAX, || self.remove_tasks()).await?;
        Ok(Cleaned { tasks, events })
    }

    async fn remove_tasks(&self) -> Result<u64, Error> {
        let now = self.store.now();
        let ago = |d: Duration| now.plus_ms(-i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
        let cleanup = Cleanup {
            completed_before: ago(self.retention.completed),
            failed_before: ago(self.retention.failed),
            untold_before: ago(self.retention.untold),
            limit: TASKS_MAX,
        };
        match self.writer.submit(Request::Cleanup(cleanup)).await? {
            Answer::Removed(removed) => Ok(removed),
            other => unreachable!("a cleanup is answered as one: {other:?}"),
        }
    }

    async fn prune_log(&self) -> Result<u64, Error> {
        let now = self.store.now();
        let age_ms = i64::try_from(self.retention.log.as_millis()).unwrap_or(i64::MAX);
        let prune = Prune {
            before: now.plus_ms(-age_ms),
            events_max: self.retention.log_events_max,
            limit: EVENTS_MAX,
        };
        match self.writer.submit(Request::Prune(prune)).await? {
            Answer::Pruned(pruned) => Ok(pruned),
            other => unreachable!("a pruning is answered as one: {other:?}"),
        }
    }
}

/// Removes slice after slice, until one is not full. In between it waits for as long as a slice took, so that
/// tasks have half of the store's time at least, however much there is to remove.
async fn in_slices<R>(full: u32, mut remove: impl FnMut() -> R) -> Result<u64, Error>
where
    R: Future<Output = Result<u64, Error>>,
{
    let mut all = 0;
    loop {
        let began = Instant::now();
        let removed = remove().await?;
        all += removed;
        if removed < u64::from(full) {
            return Ok(all);
        }
        tokio::time::sleep(began.elapsed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tasks have the other half.
    #[tokio::test(start_paused = true)]
    async fn what_is_removed_takes_half_of_the_time_at_most() {
        const SLICE: Duration = Duration::from_millis(10);
        let mut slices = [100, 100, 100, 7].into_iter();
        let began = Instant::now();
        let removed = in_slices(100, || {
            let removed = slices.next().expect("one that is not full was the last");
            async move {
                tokio::time::sleep(SLICE).await;
                Ok(removed)
            }
        });
        assert_eq!(removed.await.expect("nothing fails"), 307);
        assert_eq!(began.elapsed(), 4 * SLICE + 3 * SLICE);
    }
}
