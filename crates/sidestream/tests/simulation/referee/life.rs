//! The rules of a task's life: what may follow what, and why.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sidestream::core::{Attempt, EventKind, Json, LogEntry, Spec, WorkerId, lifecycle};
use sidestream::{Namespace, Seq, Status, TaskId, Timestamp};

use super::{Rules, State, Story, Verdict, need, short};
use crate::work::{
    Emitted, End, Plan, failure, failure_for_good, panic_message, signed, tool_limit,
};

impl State {
    pub(super) fn dispatched(
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

    /// What an event may follow, and what follows from it.
    pub(super) fn happened(&mut self, index: usize, entry: &LogEntry, rules: &Rules) -> Verdict {
        let (seq, at) = (entry.event.seq, entry.event.at);
        self.check_reporter(index, &entry.event.kind)?;
        match &entry.event.kind {
            EventKind::Started {
                attempt,
                worker,
                is_resumed,
            } => self.started(index, *attempt, worker, *is_resumed, at, rules),
            EventKind::Output { attempt, payload } => {
                self.output(index, *attempt, payload.as_str())
            }
            EventKind::Suspended { attempt, payload } => self.suspended(index, *attempt, payload),
            EventKind::Resumed { .. } => self.resumed(index, at),
            EventKind::Completed { attempt, result } => {
                self.end(index, Status::Completed, seq, at);
                self.completed(index, *attempt, result.as_ref())
            }
            EventKind::Retrying {
                attempt,
                error,
                next_attempt_at,
            } => {
                self.check_failure(index, *attempt, &error.message, at, rules)?;
                self.retrying(index, at, *next_attempt_at)
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
            EventKind::Cancelled => self.cancelled(index, seq, at),
            EventKind::Retried => self.retried(index, at),
            EventKind::Dispatched(_) | EventKind::Recorded(_) => {
                Err("not of this simulation".into())
            }
        }
    }

    /// Only the attempt that runs reports.
    fn check_reporter(&self, index: usize, kind: &EventKind) -> Verdict {
        let reporting = match kind {
            EventKind::Started { .. } => None,
            kind => kind.attempt(),
        };
        let Some(attempt) = reporting else {
            return Ok(());
        };
        let story = &self.tasks[index];
        let is_its_own = story.status == Status::Running && story.attempt == attempt;
        need(is_its_own, || {
            format!(
                "R1: a report of attempt {attempt} of a task that is {} at {}",
                story.status, story.attempt
            )
        })
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

    fn suspended(&mut self, index: usize, attempt: Attempt, payload: &Json) -> Verdict {
        let story = &mut self.tasks[index];
        let id = &story.identity.id;
        need(*payload == signed(id, attempt.0), || {
            format!("R1: suspended with {payload}")
        })?;
        story.status = Status::Suspended;
        self.returned(index, attempt, End::Suspend)
    }

    fn resumed(&mut self, index: usize, at: Timestamp) -> Verdict {
        let story = &mut self.tasks[index];
        need(story.status == Status::Suspended, || {
            format!("resumed while {}", story.status)
        })?;
        story.status = Status::Pending;
        story.is_resuming = true;
        story.due_at = at;
        Ok(())
    }

    fn completed(&self, index: usize, attempt: Attempt, result: Option<&Json>) -> Verdict {
        let signed = signed(&self.tasks[index].identity.id, attempt.0);
        need(result.is_none_or(|result| *result == signed), || {
            format!("R1: completed with {result:?}")
        })?;
        let end = match result {
            Some(_) => End::Complete,
            None => End::CompleteWithoutResult,
        };
        self.returned(index, attempt, end)
    }

    /// R2: a retry is one of those that it may have, and comes when it should.
    fn retrying(&mut self, index: usize, at: Timestamp, next: Timestamp) -> Verdict {
        let story = &mut self.tasks[index];
        let policy = story.spec.retry;
        let retry = story.retries + 1;
        need(story.retries < policy.max_retries, || {
            format!("R2: a {retry}. retry of {}", policy.max_retries)
        })?;
        let longest = policy.delay_ms.saturating_mul(1 << story.retries.min(30));
        let longest = longest.min(policy.delay_max_ms);
        let wait = next.since(at);
        let is_in_time = next >= at && wait <= Duration::from_millis(longest);
        need(is_in_time, || {
            format!("R2: waits {wait:?} before retry {retry}")
        })?;
        story.status = Status::Pending;
        story.retries = retry;
        story.not_before = Some(next);
        story.due_at = next;
        Ok(())
    }

    fn cancelled(&mut self, index: usize, seq: Seq, at: Timestamp) -> Verdict {
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
}
