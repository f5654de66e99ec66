//! Giving pending tasks to a worker.
//!
//! The queue is made of *lanes*: one for each tool, namespace and agent that has a task ready. A lane
//! is a range of one index, the next task first, so finding a lane's head is one seek however many
//! tasks wait in it, and a lane whose agent or tool has no slot left is skipped whole. The heads are
//! merged by priority and time.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

use rusqlite::{Row, params};
use sidestream_core::{AgentId, Command, Namespace, Status, Timestamp, ToolName};

use super::counters::Scope;
use super::failure::{Failure, Result};
use super::prepare::prepare;
use super::transaction::Transaction;
use crate::store::{Claim, Claimed};

/// The most delayed tasks of a tool that one claim finds due. When more come due at the same moment,
/// the next claims find them: the queue's order among those may differ, and nobody waits for a
/// transaction that moves a million rows.
const DUE_MAX: u32 = 10_000;

/// A task's place in the queue; the least is the next.
type Place = (Reverse<i16>, i64, i64);

/// The tasks of one tool, namespace and agent that are ready.
#[derive(Debug)]
struct Lane {
    tool: ToolName,
    namespace: Namespace,
    agent: Option<AgentId>,
    /// The next of them, as far as they were read.
    next: VecDeque<Place>,
    /// How many to read at once: more each time, so that neither a lane of one task nor one of a
    /// thousand costs more than it must.
    read_max: u32,
}

