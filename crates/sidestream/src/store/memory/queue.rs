//! Who is next: pending tasks in their order, and how many run, by agent and by tool.
//!
//! Tasks of one tool and one agent stand in one lane. A lane whose agent has no slot left is passed
//! over with one look, however many tasks stand in it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use sidestream_core::{AgentId, Namespace, Rejection, Spec, Status, Task, Timestamp, ToolName};

use crate::store::{Claim, Limits};

/// Tasks that are limited alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Lane {
    tool: ToolName,
    namespace: Namespace,
    agent: Option<AgentId>,
}

impl Lane {
    fn of(task: &Task) -> Self {
        let identity = task.identity();
        Self {
            tool: identity.tool_name.clone(),
            namespace: identity.namespace.clone(),
            agent: identity.agent_id.clone(),
        }
    }
}

/// A task's place among those whose time has come: highest priority first, then the longest due,
/// then the first dispatched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    priority: Reverse<i16>,
    due_at: Timestamp,
    key: i64,
}

impl Place {
    fn of(key: i64, task: &Task) -> Self {
        Self {
            priority: Reverse(task.spec.priority),
            due_at: task.due_at(),
            key,
        }
    }
}

/// A task's place, and in which lane: the order of fronts is the order of claiming.
type Front = (Place, Lane);

/// How many tasks of something want a slot, and how many have one.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    pending: u64,
    running: u64,
}

/// The pending and the running tasks that were dispatched here.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Pending, and not yet moved to its lane: all whose time has not come are here.
    waiting: BTreeMap<ToolName, BTreeMap<(Timestamp, i64), Front>>,
    /// Pending, and its time has come.
    ready: BTreeMap<Lane, BTreeSet<Place>>,
    /// The first of each lane.
    fronts: BTreeMap<ToolName, BTreeSet<Front>>,
    total: Load,
    by_agent: BTreeMap<(Namespace, AgentId), Load>,
    by_tool: BTreeMap<ToolName, Load>,
}

/// One walk past the lanes' fronts. It only goes forward: during a claim slots are taken, never
/// freed, and a lane's next task stands behind its last.
#[derive(Debug)]
pub(super) struct Walk {
    /// The tools that still have a slot, each with the last front that was looked at.
    positions: BTreeMap<ToolName, Bound<Front>>,
}

impl Queue {
    /// Takes note of a task that was dispatched here. Only pending and running ones matter.
    pub(super) fn add(&mut self, key: i64, task: &Task) {
        self.count(task, 1);
        if task.status == Status::Pending {
            let lane = Lane::of(task);
            let of_tool = self.waiting.entry(lane.tool.clone()).or_default();
            of_tool.insert((task.due_at(), key), (Place::of(key, task), lane));
        }
    }

    /// Undoes [`Queue::add`] of the same task.
    pub(super) fn remove(&mut self, key: i64, task: &Task) {
        self.count(task, -1);
        if task.status != Status::Pending {
            return;
        }
        let (lane, place) = (Lane::of(task), Place::of(key, task));
        if let Some(of_tool) = self.waiting.get_mut(&lane.tool)
            && of_tool.remove(&(task.due_at(), key)).is_some()
        {
            if of_tool.is_empty() {
                self.waiting.remove(&lane.tool);
            }
            return;
        }
        self.change_lane(lane, |places| {
            places.remove(&place);
        });
    }

    /// Begins to look for tasks to claim.
    pub(super) fn walk(&mut self, claim: &Claim, now: Timestamp) -> Walk {
        let tools: BTreeSet<&ToolName> = claim.tools.iter().collect();
        for tool in &tools {
            self.move_due(tool, now);
        }
        let positions = tools
            .into_iter()
            .map(|tool| (tool.clone(), Bound::Unbounded))
            .collect();
        Walk { positions }
    }

    /// The next task to claim, which the caller must then claim.
    pub(super) fn next(&self, claim: &Claim, walk: &mut Walk) -> Option<i64> {
        let limits = &claim.limits;
        walk.positions
            .retain(|tool, _| !is_full(limits.per_tool.get(tool), self.by_tool.get(tool)));
        let mut first: Option<Front> = None;
        for (tool, position) in &mut walk.positions {
            let Some(front) = self.next_front(tool, position, claim) else {
                continue;
            };
            if first.as_ref().is_none_or(|first| *front < *first) {
                first = Some(front.clone());
            }
        }
        let (place, lane) = first?;
        let tool = lane.tool.clone();
        walk.positions.insert(tool, Bound::Excluded((place, lane)));
        Some(place.key)
    }

    /// When the next task that a claim asks for, and whose time has not come, is due.
    pub(super) fn next_due(&self, claim: &Claim) -> Option<Timestamp> {
        let tools = claim.tools.iter().filter_map(|tool| self.waiting.get(tool));
        let due = tools.filter_map(|of_tool| {
            let mut wanted = of_tool
                .iter()
                .filter(|(_, (_, lane))| is_wanted(claim, lane));
            wanted.next().map(|((due_at, _), _)| *due_at)
        });
        due.min()
    }

