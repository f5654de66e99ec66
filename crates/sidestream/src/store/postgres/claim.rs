//! Giving pending tasks to a worker.
//!
//! One process claims at a time, so what it counts stays true until it commits (R4). Those that are ready
//! stand in one line for each tool, by priority and time, and are taken from its front. A task whose agent
//! has no slot left is passed over. Where more are passed over than a few, or only one namespace is asked
//! for, the *lanes* are taken instead: one for each tool, namespace and agent, of which those without a
//! slot are skipped whole, however many tasks wait in them.
//!
//! What the same batch dispatches is not written to be claimed: it takes its place in the lines here, and
//! is written once, running.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use sidestream_core::{AgentId, Command, Namespace, Status, Task, Timestamp, ToolName};

use super::Value;
use super::cells::Cells;
use super::connection::answer;
use super::failure::{Failure, Result};
use super::queue::{self, FIND_DUE, LINES, TAKE, Waiting};
use super::quiet::NobodyWaits;
use super::row;
use super::transaction::Transaction;
use crate::store::counts::Scope;
use crate::store::stored::{Queue, Stored};
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
    /// Those to take, in order.
    picked: Vec<Picked>,
    /// Are those known to be all who wait, for any of the tools?
    are_all: bool,
    rest: Rest,
}

/// A task to take.
#[derive(Debug, Clone, Copy)]
struct Picked {
    key: i64,
    is_unwritten: bool,
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
        let tools: BTreeSet<&ToolName> = claim.tools.iter().collect();
        let mut is_of_lanes = claim.namespace.is_some();
        if is_of_lanes || !self.can_claim_unwritten(claim) {
            self.flush().await?;
        }
        let due_here = self.unwritten(&tools, Queue::Delayed);
        let due_here = due_here.map(|stored| stored.task.due_at()).min();
        let (due, mut lines) = match self.known_lines(claim, &tools) {
            Some(due) => (due, Some(Vec::new())),
            None => self.first_look(claim, &tools, is_of_lanes).await?,
        };
        let known = self.nobody_waits.take();
        if claim.namespace.is_some() {
            // It leaves nobody behind who did not wait before.
            self.nobody_waits = known.clone().filter(|known| !known.is_due(self.now));
        }
        let next_due = due.into_iter().chain(due_here).min();
        let mut tasks = Vec::new();
        for _ in 0..LOOKS_MAX {
            let left = claim.limit as usize - tasks.len();
            if left == 0 {
                break;
            }
            let found = match is_of_lanes {
                true => self.look_at_lanes(claim, &tools, left).await?,
                false => {
                    self.look_at_lines(claim, &tools, left, lines.take())
                        .await?
                }
            };
            let claimed = self.take(claim, &found.picked).await?;
            let is_short = claimed.len() < found.picked.len();
            let has_taken = !claimed.is_empty();
            tasks.extend(claimed);
            if found.are_all && !is_short {
                let (epoch, at, due) = (&self.epoch, self.begun_at, (due, self.now));
                self.nobody_waits = Some(NobodyWaits::learnt(known, epoch, at, &tools, due));
                break;
            }
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

    /// Can those be claimed that this transaction has not written yet, so that they need be written only
    /// once? Not if the queue, as the database has it, shows what is no longer so; nor if it is not known
    /// how many tasks of their agents run.
    fn can_claim_unwritten(&self, claim: &Claim) -> bool {
        self.tasks.unwritten().all(|(saved, now)| {
            let is_shown = saved.is_some_and(|saved| saved.queue.is_some());
            let task = now.task.identity();
            let agent = task
                .agent_id
                .clone()
                .filter(|_| now.queue == Some(Queue::Ready) && claim.limits.per_agent.is_some());
            let agent = agent.map(|agent| Scope::NamespaceAgent(task.namespace.clone(), agent));
            !is_shown && agent.is_none_or(|agent| self.counters.knows(&agent))
        })
    }

    /// Those that this transaction has not written yet, and that wait in this queue for these tools.
    fn unwritten<'t>(
        &'t self,
        tools: &'t BTreeSet<&ToolName>,
        queue: Queue,
    ) -> impl Iterator<Item = &'t Stored> {
        let unwritten = self.tasks.unwritten().map(|(_, now)| now);
        unwritten.filter(move |stored| {
            stored.queue == Some(queue) && tools.contains(&stored.task.identity().tool_name)
        })
    }

    /// When the next is due, if it is known that nobody stands in the lines as the database has them.
    fn known_lines(&self, claim: &Claim, tools: &BTreeSet<&ToolName>) -> Option<Option<Timestamp>> {
        let known = self.nobody_waits.as_ref();
        let known = known.filter(|_| claim.namespace.is_none() && !self.has_written);
        known?.next_due(tools, self.now)
    }

    /// Makes ready what has come due, and says when the next will; and looks at the lines, if they are wanted.
    async fn first_look(
        &mut self,
        claim: &Claim,
        tools: &BTreeSet<&ToolName>,
        is_of_lanes: bool,
    ) -> Result<(Option<Timestamp>, Option<Vec<Waiting>>)> {
        let (due, lines) = self.look(claim, tools, is_of_lanes, false).await?;
        if due.is_some_and(|due| due <= self.now) {
            return self.look(claim, tools, is_of_lanes, true).await;
        }
        Ok((due, lines))
    }

    /// In one journey: makes ready what has come due, if that is wanted; says when the next of the delayed is due; and
    /// reads the lines, if they are wanted.
    async fn look(
        &mut self,
        claim: &Claim,
        tools: &BTreeSet<&ToolName>,
        is_of_lanes: bool,
        makes_ready: bool,
    ) -> Result<(Option<Timestamp>, Option<Vec<Waiting>>)> {
        let names = Value::texts(tools.iter().map(|tool| tool.as_str()));
        let find = [names.clone(), self.now.ms().into(), DUE_MAX.into()];
        let (next_sql, namespace) = queue::next_due(claim);
        let next: Vec<Value<'_>> = [names].into_iter().chain(namespace).collect();
        let open = self.slots(claim, tools)?.open(tools);
        let of_lines = queue::of_lines(&open, max_of_line(claim.limit as usize));
        let connection = self.connection;
        let find_ready = match makes_ready {
            true => Some(connection.prepare(FIND_DUE, &find).await?),
            false => None,
        };
        let next_ready = connection.prepare(next_sql, &next).await?;
        let lines_ready = match !is_of_lanes && !open.is_empty() {
            true => Some(connection.prepare(&LINES, &of_lines).await?),
            false => None,
        };
        let moved = find_ready.as_ref();
        let moved = moved.map(|ready| connection.send(ready, &find));
        let next = connection.send(&next_ready, &next);
        let lines = lines_ready.as_ref();
        let lines = lines.map(|ready| connection.send(ready, &of_lines));
        if let Some(moved) = moved
            && let Some(row) = answer(moved).await?.first()
        {
            self.has_written |= Cells::of(row).unsigned()? > 0;
        }
        let next = answer(next).await?;
        let lines = match lines {
            Some(lines) => Some(queue::read(&answer(lines).await?)?),
            None => None,
        };
        Ok((queue::due(&next)?, lines))
    }

    /// Looks who is next in the lines, and among those that are not written yet.
    async fn look_at_lines(
        &mut self,
        claim: &Claim,
        tools: &BTreeSet<&ToolName>,
        left: usize,
        read: Option<Vec<Waiting>>,
    ) -> Result<Found> {
        let mut slots = self.slots(claim, tools)?;
        let open = slots.open(tools);
        if open.is_empty() {
            return Ok(Found::default());
        }
        let are_all_open = open.len() == tools.len();
        let max = max_of_line(left);
        let mut waiting = match read {
            Some(read) => read,
            None => {
                let values = queue::of_lines(&open, max);
                queue::read(&self.connection.query(&LINES, &values).await?)?
            }
        };
        let unwritten = self.unwritten(tools, Queue::Ready);
        waiting.extend(unwritten.map(Waiting::unwritten));
        waiting.sort_by_key(|waiting| waiting.place);
        self.know_agents(claim, &waiting, &mut slots)?;
        let found = slots.pick_of_lines(&waiting, left, max);
        let are_all = are_all_open && found.picked.len() == waiting.len();
        Ok(Found {
            are_all: are_all && found.rest == Rest::Nowhere,
            ..found
        })
    }

    /// Looks who is next in the lanes. All is written.
    async fn look_at_lanes(
        &mut self,
        claim: &Claim,
        tools: &BTreeSet<&ToolName>,
        left: usize,
    ) -> Result<Found> {
        let mut slots = self.slots(claim, tools)?;
        let open = slots.open(tools);
        if open.is_empty() {
            return Ok(Found::default());
        }
        let wanted = i64::try_from(left).unwrap_or(i64::MAX);
        let changed = self.counters.running_of_agents();
        let waiting = queue::of_lanes(self.connection, claim, &open, wanted, &changed).await?;
        self.know_agents(claim, &waiting, &mut slots)?;
        Ok(slots.pick_of_lanes(&waiting, left))
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
            if let Some(running) = waiting.agent_running {
                self.counters.know_running(scope.clone(), running);
            }
            let running = self.counters.ours(scope)?.of(Status::Running);
            slots.agents.insert(agent, running);
        }
        Ok(())
    }

    /// Claims tasks, in this order: those that are still ready, and that nobody else has just locked.
    async fn take(&mut self, claim: &Claim, picked: &[Picked]) -> Result<Vec<Task>> {
        let written = picked.iter().filter(|picked| !picked.is_unwritten);
        let written: Vec<i64> = written.map(|picked| picked.key).collect();
        let mut locked = self.lock(written).await?;
        let command = Command::Claim {
            worker: claim.worker.clone(),
            lease_ms: claim.lease_ms,
        };
        let mut tasks = Vec::with_capacity(picked.len());
        for Picked { key, is_unwritten } in picked {
            let stored = match is_unwritten {
                true => self.tasks.by_key(*key),
                false => locked.remove(key).map(|stored| self.tasks.know(stored)),
            };
            let Some(stored) = stored else {
                continue;
            };
            let identity = Arc::clone(stored.task.identity());
            let task = self.change(Some(stored), &identity.namespace, &identity.id, &command)?;
            let broken = |refused| Failure::Unreadable(format!("the queue: task {key}: {refused}"));
            tasks.push(task.map_err(broken)?);
        }
        Ok(tasks)
    }

    /// Locks and reads those that are still ready, and that nobody else has just locked.
    async fn lock(&mut self, keys: Vec<i64>) -> Result<HashMap<i64, Stored>> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = self
            .connection
            .query(&TAKE, &[Value::integers(keys)])
            .await?;
        if let Some(row) = rows.first() {
            self.xid = Some(row.try_get(row.len() - 1)?);
        }
        let locked = row::read_all(self.connection, self.specs, &rows).await?;
        Ok(locked.into_iter().map(|it| (it.key, it)).collect())
    }
}

