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
use sidestream::core::{
    Attempt, Command, EventKind, LogEntry, Rejection, Spec, TaskIdentity, WorkerId, lifecycle,
};
use sidestream::store::{Answer, Claimed, Cleanup, Committed, Request, Told};
use sidestream::testing::{Clock, History, RuntimeClock, Witness};
use sidestream::{
    Chunk, ChunkType, Context, Filter, Namespace, Seq, Status, Task, TaskId, ThreadId, Timestamp,
};
use tokio_util::sync::CancellationToken;

use crate::trace::Trace;
use crate::work::{
    Emitted, End, Mark, Plan, failure, failure_for_good, panic_message, signed, tool_limit,
};

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

/// One run of a handler.
struct Record {
    task: usize,
    attempt: Attempt,
    process: Arc<Mark>,
    began_at: Timestamp,
    told: CancellationToken,
    is_over: bool,
    /// So many outputs it began to emit,
    emits: u64,
    /// and so many were taken: when.
    emitted: Vec<Timestamp>,
}

/// A handler that runs: over when dropped.
pub(crate) struct Execution {
    referee: Arc<Referee>,
    index: usize,
}

/// A process, as the watchman sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) number: u64,
    /// Up to here it knows the log.
    pub(crate) head: Seq,
    pub(crate) has_free_slot: bool,
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

    // ------------------------------------------------------------------------- what handlers do

    /// R1: an attempt is run once, by the worker that has it, and nobody else runs the task meanwhile
    /// who has not been told to stop.
    pub(crate) fn execution_began(
        self: &Arc<Self>,
        process: &Arc<Mark>,
        context: &Context,
    ) -> Execution {
        let now = self.now();
        let mut state = self.state.lock();
        let verdict = state.check_execution(process, context);
        let identity = context.task();
        let id = (identity.namespace.clone(), identity.id.clone());
        let task = state
            .tasks
            .iter()
            .position(|story| story.identity.id == id.1 && story.identity.namespace == id.0);
        let index = state.executions.len();
        let task = task.unwrap_or(usize::MAX);
        state.executions.push(Record {
            task,
            attempt: context.attempt(),
            process: Arc::clone(process),
            began_at: now,
            told: context.cancelled().clone(),
            is_over: false,
            emits: 0,
            emitted: Vec::new(),
        });
        state.by_attempt.insert((task, context.attempt()), index);
        drop(state);
        let (number, attempt) = (process.number, context.attempt());
        self.note(format_args!(
            "p{number} runs {} {attempt}",
            short(&identity.id)
        ));
        self.judge(verdict);
        Execution {
            referee: Arc::clone(self),
            index,
        }
    }

    // ------------------------------------------------------------------------- what the watchman sees

    /// R3, R2 and the wake-ups: once all is well, what can go on does.
    pub(crate) fn watch(&self, processes: &[Seen]) {
        let now = self.now();
        let verdict = self.state.lock().watch(now, processes, &self.rules);
        self.judge(verdict);
    }

    /// L3: the rows are the fold of the log; nothing is missing, nothing is left over.
    pub(crate) fn compare_rows(&self, namespace: &Namespace, rows: &[Task]) {
        let verdict = self.state.lock().compare_rows(namespace, rows);
        self.judge(verdict);
    }

    /// R6: who asks what an agent was not told gets just that, oldest end first.
    pub(crate) fn compare_completions(
        &self,
        namespace: &Namespace,
        thread: &ThreadId,
        ended: &[Task],
    ) {
        let state = self.state.lock();
        let thread_of = (namespace.clone(), thread.clone());
        let untold = state.untold.get(&thread_of).into_iter().flatten();
        let expected: Vec<_> = untold
            .map(|(seq, task)| (*seq, state.tasks[*task].identity.id.clone()))
            .collect();
        let found: Vec<_> = ended.iter().map(|t| (t.seq, t.id().clone())).collect();
        drop(state);
        self.judge(need(expected == found, || {
            format!("R6: {thread} should be told {expected:?}, and is told {found:?}")
        }));
    }

    /// R2: after a process of an exclusive store has started, nothing of a former one runs.
    pub(crate) fn check_former_ended(&self, worker: &WorkerId) {
        let state = self.state.lock();
        let mut left = state.tasks.iter().filter(|story| {
            story.status == Status::Running && story.workers.get(&story.attempt) != Some(worker)
        });
        let verdict = match left.next() {
            None => Ok(()),
            Some(story) => Err(format!(
                "R2: {} still runs in a process that is gone",
                short(&story.identity.id)
            )),
        };
        drop(state);
        self.judge(verdict);
    }
}

