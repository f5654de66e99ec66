//! Giving pending tasks to a worker.
//!
//! One process claims at a time, so what it counts stays true until it commits (R4). Those that are ready
//! stand in one line for each tool, by priority and time, and are taken from its front. A task whose agent
//! has no slot left is passed over. Where more are passed over than a few, or only one namespace is asked
//! for, the *lanes* are taken instead: one for each tool, namespace and agent, of which those without a
//! slot are skipped whole, however many tasks wait in them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use sidestream_core::{AgentId, Command, Namespace, Status, Task, Timestamp, ToolName};

use super::Value;
use super::cells::Cells;
use super::connection::answer;
use super::failure::{Failure, Result};
use super::queue::{self, FIND_DUE, TAKE, Waiting};
use super::row;
use super::transaction::Transaction;
use crate::store::counts::Scope;
use crate::store::{Claim, Claimed};

/// The most delayed tasks of a tool that one claim finds due. When more come due at the same moment,
/// the next claims find them: the queue's order among those may differ, and nobody waits for a
/// transaction that moves a million rows.
const DUE_MAX: i64 = 10_000;
/// How many more of a line are read than are wanted, for those that are passed over.
const PASSED_OVER_MAX: i64 = 16;
/// How often it is looked again for those that others have taken or changed meanwhile.
const LOOKS_MAX: usize = 8;

/// Who is next, as far as it was looked.
#[derive(Debug, Default)]
struct Found {
    /// The keys of those to take, in order.
    picked: Vec<i64>,
    rest: Rest,
}

/// Where there may be more.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Rest {
    #[default]
    Nowhere,
    /// In the lanes: too many of a line were passed over.
    InLanes,
    /// In the lanes that were not looked at, since there were enough in others.
    InOtherLanes,
}

impl Transaction<'_> {
    pub(super) async fn claim(&mut self, claim: &Claim) -> Result<Claimed> {
        self.flush().await?;
        let tools: BTreeSet<&ToolName> = claim.tools.iter().collect();
        let next_due = self.look_for_due(claim, &tools).await?;
        let mut tasks = Vec::new();
        let mut is_of_lanes = claim.namespace.is_some();
        for _ in 0..LOOKS_MAX {
            let left = claim.limit as usize - tasks.len();
            if left == 0 {
                break;
            }
            let found = self.look(claim, &tools, left, is_of_lanes).await?;
            let claimed = self.take(claim, &found.picked).await?;
            let is_short = claimed.len() < found.picked.len();
            let has_taken = !claimed.is_empty();
            tasks.extend(claimed);
            match found.rest {
                // Somebody has taken or changed some of them meanwhile.
                _ if is_short => {}
                Rest::InLanes => is_of_lanes = true,
                Rest::InOtherLanes if has_taken => {}
                Rest::Nowhere | Rest::InOtherLanes => break,
            }
            self.flush().await?;
        }
        Ok(Claimed { tasks, next_due })
    }

    /// Makes ready what has come due, and says when the next will.
    async fn look_for_due(
        &mut self,
        claim: &Claim,
        tools: &BTreeSet<&ToolName>,
    ) -> Result<Option<Timestamp>> {
        let names = Value::texts(tools.iter().map(|tool| tool.as_str()));
        let find = [names.clone(), self.now.ms().into(), DUE_MAX.into()];
        let (sql, namespace) = queue::next_due(claim);
        let next: Vec<Value<'_>> = [names].into_iter().chain(namespace).collect();
        let connection = self.connection;
        let find_ready = connection.prepare(FIND_DUE, &find).await?;
        let next_ready = connection.prepare(sql, &next).await?;
        let moved = connection.send(&find_ready, &find);
        let next = connection.send(&next_ready, &next);
        let moved = answer(moved).await?;
        let next = answer(next).await?;
        if let Some(row) = moved.first() {
            self.has_written |= Cells::of(row).unsigned()? > 0;
        }
        queue::due(&next)
    }

    /// Looks who is next.
    async fn look(
        &mut self,
        claim: &Claim,
        tools: &BTreeSet<&ToolName>,
        left: usize,
        is_of_lanes: bool,
    ) -> Result<Found> {
        let mut slots = self.slots(claim, tools)?;
        let open = tools.iter().filter(|tool| slots.has_tool(tool));
        let open: Vec<&str> = open.map(|tool| tool.as_str()).collect();
        if open.is_empty() {
            return Ok(Found::default());
        }
        let wanted = i64::try_from(left).unwrap_or(i64::MAX);
        if is_of_lanes {
            let changed = self.counters.running_of_agents();
            let waiting = queue::of_lanes(self.connection, claim, &open, wanted, &changed).await?;
            self.know_agents(claim, &waiting, &mut slots)?;
            return Ok(slots.pick_of_lanes(&waiting, left));
        }
        let max = wanted.saturating_add(PASSED_OVER_MAX);
        let waiting = queue::of_lines(self.connection, &open, max).await?;
        self.know_agents(claim, &waiting, &mut slots)?;
        Ok(slots.pick_of_lines(&waiting, left, max))
    }

    fn slots<'s>(&self, claim: &'s Claim, tools: &BTreeSet<&ToolName>) -> Result<Slots<'s>> {
        let mut slots = Slots {
            claim,
            tools: HashMap::new(),
            agents: HashMap::new(),
        };
        let limited = claim.limits.per_tool.keys();
        for tool in limited.filter(|tool| tools.contains(tool)) {
            let running = self.counters.ours(Scope::Tool(tool.clone()))?;
            slots
                .tools
                .insert(tool.clone(), running.of(Status::Running));
        }
        Ok(slots)
    }

    /// Takes note of how many tasks of each agent run.
    fn know_agents(
        &mut self,
        claim: &Claim,
        waiting: &[Waiting],
        slots: &mut Slots<'_>,
    ) -> Result<()> {
        if claim.limits.per_agent.is_none() {
            return Ok(());
        }
        for waiting in waiting {
            let Some(agent) = &waiting.agent else {
                continue;
            };
            let agent = (waiting.namespace.clone(), agent.clone());
            let scope = Scope::NamespaceAgent(agent.0.clone(), agent.1.clone());
            self.counters
                .know_running(scope.clone(), waiting.agent_running);
            let running = self.counters.ours(scope)?.of(Status::Running);
            slots.agents.insert(agent, running);
        }
        Ok(())
    }

    /// Claims tasks, in this order: those that are still ready, and that nobody else has just locked.
    async fn take(&mut self, claim: &Claim, picked: &[i64]) -> Result<Vec<Task>> {
        if picked.is_empty() {
            return Ok(Vec::new());
        }
        let keys = [Value::integers(picked.iter().copied())];
        let rows = self.connection.query(&TAKE, &keys).await?;
        if let Some(row) = rows.first() {
            self.xid = Some(row.try_get(row.len() - 1)?);
        }
        let locked = row::read_all(self.connection, self.specs, &rows).await?;
        let mut locked: HashMap<i64, _> = locked.into_iter().map(|it| (it.key, it)).collect();
        let command = Command::Claim {
            worker: claim.worker.clone(),
            lease_ms: claim.lease_ms,
        };
        let mut tasks = Vec::with_capacity(locked.len());
        for stored in picked.iter().filter_map(|key| locked.remove(key)) {
            let stored = self.tasks.know(stored);
            let identity = Arc::clone(stored.task.identity());
            let key = stored.key;
            let task = self.change(Some(stored), &identity.namespace, &identity.id, &command)?;
            let broken = |refused| Failure::Unreadable(format!("the queue: task {key}: {refused}"));
            tasks.push(task.map_err(broken)?);
        }
        Ok(tasks)
    }
}

