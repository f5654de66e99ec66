//! The statements that find the tasks that a list or a snapshot wants.
//!
//! Their text depends on what is asked, and their plan is made for the values: PostgreSQL has statistics.

use std::fmt::Write as _;

use sidestream_core::{
    AgentId, ResourceId, RunId, TaskId, ThreadId, Timestamp, ToolCallId, ToolName,
};
use tokio_postgres::Row;

use super::Value;
use super::connection::Connection;
use super::failure::Result;
use crate::store::TimeField;
use crate::store::wanted::{Wanted, column};

/// A statement with its values.
#[derive(Debug, Clone)]
pub(super) struct Statement<'w> {
    pub(super) sql: String,
    pub(super) values: Vec<Value<'w>>,
}

impl<'w> Statement<'w> {
    pub(super) fn new() -> Self {
        Self {
            sql: String::new(),
            values: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, text: &str) {
        self.sql.push_str(text);
    }

    /// Adds text in which each `?` stands for a value.
    pub(super) fn with(&mut self, text: &str, values: impl IntoIterator<Item = Value<'w>>) {
        let mut values = values.into_iter();
        for (n, part) in text.split('?').enumerate() {
            if n > 0 {
                self.values.extend(values.next());
                write!(self.sql, "${}", self.values.len()).expect("a text takes more text");
            }
            self.sql.push_str(part);
        }
    }

    /// Reads every row.
    pub(super) async fn rows(&self, connection: &Connection) -> Result<Vec<Row>> {
        connection.query_planned(&self.sql, &self.values).await
    }
}

/// Selects columns of the tasks `t` that are wanted.
pub(super) fn select<'w>(columns: &str, wanted: &'w Wanted) -> Statement<'w> {
    let mut statement = Statement::new();
    statement.add(&format!("SELECT {columns}"));
    from(&mut statement, wanted, needs_specs(wanted));
    statement
}

/// Is something wanted for which the indexes on the specs are made?
pub(super) fn needs_specs(wanted: &Wanted) -> bool {
    wanted.task_id.is_some()
        || wanted.agent_id.is_some()
        || wanted.run_id.is_some()
        || wanted.thread_id.is_some()
        || wanted.resource_id.is_some()
        || wanted.tool_name.is_some()
        || wanted.tool_call_id.is_some()
}

/// Adds from where, and under which conditions, tasks `t` are wanted; with their specs `s`, if told.
pub(super) fn from<'w>(statement: &mut Statement<'w>, wanted: &'w Wanted, has_specs: bool) {
    let room = || Value::from(wanted.namespace.as_str());
    statement.add(" FROM @tasks t");
    if has_specs {
        statement.add(" JOIN @specs s ON s.key = t.key");
    }
    statement.with(" WHERE t.namespace = ?", [room()]);
    if has_specs {
        statement.with(" AND s.last_seq IS NULL AND s.namespace = ?", [room()]);
    }
    // The index that has the time of creation begins with the status.
    let is_by_created = matches!(wanted.date, Some((TimeField::CreatedAt, ..)));
    let statuses = match is_by_created && !has_specs {
        true => wanted.statuses(),
        false => wanted.statuses.clone(),
    };
    match statuses.as_slice() {
        [] => {}
        // An index gives those of one status in order.
        [only] => statement.with(" AND t.status = ?", [only.as_str().into()]),
        statuses => {
            let statuses = Value::texts(statuses.iter().map(|status| status.as_str()));
            statement.with(" AND t.status = ANY (?)", [statuses]);
        }
    }
    if let Some(is_external) = wanted.is_external {
        statement.with(" AND t.is_external = ?", [is_external.into()]);
    }
    let mut equal = |column: &str, value: Option<&'w str>| {
        if let Some(value) = value {
            statement.with(&format!(" AND s.{column} = ?"), [value.into()]);
        }
    };
    equal("id", wanted.task_id.as_ref().map(TaskId::as_str));
    equal("agent_id", wanted.agent_id.as_ref().map(AgentId::as_str));
    equal("run_id", wanted.run_id.as_ref().map(RunId::as_str));
    equal("thread_id", wanted.thread_id.as_ref().map(ThreadId::as_str));
    equal(
        "resource_id",
        wanted.resource_id.as_ref().map(ResourceId::as_str),
    );
    equal("tool_name", wanted.tool_name.as_ref().map(ToolName::as_str));
    equal(
        "tool_call_id",
        wanted.tool_call_id.as_ref().map(ToolCallId::as_str),
    );
    if let Some((field, from, to)) = wanted.date {
        let column = time_column(field, has_specs);
        for (bound, at) in [(">=", from), ("<", to)] {
            if let Some(at) = at {
                let condition = format!(" AND {column} {bound} ?");
                statement.with(&condition, [Timestamp::ms(at).into()]);
            }
        }
    }
}

/// The column of a time: that of creation where the most useful indexes have it.
pub(super) fn time_column(field: TimeField, has_specs: bool) -> String {
    let table = match field {
        TimeField::CreatedAt if has_specs => "s",
        _ => "t",
    };
    format!("{table}.{}", column(field))
}

/// The same, for each status that is wanted alone.
pub(super) fn for_each_status(wanted: &Wanted) -> impl Iterator<Item = Wanted> {
    wanted.statuses().into_iter().map(|status| Wanted {
        statuses: vec![status],
        ..wanted.clone()
    })
}
