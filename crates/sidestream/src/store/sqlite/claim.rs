//! Giving pending tasks to a worker.
//!
//! Those that are ready stand in one line for each tool, by priority and time, and are taken from its
//! front. A task whose agent has no slot left is passed over. When many are, as when one agent has
//! thousands waiting, the line is left, and the *lanes* are taken instead: one for each tool, namespace
//! and agent, of which those without a slot are skipped whole, however many tasks wait in them. So a
//! claim costs as much as it takes, unless both many wait and many agents do.
//!
//! What the same batch dispatches is not written to be claimed: it takes its place among the others here,
//! and is written once, running.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use rusqlite::params;
use sidestream_core::{AgentId, Command, Namespace, Status, Task, ToolName};

use super::failure::{Failure, Result};
use super::prepare::prepare;
use super::queue::{self, Lane, Waiting};
use super::transaction::Transaction;
use crate::store::counts::Scope;
use crate::store::stored::Queue;
use crate::store::{Claim, Claimed};

/// The most delayed tasks of a tool that one claim finds due. When more come due at the same moment,
/// the next claims find them: the queue's order among those may differ, and nobody waits for a
/// transaction that moves a million rows.
const DUE_MAX: u32 = 10_000;

/// How many tasks of a line are passed over before the lanes are taken instead.
const PASSED_OVER_MAX: u32 = 200;

/// Tasks in order, as far as they were read: the line of a tool, or a lane.
#[derive(Debug)]
struct Source {
    tool: ToolName,
    origin: Origin,
    next: VecDeque<Waiting>,
    /// How many of its tasks were taken or passed over: the database has them at its front still.
    used: u32,
    /// How many to read at once: more each time, so that neither a lane of one task nor one of a
    /// thousand costs more than it must.
    read_max: u32,
}

/// Where tasks wait.
#[derive(Debug)]
enum Origin {
    Line,
    Lane(Lane),
    /// In neither: this transaction has not written them yet.
    Unwritten,
}

