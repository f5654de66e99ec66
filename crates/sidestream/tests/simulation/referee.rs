//! Holds the promises against every commit, and remembers what led there.
//!
//! The referee stands between the store and everyone else, so it sees each event as it is committed. It
//! has rules of its own, written from the promises and not from the state machine, and it knows what the
//! handlers really did.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use parking_lot::Mutex;
use sidestream::core::wire::SnapshotTask;
use sidestream::core::{Attempt, EventKind, LogEntry, Spec, TaskIdentity, WorkerId, lifecycle};
use sidestream::store::{Answer, Committed, Request};
use sidestream::testing::{Clock, History, RuntimeClock, Witness};
use sidestream::{
    Chunk, ChunkType, Filter, Namespace, Seq, Status, Task, TaskId, ThreadId, Timestamp,
};

use crate::trace::{Line, Trace};
use crate::work::Mark;

mod answers;
mod handlers;
mod life;
mod watching;

use handlers::Record;
pub(crate) use watching::Seen;

/// So long after all faults are over, what is to happen at once must have happened.
const AT_ONCE: Duration = Duration::from_millis(3_500);

/// What cannot go wrong, went wrong.
type Verdict = Result<(), String>;

pub(crate) struct Referee {
    pub(crate) history: History,
    clock: RuntimeClock,
    rules: Rules,
    state: Mutex<State>,
}

/// How the processes are set, as far as promises depend on it.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) per_agent: Option<u32>,
    pub(crate) lease_ms: u64,
    pub(crate) grace: Duration,
    pub(crate) is_exclusive: bool,
}

#[derive(Default)]
struct State {
    violation: Option<String>,
    trace: Trace,
    entries: Vec<LogEntry>,
    chunks: Vec<Arc<Chunk>>,
    floor: Seq,
    last_at: Timestamp,
    tasks: Vec<Story>,
    by_id: BTreeMap<(Namespace, TaskId), usize>,
    by_key: BTreeMap<(Namespace, String), usize>,
    untold: BTreeMap<(Namespace, ThreadId), BTreeSet<(Seq, usize)>>,
    executions: Vec<Record>,
    by_attempt: BTreeMap<(usize, Attempt), usize>,
    /// When the last fault was, or the last process came or went; `None` while there are faults.
    calm_since: Option<Timestamp>,
}

/// A task, as the referee knows it.
struct Story {
    identity: Arc<TaskIdentity>,
    spec: Arc<Spec>,
    /// The row, as the fold of the events (L3).
    row: Task,
    status: Status,
    attempt: Attempt,
    retries: u32,
    not_before: Option<Timestamp>,
    due_at: Timestamp,
    is_resuming: bool,
    started_at: Timestamp,
    lease_until: Timestamp,
    workers: BTreeMap<Attempt, WorkerId>,
    outputs: BTreeMap<Attempt, u64>,
    /// Attempts that began before the task was last retried by hand.
    before_retry: Attempt,
    /// Attempts that were cancelled while they ran, and by which event.
    cancelled: BTreeMap<Attempt, Seq>,
    ended: Option<(Seq, Timestamp)>,
    is_gone: bool,
    claimable_since: Option<Timestamp>,
}

fn need(is_so: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    match is_so {
        true => Ok(()),
        false => Err(otherwise()),
    }
}

