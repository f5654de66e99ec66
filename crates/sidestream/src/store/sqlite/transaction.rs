//! One batch, carried out inside one transaction: rows are found, the lifecycle decides, the outcome is
//! saved.
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
use super::row::Updates;
use super::spec;
use super::tasks::Tasks;
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
}

impl<'w> Transaction<'w> {
    pub(super) fn new(connection: &'w Connection, memory: &'w mut Memory, now: Timestamp) -> Self {
        let (seq, floor) = (memory.seq, memory.floor);
        Self {
            connection,
            memory,
            now,
            seq,
            floor,
            entries: Vec::new(),
        }
    }

    /// A task by its id.
    pub(super) fn find(
        &mut self,
        namespace: &Namespace,
        id: &TaskId,
    ) -> Result<Option<Arc<Stored>>> {
        self.memory.tasks.by_id(self.connection, namespace, id)
    }

    /// A task by its key.
    pub(super) fn find_by_key(&mut self, key: i64) -> Result<Option<Arc<Stored>>> {
        self.memory.tasks.by_key(self.connection, key)
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
            Some(before) => self.update(&before, namespace, change).map(Ok),
            None => self.create(namespace, change).map(Ok),
        }
    }

    fn create(&mut self, namespace: &Namespace, change: Change) -> Result<Task> {
        self.memory.last_key += 1;
        let key = self.memory.last_key;
        let mut task = None;
        self.happen(key, &mut task, namespace, change.events, change.report)?;
        let task = task.ok_or_else(|| Failure::Bug("no event makes the task".into()))?;
        spec::insert(self.connection, key, &task.spec)?;
        self.memory.tasks.specs.keep(key, &task.spec);
        let mut stored = Stored {
            key,
            event_at: self.now,
            queue: None,
            is_untold: false,
            task,
        };
        stored.place(self.now);
        stored.insert(self.connection)?;
        let counters = &mut self.memory.counters;
        let task = stored.task.clone();
        counters.count(self.connection, &task, None, Some(task.status))?;
        self.memory.tasks.saved(stored);
        Ok(task)
    }

    fn update(&mut self, before: &Stored, namespace: &Namespace, change: Change) -> Result<Task> {
        let mut after = before.clone();
        if !change.events.is_empty() {
            let mut task = Some(after.task);
            let (events, report) = (change.events, change.report);
            self.happen(before.key, &mut task, namespace, events, report)?;
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
        self.memory.updates.save(self.connection, before, &after)?;
        let counters = &mut self.memory.counters;
        let task = after.task.clone();
        let (from, to) = (before.task.status, task.status);
        counters.count(self.connection, &task, Some(from), Some(to))?;
        self.memory.tasks.saved(after);
        Ok(task)
    }

    /// Gives events their places in the log, and applies them.
    fn happen(
        &mut self,
        key: i64,
        task: &mut Option<Task>,
        namespace: &Namespace,
        kinds: Vec<EventKind>,
        report: ReportNumber,
    ) -> Result<()> {
        let sql = "INSERT INTO events (seq, task_key, at_ms, code, attempt, report, body)
            VALUES (?, ?, ?, ?, ?, ?, ?)";
        let mut insert = prepare(self.connection, sql)?;
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
            let stored = event.kind.to_stored();
            insert.execute(params![
                seq.0.cast_signed(),
                key,
                at.ms(),
                stored.code,
                stored.attempt.0,
                report.0,
                stored.body.as_ref().map(|body| body.as_str()),
            ])?;
            let task = task.as_ref().expect("an event leaves a task");
            self.entries.push(LogEntry {
                task: Arc::clone(task.identity()),
                event,
            });
        }
        Ok(())
    }

    /// Writes down what belongs to the transaction as a whole: its last step before the commit.
    pub(super) fn finish(&mut self) -> Result<()> {
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
