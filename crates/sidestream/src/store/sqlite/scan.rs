//! Ranges of indexes: which part of which index holds the tasks that a list or a snapshot wants.
//!
//! A [`Way`] names the index; it has one [`Range`] for each value of the index's leading columns, and
//! within a range the tasks are in the order of a time, then of creation, then of dispatch. What the index does not
//! know is tested row by row. SQLite is told which index to use: it keeps no statistics, and we have counters.

use std::cmp::Ordering;
use std::fmt::Write as _;

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};
use sidestream_core::{
    AgentId, ResourceId, RunId, Status, TaskId, ThreadId, Timestamp, ToolCallId, ToolName,
};

use super::failure::Result;
use super::prepare::prepare;
use crate::store::TimeField;
use crate::store::wanted::{Wanted, column};

/// Which index to go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The one task of that id.
    Id,
    /// A namespace's tasks by when their latest attempt began; those that have not begun, too.
    Started,
    /// Those that are suspended, by since when.
    Suspended,
    /// Those that have ended, by when.
    Ended,
    /// Those of each status and kind of owner, by creation.
    Status,
    /// An agent's, by creation.
    Agent,
    /// A tool's, by creation.
    Tool,
    /// Those of a run, by creation.
    Run,
    /// Those of a thread, by creation.
    Thread,
    /// Those of a resource, by creation.
    Resource,
    /// Those of a tool call, by creation.
    ToolCall,
}

impl Way {
    /// To all tasks that have a time, in its order.
    pub(super) fn by(time: TimeField) -> Self {
        match time {
            TimeField::CreatedAt => Self::Status,
            TimeField::StartedAt => Self::Started,
            TimeField::SuspendedAt => Self::Suspended,
            TimeField::CompletedAt => Self::Ended,
        }
    }

    /// By which time the tasks of each of its ranges are ordered.
    pub(super) fn order(self) -> TimeField {
        match self {
            Self::Started => TimeField::StartedAt,
            Self::Suspended => TimeField::SuspendedAt,
            Self::Ended => TimeField::CompletedAt,
            _ => TimeField::CreatedAt,
        }
    }

    /// Its ranges.
    pub(super) fn ranges(self, wanted: &Wanted) -> Vec<Range> {
        if self != Self::Status {
            return vec![Range {
                way: self,
                part: None,
            }];
        }
        let of_status = |status: Status| {
            let asked = |is: &bool| wanted.is_external.is_none_or(|asked| asked == *is);
            let owners = [false, true].into_iter().filter(asked);
            owners.map(move |is_external| Range {
                way: self,
                part: Some((status, is_external)),
            })
        };
        wanted.statuses().into_iter().flat_map(of_status).collect()
    }
}

/// A part of an index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    way: Way,
    /// Only those that stand so, and have this kind of owner (external?); else those that are wanted.
    pub(super) part: Option<(Status, bool)>,
}

