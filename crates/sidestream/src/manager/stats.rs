//! Numbers for those who operate a manager.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sidestream_core::{EventKind, LogEntry, Seq};

use crate::stream::tail::Observer;
use crate::writer::Writer;

/// What a manager has seen since it started, and is doing now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Tasks dispatched.
    pub dispatched: u64,
    /// Attempts begun.
    pub started: u64,
    /// Outputs.
    pub outputs: u64,
    /// Tasks completed.
    pub completed: u64,
    /// Tasks failed.
    pub failed: u64,
    /// Tasks timed out.
    pub timed_out: u64,
    /// Tasks cancelled.
    pub cancelled: u64,
    /// Tasks suspended.
    pub suspended: u64,
    /// Attempts that failed and were followed by another.
    pub retried: u64,
    /// Streams opened.
    pub streams_opened: u64,
    /// Streams that are open now.
    pub streams_open: usize,
    /// Attempts that run in this process now.
    pub running: usize,
    /// Batches committed.
    pub commits: u64,
    /// Requests in those batches.
    pub requests: u64,
    /// Requests that wait for their commit now.
    pub writes_waiting: usize,
    /// The last event that watchers can see.
    pub head: Seq,
}

/// Counts events as they pass.
#[derive(Debug, Default)]
pub(super) struct Counters {
    dispatched: AtomicU64,
    started: AtomicU64,
    outputs: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    cancelled: AtomicU64,
    suspended: AtomicU64,
    retried: AtomicU64,
    streams_opened: AtomicU64,
}

impl Counters {
    pub(super) fn stream_opened(&self) {
        self.streams_opened.fetch_add(1, Relaxed);
    }

    pub(super) fn read(
        &self,
        running: usize,
        streams_open: usize,
        writer: &Writer,
        head: Seq,
    ) -> Stats {
        let (commits, requests) = writer.commits_and_requests();
        Stats {
            dispatched: self.dispatched.load(Relaxed),
            started: self.started.load(Relaxed),
            outputs: self.outputs.load(Relaxed),
            completed: self.completed.load(Relaxed),
            failed: self.failed.load(Relaxed),
            timed_out: self.timed_out.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            suspended: self.suspended.load(Relaxed),
            retried: self.retried.load(Relaxed),
            streams_opened: self.streams_opened.load(Relaxed),
            streams_open,
            running,
            commits,
            requests,
            writes_waiting: writer.waiting(),
            head,
        }
    }
}

impl Observer for Counters {
    fn observe(&self, entries: &[LogEntry], _is_ours: bool) {
        for entry in entries {
            let counter = match &entry.event.kind {
                EventKind::Dispatched(_) => &self.dispatched,
                EventKind::Started { .. } => &self.started,
                EventKind::Output { .. } => &self.outputs,
                EventKind::Completed { .. } => &self.completed,
                EventKind::Failed { .. } => &self.failed,
                EventKind::TimedOut { .. } => &self.timed_out,
                EventKind::Cancelled => &self.cancelled,
                EventKind::Suspended { .. } => &self.suspended,
                EventKind::Retrying { .. } | EventKind::Retried => &self.retried,
                EventKind::Resumed { .. } | EventKind::Recorded(_) => continue,
            };
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Counted are events that were seen.
    fn missed(&self) {}
}
