//! One batch, carried out inside one transaction: rows are found, the lifecycle decides, the outcome is
//! saved.
//!
//! ```text
//! 1  start    one journey: locks the tasks that the batch names, in the order of their keys, and reads
//!             them; finds what repeated dispatches repeat; reads the time and the head of the log
//! 2  here     decides and applies, in memory, on the rows that are locked
//! 3  finish   one journey: writes the rows; then, with the head's lock, the events and the counters; and
//!             commits
//! ```
//!
//! What picks tasks itself (claims, rescues, cleanups) asks the database in between, after what came
//! before it in the batch has been written; but a claim finds those whom its batch brings in memory, and need not ask
//! where it is known that nobody else waits (`quiet`).
//!
//! Every transaction takes its locks in one order, so no two wait for each other: first the right to
//! claim, if it needs it, then tasks by key, then the names of new tasks, and last the head. Those that
//! claims and rescues pick they lock without waiting. The places of the events are known only with the
//! head's lock; until then they are counted on from the head as it was read, and put right by `finish` if
//! others have committed meanwhile.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use sidestream_core::lifecycle::{self, Change, LeaseChange};
use sidestream_core::{
    Command, Epoch, Event, EventKind, LogEntry, Namespace, Rejection, ReportNumber, Seq, Status,
    Task, TaskId, Timestamp, ToolName,
};

use super::Value;
use super::connection::{Connection, answer};
use super::counters::Counters;
use super::failure::{Failure, Result};
use super::quiet::{NobodyWaits, Quiet};
use super::row;
use super::spec::{self, Specs};
use crate::store::counts::Counted;
use crate::store::stored::{Queue, Stored};

/// What a request comes to: done, refused, or not done at all.
pub(super) type Decided<T> = Result<std::result::Result<T, Rejection>>;

/// A batch being carried out.
#[derive(Debug)]
pub(super) struct Transaction<'c> {
    pub(super) connection: &'c Connection,
    pub(super) specs: &'c Specs,
    /// The time at which all of it happens.
    pub(super) now: Timestamp,
    /// Of which log.
    pub(super) epoch: Epoch,
    /// The last event when it began.
    pub(super) begun_at: Seq,
    /// The last event so far, if nobody else commits meanwhile.
    pub(super) seq: Seq,
    /// The last event pruned so far, and whether that was here.
    pub(super) floor: Seq,
    pub(super) has_pruned: bool,
    /// By what the server knows the transaction, once it has written something.
    pub(super) xid: Option<String>,
    /// The events so far, each with its task's key.
    pub(super) happened: Vec<(i64, LogEntry)>,
    pub(super) counters: Counters,
    /// Counters that a cleanup found all zero.
    pub(super) empty_counters: Vec<Value<'static>>,
    /// Has anything been written that [`Transaction::writes`] does not know of?
    pub(super) has_written: bool,
    pub(super) tasks: Tasks,
    /// Is it known that nobody waits, but for those that the transaction knows?
    pub(super) nobody_waits: Option<NobodyWaits>,
    /// Where that is kept for the next.
    pub(super) quiet: &'c Quiet,
}

/// The tasks that the transaction knows: locked, or made by it.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    known: BTreeMap<i64, Known>,
    ids: HashMap<(Namespace, TaskId), i64>,
    repetitions: HashMap<(Namespace, Vec<u8>), i64>,
    /// Keys for new ones.
    pub(super) fresh: VecDeque<i64>,
    /// Those that are to be deleted, each with its last event.
    removed: Vec<(i64, Seq)>,
    /// Of those that have been deleted, and had events in this transaction, the last.
    pub(super) removed_here: Vec<(i64, Seq)>,
}

#[derive(Debug)]
struct Known {
    /// As it is in the database.
    saved: Option<Arc<Stored>>,
    /// As it is now.
    now: Arc<Stored>,
    /// If it was made here: its first event.
    first: Option<Seq>,
}

impl Known {
    fn is_saved(&self) -> bool {
        let saved = self.saved.as_ref();
        saved.is_some_and(|saved| Arc::ptr_eq(saved, &self.now))
    }
}

impl Tasks {
    /// Takes note of a task as it is in the database.
    pub(super) fn know(&mut self, stored: Stored) -> Arc<Stored> {
        let now = Arc::new(stored);
        let identity = now.task.identity();
        let name = (identity.namespace.clone(), identity.id.clone());
        self.ids.insert(name, now.key);
        if let Some(repetition) = spec::repetition(&now.task.spec) {
            let repetition = (identity.namespace.clone(), repetition);
            self.repetitions.insert(repetition, now.key);
        }
        let saved = Some(Arc::clone(&now));
        let known = Known {
            saved,
            now: Arc::clone(&now),
            first: None,
        };
        self.known.insert(now.key, known);
        now
    }