impl Range {
    fn index(self) -> &'static str {
        match self.way {
            Way::Id => "tasks_by_id",
            Way::Started => "tasks_by_started",
            Way::Suspended => "tasks_by_suspended",
            Way::Ended => "tasks_by_completed",
            Way::Status if self.is_of_ended() => "tasks_ended",
            Way::Status => "tasks_active",
            Way::Agent => "tasks_by_agent",
            Way::Tool => "tasks_by_tool",
            Way::Run => "tasks_by_run",
            Way::Thread => "tasks_by_thread",
            Way::Resource => "tasks_by_resource",
            Way::ToolCall => "tasks_by_tool_call",
        }
    }

    fn is_of_ended(self) -> bool {
        self.part.is_some_and(|(status, _)| status.is_terminal())
    }

    /// Selects columns of the tasks in this range that match.
    pub(super) fn select(self, columns: &str, wanted: &Wanted) -> Statement {
        let mut statement = Statement {
            sql: format!(
                "SELECT {columns} FROM tasks INDEXED BY {} WHERE ",
                self.index()
            ),
            values: Vec::new(),
        };
        statement.sql.push_str("namespace = ?");
        statement.values.push(text(wanted.namespace.as_str()));
        self.add_part(wanted, &mut statement);
        statement.equal("id", wanted.task_id.as_ref().map(TaskId::as_str));
        statement.equal("agent_id", wanted.agent_id.as_ref().map(AgentId::as_str));
        statement.equal("run_id", wanted.run_id.as_ref().map(RunId::as_str));
        statement.equal("thread_id", wanted.thread_id.as_ref().map(ThreadId::as_str));
        statement.equal(
            "resource_id",
            wanted.resource_id.as_ref().map(ResourceId::as_str),
        );
        statement.equal("tool_name", wanted.tool_name.as_ref().map(ToolName::as_str));
        statement.equal(
            "tool_call_id",
            wanted.tool_call_id.as_ref().map(ToolCallId::as_str),
        );
        if let Some((field, from, to)) = wanted.date {
            let column = column(field);
            for (bound, at) in [(">=", from), ("<", to)] {
                if let Some(at) = at {
                    statement.and(&format!("{column} {bound} ?"), [time(at)]);
                }
            }
        }
        statement
    }

    /// Adds what the index is limited to, which must be said, or SQLite may not use it; and which part of it is
    /// wanted. That is written out, so that statements for two parts are not one text: one alone is kept prepared.
    fn add_part(self, wanted: &Wanted, statement: &mut Statement) {
        match self.way {
            Way::Suspended => statement.and("suspended_at_ms IS NOT NULL", []),
            Way::Ended => statement.and("completed_at_ms IS NOT NULL", []),
            _ => {}
        }
        if let Some((status, is_external)) = self.part {
            let null = if self.is_of_ended() {
                "IS NOT NULL"
            } else {
                "IS NULL"
            };
            let (status, is_external) = (status.as_str(), i32::from(is_external));
            let part = format!(
                "status = '{status}' AND is_external = {is_external} AND completed_at_ms {null}"
            );
            return statement.and(&part, []);
        }
        if !wanted.statuses.is_empty() {
            let holes = vec!["?"; wanted.statuses.len()].join(", ");
            let values = wanted.statuses.iter().map(|status| text(status.as_str()));
            statement.and(&format!("status IN ({holes})"), values);
        }
        if let Some(is_external) = wanted.is_external {
            statement.and("is_external = ?", [Value::Integer(is_external.into())]);
        }
    }
}

/// A statement with its values.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

impl Statement {
    /// Adds a condition.
    pub(super) fn and(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        write!(self.sql, " AND {condition}").expect("a text takes more text");
        self.values.extend(values);
    }

    fn equal(&mut self, column: &str, wanted: Option<&str>) {
        if let Some(wanted) = wanted {
            self.and(&format!("{column} = ?"), [text(wanted)]);
        }
    }

    /// Adds what comes after the conditions.
    pub(super) fn then(&mut self, clause: &str, values: impl IntoIterator<Item = Value>) {
        write!(self.sql, " {clause}").expect("a text takes more text");
        self.values.extend(values);
    }

    /// Reads every row.
    pub(super) fn rows<T>(
        &self,
        connection: &Connection,
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = prepare(connection, &self.sql)?;
        let mut rows = statement.query(params_from_iter(&self.values))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read(row)?);
        }
        Ok(found)
    }

    /// Reads the one number that it selects.
    pub(super) fn number(&self, connection: &Connection) -> Result<u64> {
        let mut statement = prepare(connection, &self.sql)?;
        let number = statement.query_row(params_from_iter(&self.values), |row| row.get(0));
        Ok(u64::try_from(number.map(|n: i64| n)?).unwrap_or(0))
    }
}

/// Reads statements that are each in order as one that is in order, as long as `take` asks for more.
pub(super) fn read_side_by_side<T>(
    connection: &Connection,
    statements: &[Statement],
    read: fn(&Row<'_>) -> Result<T>,
    order: impl Fn(&T, &T) -> Ordering,
    mut take: impl FnMut(T) -> bool,
) -> Result<()> {
    let prepared = statements.iter().map(|one| prepare(connection, &one.sql));
    let mut prepared: Vec<_> = prepared.collect::<rusqlite::Result<_>>()?;
    let mut lines = Vec::with_capacity(statements.len());
    for (prepared, one) in prepared.iter_mut().zip(statements) {
        let mut rows = prepared.query(params_from_iter(&one.values))?;
        if let Some(first) = rows.next()? {
            lines.push((read(first)?, rows));
        }
    }
    loop {
        let firsts = lines.iter().enumerate();
        let next = firsts.min_by(|(_, (one, _)), (_, (other, _))| order(one, other));
        let Some((at, _)) = next else {
            return Ok(());
        };
        let (next, mut rows) = lines.swap_remove(at);
        if !take(next) {
            return Ok(());
        }
        if let Some(row) = rows.next()? {
            lines.push((read(row)?, rows));
        }
    }
}

pub(super) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

pub(super) fn time(at: Timestamp) -> Value {
    Value::Integer(at.ms())
}

/// A number of rows, as SQLite takes it: a negative one would be no limit.
pub(super) fn rows(count: usize) -> Value {
    Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}