impl Transaction<'_> {
    pub(super) fn claim(&mut self, claim: &Claim) -> Result<Claimed> {
        let tools: BTreeSet<&ToolName> = claim.tools.iter().collect();
        for tool in &tools {
            self.find_due(tool)?;
        }
        let mut lanes = Vec::new();
        for tool in &tools {
            if self.has_slot_for_tool(claim, tool)? {
                self.find_lanes(claim, tool, &mut lanes)?;
            }
        }
        let tasks = self.take(claim, lanes)?;
        let mut next_due = None;
        for tool in &tools {
            let due = self.next_due(claim.namespace.as_ref(), tool)?;
            next_due = [next_due, due].into_iter().flatten().min();
        }
        Ok(Claimed { tasks, next_due })
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

    fn next_due(
        &self,
        namespace: Option<&Namespace>,
        tool: &ToolName,
    ) -> Result<Option<Timestamp>> {
        let due: Option<i64> = match namespace {
            None => prepare(
                self.connection,
                "SELECT min(due_at_ms) FROM tasks INDEXED BY tasks_delayed
                        WHERE queue = 'delayed' AND tool_name = ?",
            )?
            .query_row([tool.as_str()], |row| row.get(0))?,
            Some(namespace) => prepare(
                self.connection,
                "SELECT min(due_at_ms) FROM tasks INDEXED BY tasks_delayed_in_namespace
                        WHERE queue = 'delayed' AND tool_name = ? AND namespace = ?",
            )?
            .query_row([tool.as_str(), namespace.as_str()], |row| row.get(0))?,
        };
        Ok(due.map(Timestamp::from_ms))
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

    /// Finds the lanes of a tool whose agents have a slot, each with its head: a seek for each lane.
    fn find_lanes(&mut self, claim: &Claim, tool: &ToolName, lanes: &mut Vec<Lane>) -> Result<()> {
        let mut found = match &claim.namespace {
            Some(namespace) => self.first_lane_of(tool, namespace)?,
            None => self.first_lane(tool)?,
        };
        while let Some((namespace, agent, head)) = found {
            if self.has_slot_for_agent(claim, &namespace, agent.as_ref())? {
                lanes.push(Lane {
                    tool: tool.clone(),
                    namespace: namespace.clone(),
                    agent: agent.clone(),
                    next: VecDeque::from([head]),
                    read_max: 4,
                });
            }
            let agent = agent.as_ref().map_or("", AgentId::as_str);
            found = self.lane_after(tool, &namespace, agent)?;
            if found.is_none() && claim.namespace.is_none() {
                found = self.first_lane_beyond(tool, &namespace)?;
            }
        }
        Ok(())
    }

    fn first_lane(&self, tool: &ToolName) -> Result<Option<Found>> {
        let sql = "SELECT namespace, agent_id, priority, due_at_ms, key
            FROM tasks INDEXED BY tasks_ready WHERE queue = 'ready' AND tool_name = ?1
            ORDER BY namespace, ifnull(agent_id, ''), priority DESC, due_at_ms, key LIMIT 1";
        self.lane(sql, &[tool.as_str()])
    }

    fn first_lane_beyond(&self, tool: &ToolName, namespace: &Namespace) -> Result<Option<Found>> {
        let sql = "SELECT namespace, agent_id, priority, due_at_ms, key
            FROM tasks INDEXED BY tasks_ready
            WHERE queue = 'ready' AND tool_name = ?1 AND namespace > ?2
            ORDER BY namespace, ifnull(agent_id, ''), priority DESC, due_at_ms, key LIMIT 1";
        self.lane(sql, &[tool.as_str(), namespace.as_str()])
    }

    fn first_lane_of(&self, tool: &ToolName, namespace: &Namespace) -> Result<Option<Found>> {
        let sql = "SELECT namespace, agent_id, priority, due_at_ms, key
            FROM tasks INDEXED BY tasks_ready
            WHERE queue = 'ready' AND tool_name = ?1 AND namespace = ?2
            ORDER BY ifnull(agent_id, ''), priority DESC, due_at_ms, key LIMIT 1";
        self.lane(sql, &[tool.as_str(), namespace.as_str()])
    }

    fn lane_after(
        &self,
        tool: &ToolName,
        namespace: &Namespace,
        agent: &str,
    ) -> Result<Option<Found>> {
        let sql = "SELECT namespace, agent_id, priority, due_at_ms, key
            FROM tasks INDEXED BY tasks_ready
            WHERE queue = 'ready' AND tool_name = ?1 AND namespace = ?2
                AND ifnull(agent_id, '') > ?3
            ORDER BY ifnull(agent_id, ''), priority DESC, due_at_ms, key LIMIT 1";
        self.lane(sql, &[tool.as_str(), namespace.as_str(), agent])
    }

    fn lane(&self, sql: &str, of: &[&str]) -> Result<Option<Found>> {
        let mut statement = prepare(self.connection, sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(of))?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let namespace = Namespace::new(super::spec::required(row, 0)?)?;
        let agent = super::spec::text(row, 1)?.map(AgentId::new).transpose()?;
        Ok(Some((namespace, agent, place(row, 2)?)))
    }

    /// Takes the next task of the queue, again and again.
    fn take(&mut self, claim: &Claim, mut lanes: Vec<Lane>) -> Result<Vec<sidestream_core::Task>> {
        let heads = lanes.iter().enumerate();
        let mut heads: BinaryHeap<Reverse<(Place, usize)>> =
            heads.map(|(i, lane)| Reverse((lane.next[0], i))).collect();
        let command = Command::Claim {
            worker: claim.worker.clone(),
            lease_ms: claim.lease_ms,
        };
        let mut tasks = Vec::new();
        while tasks.len() < claim.limit as usize {
            let Some(Reverse((_, i))) = heads.pop() else {
                break;
            };
            let lane = &mut lanes[i];
            // What was taken before may have been the last slot: then the lane is not looked at again.
            let has_slot = self.has_slot_for_tool(claim, &lane.tool)?
                && self.has_slot_for_agent(claim, &lane.namespace, lane.agent.as_ref())?;
            if !has_slot {
                continue;
            }
            if let Some((_, _, key)) = lane.next.pop_front() {
                tasks.push(self.claim_one(key, &command)?);
            }
            if lane.next.is_empty() {
                self.read_on(lane)?;
            }
            heads.extend(lane.next.front().map(|head| Reverse((*head, i))));
        }
        Ok(tasks)
    }

    fn claim_one(&mut self, key: i64, command: &Command) -> Result<sidestream_core::Task> {
        let stored = self
            .find_by_key(key)?
            .ok_or_else(|| Failure::Unreadable(format!("the queue names task {key}, not there")))?;
        let identity = Arc::clone(stored.task.identity());
        self.change(Some(stored), &identity.namespace, &identity.id, command)?
            .map_err(|refused| {
                Failure::Unreadable(format!("task {key} is in the queue: {refused}"))
            })
    }

    /// Reads the next tasks of a lane: those read before have been taken, and are gone from it.
    fn read_on(&self, lane: &mut Lane) -> Result<()> {
        let sql = "SELECT priority, due_at_ms, key FROM tasks INDEXED BY tasks_ready
            WHERE queue = 'ready' AND tool_name = ?1 AND namespace = ?2
                AND ifnull(agent_id, '') = ?3
            ORDER BY priority DESC, due_at_ms, key LIMIT ?4";
        let mut statement = prepare(self.connection, sql)?;
        let agent = lane.agent.as_ref().map_or("", AgentId::as_str);
        let (tool, namespace) = (lane.tool.as_str(), lane.namespace.as_str());
        let mut rows = statement.query(params![tool, namespace, agent, lane.read_max])?;
        while let Some(row) = rows.next()? {
            lane.next.push_back(place(row, 0)?);
        }
        lane.read_max = (lane.read_max * 4).min(1_024);
        Ok(())
    }
}

/// A lane, and its head.
type Found = (Namespace, Option<AgentId>, Place);

fn place(row: &Row<'_>, column: usize) -> Result<Place> {
    Ok((
        Reverse(row.get(column)?),
        row.get(column + 1)?,
        row.get(column + 2)?,
    ))
}
