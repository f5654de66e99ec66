//! A task as a row of `tasks`: how it is read, inserted, and changed.
//!
//! A change is saved as the difference between two rows: only the columns that differ are written, so
//! that only their indexes are touched, and a column cannot be forgotten.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{CachedStatement, Connection, Row, ToSql, params_from_iter};
use sidestream_core::{
    AgentId, Attempt, Json, Lease, Namespace, Record, ReportNumber, ResourceId, RunId, Seq, Status,
    Task, TaskError, TaskId, ThreadId, Timestamp, ToolCallId, WorkerId,
};

use super::failure::{Failure, Result};
use super::prepare::prepare;
use super::spec::{Specs, json, required, text, time};
use crate::store::stored::{Queue, Stored, reported};

/// A status as its row has it.
pub(super) fn status(text: &str) -> Result<Status> {
    Ok(Status::parse(text)?)
}

/// What a column holds.
#[derive(Debug, PartialEq)]
enum Cell<'t> {
    Null,
    Integer(i64),
    Text(&'t str),
    /// Written as JSON only if it differs.
    Error(&'t TaskError),
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Integer(n) => ToSqlOutput::Owned(Value::Integer(*n)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Error(error) => {
                let json = Json::from_value(error).expect("texts are JSON");
                ToSqlOutput::Owned(Value::Text(json.as_str().to_owned()))
            }
        })
    }
}

impl<'t> From<Option<&'t str>> for Cell<'t> {
    fn from(text: Option<&'t str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

impl<'t> From<Option<&'t Json>> for Cell<'t> {
    fn from(json: Option<&'t Json>) -> Self {
        json.map(Json::as_str).into()
    }
}

impl From<Option<Timestamp>> for Cell<'_> {
    fn from(at: Option<Timestamp>) -> Self {
        at.map_or(Self::Null, Self::from)
    }
}

impl From<Timestamp> for Cell<'_> {
    fn from(at: Timestamp) -> Self {
        Self::Integer(at.ms())
    }
}

impl From<bool> for Cell<'_> {
    fn from(is: bool) -> Self {
        Self::Integer(i64::from(is))
    }
}

/// The columns that a change of the task may change, in the order of [`Stored::cells`].
const COLUMNS: [&str; 33] = [
    "namespace",
    "id",
    "tool_name",
    "tool_call_id",
    "agent_id",
    "run_id",
    "thread_id",
    "resource_id",
    "is_external",
    "priority",
    "status",
    "attempt",
    "reported",
    "retry_count",
    "is_resuming",
    "seq",
    "created_at_ms",
    "event_at_ms",
    "since_ms",
    "run_at_ms",
    "started_at_ms",
    "suspended_at_ms",
    "completed_at_ms",
    "queue",
    "due_at_ms",
    "worker_id",
    "lease_until_ms",
    "deadline_ms",
    "is_untold",
    "error",
    "suspend_payload",
    "resume_data",
    "result",
];

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let (columns, holes) = (COLUMNS.join(", "), ", ?".repeat(COLUMNS.len()));
    format!("INSERT INTO tasks (key, repetition_key, record, {columns}) VALUES (?, ?, ?{holes})")
});

const SELECT: &str = "SELECT key, status, attempt, retry_count, is_resuming, seq, created_at_ms,
    event_at_ms, run_at_ms, started_at_ms, suspended_at_ms, completed_at_ms, queue, worker_id,
    lease_until_ms, is_untold, error, suspend_payload, resume_data, result, record, reported FROM tasks ";

static SELECT_BY_KEY: LazyLock<String> = LazyLock::new(|| format!("{SELECT} WHERE key = ?1"));
static SELECT_BY_ID: LazyLock<String> =
    LazyLock::new(|| format!("{SELECT} WHERE namespace = ?1 AND id = ?2"));
static SELECT_BY_REPETITION: LazyLock<String> = LazyLock::new(|| {
    format!("{SELECT} WHERE namespace = ?1 AND repetition_key = ?2 AND repetition_key IS NOT NULL")
});