    pub(super) fn by_key(&self, key: i64) -> Option<Arc<Stored>> {
        self.known.get(&key).map(|known| Arc::clone(&known.now))
    }

    pub(super) fn by_id(&self, namespace: &Namespace, id: &TaskId) -> Option<Arc<Stored>> {
        let key = self.ids.get(&(namespace.clone(), id.clone()))?;
        self.by_key(*key)
    }

    /// What a repeated dispatch repeats.
    pub(super) fn by_repetition(
        &self,
        namespace: &Namespace,
        hash: Vec<u8>,
    ) -> Option<Arc<Stored>> {
        let key = self.repetitions.get(&(namespace.clone(), hash))?;
        self.by_key(*key)
    }

    /// Takes note of a task as it is now.
    fn change(&mut self, stored: Stored) {
        let key = stored.key;
        let now = Arc::new(stored);
        if let Some(known) = self.known.get_mut(&key) {
            known.now = now;
            return;
        }
        let first = now.task.seq;
        self.know((*now).clone());
        let known = self.known.get_mut(&key).expect("it was just put there");
        (known.saved, known.first) = (None, Some(first));
    }

    /// Takes note of what was changed in the database behind our back, and is not to be written.
    pub(super) fn told(&mut self, keys: &[i64]) {
        for key in keys {
            if let Some(known) = self.known.get_mut(key) {
                let mut stored = (*known.now).clone();
                stored.is_untold = false;
                known.now = Arc::new(stored);
                known.saved = Some(Arc::clone(&known.now));
            }
        }
    }

    fn forget(&mut self, key: i64) {
        let Some(known) = self.known.remove(&key) else {
            return;
        };
        let identity = known.now.task.identity();
        let namespace = identity.namespace.clone();
        self.ids.remove(&(namespace.clone(), identity.id.clone()));
        if let Some(repetition) = spec::repetition(&known.now.task.spec) {
            self.repetitions.remove(&(namespace, repetition));
        }
    }

    /// The tasks that had events in this transaction, each with its last; and, if it was made here, its
    /// first.
    pub(super) fn changed_after(
        &self,
        begun_at: Seq,
    ) -> impl Iterator<Item = (i64, Seq, Option<Seq>)> {
        let all = self.known.iter();
        all.map(|(key, known)| (*key, known.now.task.seq, known.first))
            .filter(move |(_, last, _)| *last > begun_at)
    }

    /// Those that are not as they are in the database: how each is there, if it is, and how it is now.
    pub(super) fn unwritten(&self) -> impl Iterator<Item = (Option<&Stored>, &Stored)> {
        let unwritten = self.known.values().filter(|known| !known.is_saved());
        unwritten.map(|known| (known.saved.as_deref(), &*known.now))
    }

    /// Those that wait: for which tool, where, and until when.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&ToolName, Queue, Timestamp)> {
        self.known.values().filter_map(|known| {
            let task = &known.now.task;
            Some((&task.identity().tool_name, known.now.queue?, task.due_at()))
        })
    }

    /// The specs of those known, to be kept at hand.
    pub(super) fn specs(&self) -> impl Iterator<Item = (i64, &Arc<sidestream_core::Spec>)> {
        let all = self.known.iter();
        all.map(|(key, known)| (*key, &known.now.task.spec))
    }
}

/// A statement that writes, and its values.
pub(super) type Write<'t> = (Cow<'static, str>, Vec<Value<'t>>);