/// So many of a line are read for so many that are wanted.
fn max_of_line(wanted: usize) -> i64 {
    i64::try_from(wanted)
        .unwrap_or(i64::MAX)
        .saturating_add(PASSED_OVER_MAX)
}

/// Who has how many tasks running, as a claim goes on.
#[derive(Debug)]
struct Slots<'c> {
    claim: &'c Claim,
    tools: HashMap<ToolName, u64>,
    agents: HashMap<(Namespace, AgentId), u64>,
}

impl Slots<'_> {
    /// The tools that have a slot left.
    fn open<'t>(&self, tools: &BTreeSet<&'t ToolName>) -> Vec<&'t str> {
        let open = tools.iter().filter(|tool| self.has_tool(tool));
        open.map(|tool| tool.as_str()).collect()
    }

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

    /// Of the next of each line, of which at most `max` were read, and of those that are not written yet.
    fn pick_of_lines(&mut self, waiting: &[Waiting], left: usize, max: i64) -> Found {
        let mut unread: HashMap<&ToolName, i64> = HashMap::new();
        for waiting in waiting.iter().filter(|waiting| !waiting.is_unwritten) {
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
                found.picked.push(Picked {
                    key: waiting.place.key,
                    is_unwritten: waiting.is_unwritten,
                });
            }
            if waiting.is_unwritten {
                continue;
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
        let taken = taken.map(|waiting| Picked {
            key: waiting.place.key,
            is_unwritten: false,
        });
        let picked: Vec<Picked> = taken.collect();
        let is_cut = waiting.len() >= left && picked.len() < left;
        let rest = match is_cut {
            true => Rest::InOtherLanes,
            false => Rest::Nowhere,
        };
        Found {
            picked,
            are_all: false,
            rest,
        }
    }
}