/// Who has how many tasks running, as a claim goes on.
#[derive(Debug)]
struct Slots<'c> {
    claim: &'c Claim,
    tools: HashMap<ToolName, u64>,
    agents: HashMap<(Namespace, AgentId), u64>,
}

impl Slots<'_> {
    fn has_tool(&self, tool: &ToolName) -> bool {
        let limit = self.claim.limits.per_tool.get(tool);
        limit.is_none_or(|limit| self.tools.get(tool).copied().unwrap_or(0) < u64::from(*limit))
    }

    fn has_agent(&self, waiting: &Waiting) -> bool {
        let (Some(limit), Some(agent)) = (self.claim.limits.per_agent, &waiting.agent) else {
            return true;
        };
        let agent = (waiting.namespace.clone(), agent.clone());
        self.agents.get(&agent).copied().unwrap_or(0) < u64::from(limit)
    }

    /// Takes a slot of its tool and one of its agent, if both have one left.
    fn take(&mut self, waiting: &Waiting) -> bool {
        if !self.has_tool(&waiting.tool) || !self.has_agent(waiting) {
            return false;
        }
        *self.tools.entry(waiting.tool.clone()).or_default() += 1;
        if let Some(agent) = &waiting.agent {
            let agent = (waiting.namespace.clone(), agent.clone());
            *self.agents.entry(agent).or_default() += 1;
        }
        true
    }

    /// Of the next of each line, at most `max` of each.
    fn pick_of_lines(&mut self, waiting: &[Waiting], left: usize, max: i64) -> Found {
        let mut unread: HashMap<&ToolName, i64> = HashMap::new();
        for waiting in waiting {
            *unread.entry(&waiting.tool).or_default() += 1;
        }
        let is_cut = |length: &i64| *length >= max;
        let cut: HashSet<&ToolName> = unread
            .iter()
            .filter(|(_, length)| is_cut(length))
            .map(|(tool, _)| *tool)
            .collect();
        let mut found = Found::default();
        for waiting in waiting {
            if found.picked.len() == left {
                return found;
            }
            if self.take(waiting) {
                found.picked.push(waiting.place.key);
            }
            let unread = unread.entry(&waiting.tool).or_default();
            *unread -= 1;
            // Who stands behind the last that was read could be the next.
            let is_end = *unread == 0 && cut.contains(&waiting.tool);
            if is_end && found.picked.len() < left && self.has_tool(&waiting.tool) {
                found.rest = Rest::InLanes;
                return found;
            }
        }
        found
    }

    /// Of the next of all lanes together.
    fn pick_of_lanes(&mut self, waiting: &[Waiting], left: usize) -> Found {
        let taken = waiting.iter().filter(|waiting| self.take(waiting));
        let picked: Vec<i64> = taken.map(|waiting| waiting.place.key).collect();
        let is_cut = waiting.len() >= left && picked.len() < left;
        let rest = match is_cut {
            true => Rest::InOtherLanes,
            false => Rest::Nowhere,
        };
        Found { picked, rest }
    }
}
