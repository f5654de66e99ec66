//! What the watchman sees of processes and handlers that run.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use sidestream::core::WorkerId;
use sidestream::{Seq, Status, Timestamp};

use super::{AT_ONCE, Referee, Rules, State, Verdict, need, short};
use crate::work::tool_limit;

/// A process, as the watchman sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) number: u64,
    /// Up to here it knows the log.
    pub(crate) head: Seq,
    pub(crate) has_free_slot: bool,
}

impl Referee {
    /// R3, R2 and the wake-ups: once all is well, what can go on does.
    pub(crate) fn watch(&self, processes: &[Seen]) {
        let now = self.now();
        let verdict = self.state.lock().watch(now, processes, &self.rules);
        self.judge(verdict);
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

impl State {
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
}