impl Transaction<'_> {
    pub(super) fn claim(&mut self, claim: &Claim) -> Result<Claimed> {
        let tools: BTreeSet<&ToolName> = claim.tools.iter().collect();
        if self.unwritten.belies_queue() {
            self.flush()?;
        }
        for tool in &tools {
            self.find_due(tool)?;
        }
        let mut tasks = Vec::new();
        let lines = tools.iter().map(|tool| Source::line(tool, claim.limit));
        let mut sources: Vec<Source> = lines.collect();
        self.add_unwritten(&mut sources);
        let is_left = self.take(claim, sources, &mut tasks)?;
        if is_left {
            self.flush()?;
            let lanes = self.open_lanes(claim, &tools)?;
            self.take(claim, lanes, &mut tasks)?;
        }
        let delayed = self.unwritten.waiting(Queue::Delayed).map(|it| &it.task);
        let delayed = delayed.filter(|task| tools.contains(&task.identity().tool_name));
        let mut next_due = delayed.map(Task::due_at).min();
        for tool in &tools {
            let due = queue::next_due(self.connection, claim.namespace.as_ref(), tool)?;
            next_due = [next_due, due].into_iter().flatten().min();
        }
        Ok(Claimed { tasks, next_due })
    }

    /// Adds those that this transaction has not written yet.
    fn add_unwritten(&self, lines: &mut Vec<Source>) {
        let mut of_tools: BTreeMap<&ToolName, Vec<Waiting>> = BTreeMap::new();
        for stored in self.unwritten.waiting(Queue::Ready) {
            let tool = &stored.task.identity().tool_name;
            of_tools.entry(tool).or_default().push(Waiting::of(stored));
        }
        let mut unwritten = Vec::new();
        for line in &*lines {
            if let Some(mut waiting) = of_tools.remove(&line.tool) {
                waiting.sort_by_key(|waiting| waiting.place);
                unwritten.push(Source::unwritten(&line.tool, waiting));
            }
        }
        lines.extend(unwritten);
    }

    /// Moves the tasks whose time has come from the delayed to the ready.
    fn find_due(&mut self, tool: &ToolName) -> Result<()> {
        let sql = "UPDATE tasks SET queue = 'ready' WHERE key IN (
            SELECT key FROM tasks INDEXED BY tasks_delayed
            WHERE queue = 'delayed' AND tool_name = ? AND due_at_ms <= ?
            ORDER BY due_at_ms LIMIT ?)";
        let mut statement = prepare(self.connection, sql)?;
        statement.execute(params![tool.as_str(), self.now.ms(), DUE_MAX])?;
        Ok(())
    }

    /// The lanes that have a slot.
    fn open_lanes(&mut self, claim: &Claim, tools: &BTreeSet<&ToolName>) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        for tool in tools {
            if !self.has_slot_for_tool(claim, tool)? {
                continue;
            }
            let mut found = queue::first_lane(self.connection, tool, claim.namespace.as_ref())?;
            while let Some((lane, head)) = found {
                let only = claim.namespace.as_ref();
                let next = queue::lane_after(self.connection, tool, &lane, only.is_some())?;
                if self.has_slot_for_agent(claim, &lane.namespace, lane.agent.as_ref())? {
                    sources.push(Source::lane(tool, lane, head));
                }
                found = next;
            }
        }
        Ok(sources)
    }

    fn has_slot_for_tool(&mut self, claim: &Claim, tool: &ToolName) -> Result<bool> {
        let Some(limit) = claim.limits.per_tool.get(tool) else {
            return Ok(true);
        };
        let counters = &mut self.memory.counters;
        let counts = counters.ours(self.connection, Scope::Tool(tool.clone()))?;
        Ok(counts.of(Status::Running) < u64::from(*limit))
    }

    fn has_slot_for_agent(
        &mut self,
        claim: &Claim,
        namespace: &Namespace,
        agent: Option<&AgentId>,
    ) -> Result<bool> {
        let (Some(limit), Some(agent)) = (claim.limits.per_agent, agent) else {
            return Ok(true);
        };
        let scope = Scope::NamespaceAgent(namespace.clone(), agent.clone());
        let counts = self.memory.counters.ours(self.connection, scope)?;
        Ok(counts.of(Status::Running) < u64::from(limit))
    }

    /// Takes the next task of all sources, again and again. Says whether it gave up before it had
    /// enough or looked at all.
    fn take(
        &mut self,
        claim: &Claim,
        mut sources: Vec<Source>,
        tasks: &mut Vec<Task>,
    ) -> Result<bool> {
        for source in &mut sources {
            self.read_on(source)?;
        }
        let heads = sources.iter().enumerate();
        let mut heads: BinaryHeap<_> = heads.filter_map(|(i, source)| source.head(i)).collect();
        let mut passed_over = 0;
        while tasks.len() < claim.limit as usize {
            let Some(Reverse((_, i))) = heads.pop() else {
                return Ok(false);
            };
            let source = &mut sources[i];
            if !self.has_slot_for_tool(claim, &source.tool)? {
                continue;
            }
            let Some(head) = source.next.pop_front() else {
                continue;
            };
            let is_asked = claim
                .namespace
                .as_ref()
                .is_none_or(|only| *only == head.namespace);
            let is_free =
                is_asked && self.has_slot_for_agent(claim, &head.namespace, head.agent.as_ref())?;
            if is_free {
                tasks.push(self.claim_one(claim, head.place.key)?);
            } else {
                match source.origin {
                    Origin::Lane(_) => continue,
                    Origin::Unwritten => {}
                    Origin::Line => {
                        passed_over += 1;
                        if passed_over > PASSED_OVER_MAX {
                            return Ok(true);
                        }
                    }
                }
            }
            source.used += 1;
            self.read_on(source)?;
            heads.extend(source.head(i));
        }
        Ok(false)
    }

    fn claim_one(&mut self, claim: &Claim, key: i64) -> Result<Task> {
        let broken = |problem: String| Failure::Unreadable(format!("the queue: {problem}"));
        let stored = self.find_by_key(key)?;
        let stored = stored.ok_or_else(|| broken(format!("task {key} is not there")))?;
        let identity = std::sync::Arc::clone(stored.task.identity());
        let command = Command::Claim {
            worker: claim.worker.clone(),
            lease_ms: claim.lease_ms,
        };
        self.change(Some(stored), &identity.namespace, &identity.id, &command)?
            .map_err(|refused| broken(format!("task {key}: {refused}")))
    }

    /// Reads the next tasks of a source, once those read before are used up.
    fn read_on(&self, source: &mut Source) -> Result<()> {
        if !source.next.is_empty() {
            return Ok(());
        }
        let (tool, used, max) = (&source.tool, source.used, source.read_max);
        source.next = match &source.origin {
            Origin::Lane(lane) => queue::of_lane(self.connection, tool, lane, used, max)?,
            Origin::Line => queue::of_line(self.connection, tool, used, max)?,
            Origin::Unwritten => return Ok(()),
        };
        source.read_max = (source.read_max * 4).min(1_024);
        Ok(())
    }
}

impl Source {
    fn line(tool: &ToolName, limit: u32) -> Self {
        Self {
            tool: tool.clone(),
            origin: Origin::Line,
            next: VecDeque::new(),
            used: 0,
            read_max: limit.clamp(1, 256),
        }
    }

    fn lane(tool: &ToolName, lane: Lane, head: Waiting) -> Self {
        Self {
            tool: tool.clone(),
            origin: Origin::Lane(lane),
            next: VecDeque::from([head]),
            used: 0,
            read_max: 4,
        }
    }

    fn unwritten(tool: &ToolName, waiting: Vec<Waiting>) -> Self {
        Self {
            tool: tool.clone(),
            origin: Origin::Unwritten,
            next: waiting.into(),
            used: 0,
            read_max: 0,
        }
    }

    fn head(&self, index: usize) -> Option<Reverse<(queue::Place, usize)>> {
        self.next.front().map(|head| Reverse((head.place, index)))
    }
}
