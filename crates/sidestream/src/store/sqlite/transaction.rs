//! One batch, carried out inside one transaction: rows are found, the lifecycle decides, the outcome is
//! kept in memory, and written in the end (`unwritten`).
//!
//! Here is what all requests share; what each kind does is in `requests`, `claim` and `upkeep`.

use std::sync::Arc;

use rusqlite::{Connection, params};
use sidestream_core::lifecycle::{self, Change, LeaseChange};
use sidestream_core::{
    Command, Event, EventKind, LogEntry, Namespace, Rejection, ReportNumber, Seq, Task, TaskId,
    Timestamp,
};

use super::counters::Counters;
use super::failure::{Failure, Result};
use super::prepare::prepare;
use super::row::{self, Updates};
use super::tasks::Tasks;
use super::unwritten::Unwritten;
use crate::store::counts::Counted;
use crate::store::stored::Stored;

/// What a request comes to: done, refused, or not done at all.
pub(super) type Decided<T> = Result<std::result::Result<T, Rejection>>;

/// What the writer remembers from one transaction to the next.
#[derive(Debug)]
pub(super) struct Memory {
    /// The last event committed.
    pub(super) seq: Seq,
    /// The last event pruned.
    pub(super) floor: Seq,
    /// The last key given. Goes on rising when a transaction is undone, so that no key is ever two
    /// tasks'.
    pub(super) last_key: i64,
    pub(super) counters: Counters,
    pub(super) updates: Updates,
    pub(super) tasks: Tasks,
}

/// A batch being carried out.
#[derive(Debug)]
pub(super) struct Transaction<'w> {
    pub(super) connection: &'w Connection,
    pub(super) memory: &'w mut Memory,
    /// The time at which all of it happens.
    pub(super) now: Timestamp,
    /// The last event so far.
    pub(super) seq: Seq,
    /// The last event pruned so far.
    pub(super) floor: Seq,
    /// The events so far.
    pub(super) entries: Vec<LogEntry>,
    /// The keys of the tasks to which the last of them happened, which are not written yet.
    pub(super) unwritten_events: Vec<i64>,
    pub(super) unwritten: Unwritten,
    /// [`Tasks::turns`], when nothing of this transaction was forgotten.
    turns: u64,
}

impl<'w> Transaction<'w> {
    /// For about so many events.
    pub(super) fn new(
        connection: &'w Connection,
        memory: &'w mut Memory,
        now: Timestamp,
        events: usize,
    ) -> Self {
        let (seq, floor, turns) = (memory.seq, memory.floor, memory.tasks.turns());
        Self {
            connection,
            memory,
            now,
            seq,
            floor,
            entries: Vec::with_capacity(events),
            unwritten_events: Vec::with_capacity(events),
            unwritten: Unwritten::default(),
            turns,
        }
    }

    /// A task by its id.
    pub(super) fn find(
        &mut self,
        namespace: &Namespace,
        id: &TaskId,
    ) -> Result<Option<Arc<Stored>>> {
        if let Some(known) = self.memory.tasks.known(namespace, id) {
            return Ok(Some(known));
        }
        // What this transaction knew may be forgotten by now, and the database would be asked in vain.
        if self.memory.tasks.turns() != self.turns {
            self.flush()?;
            self.turns = self.memory.tasks.turns();
        }
        self.memory.tasks.by_id(self.connection, namespace, id)
    }

    /// A task by its key.
    pub(super) fn find_by_key(&mut self, key: i64) -> Result<Option<Arc<Stored>>> {
        match self.unwritten.by_key(key) {
            Some(stored) => Ok(Some(stored)),
            None => self.memory.tasks.by_key(self.connection, key),
        }
    }

    /// A task by what a repetition of its dispatch is recognised by.
    pub(super) fn find_by_repetition(
        &mut self,
        namespace: &Namespace,
        repetition: &str,
    ) -> Result<Option<Arc<Stored>>> {
        if let Some(stored) = self.unwritten.by_repetition(namespace, repetition) {
            return Ok(Some(stored));
        }
        let (connection, specs) = (self.connection, &self.memory.tasks.specs);
        let saved = row::by_repetition(connection, specs, namespace, repetition)?;
        // It may have been changed since.
        let now = saved
            .as_ref()
            .and_then(|saved| self.unwritten.by_key(saved.key));
        Ok(now.or(saved.map(Arc::new)))
    }

