//! The log in memory: a queue of events that knows its place in the whole.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sidestream_core::{EventKind, LogEntry, Namespace, Seq, TaskId, TaskIdentity};

use crate::store::Prune;

/// Events `floor + 1, floor + 2, …`: that there is no hole needs no proof.
#[derive(Debug, Default)]
pub(super) struct Log {
    floor: Seq,
    entries: VecDeque<(i64, LogEntry)>,
    /// Where the events of a task are, whichever task bore that id when they happened.
    places: BTreeMap<(Namespace, TaskId), VecDeque<Seq>>,
    /// Whom the events are about, and how many there are of it: so a deleted task can be shown for
    /// as long as the log speaks of it.
    identities: BTreeMap<i64, (Arc<TaskIdentity>, u64)>,
}

impl Log {
    pub(super) fn floor(&self) -> Seq {
        self.floor
    }

    pub(super) fn head(&self) -> Seq {
        Seq(self.floor.0 + self.entries.len() as u64)
    }

    /// Adds the next event.
    pub(super) fn append(&mut self, key: i64, entry: LogEntry) {
        assert_eq!(entry.event.seq, self.head().next(), "the log has no hole");
        let task = &entry.task;
        let id = (task.namespace.clone(), task.id.clone());
        self.places
            .entry(id)
            .or_default()
            .push_back(entry.event.seq);
        let of_task = (Arc::clone(task), 0);
        self.identities.entry(key).or_insert(of_task).1 += 1;
        self.entries.push_back((key, entry));
    }

    /// An event by its place, if it is still there.
    pub(super) fn entry(&self, seq: Seq) -> Option<&LogEntry> {
        let index = seq.0.checked_sub(self.floor.0 + 1)?;
        let (_, entry) = self.entries.get(usize::try_from(index).ok()?)?;
        Some(entry)
    }

    pub(super) fn after(&self, after: Seq, limit: usize) -> Vec<LogEntry> {
        let skipped = usize::try_from(after.0.saturating_sub(self.floor.0)).unwrap_or(usize::MAX);
        let from = skipped.min(self.entries.len());
        let entries = self.entries.range(from..).take(limit);
        entries.map(|(_, entry)| entry.clone()).collect()
    }

    pub(super) fn of_task_after(
        &self,
        task: &(Namespace, TaskId),
        after: Seq,
        limit: usize,
    ) -> Vec<LogEntry> {
        let Some(places) = self.places.get(task) else {
            return Vec::new();
        };
        let from = places.partition_point(|seq| *seq <= after);
        let places = places.range(from..).take(limit);
        places.filter_map(|seq| self.entry(*seq)).cloned().collect()
    }

    /// Whom a task's events are about, while there are any.
    pub(super) fn identity(&self, key: i64) -> Option<&Arc<TaskIdentity>> {
        self.identities.get(&key).map(|(identity, _)| identity)
    }

    /// Forgets the beginning. How many events are gone.
    pub(super) fn prune(&mut self, prune: &Prune) -> u64 {
        let mut pruned = 0;
        while pruned < u64::from(prune.limit) {
            let Some((_, oldest)) = self.entries.front() else {
                break;
            };
            let is_surplus = self.entries.len() as u64 > prune.events_max;
            if oldest.event.at >= prune.before && !is_surplus {
                break;
            }
            self.forget_oldest();
            pruned += 1;
        }
        pruned
    }

    fn forget_oldest(&mut self) {
        let (key, entry) = self.entries.pop_front().expect("looked at before");
        self.floor = entry.event.seq;
        let id = (entry.task.namespace.clone(), entry.task.id.clone());
        let places = self.places.get_mut(&id).expect("each event has its place");
        places.pop_front();
        if places.is_empty() {
            self.places.remove(&id);
        }
        let of_task = self.identities.get_mut(&key).expect("each is of a task");
        of_task.1 -= 1;
        if of_task.1 == 0 {
            self.identities.remove(&key);
        }
    }
}

/// What a suspension waits for, where the event is one.
pub(super) fn suspend_payload(entry: &LogEntry) -> Option<sidestream_core::Json> {
    match &entry.event.kind {
        EventKind::Suspended { payload, .. } => Some(payload.clone()),
        _ => None,
    }
}