impl Stored {
    /// What each of [`COLUMNS`] holds.
    fn cells(&self) -> [Cell<'_>; COLUMNS.len()] {
        let task = &self.task;
        let identity = task.identity();
        let is_ours = !task.is_external();
        let waiting = self.queue.map(|_| task.due_at());
        let lease = task.lease.as_ref();
        let deadline = task.deadline().filter(|_| is_ours);
        [
            Cell::Text(identity.namespace.as_str()),
            Cell::Text(identity.id.as_str()),
            Cell::Text(identity.tool_name.as_str()),
            identity
                .tool_call_id
                .as_ref()
                .map(ToolCallId::as_str)
                .into(),
            identity.agent_id.as_ref().map(AgentId::as_str).into(),
            identity.run_id.as_ref().map(RunId::as_str).into(),
            identity.thread_id.as_ref().map(ThreadId::as_str).into(),
            identity.resource_id.as_ref().map(ResourceId::as_str).into(),
            task.is_external().into(),
            Cell::Integer(task.spec.priority.into()),
            Cell::Text(task.status.as_str()),
            Cell::Integer(task.attempt.0.into()),
            Cell::Integer(task.reported.0.into()),
            Cell::Integer(task.retry_count.into()),
            task.is_resuming.into(),
            Cell::Integer(task.seq.0.cast_signed()),
            task.created_at.into(),
            self.event_at.into(),
            self.since().into(),
            task.run_at.into(),
            task.started_at.into(),
            task.suspended_at.into(),
            task.completed_at.into(),
            self.queue.map(Queue::as_str).into(),
            waiting.into(),
            task.worker_id.as_ref().map(WorkerId::as_str).into(),
            lease.map(|lease| lease.until).into(),
            deadline.into(),
            self.is_untold.into(),
            // The rest of a record's row is in its document.
            task.error
                .as_ref()
                .filter(|_| is_ours)
                .map_or(Cell::Null, Cell::Error),
            task.suspend_payload.as_ref().into(),
            task.resume_data.as_ref().into(),
            task.result.as_ref().filter(|_| is_ours).into(),
        ]
    }

    fn record(&self) -> Option<&Json> {
        self.task.record.as_ref().map(|record| record.document())
    }

    fn insert(&self, statement: &mut CachedStatement<'_>) -> Result<()> {
        let repetition = self.task.spec.repetition_key();
        statement.raw_bind_parameter(1, self.key)?;
        statement.raw_bind_parameter(2, repetition)?;
        statement.raw_bind_parameter(3, self.record().map(Json::as_str))?;
        for (i, cell) in self.cells().iter().enumerate() {
            statement.raw_bind_parameter(4 + i, cell)?;
        }
        statement.raw_execute()?;
        Ok(())
    }
}

/// Saves new tasks.
pub(super) fn insert(connection: &Connection, new: &[&Stored]) -> Result<()> {
    let mut statement = prepare(connection, &INSERT)?;
    for stored in new {
        stored.insert(&mut statement)?;
    }
    Ok(())
}

/// The statements that save a difference, by which columns differ.
#[derive(Debug, Default)]
pub(super) struct Updates(HashMap<u64, String>);

impl Updates {
    /// Saves what is different about a task.
    pub(super) fn save(
        &mut self,
        connection: &Connection,
        before: &Stored,
        after: &Stored,
    ) -> Result<()> {
        let (old, new) = (before.cells(), after.cells());
        let record = after.record();
        let mut which = u64::from(record.is_some());
        for (i, cell) in new.iter().enumerate() {
            which |= u64::from(*cell != old[i]) << (i + 1);
        }
        if which == 0 {
            return Ok(());
        }
        let changed = new
            .into_iter()
            .enumerate()
            .filter(|(i, _)| which >> (i + 1) & 1 == 1)
            .map(|(_, cell)| cell);
        let record = record.map(|record| Cell::Text(record.as_str()));
        let key = Cell::Integer(after.key);
        let cells = changed.chain(record).chain([key]);
        self.statement(connection, which)?
            .execute(params_from_iter(cells))?;
        Ok(())
    }

