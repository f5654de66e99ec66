//! What this server knows of the queue: that nobody waits in it.
//!
//! Whoever becomes ready does so by an event, or because its time has come. So once a claim has seen that it took
//! all who waited, the next need not look as long as the log goes on where this server itself left it: in its own
//! commits it sees who comes.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use sidestream_core::{Epoch, Seq, Timestamp, ToolName};

use super::transaction::Tasks;
use crate::store::stored::Queue;

/// Where the last commit of this server leaves what it knows for the next.
#[derive(Debug, Default)]
pub(super) struct Quiet(Mutex<Option<NobodyWaits>>);

/// Nobody waits for these tools.
#[derive(Debug, Clone)]
pub(super) struct NobodyWaits {
    epoch: Epoch,
    /// That was so after this event.
    at: Seq,
    tools: BTreeSet<ToolName>,
    /// When somebody will at the earliest whose time has not come yet.
    next_due: Option<Timestamp>,
}

impl Quiet {
    /// What is known right after an event: nothing, if anybody else has added to the log.
    pub(super) fn take_at(&self, epoch: &Epoch, seq: Seq) -> Option<NobodyWaits> {
        let known = self.0.lock().take();
        known.filter(|known| known.epoch == *epoch && known.at == seq)
    }

    /// Keeps what was known before a commit for the next: the commit knew these tasks, and its events, up to this
    /// one, came right behind those that were there.
    pub(super) fn keep(&self, known: NobodyWaits, tasks: &Tasks, at: Seq) {
        let waiting = || {
            tasks
                .waiting()
                .filter(|(tool, ..)| known.tools.contains(*tool))
        };
        if waiting().any(|(_, queue, _)| queue == Queue::Ready) {
            return;
        }
        let due = waiting().map(|(.., due_at)| due_at);
        let next_due = known.next_due.into_iter().chain(due).min();
        *self.0.lock() = Some(NobodyWaits {
            at,
            next_due,
            ..known
        });
    }
}

impl NobodyWaits {
    /// A claim that saw the log end here took all who waited for these tools. What was known of others is so still.
    pub(super) fn learnt(
        before: Option<Self>,
        epoch: &Epoch,
        at: Seq,
        tools: &BTreeSet<&ToolName>,
        (next_due, now): (Option<Timestamp>, Timestamp),
    ) -> Self {
        let before = before.filter(|before| !before.is_due(now));
        let before = match before {
            // The claim went by it.
            Some(before) if before.next_due(tools, now).is_some() => return before,
            before => before,
        };
        let of_others = before.filter(|before| {
            let mut known = before.tools.iter();
            known.any(|tool| !tools.contains(tool))
        });
        let mut learnt = of_others.unwrap_or_else(|| Self {
            epoch: epoch.clone(),
            at,
            tools: BTreeSet::new(),
            next_due: None,
        });
        let tools = tools.iter().copied().cloned();
        learnt.tools.extend(tools);
        learnt.next_due = learnt.next_due.into_iter().chain(next_due).min();
        learnt
    }

    /// Has the time of somebody come?
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.next_due.is_some_and(|due| due <= now)
    }

    /// When the next of these tools is due at the earliest, if nobody waits for them now.
    pub(super) fn next_due(
        &self,
        tools: &BTreeSet<&ToolName>,
        now: Timestamp,
    ) -> Option<Option<Timestamp>> {
        let knows = |tool: &&ToolName| self.tools.contains(*tool);
        let is_so = !self.is_due(now) && tools.iter().all(knows);
        is_so.then_some(self.next_due)
    }
}