impl Execution {
    pub(crate) fn emits(&self, nth: u64) {
        self.referee.state.lock().executions[self.index].emits = nth + 1;
    }

    pub(crate) fn emitted(&self, nth: u64) {
        let now = self.referee.now();
        let mut state = self.referee.state.lock();
        let emitted = &mut state.executions[self.index].emitted;
        assert_eq!(emitted.len() as u64, nth, "handlers emit in order");
        emitted.push(now);
    }

    /// What was flushed is in the log.
    pub(crate) fn flushed(&self, nth: u64) {
        let state = self.referee.state.lock();
        let record = &state.executions[self.index];
        let story = &state.tasks[record.task];
        let logged = story.outputs.get(&record.attempt).copied().unwrap_or(0);
        let verdict = need(logged > nth, || {
            format!(
                "S8: output {nth} of {} was flushed, and is not in the log",
                short(&story.identity.id)
            )
        });
        drop(state);
        self.referee.judge(verdict);
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        let mut state = self.referee.state.lock();
        let record = &mut state.executions[self.index];
        record.is_over = true;
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

    fn dispatched(
        &mut self,
        key: (Namespace, TaskId),
        spec: &Arc<Spec>,
        entry: &LogEntry,
    ) -> Verdict {
        let index = self.tasks.len();
        need(!self.by_id.contains_key(&key), || {
            format!("{} is dispatched twice", short(&key.1))
        })?;
        if let Some(repetition) = spec.repetition_key() {
            let repetition = (key.0.clone(), repetition);
            need(!self.by_key.contains_key(&repetition), || {
                format!("R5: a second task for {}", repetition.1)
            })?;
            self.by_key.insert(repetition, index);
        }
        let namespace = key.0.clone();
        self.by_id.insert(key, index);
        let mut row = None;
        lifecycle::apply(&mut row, &namespace, &entry.event);
        let at = entry.event.at;
        self.tasks.push(Story {
            identity: Arc::clone(&spec.identity),
            spec: Arc::clone(spec),
            row: row.expect("a dispatch makes a task"),
            status: Status::Pending,
            attempt: Attempt(0),
            retries: 0,
            not_before: spec.run_at,
            due_at: spec.run_at.unwrap_or(at).max(at),
            is_resuming: false,
            started_at: at,
            lease_until: at,
            workers: BTreeMap::new(),
            outputs: BTreeMap::new(),
            before_retry: Attempt(0),
            cancelled: BTreeMap::new(),
            ended: None,
            is_gone: false,
            claimable_since: None,
        });
        Ok(())
    }

    /// The rules of a task's life.
    fn happened(&mut self, index: usize, entry: &LogEntry, rules: &Rules) -> Verdict {
        let (seq, at) = (entry.event.seq, entry.event.at);
        let reporting = match &entry.event.kind {
            EventKind::Started { .. } => None,
            kind => kind.attempt(),
        };
        if let Some(attempt) = reporting {
            let story = &self.tasks[index];
            need(
                story.status == Status::Running && story.attempt == attempt,
                || {
                    format!(
                        "R1: a report of attempt {attempt} of a task that is {} at {}",
                        story.status, story.attempt
                    )
                },
            )?;
        }
        match &entry.event.kind {
            EventKind::Started {
                attempt,
                worker,
                is_resumed,
            } => self.started(index, *attempt, worker, *is_resumed, at, rules),
            EventKind::Output { attempt, payload } => {
                self.output(index, *attempt, payload.as_str())
            }
            EventKind::Suspended { attempt, payload } => {
                let story = &mut self.tasks[index];
                let id = &story.identity.id;
                need(*payload == signed(id, attempt.0), || {
                    format!("R1: suspended with {payload}")
                })?;
                story.status = Status::Suspended;
                self.returned(index, *attempt, End::Suspend)
            }
            EventKind::Resumed { .. } => {
                let story = &mut self.tasks[index];
                need(story.status == Status::Suspended, || {
                    format!("resumed while {}", story.status)
                })?;
                story.status = Status::Pending;
                story.is_resuming = true;
                story.due_at = at;
                Ok(())
            }
            EventKind::Completed { attempt, result } => {
                let id = &self.tasks[index].identity.id;
                let signed = signed(id, attempt.0);
                need(
                    result.as_ref().is_none_or(|result| *result == signed),
                    || format!("R1: completed with {result:?}"),
                )?;
                let end = match result {
                    Some(_) => End::Complete,
                    None => End::CompleteWithoutResult,
                };
                self.end(index, Status::Completed, seq, at);
                self.returned(index, *attempt, end)
            }
            EventKind::Retrying {
                attempt,
                error,
                next_attempt_at,
            } => {
                self.check_failure(index, *attempt, &error.message, at, rules)?;
                let story = &mut self.tasks[index];
                let policy = story.spec.retry;
                need(story.retries < policy.max_retries, || {
                    format!(
                        "R2: a {}. retry of {}",
                        story.retries + 1,
                        policy.max_retries
                    )
                })?;
                let longest = policy.delay_ms.saturating_mul(1 << story.retries.min(30));
                let longest = longest.min(policy.delay_max_ms);
                let wait = next_attempt_at.since(at);
                need(
                    *next_attempt_at >= at && wait <= Duration::from_millis(longest),
                    || format!("R2: waits {wait:?} before retry {}", story.retries + 1),
                )?;
                story.status = Status::Pending;
                story.retries += 1;
                story.not_before = Some(*next_attempt_at);
                story.due_at = *next_attempt_at;
                Ok(())
            }
            EventKind::Failed { attempt, error } => {
                self.check_failure(index, *attempt, &error.message, at, rules)?;
                self.check_final(index, &error.message)?;
                self.end(index, Status::Failed, seq, at);
                Ok(())
            }
            EventKind::TimedOut { attempt, error } => {
                self.check_failure(index, *attempt, &error.message, at, rules)?;
                self.check_final(index, &error.message)?;
                self.end(index, Status::TimedOut, seq, at);
                Ok(())
            }
            EventKind::Cancelled => {
                let status = self.tasks[index].status;
                need(!status.is_terminal(), || {
                    format!("R2: cancelled while {status}")
                })?;
                if status == Status::Running {
                    let story = &mut self.tasks[index];
                    story.cancelled.insert(story.attempt, seq);
                }
                self.end(index, Status::Cancelled, seq, at);
                Ok(())
            }
            EventKind::Retried => self.retried(index, at),
            EventKind::Dispatched(_) | EventKind::Recorded(_) => {
                Err("not of this simulation".into())
            }
        }
    }

    fn started(
        &mut self,
        index: usize,
        attempt: Attempt,
        worker: &WorkerId,
        is_resumed: bool,
        at: Timestamp,
        rules: &Rules,
    ) -> Verdict {
        let story = &mut self.tasks[index];
        need(story.status == Status::Pending, || {
            format!("R1: given out while {}", story.status)
        })?;
        need(attempt.0 == story.attempt.0 + 1, || {
            format!("attempt {attempt} follows {}", story.attempt)
        })?;
        need(story.not_before.is_none_or(|due| at >= due), || {
            "given out before its time".into()
        })?;
        need(is_resumed == story.is_resuming, || {
            format!("is_resumed is {is_resumed}")
        })?;
        story.status = Status::Running;
        story.attempt = attempt;
        story.is_resuming = false;
        story.not_before = None;
        story.started_at = at;
        story.lease_until = at.plus(Duration::from_millis(rules.lease_ms));
        story.workers.insert(attempt, worker.clone());

        let running = || {
            self.tasks
                .iter()
                .filter(|s| s.status == Status::Running && !s.is_gone)
        };
        let identity = &self.tasks[index].identity;
        let tool = identity.tool_name.as_str();
        let of_tool = running()
            .filter(|s| s.identity.tool_name.as_str() == tool)
            .count() as u64;
        need(of_tool <= tool_limit(tool), || {
            format!("R4: {of_tool} of tool {tool} run")
        })?;
        let (Some(limit), Some(agent)) = (rules.per_agent, &identity.agent_id) else {
            return Ok(());
        };
        let is_alike = |s: &&Story| {
            s.identity.namespace == identity.namespace
                && s.identity.agent_id.as_ref() == Some(agent)
        };
        let of_agent = running().filter(is_alike).count() as u64;
        need(of_agent <= u64::from(limit), || {
            format!("R4: {of_agent} of agent {agent} run")
        })
    }

    fn output(&mut self, index: usize, attempt: Attempt, payload: &str) -> Verdict {
        let emitted: Emitted = serde_json::from_str(payload)
            .map_err(|e| format!("S8: {payload} is no output: {e}"))?;
        let record = self
            .by_attempt
            .get(&(index, attempt))
            .map(|i| &self.executions[*i]);
        let logged = self.tasks[index].outputs.entry(attempt).or_default();
        need(emitted.attempt == attempt.0, || {
            format!(
                "R1: an output of attempt {} is kept as one of {attempt}",
                emitted.attempt
            )
        })?;
        need(emitted.nth == *logged, || {
            format!("S8: output {} follows {logged} others", emitted.nth)
        })?;
        *logged += 1;
        need(
            record.is_some_and(|record| emitted.nth < record.emits),
            || format!("S8: output {} was emitted by nobody", emitted.nth),
        )
    }

    /// The handler did return so; and what it emitted before is in the log before that (S8).
    fn returned(&self, index: usize, attempt: Attempt, end: End) -> Verdict {
        let story = &self.tasks[index];
        let plan: Plan = story.identity.args.parse().expect("args are a plan");
        let planned = plan.end(attempt.0);
        need(planned == end, || {
            format!("R1: {end:?} is kept of an attempt that was to {planned:?}")
        })?;
        let record = self.by_attempt.get(&(index, attempt));
        let record = record.ok_or_else(|| format!("R1: attempt {attempt} never ran"))?;
        let emitted = self.executions[*record].emitted.len() as u64;
        let logged = story.outputs.get(&attempt).copied().unwrap_or(0);
        need(logged == emitted, || {
            format!("S8: {emitted} outputs were emitted, {logged} are kept")
        })
    }

    fn check_failure(
        &self,
        index: usize,
        attempt: Attempt,
        message: &str,
        at: Timestamp,
        rules: &Rules,
    ) -> Verdict {
        let story = &self.tasks[index];
        let panicked = format!("the handler panicked: {}", panic_message(attempt.0));
        let returned = [
            (failure(attempt.0), End::Fail),
            (failure_for_good(attempt.0), End::FailForGood),
            (panicked, End::Panic),
        ];
        if let Some((_, end)) = returned.iter().find(|(said, _)| said == message) {
            return self.returned(index, attempt, *end);
        }
        let worker = story
            .workers
            .get(&attempt)
            .expect("each attempt has its worker");
        if message == format!("Task timed out after {}ms", story.spec.timeout_ms) {
            let deadline = story
                .started_at
                .plus(Duration::from_millis(story.spec.timeout_ms));
            need(at >= deadline, || {
                format!("R7: timed out at {at}, before {deadline}")
            })?;
            return self.outputs_in_time_are_there(index, attempt, deadline);
        }
        if message.starts_with(&format!(
            "worker {worker} was lost during attempt {attempt}"
        )) {
            return need(rules.is_exclusive || at >= story.lease_until, || {
                format!(
                    "R1: given up at {at}, before the lease ended at {}",
                    story.lease_until
                )
            });
        }
        // Only a store that fails makes a worker doubt.
        if message.starts_with(&format!("worker {worker} gave up attempt {attempt}")) {
            let is_calm = self
                .calm_since
                .is_some_and(|since| since < story.started_at);
            return need(!is_calm, || {
                format!("R2: given up while all was well: {message}")
            });
        }
        if message == format!("worker {worker} was shut down before attempt {attempt} ended") {
            return Ok(());
        }
        Err(format!("R2: failed for no known reason: {message}"))
    }

    /// What was emitted in time is kept, even of an attempt that was too slow. (In a storm the store may
    /// not have been there to take it.)
    fn outputs_in_time_are_there(
        &self,
        index: usize,
        attempt: Attempt,
        deadline: Timestamp,
    ) -> Verdict {
        let story = &self.tasks[index];
        let is_calm = self
            .calm_since
            .is_some_and(|since| since < story.started_at);
        let Some(record) = self.by_attempt.get(&(index, attempt)).filter(|_| is_calm) else {
            return Ok(());
        };
        let emitted = self.executions[*record].emitted.iter();
        let in_time = emitted.filter(|at| **at < deadline).count() as u64;
        let logged = story.outputs.get(&attempt).copied().unwrap_or(0);
        need(logged >= in_time, || {
            format!("S8: {in_time} outputs were emitted in time, {logged} are kept")
        })
    }

    /// R2: it ends when no retry is left, or none can help.
    fn check_final(&self, index: usize, message: &str) -> Verdict {
        let story = &self.tasks[index];
        let max = story.spec.retry.max_retries;
        let is_final = message == failure_for_good(story.attempt.0) || story.retries == max;
        need(is_final, || {
            format!(
                "R2: ended after {} of {max} retries: {message}",
                story.retries
            )
        })
    }

    fn end(&mut self, index: usize, status: Status, seq: Seq, at: Timestamp) {
        let story = &mut self.tasks[index];
        story.status = status;
        story.ended = Some((seq, at));
        if let Some(thread) = &story.identity.thread_id {
            let thread = (story.identity.namespace.clone(), thread.clone());
            self.untold.entry(thread).or_default().insert((seq, index));
        }
    }

    fn retried(&mut self, index: usize, at: Timestamp) -> Verdict {
        let story = &mut self.tasks[index];
        let may = [Status::Failed, Status::TimedOut, Status::Cancelled].contains(&story.status);
        need(may, || format!("R2: retried while {}", story.status))?;
        story.status = Status::Pending;
        story.retries = 0;
        story.not_before = None;
        story.due_at = at;
        story.before_retry = story.attempt;
        story.is_resuming = false;
        self.forget_end(index);
        Ok(())
    }

    fn forget_end(&mut self, index: usize) -> bool {
        let story = &mut self.tasks[index];
        let Some((seq, _)) = story.ended.take() else {
            return false;
        };
        self.tell(index, seq)
    }

    /// The end is no longer untold. Was it?
    fn tell(&mut self, index: usize, seq: Seq) -> bool {
        let identity = &self.tasks[index].identity;
        let Some(thread) = &identity.thread_id else {
            return false;
        };
        let thread = (identity.namespace.clone(), thread.clone());
        let untold = self.untold.get_mut(&thread);
        untold.is_some_and(|untold| untold.remove(&(seq, index)))
    }

    /// What was answered is what has become of the task.
    fn answer(
        &mut self,
        request: &Request,
        answer: &Result<Answer, Rejection>,
        now: Timestamp,
        rules: &Rules,
    ) -> Verdict {
        let Ok(answer) = answer else {
            return Ok(());
        };
        match (request, answer) {
            (Request::Dispatch { spec, .. }, Answer::Dispatched { task, is_new }) => {
                let index = self.index_of(task)?;
                let is_same = spec.repetition_key() == self.tasks[index].spec.repetition_key();
                let is_it = task.id() == &spec.identity.id;
                need(
                    is_it || (!is_new && is_same && spec.repetition_key().is_some()),
                    || {
                        format!(
                            "R5: a dispatch is answered by another task, {}",
                            short(task.id())
                        )
                    },
                )?;
                self.check_row(index, task)
            }
            (Request::Command { command, .. }, Answer::Applied(task)) => {
                let index = self.index_of(task)?;
                if let Command::Renew { lease_ms, .. } = command {
                    let until = now.plus(Duration::from_millis(*lease_ms));
                    self.tasks[index].lease_until = until;
                }
                self.check_row(index, task)
            }
            (Request::Claim(claim), Answer::Claimed(Claimed { tasks, .. })) => {
                need(tasks.len() <= claim.limit as usize, || {
                    "R4: more than was asked for".into()
                })?;
                for task in tasks {
                    let index = self.index_of(task)?;
                    let lease = task.lease.as_ref();
                    need(
                        lease.is_some_and(|lease| lease.worker == claim.worker),
                        || format!("R1: {} is claimed without a lease", short(task.id())),
                    )?;
                    self.check_row(index, task)?;
                }
                Ok(())
            }
            (Request::Delete { namespace, id }, Answer::Removed(1)) => {
                let key = (namespace.clone(), id.clone());
                let index = *self.by_id.get(&key).ok_or("deleted what does not exist")?;
                let status = self.tasks[index].status;
                need(status.is_terminal(), || format!("deleted while {status}"))?;
                self.remove(index);
                Ok(())
            }
            (Request::Cleanup(cleanup), Answer::Removed(removed)) => self.clean(cleanup, *removed),
            (Request::Prune(prune), Answer::Pruned(pruned)) => {
                self.floor = Seq(self.floor.0 + pruned);
                let left = self.chunks.len() as u64 - self.floor.0;
                need(
                    left <= prune.events_max || *pruned == u64::from(prune.limit),
                    || format!("R7: {left} events are left"),
                )
            }
            (
                Request::Acknowledge {
                    namespace,
                    thread,
                    told,
                },
                Answer::Acknowledged(count),
            ) => self.acknowledged(namespace, thread, told, *count),
            (Request::Rescue(_), Answer::Rescued(_)) => Ok(()),
            _ => Err(format!(
                "{request:?} is answered by {answer:?} under {rules:?}"
            )),
        }
    }

    fn index_of(&self, task: &Task) -> Result<usize, String> {
        let key = (task.identity().namespace.clone(), task.id().clone());
        let index = self.by_id.get(&key).copied();
        index.ok_or_else(|| format!("{} is answered, and does not exist", short(task.id())))
    }

    fn check_row(&self, index: usize, task: &Task) -> Verdict {
        let row = &self.tasks[index].row;
        let task = without_lease(task);
        need(*row == task, || {
            let (id, differences) = (short(task.id()), differences(&task, row));
            format!("L3: the row of {id} is not the fold of its events: {differences}")
        })
    }

    fn remove(&mut self, index: usize) {
        self.forget_end(index);
        let story = &mut self.tasks[index];
        story.is_gone = true;
        let namespace = story.identity.namespace.clone();
        let key = story.spec.repetition_key();
        let id = story.identity.id.clone();
        self.by_id.remove(&(namespace.clone(), id));
        if let Some(key) = key {
            self.by_key.remove(&(namespace, key));
        }
    }

    fn clean(&mut self, cleanup: &Cleanup, removed: u64) -> Verdict {
        let is_untold = |index: usize, seq: Seq| {
            let identity = &self.tasks[index].identity;
            let thread = identity.thread_id.clone();
            let thread = thread.map(|thread| (identity.namespace.clone(), thread));
            let untold = thread.and_then(|thread| self.untold.get(&thread));
            untold.is_some_and(|untold| untold.contains(&(seq, index)))
        };
        let is_old = |index: &usize| {
            let story = &self.tasks[*index];
            let Some((seq, at)) = story.ended.filter(|_| !story.is_gone) else {
                return false;
            };
            let before = match story.status {
                Status::Completed => cleanup.completed_before,
                _ => cleanup.failed_before,
            };
            at < before && (at < cleanup.untold_before || !is_untold(*index, seq))
        };
        let old: Vec<usize> = (0..self.tasks.len()).filter(is_old).collect();
        need(old.len() as u64 == removed, || {
            format!(
                "R7: {removed} tasks were cleaned up, {} are old enough",
                old.len()
            )
        })?;
        for index in old {
            self.remove(index);
        }
        Ok(())
    }

    fn acknowledged(
        &mut self,
        namespace: &Namespace,
        thread: &ThreadId,
        told: &Told,
        count: u64,
    ) -> Verdict {
        let thread = (namespace.clone(), thread.clone());
        let ends: Vec<(Seq, usize)> = match told {
            Told::UpTo(seq) => {
                let untold = self.untold.get(&thread).into_iter().flatten();
                untold.copied().filter(|(end, _)| end <= seq).collect()
            }
            Told::These(ends) => {
                let known = ends.iter().filter_map(|(id, seq)| {
                    let key = (namespace.clone(), id.clone());
                    Some((*seq, *self.by_id.get(&key)?))
                });
                known.collect()
            }
        };
        let untold = self.untold.entry(thread).or_default();
        let newly = ends.iter().filter(|end| untold.remove(end)).count() as u64;
        need(newly == count, || {
            format!("R6: {count} ends were newly told, not {newly}")
        })
    }

    fn check_execution(&self, process: &Arc<Mark>, context: &Context) -> Verdict {
        let identity = context.task();
        let (id, attempt) = (&identity.id, context.attempt());
        let index = self.tasks.iter().position(|story| {
            story.identity.id == *id && story.identity.namespace == identity.namespace
        });
        let index = index.ok_or_else(|| format!("{} runs, and was never dispatched", short(id)))?;
        let story = &self.tasks[index];
        need(story.workers.get(&attempt) == process.worker.get(), || {
            format!("R1: {} {attempt} runs where it was not given", short(id))
        })?;
        need(!self.by_attempt.contains_key(&(index, attempt)), || {
            format!("R1: {} {attempt} runs twice", short(id))
        })?;
        let alive = || {
            let records = self.executions.iter().filter(|record| !record.is_over);
            records.filter(|record| record.process.is_alive.load(SeqCst))
        };
        let mut others = alive().filter(|other| {
            other.task == index && !other.told.is_cancelled() && other.attempt > story.before_retry
        });
        if let Some(other) = others.next() {
            let (number, other) = (other.process.number, other.attempt);
            return Err(format!(
                "R1: {} {attempt} runs while p{number} runs {other}, and was not told to stop",
                short(id)
            ));
        }
        let here = alive()
            .filter(|other| other.process.number == process.number)
            .count()
            + 1;
        let limit = process.concurrency as usize;
        need(here <= limit, || {
            format!("R4: {here} handlers run in p{}", process.number)
        })
    }

    fn watch(&mut self, now: Timestamp, processes: &[Seen], rules: &Rules) -> Verdict {
        let calm_since = self.calm_since;
        let is_late = |since: Timestamp, by: Duration| {
            calm_since.is_some_and(|calm| now.since(calm.max(since)) > AT_ONCE + by)
        };
        self.watch_claimable(now, processes, rules)?;
        let lease = Duration::from_millis(rules.lease_ms);
        for story in self.tasks.iter().filter(|s| s.status == Status::Running) {
            let id = short(&story.identity.id);
            // A rescuer looks thrice in a lease.
            need(
                processes.is_empty() || !is_late(story.lease_until, lease / 3),
                || format!("R2: {id} is lost, its lease ended at {}", story.lease_until),
            )?;
            let deadline = story
                .started_at
                .plus(Duration::from_millis(story.spec.timeout_ms));
            let overtime = rules.grace * 2 + Duration::from_secs(1) + lease / 3;
            need(processes.is_empty() || !is_late(deadline, overtime), || {
                format!("R7: {id} still runs, its time was up at {deadline}")
            })?;
        }
        for record in self
            .executions
            .iter()
            .filter(|r| !r.is_over && !r.told.is_cancelled())
        {
            if !record.process.is_alive.load(SeqCst) {
                continue;
            }
            let story = &self.tasks[record.task];
            // A process tells its handlers before it shows the event to anyone.
            let process = processes.iter().find(|p| p.number == record.process.number);
            if let (Some(process), Some(seq)) = (process, story.cancelled.get(&record.attempt)) {
                need(process.head < *seq, || {
                    let (id, attempt) = (short(&story.identity.id), record.attempt);
                    format!(
                        "R3: {id} was cancelled by event {seq}, and attempt {attempt} was not told"
                    )
                })?;
            }
            if let (Status::Cancelled, Some((_, at))) = (story.status, story.ended) {
                need(!is_late(at.max(record.began_at), Duration::ZERO), || {
                    format!(
                        "R3: {} was cancelled at {at}, and its handler was not told",
                        short(&story.identity.id)
                    )
                })?;
            }
        }
        Ok(())
    }

    /// No wake-up is lost: what can be claimed is, once all is well.
    fn watch_claimable(&mut self, now: Timestamp, processes: &[Seen], rules: &Rules) -> Verdict {
        let has_free_slot = processes.iter().any(|process| process.has_free_slot);
        let mut agents = BTreeMap::<_, u64>::new();
        let mut tools = BTreeMap::<_, u64>::new();
        for story in self.tasks.iter().filter(|s| s.status == Status::Running) {
            let identity = &story.identity;
            *agents
                .entry((identity.namespace.clone(), identity.agent_id.clone()))
                .or_default() += 1;
            *tools.entry(identity.tool_name.clone()).or_default() += 1;
        }
        for story in &mut self.tasks {
            let identity = &story.identity;
            let agent = (identity.namespace.clone(), identity.agent_id.clone());
            let of_agent = agents.get(&agent).copied().unwrap_or(0);
            let of_tool = tools.get(&identity.tool_name).copied().unwrap_or(0);
            let limit = identity.agent_id.as_ref().and(rules.per_agent);
            let is_claimable = story.status == Status::Pending
                && !story.is_gone
                && story.due_at <= now
                && has_free_slot
                && limit.is_none_or(|limit| of_agent < u64::from(limit))
                && of_tool < tool_limit(identity.tool_name.as_str());
            story.claimable_since = match is_claimable {
                true => Some(story.claimable_since.unwrap_or(now)),
                false => None,
            };
            let (Some(since), Some(calm)) = (story.claimable_since, self.calm_since) else {
                continue;
            };
            need(now.since(since.max(calm)) <= AT_ONCE, || {
                format!(
                    "a wake-up was lost: {} can be claimed since {since}",
                    short(&identity.id)
                )
            })?;
        }
        Ok(())
    }

    fn compare_rows(&self, namespace: &Namespace, rows: &[Task]) -> Verdict {
        let expected = self.by_id.iter().filter(|((of, _), _)| of == namespace);
        let mut expected: BTreeMap<&TaskId, usize> =
            expected.map(|((_, id), index)| (id, *index)).collect();
        for row in rows {
            let index = expected.remove(row.id());
            let index =
                index.ok_or_else(|| format!("L3: {} is a row too many", short(row.id())))?;
            self.check_row(index, row)?;
            let is_held = row.lease.is_some();
            need(is_held == (row.status == Status::Running), || {
                format!(
                    "R1: {} is {} and has lease {:?}",
                    short(row.id()),
                    row.status,
                    row.lease
                )
            })?;
            let until = row.lease.as_ref().map(|lease| lease.until);
            let known = self.tasks[index].lease_until;
            need(until.is_none_or(|until| until == known), || {
                format!(
                    "R1: the lease of {} ends at {until:?}, not at {known}",
                    short(row.id())
                )
            })?;
        }
        match expected.into_keys().next() {
            None => Ok(()),
            Some(id) => Err(format!("L3: the row of {} is missing", short(id))),
        }
    }
}

fn without_lease(task: &Task) -> Task {
    Task {
        lease: None,
        ..task.clone()
    }
}

/// What a row says otherwise than the fold.
fn differences(row: &Task, fold: &Task) -> String {
    let (row, fold) = (format!("{row:#?}"), format!("{fold:#?}"));
    let lines = row
        .lines()
        .zip(fold.lines())
        .filter(|(row, fold)| row != fold);
    let lines: Vec<_> = lines
        .map(|(row, fold)| format!("{} ({})", row.trim(), fold.trim()))
        .collect();
    lines.join("; ")
}

/// Enough of an id to tell tasks apart in a trace.
pub(crate) fn short(id: &TaskId) -> &str {
    id.short()
}

/// An event, as a trace shows it.
struct Line<'a>(&'a EventKind);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            EventKind::Dispatched(spec) => write!(f, "dispatched {}", spec.identity.tool_name),
            EventKind::Started {
                attempt,
                worker,
                is_resumed,
            } => {
                write!(
                    f,
                    "started {attempt} by {worker}{}",
                    if *is_resumed { " resumed" } else { "" }
                )
            }
            EventKind::Output { attempt, payload } => write!(f, "output {attempt} {payload}"),
            EventKind::Suspended { attempt, .. } => write!(f, "suspended {attempt}"),
            EventKind::Resumed { data } => write!(f, "resumed {data}"),
            EventKind::Completed { attempt, .. } => write!(f, "completed {attempt}"),
            EventKind::Retrying {
                attempt,
                error,
                next_attempt_at,
            } => {
                write!(
                    f,
                    "retrying {attempt} at {next_attempt_at}: {}",
                    error.message
                )
            }
            EventKind::Failed { attempt, error } => {
                write!(f, "failed {attempt}: {}", error.message)
            }
            EventKind::TimedOut { attempt, .. } => write!(f, "timed out {attempt}"),
            EventKind::Cancelled => f.write_str("cancelled"),
            EventKind::Retried => f.write_str("retried"),
            EventKind::Recorded(_) => f.write_str("recorded"),
        }
    }
}
