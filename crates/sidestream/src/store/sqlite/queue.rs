//! The queue as its indexes have it: a line for each tool, and in it a lane for each agent.

use std::cmp::Reverse;
use std::collections::VecDeque;

use rusqlite::{Connection, Params, Row, params};
use sidestream_core::{AgentId, Namespace, Timestamp, ToolName};

use super::failure::Result;
use super::prepare::prepare;
use super::spec::{required, text};
use crate::store::stored::Stored;

/// A task's place in the queue; the least is the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    priority: Reverse<i16>,
    due_at_ms: i64,
    pub(super) key: i64,
}

/// A task that is ready.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) place: Place,
    pub(super) namespace: Namespace,
    pub(super) agent: Option<AgentId>,
}

impl Waiting {
    pub(super) fn of(stored: &Stored) -> Self {
        let task = stored.task.identity();
        Self {
            place: Place {
                priority: Reverse(stored.task.spec.priority),
                due_at_ms: stored.task.due_at().ms(),
                key: stored.key,
            },
            namespace: task.namespace.clone(),
            agent: task.agent_id.clone(),
        }
    }
}

/// A part of a tool's line: an agent's, or that of the tasks without one.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) namespace: Namespace,
    pub(super) agent: Option<AgentId>,
}

impl Lane {
    /// The agent as the index has it: no agent's id is empty.
    fn agent_text(&self) -> &str {
        self.agent.as_ref().map_or("", AgentId::as_str)
    }
}

/// The next tasks of a tool's line, after those that are used.
pub(super) fn of_line(
    connection: &Connection,
    tool: &ToolName,
    used: u32,
    max: u32,
) -> Result<VecDeque<Waiting>> {
    let sql = "SELECT priority, due_at_ms, key, namespace, agent_id
        FROM tasks INDEXED BY tasks_in_line WHERE queue = 'ready' AND tool_name = ?1
        ORDER BY priority DESC, due_at_ms, key LIMIT ?2 OFFSET ?3";
    waiting(connection, sql, params![tool.as_str(), max, used])
}

/// The next tasks of a lane, after those that are used.
pub(super) fn of_lane(
    connection: &Connection,
    tool: &ToolName,
    lane: &Lane,
    used: u32,
    max: u32,
) -> Result<VecDeque<Waiting>> {
    let sql = "SELECT priority, due_at_ms, key, namespace, agent_id
        FROM tasks INDEXED BY tasks_in_lane
        WHERE queue = 'ready' AND tool_name = ?1 AND namespace = ?2 AND ifnull(agent_id, '') = ?3
        ORDER BY priority DESC, due_at_ms, key LIMIT ?4 OFFSET ?5";
    let (namespace, agent) = (lane.namespace.as_str(), lane.agent_text());
    waiting(
        connection,
        sql,
        params![tool.as_str(), namespace, agent, max, used],
    )
}

/// The first lane of a tool, in a namespace if one is named, with its head.
pub(super) fn first_lane(
    connection: &Connection,
    tool: &ToolName,
    namespace: Option<&Namespace>,
) -> Result<Option<(Lane, Waiting)>> {
    let Some(namespace) = namespace else {
        let sql = "SELECT priority, due_at_ms, key, namespace, agent_id
            FROM tasks INDEXED BY tasks_in_lane WHERE queue = 'ready' AND tool_name = ?1
            ORDER BY namespace, ifnull(agent_id, ''), priority DESC, due_at_ms, key LIMIT 1";
        return lane(connection, sql, params![tool.as_str()]);
    };
    let sql = "SELECT priority, due_at_ms, key, namespace, agent_id
        FROM tasks INDEXED BY tasks_in_lane
        WHERE queue = 'ready' AND tool_name = ?1 AND namespace = ?2
        ORDER BY ifnull(agent_id, ''), priority DESC, due_at_ms, key LIMIT 1";
    lane(connection, sql, params![tool.as_str(), namespace.as_str()])
}

/// The lane after another, in the same namespace or, unless that is the only one asked for, beyond it.
pub(super) fn lane_after(
    connection: &Connection,
    tool: &ToolName,
    before: &Lane,
    is_only_namespace: bool,
) -> Result<Option<(Lane, Waiting)>> {
    let (namespace, agent) = (before.namespace.as_str(), before.agent_text());
    let sql = "SELECT priority, due_at_ms, key, namespace, agent_id
        FROM tasks INDEXED BY tasks_in_lane
        WHERE queue = 'ready' AND tool_name = ?1 AND namespace = ?2 AND ifnull(agent_id, '') > ?3
        ORDER BY ifnull(agent_id, ''), priority DESC, due_at_ms, key LIMIT 1";
    let next = lane(connection, sql, params![tool.as_str(), namespace, agent])?;
    if next.is_some() || is_only_namespace {
        return Ok(next);
    }
    let sql = "SELECT priority, due_at_ms, key, namespace, agent_id
        FROM tasks INDEXED BY tasks_in_lane
        WHERE queue = 'ready' AND tool_name = ?1 AND namespace > ?2
        ORDER BY namespace, ifnull(agent_id, ''), priority DESC, due_at_ms, key LIMIT 1";
    lane(connection, sql, params![tool.as_str(), namespace])
}

/// When the next task of a tool whose time has not come is due.
pub(super) fn next_due(
    connection: &Connection,
    namespace: Option<&Namespace>,
    tool: &ToolName,
) -> Result<Option<Timestamp>> {
    let due: Option<i64> = match namespace {
        None => {
            let sql = "SELECT min(due_at_ms) FROM tasks INDEXED BY tasks_delayed
                WHERE queue = 'delayed' AND tool_name = ?";
            prepare(connection, sql)?.query_row([tool.as_str()], |row| row.get(0))?
        }
        Some(namespace) => {
            let sql = "SELECT min(due_at_ms) FROM tasks INDEXED BY tasks_delayed_in_namespace
                WHERE queue = 'delayed' AND tool_name = ? AND namespace = ?";
            let of = [tool.as_str(), namespace.as_str()];
            prepare(connection, sql)?.query_row(of, |row| row.get(0))?
        }
    };
    Ok(due.map(Timestamp::from_ms))
}

fn lane(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> Result<Option<(Lane, Waiting)>> {
    let head = waiting(connection, sql, params)?.pop_front();
    Ok(head.map(|head| {
        let (namespace, agent) = (head.namespace.clone(), head.agent.clone());
        (Lane { namespace, agent }, head)
    }))
}

fn waiting(connection: &Connection, sql: &str, params: impl Params) -> Result<VecDeque<Waiting>> {
    let mut statement = prepare(connection, sql)?;
    let mut rows = statement.query(params)?;
    let mut found = VecDeque::new();
    while let Some(row) = rows.next()? {
        found.push_back(read(row)?);
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> Result<Waiting> {
    Ok(Waiting {
        place: Place {
            priority: Reverse(row.get(0)?),
            due_at_ms: row.get(1)?,
            key: row.get(2)?,
        },
        namespace: Namespace::new(required(row, 3)?)?,
        agent: text(row, 4)?.map(AgentId::new).transpose()?,
    })
}
