//! Holds what watchers saw against the whole history, in one pass over it.

use std::collections::BTreeMap;

use sidestream_core::{Attempt, ChunkType, Filter, LogEntry, Namespace, Seq, Status, TaskId};

use super::mirror::{Known, Mirror};
use super::witness::{History, stands_after};

/// What one watcher saw without being told to begin anew, over as many streams as it took.
#[derive(Debug, Clone)]
pub struct Life {
    /// Whose tasks it watched.
    pub namespace: Namespace,
    /// Which of them.
    pub filter: Filter,
    /// What its snapshot showed; empty if it began at a cursor with nothing in mind.
    pub statuses: Vec<Status>,
    /// What it saw.
    pub mirror: Mirror,
}

/// A life, as the pass over the history finds it.
struct Audited<'a> {
    life: &'a Life,
    to: Seq,
    expected: BTreeMap<TaskId, Known>,
    seen: std::slice::Iter<'a, Seq>,
}

impl History {
    /// Did each watcher see every event that it asked for, once, and does it know what the log says? Those
    /// that never saw a snapshot to its end are passed over. How many events they should have seen, in all.
    ///
    /// # Errors
    /// Says what one of them missed, should not have seen, or knows wrongly.
    pub fn audit(&self, lives: &[Life]) -> Result<u64, String> {
        let mut by_start: Vec<(Seq, &Life)> = lives
            .iter()
            .filter_map(|life| Some((life.mirror.from()?, life)))
            .collect();
        by_start.sort_by_key(|(from, _)| *from);
        let mut waiting = by_start.into_iter().peekable();
        let mut active: Vec<Audited<'_>> = Vec::new();
        let mut standing = BTreeMap::new();
        let (mut wanted, mut at) = (0, Seq(0));
        loop {
            while let Some((_, life)) = waiting.next_if(|(from, _)| *from <= at) {
                active.push(Audited::at_start(life, &standing));
            }
            let mut kept = Vec::with_capacity(active.len());
            for audited in active {
                match audited.to <= at {
                    true => audited.finish()?,
                    false => kept.push(audited),
                }
            }
            active = kept;
            if active.is_empty() && waiting.peek().is_none() {
                return Ok(wanted);
            }
            at = at.next();
            let passed = self.with(at, |entry| {
                for audited in &mut active {
                    wanted += u64::from(audited.pass(entry)?);
                }
                let id = (entry.task.namespace.clone(), entry.task.id.clone());
                let before = standing.get(&id).map(|(standing, _)| *standing);
                let (status, attempt) = stands_after(before, &entry.event.kind);
                match status.is_terminal() {
                    // Only who has not ended can be in a snapshot; its attempts go on counting if it is retried.
                    true if status == Status::Completed => standing.remove(&id),
                    _ => standing.insert(id, ((status, attempt), entry.clone())),
                };
                Ok(())
            });
            passed.unwrap_or_else(|| Err(format!("L2: {at} has never been committed")))?;
        }
    }
}

type Standing = BTreeMap<(Namespace, TaskId), ((Status, Attempt), LogEntry)>;

impl<'a> Audited<'a> {
    fn at_start(life: &'a Life, standing: &Standing) -> Self {
        let mut expected = BTreeMap::new();
        for ((namespace, id), ((status, attempt), entry)) in standing {
            let chunk_type = match status {
                Status::Pending => ChunkType::Started,
                Status::Suspended => ChunkType::Suspended,
                _ => ChunkType::Running,
            };
            let is_shown = life.statuses.contains(status)
                && *namespace == life.namespace
                && life.filter.matches_task(&entry.task)
                && life.filter.matches_type(chunk_type);
            if is_shown {
                expected.insert(id.clone(), Known::in_snapshot(chunk_type, *attempt));
            }
        }
        Self {
            life,
            to: life.mirror.place().map_or(Seq(0), |place| place.seq),
            expected,
            seen: life.mirror.seqs().iter(),
        }
    }

    /// Goes past an event. Was it wanted?
    fn pass(&mut self, entry: &LogEntry) -> Result<bool, String> {
        let life = self.life;
        let chunk_type = ChunkType::of(&entry.event.kind);
        let is_wanted = entry.task.namespace == life.namespace
            && life.filter.matches_type(chunk_type)
            && life.filter.matches_task(&entry.task);
        if !is_wanted {
            return Ok(false);
        }
        let seq = entry.event.seq;
        let seen = self.seen.next();
        if seen != Some(&seq) {
            let filter = &life.filter;
            return Err(format!(
                "{seq} should come next, and {seen:?} does: {filter:?}"
            ));
        }
        let known = self.expected.entry(entry.task.id.clone()).or_default();
        known.see(chunk_type, entry.event.kind.attempt(), seq);
        Ok(true)
    }

    fn finish(mut self) -> Result<(), String> {
        let filter = &self.life.filter;
        if let Some(seq) = self.seen.next() {
            return Err(format!("{seq} was seen, and not asked for: {filter:?}"));
        }
        let found = self.life.mirror.tasks();
        if *found == self.expected {
            return Ok(());
        }
        let ids = self.expected.keys().chain(found.keys());
        let mut wrong = ids.filter(|id| self.expected.get(*id) != found.get(*id));
        let id = wrong
            .next()
            .expect("two maps that differ, differ somewhere");
        let (is, known_as) = (self.expected.get(id), found.get(id));
        Err(format!(
            "{id} is {is:?} at {}, and is known as {known_as:?}: {filter:?}",
            self.to
        ))
    }
}
