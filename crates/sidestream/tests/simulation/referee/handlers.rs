//! What handlers really do.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use sidestream::core::Attempt;
use sidestream::{Context, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{Referee, State, Verdict, need, short};
use crate::work::Mark;

/// One run of a handler.
pub(super) struct Record {
    pub(super) task: usize,
    pub(super) attempt: Attempt,
    pub(super) process: Arc<Mark>,
    pub(super) began_at: Timestamp,
    pub(super) told: CancellationToken,
    pub(super) is_over: bool,
    /// So many outputs it began to emit,
    pub(super) emits: u64,
    /// and so many were taken: when.
    pub(super) emitted: Vec<Timestamp>,
}

/// A handler that runs: over when dropped.
pub(crate) struct Execution {
    referee: Arc<Referee>,
    index: usize,
}

impl Referee {
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
}

impl State {
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