    fn statement<'c>(
        &mut self,
        connection: &'c Connection,
        which: u64,
    ) -> Result<CachedStatement<'c>> {
        let sql = self.0.entry(which).or_insert_with(|| {
            let columns = COLUMNS.iter().enumerate();
            let mut set: Vec<String> = columns
                .filter(|(i, _)| which >> (i + 1) & 1 == 1)
                .map(|(_, column)| format!("{column} = ?"))
                .collect();
            if which & 1 == 1 {
                set.push("record = ?".into());
            }
            format!("UPDATE tasks SET {} WHERE key = ?", set.join(", "))
        });
        Ok(prepare(connection, sql)?)
    }
}

/// A task by its key.
pub(super) fn by_key(connection: &Connection, specs: &Specs, key: i64) -> Result<Option<Stored>> {
    let mut statement = prepare(connection, &SELECT_BY_KEY)?;
    let mut rows = statement.query([key])?;
    let row = rows.next()?;
    row.map(|row| read(connection, specs, row)).transpose()
}

/// A task by its id.
pub(super) fn by_id(
    connection: &Connection,
    specs: &Specs,
    namespace: &Namespace,
    id: &TaskId,
) -> Result<Option<Stored>> {
    let mut statement = prepare(connection, &SELECT_BY_ID)?;
    let mut rows = statement.query([namespace.as_str(), id.as_str()])?;
    let row = rows.next()?;
    row.map(|row| read(connection, specs, row)).transpose()
}

/// A task by what a repetition of its dispatch is recognised by.
pub(super) fn by_repetition(
    connection: &Connection,
    specs: &Specs,
    namespace: &Namespace,
    repetition: &str,
) -> Result<Option<Stored>> {
    let mut statement = prepare(connection, &SELECT_BY_REPETITION)?;
    let mut rows = statement.query([namespace.as_str(), repetition])?;
    let row = rows.next()?;
    row.map(|row| read(connection, specs, row)).transpose()
}

fn read(connection: &Connection, specs: &Specs, row: &Row<'_>) -> Result<Stored> {
    let key = row.get(0)?;
    let stored = |task, event_at| -> Result<Stored> {
        Ok(Stored {
            key,
            task,
            event_at,
            queue: text(row, 12)?.map(Queue::parse).transpose()?,
            is_untold: row.get(15)?,
        })
    };
    let spec = specs.of(connection, key)?;
    let spec = spec.ok_or_else(|| Failure::Unreadable(format!("task {key} has no spec")))?;
    let seq = Seq(row.get::<_, i64>(5)?.cast_unsigned());
    let event_at = Timestamp::from_ms(row.get(7)?);
    if let Some(document) = json(row, 20)? {
        let record = Arc::new(Record::from_document(document)?);
        return stored(reported(&spec.identity, record, seq, event_at), event_at);
    }
    let worker_id = text(row, 13)?.map(WorkerId::new).transpose()?;
    let lease = worker_id.clone().zip(time(row, 14)?);
    let task = Task {
        spec,
        status: status(required(row, 1)?)?,
        attempt: Attempt(row.get(2)?),
        reported: ReportNumber(row.get(21)?),
        retry_count: row.get(3)?,
        created_at: Timestamp::from_ms(row.get(6)?),
        updated_at: event_at,
        run_at: time(row, 8)?,
        started_at: time(row, 9)?,
        suspended_at: time(row, 10)?,
        completed_at: time(row, 11)?,
        result: json(row, 19)?,
        error: json(row, 16)?.map(|error| error.parse()).transpose()?,
        suspend_payload: json(row, 17)?,
        resume_data: json(row, 18)?,
        is_resuming: row.get(4)?,
        worker_id,
        lease: lease.map(|(worker, until)| Lease { worker, until }),
        seq,
        record: None,
    };
    stored(task, event_at)
}