impl Referee {
    pub(crate) fn new(clock: RuntimeClock, rules: Rules, keeps_trace: bool) -> Self {
        let state = State {
            trace: Trace::new(keeps_trace),
            calm_since: Some(clock.now()),
            ..State::default()
        };
        Self {
            history: History::default(),
            clock,
            rules,
            state: Mutex::new(state),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Notes a line of the trace.
    pub(crate) fn note(&self, line: fmt::Arguments<'_>) {
        let now = self.now();
        self.state.lock().trace.note(now, line);
    }

    /// Notes a broken promise. The first one counts.
    pub(crate) fn accuse(&self, violation: impl Into<String>) {
        let violation = violation.into();
        self.note(format_args!("VIOLATION {violation}"));
        let mut state = self.state.lock();
        state.violation.get_or_insert(violation);
    }

    pub(crate) fn judge(&self, verdict: Verdict) {
        if let Err(violation) = verdict {
            self.accuse(violation);
        }
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.state.lock().violation.clone()
    }

    pub(crate) fn trace(&self) -> (u64, String) {
        let state = self.state.lock();
        (state.trace.hash(), state.trace.text())
    }

    /// Says whether there are faults from now on.
    pub(crate) fn calm(&self, is_calm: bool) {
        let now = self.now();
        self.state.lock().calm_since = is_calm.then_some(now);
    }

    /// Something happened that takes its time to be known everywhere.
    pub(crate) fn stir(&self) {
        let now = self.now();
        let mut state = self.state.lock();
        state.calm_since = state.calm_since.map(|_| now);
    }

    /// Has all been well for so long that what is to happen at once must have?
    pub(crate) fn is_settled(&self, since: Timestamp) -> bool {
        let state = self.state.lock();
        let calm = state.calm_since.map(|calm| calm.max(since));
        calm.is_some_and(|since| self.now().since(since) > AT_ONCE)
    }

    // ------------------------------------------------------------------------- what others ask

    pub(crate) fn head(&self) -> Seq {
        Seq(self.state.lock().chunks.len() as u64)
    }

    pub(crate) fn floor(&self) -> Seq {
        self.state.lock().floor
    }

    pub(crate) fn chunk(&self, seq: Seq) -> Option<Arc<Chunk>> {
        let state = self.state.lock();
        state.chunks.get(seq.0 as usize - 1).cloned()
    }

    /// When a task ended, if it is over.
    pub(crate) fn ended_at(&self, namespace: &Namespace, id: &TaskId) -> Option<Timestamp> {
        let state = self.state.lock();
        let index = state.by_id.get(&(namespace.clone(), id.clone()))?;
        state.tasks[*index].ended.map(|(_, at)| at)
    }

    pub(crate) fn tasks_that(
        &self,
        is_wanted: impl Fn(Status) -> bool,
    ) -> Vec<(Namespace, TaskId)> {
        let state = self.state.lock();
        let stories = state.tasks.iter().filter(|story| !story.is_gone);
        stories
            .filter(|story| is_wanted(story.status))
            .map(|story| (story.identity.namespace.clone(), story.identity.id.clone()))
            .collect()
    }

    /// R2: was the task ever dispatched? It may be gone since.
    pub(crate) fn was_dispatched(&self, namespace: &Namespace, id: &TaskId) -> bool {
        let state = self.state.lock();
        let is_it =
            |story: &Story| story.identity.id == *id && story.identity.namespace == *namespace;
        state.tasks.iter().any(is_it)
    }

    /// When an event happened.
    pub(crate) fn at(&self, seq: Seq) -> Timestamp {
        self.state.lock().entries[seq.0 as usize - 1].event.at
    }

    /// Where the log ended then.
    pub(crate) fn head_at(&self, then: Timestamp) -> Seq {
        let state = self.state.lock();
        Seq(state
            .entries
            .partition_point(|entry| entry.event.at <= then) as u64)
    }

    /// What a snapshot of that moment shows of each task: with what it waits for, and, where the event
    /// that says so is pruned, also without.
    pub(crate) fn snapshot(
        &self,
        namespace: &Namespace,
        filter: &Filter,
        statuses: &[Status],
        at: Seq,
    ) -> BTreeMap<TaskId, Vec<Arc<str>>> {
        let state = self.state.lock();
        let mut rows: BTreeMap<&TaskId, Option<Task>> = BTreeMap::new();
        for entry in &state.entries[..at.0 as usize] {
            if entry.task.namespace == *namespace && filter.matches_task(&entry.task) {
                let row = rows.entry(&entry.task.id).or_default();
                lifecycle::apply(row, namespace, &entry.event);
            }
        }
        let rows = rows.into_values().flatten();
        let rows = rows.filter(|row| statuses.contains(&row.status));
        let chunks = rows.filter_map(|row| {
            let mut task = SnapshotTask {
                identity: Arc::clone(row.identity()),
                status: row.status,
                attempt: row.attempt,
                since: match row.status {
                    Status::Running => row.started_at,
                    Status::Suspended => row.suspended_at,
                    _ => None,
                }
                .unwrap_or(row.updated_at),
                suspend_payload: row.suspend_payload.clone(),
            };
            let chunk = Chunk::of_snapshot(&task)?;
            if !filter.matches_type(chunk.chunk_type) {
                return None;
            }
            let mut variants = vec![Arc::clone(chunk.json())];
            if row.seq <= state.floor && task.suspend_payload.take().is_some() {
                variants.extend(Chunk::of_snapshot(&task).map(|chunk| Arc::clone(chunk.json())));
            }
            Some((row.id().clone(), variants))
        });
        chunks.collect()
    }

    /// Is a task gone, and the log silent about it?
    pub(crate) fn is_forgotten(&self, namespace: &Namespace, id: &TaskId) -> bool {
        let state = self.state.lock();
        let is_gone = !state.by_id.contains_key(&(namespace.clone(), id.clone()));
        let left = &state.entries[state.floor.0 as usize..];
        is_gone
            && !left
                .iter()
                .any(|e| e.task.id == *id && e.task.namespace == *namespace)
    }

    /// The end of a task that who is at `position` has been told, or would be told next if it were asked
    /// for; `None` when it has not ended by then.
    pub(crate) fn told_end(
        &self,
        namespace: &Namespace,
        id: &TaskId,
        position: Seq,
    ) -> Option<Seq> {
        let state = self.state.lock();
        let of_task = state
            .entries
            .iter()
            .filter(|entry| entry.task.id == *id && entry.task.namespace == *namespace);
        let is_end = |entry: &LogEntry| ChunkType::of(&entry.event.kind).is_terminal();
        let mut before = Some(position);
        for entry in of_task {
            if entry.event.seq > position {
                if before.is_some() || is_end(entry) {
                    return before.or(Some(entry.event.seq));
                }
            } else {
                before = is_end(entry).then_some(position);
            }
        }
        before
    }

    /// R7 and R2: a process that was shut down leaves nothing behind that runs.
    pub(crate) fn check_shut_down(&self, process: &Arc<Mark>) {
        let state = self.state.lock();
        let mut left = state
            .executions
            .iter()
            .filter(|record| !record.is_over && record.process.number == process.number);
        let mut verdict = need(left.next().is_none(), || {
            format!("R7: p{} is down, and a handler of it runs", process.number)
        });
        // While all was well each attempt has been reported.
        let began = |story: &Story| state.calm_since.is_some_and(|calm| calm < story.started_at);
        let abandoned = state.tasks.iter().find(|story| {
            story.status == Status::Running
                && story.workers.get(&story.attempt) == process.worker.get()
                && began(story)
        });
        if let Some(story) = abandoned.filter(|_| verdict.is_ok()) {
            let id = short(&story.identity.id);
            verdict = Err(format!(
                "R2: p{} is down, and abandons {id}",
                process.number
            ));
        }
        drop(state);
        self.judge(verdict);
    }

    /// In the end no handler is left over.
    pub(crate) fn check_nothing_runs(&self) {
        let state = self.state.lock();
        let alive = |record: &&Record| record.process.is_alive.load(SeqCst);
        let mut left = state.executions.iter().filter(|r| !r.is_over).filter(alive);
        let verdict = match left.next() {
            None => Ok(()),
            Some(record) => {
                let id = short(&state.tasks[record.task].identity.id);
                Err(format!(
                    "R1: all has ended, but {id} {} runs",
                    record.attempt
                ))
            }
        };
        drop(state);
        self.judge(verdict);
    }

    pub(crate) fn counts(&self) -> (usize, u64, usize) {
        let state = self.state.lock();
        (
            state.tasks.len(),
            state.chunks.len() as u64,
            state.executions.len(),
        )
    }
}

impl Witness for Referee {
    fn saw(&self, batch: &[Request], committed: &Committed) {
        let now = self.now();
        self.history.saw(batch, committed);
        let mut state = self.state.lock();
        let verdict = state.saw(batch, committed, now, &self.rules);
        drop(state);
        self.judge(verdict);
    }
}

impl State {
    fn saw(
        &mut self,
        batch: &[Request],
        committed: &Committed,
        now: Timestamp,
        rules: &Rules,
    ) -> Verdict {
        let mut entries = committed.entries.iter().peekable();
        need(batch.len() == committed.answers.len(), || {
            "L1: an answer is missing".into()
        })?;
        // In the order of the batch, each with its events, so that what a request found is known.
        for (request, answer) in batch.iter().zip(&committed.answers) {
            let (picked, through) = match answer {
                Ok(Answer::Claimed(claimed)) => (claimed.tasks.len() as u64, Seq(0)),
                Ok(Answer::Rescued(rescued)) => (rescued.ended, Seq(0)),
                Ok(Answer::Applied(task) | Answer::Dispatched { task, .. }) => (0, task.seq),
                _ => (0, Seq(0)),
            };
            for _ in 0..picked {
                let entry = entries
                    .next()
                    .ok_or("L1: a claim or rescue without its event")?;
                self.event(entry, now, rules)?;
            }
            while let Some(entry) = entries.next_if(|entry| entry.event.seq <= through) {
                self.event(entry, now, rules)?;
            }
            self.answer(request, answer, now, rules)?;
        }
        match entries.next() {
            None => Ok(()),
            Some(entry) => Err(format!(
                "L1: event {} was asked for by nobody",
                entry.event.seq
            )),
        }
    }

    fn event(&mut self, entry: &LogEntry, now: Timestamp, rules: &Rules) -> Verdict {
        let (seq, at, kind) = (entry.event.seq, entry.event.at, &entry.event.kind);
        let (namespace, id) = (&entry.task.namespace, &entry.task.id);
        self.trace
            .note(now, format_args!("  {seq} {} {}", short(id), Line(kind)));
        need(seq.0 == self.chunks.len() as u64 + 1, || {
            format!("L2: event {seq} follows event {}", self.chunks.len())
        })?;
        need(at >= self.last_at, || {
            format!("L2: event {seq} is older than the one before")
        })?;
        self.last_at = at;
        self.chunks.push(Arc::new(Chunk::of_entry(entry)));
        self.entries.push(entry.clone());

        let key = (namespace.clone(), id.clone());
        if let EventKind::Dispatched(spec) = kind {
            return self.dispatched(key, spec, entry);
        }
        let index = *self
            .by_id
            .get(&key)
            .ok_or_else(|| format!("event {seq} is of {}, which does not exist", short(id)))?;
        self.happened(index, entry, rules)
            .map_err(|why| format!("{why} (event {seq}, {} {})", short(id), Line(kind)))?;

        let story = &mut self.tasks[index];
        let mut row = Some(story.row.clone());
        lifecycle::apply(&mut row, namespace, &entry.event);
        story.row = row.expect("an event leaves a task");
        need(
            story.row.status == story.status && story.row.attempt == story.attempt,
            || {
                format!(
                    "L3: event {seq} makes {} {}",
                    story.row.status, story.row.attempt
                )
            },
        )
    }
}

/// Enough of an id to tell tasks apart in a trace.
pub(crate) fn short(id: &TaskId) -> &str {
    id.short()
}