    /// Decides, applies and saves: the only way to change a task.
    pub(super) fn change(
        &mut self,
        stored: Option<Arc<Stored>>,
        namespace: &Namespace,
        id: &TaskId,
        command: &Command,
    ) -> Decided<Task> {
        let task = stored.as_ref().map(|stored| &stored.task);
        let change = match lifecycle::decide(id, task, command, self.now) {
            Ok(change) => change,
            Err(rejection) => return Ok(Err(rejection)),
        };
        match stored {
            Some(stored) if change.is_none() => Ok(Ok(stored.task.clone())),
            Some(before) => self.update(before, namespace, change).map(Ok),
            None => self.create(namespace, change).map(Ok),
        }
    }

    fn create(&mut self, namespace: &Namespace, change: Change) -> Result<Task> {
        self.memory.last_key += 1;
        let key = self.memory.last_key;
        let mut task = None;
        self.happen(key, &mut task, namespace, change.events, change.report);
        let task = task.ok_or_else(|| Failure::Bug("no event makes the task".into()))?;
        self.memory.tasks.specs.keep(key, &task.spec);
        if let Some(repetition) = task.spec.repetition_key() {
            self.unwritten.recognise(namespace, repetition, key);
        }
        let mut stored = Stored {
            key,
            event_at: self.now,
            queue: None,
            is_untold: false,
            task,
        };
        stored.place(self.now);
        self.save(None, stored)
    }

    fn update(
        &mut self,
        before: Arc<Stored>,
        namespace: &Namespace,
        change: Change,
    ) -> Result<Task> {
        let mut after = (*before).clone();
        if !change.events.is_empty() {
            let mut task = Some(after.task);
            let (events, report) = (change.events, change.report);
            self.happen(before.key, &mut task, namespace, events, report);
            after.task = task.expect("an event leaves a task");
            after.event_at = self.now;
        }
        match change.lease {
            LeaseChange::Keep => {}
            LeaseChange::Hold(lease) => after.task.lease = Some(lease),
            LeaseChange::Release => after.task.lease = None,
        }
        if after.task.status != before.task.status {
            after.place(self.now);
        }
        self.save(Some(before), after)
    }

    /// Takes note of a task as it is now.
    fn save(&mut self, before: Option<Arc<Stored>>, after: Stored) -> Result<Task> {
        let after = Arc::new(after);
        let from = before.as_ref().map(|before| before.task.status);
        let (counters, to) = (&mut self.memory.counters, after.task.status);
        counters.count(self.connection, Counted::of(&after.task), from, Some(to))?;
        self.unwritten.change(before, &after);
        self.memory.tasks.changed(&after);
        Ok(after.task.clone())
    }

    /// Gives events their places in the log, and applies them.
    fn happen(
        &mut self,
        key: i64,
        task: &mut Option<Task>,
        namespace: &Namespace,
        kinds: Vec<EventKind>,
        report: ReportNumber,
    ) {
        for kind in kinds {
            self.seq = self.seq.next();
            let (seq, at) = (self.seq, self.now);
            let event = Event {
                seq,
                at,
                report,
                kind,
            };
            lifecycle::apply(task, namespace, &event);
            self.unwritten_events.push(key);
            let task = task.as_ref().expect("an event leaves a task");
            self.entries.push(LogEntry {
                task: Arc::clone(task.identity()),
                event,
            });
        }
    }

    /// Writes down what belongs to the transaction as a whole: its last step before the commit.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.flush()?;
        let (connection, memory) = (self.connection, &mut *self.memory);
        let is_log_changed = self.seq != memory.seq || self.floor != memory.floor;
        if is_log_changed {
            let sql = "UPDATE head SET seq = ?, floor = ?, last_key = ?, last_at_ms = ?";
            prepare(connection, sql)?.execute(params![
                self.seq.0.cast_signed(),
                self.floor.0.cast_signed(),
                memory.last_key,
                self.now.ms(),
            ])?;
        }
        memory.counters.write(connection)
    }
}
