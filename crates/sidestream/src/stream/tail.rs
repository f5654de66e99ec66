//! Reads the log once for the whole process, and fills the ring.
//!
//! What this process commits itself is published straight from the commit; what others commit is
//! read from the log when the doorbell rings, with a slow poll as the net. Either way each event
//! reaches the ring once and in order: whoever publishes holds [`Tail::lead`], and a hole is filled
//! from the log first.

use std::sync::Arc;
use std::time::Duration;

use sidestream_core::{Chunk, LogEntry, Seq};
use tokio::sync::{Mutex, MutexGuard};

use crate::store::{LogQuery, Result, Store};
use crate::stream::ring::Ring;

/// How often the log is looked at though no bell rang.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// The wait before the log is read again that does not yet show what the bell rang for.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(10);
/// So many events are read at a time.
const PAGE: usize = 2_048;

/// Sees every event once, in order, before any watcher does. Must be quick.
pub(crate) trait Observer: Send + Sync {
    /// `is_ours` says that this very process committed them.
    fn observe(&self, entries: &[LogEntry], is_ours: bool);

    /// Some events were pruned from the log before this process had read it.
    fn missed(&self);
}

/// The process's one reader of the log.
pub(crate) struct Tail {
    store: Arc<dyn Store>,
    ring: Arc<Ring>,
    observers: Vec<Arc<dyn Observer>>,
    turn: Mutex<()>,
}

/// The right to publish. Held by the writer from before its commit until its events are in the ring,
/// so that nobody reads from the log what is about to be published.
pub(crate) struct Lead<'a> {
    tail: &'a Tail,
    _turn: MutexGuard<'a, ()>,
}

impl Tail {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        ring: Arc<Ring>,
        observers: Vec<Arc<dyn Observer>>,
    ) -> Self {
        Self {
            store,
            ring,
            observers,
            turn: Mutex::new(()),
        }
    }

    /// Waits for the right to publish.
    pub(crate) async fn lead(&self) -> Lead<'_> {
        Lead {
            tail: self,
            _turn: self.turn.lock().await,
        }
    }

    /// Follows the log until dropped.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut bell = self.store.doorbell();
        loop {
            let ring = &self.ring;
            let rung = bell.wait_for(|&head| head > ring.head());
            // The poll is the net for a bell that did not ring.
            let rung = match tokio::time::timeout(POLL_EVERY, rung).await {
                Ok(Ok(head)) => Some(*head),
                Err(_) => None,
                // The bell is lost only with the store.
                Ok(Err(_)) => return,
            };
            let lead = self.lead().await;
            // It rang for a commit of this process, which has been published meanwhile.
            if rung.is_some_and(|head| head <= ring.head()) {
                continue;
            }
            let caught_up = lead.catch_up().await;
            drop(lead);
            if let Err(error) = caught_up {
                tracing::warn!(%error, "the log cannot be read; watchers wait");
                tokio::time::sleep(POLL_EVERY).await;
            } else if rung.is_some_and(|head| head > ring.head()) {
                // The bell was quicker than what it rang for: it must not be asked again at once.
                tokio::time::sleep(READ_AGAIN_AFTER).await;
            }
        }
    }

    fn publish(&self, entries: &[LogEntry], is_ours: bool) {
        for observer in &self.observers {
            observer.observe(entries, is_ours);
        }
        let chunks = entries.iter().map(Chunk::of_entry).map(Arc::new);
        self.ring.publish(chunks.collect());
    }

    /// What cannot be read any more is passed over, and everyone who misses it is told (S3).
    fn skip_to(&self, floor: Seq) {
        for observer in &self.observers {
            observer.missed();
        }
        self.ring.skip_to(floor);
    }
}

impl Lead<'_> {
    /// Publishes what this process has committed, and first what others committed before it.
    ///
    /// When the log cannot be read in between, nothing is published now: it will be read later.
    pub(crate) async fn publish(&self, entries: &[LogEntry]) {
        let Some(first) = entries.first().map(|entry| entry.event.seq) else {
            return;
        };
        let ring = &self.tail.ring;
        if ring.head().next() < first {
            let before = Seq(first.0 - 1);
            if let Err(error) = self.catch_up_to(before).await {
                tracing::warn!(%error, "the log cannot be read; watchers wait");
                return;
            }
        }
        // They may be in the ring already, or have been pruned by their own batch.
        let head = ring.head();
        let fresh = entries.partition_point(|entry| entry.event.seq <= head);
        self.tail.publish(&entries[fresh..], true);
    }

    async fn catch_up(&self) -> Result<()> {
        self.catch_up_to(Seq(u64::MAX)).await
    }

    /// Reads the log from the ring's end, up to `last` if the log goes that far.
    async fn catch_up_to(&self, last: Seq) -> Result<()> {
        let ring = &self.tail.ring;
        loop {
            let after = ring.head();
            if after >= last {
                return Ok(());
            }
            let query = LogQuery {
                after,
                limit: PAGE,
                bytes_max: LogQuery::BYTES_MAX,
                task: None,
            };
            let page = self.tail.store.log(&query).await?;
            if page.head.floor > after {
                tracing::warn!(%after, floor = %page.head.floor, "events were pruned unread");
                self.tail.skip_to(page.head.floor);
                continue;
            }
            if page.entries.is_empty() {
                return Ok(());
            }
            let end = page.entries.partition_point(|e| e.event.seq <= last);
            self.tail.publish(&page.entries[..end], false);
        }
    }
}