impl Transaction<'_> {
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
            Some(before) => Ok(Ok(self.update(&before, namespace, change))),
            None => self.create(namespace, change).map(Ok),
        }
    }

    fn create(&mut self, namespace: &Namespace, change: Change) -> Result<Task> {
        let key = self.tasks.fresh.pop_front();
        let key = key.ok_or_else(|| Failure::Bug("no key is left for a new task".into()))?;
        let mut task = None;
        self.happen(key, &mut task, namespace, change.events, change.report);
        let task = task.ok_or_else(|| Failure::Bug("no event makes the task".into()))?;
        let mut stored = Stored {
            key,
            event_at: self.now,
            queue: None,
            is_untold: false,
            task,
        };
        stored.place(self.now);
        let task = stored.task.clone();
        self.counters
            .count(Counted::of(&task), None, Some(task.status));
        self.tasks.change(stored);
        Ok(task)
    }

    fn update(&mut self, before: &Stored, namespace: &Namespace, change: Change) -> Task {
        let mut after = before.clone();
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
        let task = after.task.clone();
        let (from, to) = (before.task.status, task.status);
        self.counters
            .count(Counted::of(&task), Some(from), Some(to));
        self.tasks.change(after);
        task
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
            let task = task.as_ref().expect("an event leaves a task");
            let entry = LogEntry {
                task: Arc::clone(task.identity()),
                event,
            };
            self.happened.push((key, entry));
        }
    }

    /// Removes a task. Its spec stays as long as an event of it does.
    pub(super) fn remove(&mut self, key: i64, counted: Counted<'_>, status: Status, last: Seq) {
        self.counters.count(counted, Some(status), None);
        self.tasks.forget(key);
        self.tasks.removed.push((key, last));
    }

    /// What has been decided and is not written yet.
    ///
    /// What goes makes room for what comes: a deleted task's name can be another's in the same batch.
    pub(super) fn writes(&self) -> Vec<Write<'_>> {
        let mut writes = Vec::new();
        let Tasks { known, removed, .. } = &self.tasks;
        if !removed.is_empty() {
            let keys = Value::integers(removed.iter().map(|(key, _)| *key));
            writes.push((DELETE_TASKS.into(), vec![keys]));
            let (gone, left): (Vec<_>, Vec<_>) =
                removed.iter().partition(|(_, last)| *last <= self.floor);
            if !gone.is_empty() {
                let keys = Value::integers(gone.iter().map(|(key, _)| *key));
                writes.push((DELETE_SPECS.into(), vec![keys]));
            }
            if !left.is_empty() {
                let keys = Value::integers(left.iter().map(|(key, _)| *key));
                let last = Value::integers(left.iter().map(|(_, seq)| seq.0.cast_signed()));
                writes.push((LEAVE_SPECS.into(), vec![keys, last]));
            }
        }
        let new = known.values().filter(|known| known.saved.is_none());
        if new.clone().next().is_some() {
            let specs = new.clone().map(|known| (known.now.key, &known.now.task));
            let (sql, values) = spec::insert(specs);
            writes.push((sql.into(), values));
            let first = |known: &Known| known.first.unwrap_or(known.now.task.seq);
            let (sql, values) = row::insert(new.map(|known| (first(known), &*known.now)));
            writes.push((sql.into(), values));
        }
        let changed = known.values().filter(|known| !known.is_saved());
        let changed = changed.filter_map(|known| Some((&**known.saved.as_ref()?, &*known.now)));
        if changed.clone().next().is_some() {
            let (sql, values) = row::update(changed);
            writes.push((sql.into(), values));
        }
        writes
    }

    /// Writes what has been decided, so that the database can be asked.
    pub(super) async fn flush(&mut self) -> Result<()> {
        let writes = self.writes();
        if writes.is_empty() {
            return Ok(());
        }
        let mut ready = Vec::new();
        for (sql, values) in &writes {
            ready.push(self.connection.prepare(sql, values).await?);
        }
        let mut sent = Vec::new();
        for (ready, (_, values)) in ready.iter().zip(&writes) {
            sent.push(self.connection.send(ready, values));
        }
        for sent in sent {
            answer(sent).await?;
        }
        drop((ready, writes));
        self.has_written = true;
        for known in self.tasks.known.values_mut() {
            known.saved = Some(Arc::clone(&known.now));
        }
        let begun_at = self.begun_at;
        let removed = std::mem::take(&mut self.tasks.removed).into_iter();
        let here = removed.filter(|(_, last)| *last > begun_at);
        self.tasks.removed_here.extend(here);
        Ok(())
    }

    /// Of those that are about to be deleted, and had events in this transaction, the last; and of those
    /// that have been.
    pub(super) fn removed_here(&self) -> impl Iterator<Item = (i64, Seq)> {
        let begun_at = self.begun_at;
        let removed = self.tasks.removed.iter();
        let removed = removed.filter(move |(_, last)| *last > begun_at);
        removed.chain(&self.tasks.removed_here).copied()
    }
}

const DELETE_TASKS: &str = "DELETE FROM @tasks WHERE key = ANY ($1)";
const DELETE_SPECS: &str = "DELETE FROM @specs WHERE key = ANY ($1)";
const LEAVE_SPECS: &str = "UPDATE @specs AS s SET last_seq = i.last_seq
    FROM unnest($1::bigint[], $2::bigint[]) AS i(key, last_seq)
    CROSS JOIN LATERAL (SELECT k.ctid FROM @specs k WHERE k.key = i.key LIMIT 1) AS at
    WHERE s.ctid = at.ctid";

/// Where the spec is whose key is `i.key`: see `row`.
pub(super) const SPEC_BY_KEY: &str =
    "CROSS JOIN LATERAL (SELECT k.ctid FROM @specs k WHERE k.key = i.key LIMIT 1) AS at";
