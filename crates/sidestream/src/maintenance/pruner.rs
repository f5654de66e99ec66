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

    /// Removes what is too old now.
    pub(crate) async fn clean(&self) -> Result<Cleaned, Error> {
        in_slices(|| self.prune_log(), || self.remove_tasks()).await
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

/// Removes a slice of the log and one of tasks, again and again, until neither is full. The log goes first: a task
/// whose events have gone goes whole. They take turns: however fast events come, tasks go too. And between two turns
/// it waits for as long as one took, so that whoever works has half of the store's time at least.
async fn in_slices<Events, Tasks>(
    mut prune: impl FnMut() -> Events,
    mut remove: impl FnMut() -> Tasks,
) -> Result<Cleaned, Error>
where
    Events: Future<Output = Result<u64, Error>>,
    Tasks: Future<Output = Result<u64, Error>>,
{
    let mut cleaned = Cleaned::default();
    loop {
        let began = Instant::now();
        let events = prune().await?;
        let tasks = remove().await?;
        cleaned.events += events;
        cleaned.tasks += tasks;
        if events < u64::from(EVENTS_MAX) && tasks < u64::from(TASKS_MAX) {
            return Ok(cleaned);
        }
        tokio::time::sleep(began.elapsed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: Duration = Duration::from_millis(10);

    /// What slices of these sizes remove, each in so long a time; nothing, after the last.
    fn removing(
        slices: impl IntoIterator<Item = u32>,
    ) -> impl FnMut() -> futures::future::BoxFuture<'static, Result<u64, Error>> {
        let mut slices = slices.into_iter().collect::<Vec<_>>().into_iter();
        move || {
            let removed = u64::from(slices.next().unwrap_or(0));
            Box::pin(async move {
                tokio::time::sleep(SLICE).await;
                Ok(removed)
            })
        }
    }

    /// Those who work have the other half.
    #[tokio::test(start_paused = true)]
    async fn what_is_removed_takes_half_of_the_time_at_most() {
        let began = Instant::now();
        let cleaned = in_slices(removing([7]), removing([TASKS_MAX, TASKS_MAX, 3]));
        let cleaned = cleaned.await.expect("nothing fails");
        let tasks = u64::from(2 * TASKS_MAX + 3);
        assert_eq!(cleaned, Cleaned { tasks, events: 7 });
        assert_eq!(began.elapsed(), 3 * 2 * SLICE + 2 * 2 * SLICE);
    }

    /// R7: neither waits for the other to be done, which may be never.
    #[tokio::test(start_paused = true)]
    async fn tasks_go_while_more_and_more_events_are_old() {
        let (removed, mut tasks) = (std::cell::Cell::new(0), removing([TASKS_MAX, 5]));
        let remove = || {
            let next = tasks();
            async {
                let slice = next.await?;
                removed.set(removed.get() + slice);
                Ok(slice)
            }
        };
        let always = removing(std::iter::repeat_n(EVENTS_MAX, 1_000));
        let cleaning = tokio::time::timeout(10 * SLICE, in_slices(always, remove));
        assert!(cleaning.await.is_err(), "the log is never done");
        assert_eq!(removed.get(), u64::from(TASKS_MAX + 5));
    }
}