    /// Is there a slot for a new task, when those that wait for one count as well?
    pub(super) fn admit(&self, spec: &Spec, limits: &Limits) -> Result<(), Rejection> {
        let identity = &spec.identity;
        let check = |scope: &dyn Fn() -> String, load: Option<&Load>, limit: Option<u32>| {
            let taken = load.map_or(0, |load| load.pending + load.running);
            match limit.map(u64::from) {
                Some(limit) if taken >= limit => Err(Rejection::AtCapacity {
                    scope: scope(),
                    running: taken,
                    limit,
                }),
                _ => Ok(()),
            }
        };
        check(&|| "tasks".into(), Some(&self.total), limits.total)?;
        if let Some(agent) = &identity.agent_id {
            let load = self
                .by_agent
                .get(&(identity.namespace.clone(), agent.clone()));
            let scope = || format!("tasks of agent {agent}");
            check(&scope, load, limits.per_agent)?;
        }
        let tool = &identity.tool_name;
        let limit = limits.per_tool.get(tool).copied();
        let scope = || format!("tasks of tool {tool}");
        check(&scope, self.by_tool.get(tool), limit)
    }

    /// Moves tasks whose time has come to their lanes.
    fn move_due(&mut self, tool: &ToolName, now: Timestamp) {
        let Some(of_tool) = self.waiting.get_mut(tool) else {
            return;
        };
        let later = of_tool.split_off(&(now.plus_ms(1), i64::MIN));
        let due = std::mem::replace(of_tool, later);
        if of_tool.is_empty() {
            self.waiting.remove(tool);
        }
        for (place, lane) in due.into_values() {
            self.change_lane(lane, |places| {
                places.insert(place);
            });
        }
    }

    /// Changes who stands in a lane, and keeps its front known.
    fn change_lane(&mut self, lane: Lane, change: impl FnOnce(&mut BTreeSet<Place>)) {
        let places = self.ready.entry(lane.clone()).or_default();
        let before = places.first().copied();
        change(places);
        let after = places.first().copied();
        if after.is_none() {
            self.ready.remove(&lane);
        }
        if before == after {
            return;
        }
        let fronts = self.fronts.entry(lane.tool.clone()).or_default();
        if let Some(place) = before {
            fronts.remove(&(place, lane.clone()));
        }
        match after {
            Some(place) => {
                fronts.insert((place, lane));
            }
            None if fronts.is_empty() => {
                self.fronts.remove(&lane.tool);
            }
            None => {}
        }
    }

    /// The first front of a tool behind `position` that can be claimed; moves past those that cannot.
    fn next_front(
        &self,
        tool: &ToolName,
        position: &mut Bound<Front>,
        claim: &Claim,
    ) -> Option<&Front> {
        let fronts = self.fronts.get(tool)?;
        let behind = fronts.range((position.clone(), Bound::Unbounded));
        for front in behind {
            let (_, lane) = front;
            if is_wanted(claim, lane) && self.has_slot(lane, &claim.limits) {
                return Some(front);
            }
            *position = Bound::Excluded(front.clone());
        }
        None
    }

    fn has_slot(&self, lane: &Lane, limits: &Limits) -> bool {
        let Some(agent) = &lane.agent else {
            return true;
        };
        let agent = (lane.namespace.clone(), agent.clone());
        !is_full(limits.per_agent.as_ref(), self.by_agent.get(&agent))
    }

    fn count(&mut self, task: &Task, change: i64) {
        let identity = task.identity();
        let change = |load: &mut Load| {
            let number = match task.status {
                Status::Pending => &mut load.pending,
                Status::Running => &mut load.running,
                _ => return,
            };
            *number = number
                .checked_add_signed(change)
                .expect("what is counted off was counted on");
        };
        change(&mut self.total);
        change_load(&mut self.by_tool, identity.tool_name.clone(), change);
        if let Some(agent) = &identity.agent_id {
            let agent = (identity.namespace.clone(), agent.clone());
            change_load(&mut self.by_agent, agent, change);
        }
    }
}

fn is_wanted(claim: &Claim, lane: &Lane) -> bool {
    let namespace = claim.namespace.as_ref();
    namespace.is_none_or(|namespace| *namespace == lane.namespace)
}

fn is_full(limit: Option<&u32>, load: Option<&Load>) -> bool {
    let running = load.map_or(0, |load| load.running);
    limit.is_some_and(|limit| running >= u64::from(*limit))
}

fn change_load<K: Ord + Clone>(
    loads: &mut BTreeMap<K, Load>,
    key: K,
    change: impl FnOnce(&mut Load),
) {
    let load = loads.entry(key.clone()).or_default();
    change(load);
    if load.pending + load.running == 0 {
        loads.remove(&key);
    }
}
