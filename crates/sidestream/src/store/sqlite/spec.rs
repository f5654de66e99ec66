//! What was asked for, as a row of `specs`; and the few that are kept at hand.
//!
//! A spec never changes and its key is never used twice, so one that is kept at hand can be wrong in
//! one way only: its row may be gone. Who must know that asks the database.

use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use rusqlite::{CachedStatement, Connection, Row, params};
use sidestream_core::{
    AgentId, Json, Namespace, ResourceId, RetryPolicy, RunId, Spec, TaskId, TaskIdentity, ThreadId,
    Timestamp, ToolCallId, ToolName,
};

use super::failure::{Failure, Result};
use super::prepare::prepare;
use crate::store::recent::Recent;
use crate::store::stored::Stored;

/// What a spec takes beside its arguments and metadata, in bytes: roughly.
const SPEC_BYTES: usize = 700;

/// Specs that were needed of late. Shared by the writer and all readers.
#[derive(Debug, Default)]
pub(super) struct Specs(Mutex<Recent<i64, Arc<Spec>>>);

impl Specs {
    /// Keeps one at hand. Its key must not be used for another, even if it is not committed in the end.
    pub(super) fn keep(&self, key: i64, spec: &Arc<Spec>) {
        let metadata = spec.metadata.as_ref().map_or(0, Json::bytes);
        let bytes = SPEC_BYTES + spec.identity.args.bytes() + metadata;
        self.0.lock().keep(key, Arc::clone(spec), bytes);
    }

    /// A task's spec; `None` if its row is gone. Of a record only the identity counts.
    pub(super) fn of(&self, connection: &Connection, key: i64) -> Result<Option<Arc<Spec>>> {
        let at_hand = self.0.lock().get(&key);
        if let Some(spec) = at_hand {
            return Ok(Some(spec));
        }
        let spec = stored(connection, key)?;
        if let Some(spec) = &spec {
            self.keep(key, spec);
        }
        Ok(spec)
    }

    /// A task's spec, if its row is still there. Keeps nothing at hand: for those who look at a hundred thousand,
    /// each once, and would drive out what others need.
    pub(super) fn glance(&self, connection: &Connection, key: i64) -> Result<Option<Arc<Spec>>> {
        let at_hand = self.0.lock().peek(&key);
        match at_hand {
            Some(spec) => Ok(exists(connection, key)?.then_some(spec)),
            None => stored(connection, key),
        }
    }
}

fn stored(connection: &Connection, key: i64) -> Result<Option<Arc<Spec>>> {
    let mut statement = prepare(connection, &SELECT)?;
    let mut rows = statement.query([key])?;
    let row = rows.next()?;
    Ok(row.map(read).transpose()?.map(Arc::new))
}

/// Is there still a row of the spec?
fn exists(connection: &Connection, key: i64) -> Result<bool> {
    let mut statement = prepare(connection, "SELECT 1 FROM specs WHERE key = ?1")?;
    Ok(statement.exists([key])?)
}

/// The columns of a spec, in the order in which [`insert`] binds and [`read`] reads them.
const COLUMNS: &str = "namespace, id, tool_name, tool_call_id, agent_id, run_id, thread_id, \
    resource_id, timeout_ms, max_retries, retry_delay_ms, retry_delay_max_ms, priority, run_at_ms, \
    description, subagent_type, idempotency_key, metadata, args";

static SELECT: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {COLUMNS} FROM specs WHERE key = ?1"));

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let holes = ", ?".repeat(COLUMNS.split(',').count());
    format!("INSERT INTO specs (key, {COLUMNS}) VALUES (?{holes})")
});

/// Saves the specs of new tasks.
pub(super) fn insert(connection: &Connection, new: &[&Stored]) -> Result<()> {
    let mut statement = prepare(connection, &INSERT)?;
    for Stored { key, task, .. } in new {
        insert_one(&mut statement, *key, &task.spec)?;
    }
    Ok(())
}

fn insert_one(statement: &mut CachedStatement<'_>, key: i64, spec: &Spec) -> Result<()> {
    let task = &spec.identity;
    statement.execute(params![
        key,
        task.namespace.as_str(),
        task.id.as_str(),
        task.tool_name.as_str(),
        task.tool_call_id.as_ref().map(ToolCallId::as_str),
        task.agent_id.as_ref().map(AgentId::as_str),
        task.run_id.as_ref().map(RunId::as_str),
        task.thread_id.as_ref().map(ThreadId::as_str),
        task.resource_id.as_ref().map(ResourceId::as_str),
        spec.timeout_ms.cast_signed(),
        spec.retry.max_retries,
        spec.retry.delay_ms.cast_signed(),
        spec.retry.delay_max_ms.cast_signed(),
        spec.priority,
        spec.run_at.map(Timestamp::ms),
        spec.description.as_deref(),
        spec.subagent_type.as_deref(),
        spec.idempotency_key.as_deref(),
        spec.metadata.as_ref().map(Json::as_str),
        task.args.as_str(),
    ])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Spec> {
    let identity = TaskIdentity {
        namespace: Namespace::new(required(row, 0)?)?,
        id: TaskId::new(required(row, 1)?)?,
        tool_name: ToolName::new(required(row, 2)?)?,
        tool_call_id: text(row, 3)?.map(ToolCallId::new).transpose()?,
        agent_id: text(row, 4)?.map(AgentId::new).transpose()?,
        run_id: text(row, 5)?.map(RunId::new).transpose()?,
        thread_id: text(row, 6)?.map(ThreadId::new).transpose()?,
        resource_id: text(row, 7)?.map(ResourceId::new).transpose()?,
        args: Json::from_text(required(row, 18)?)?,
    };
    Ok(Spec {
        identity: Arc::new(identity),
        timeout_ms: row.get::<_, i64>(8)?.cast_unsigned(),
        retry: RetryPolicy {
            max_retries: row.get(9)?,
            delay_ms: row.get::<_, i64>(10)?.cast_unsigned(),
            delay_max_ms: row.get::<_, i64>(11)?.cast_unsigned(),
        },
        priority: row.get(12)?,
        run_at: time(row, 13)?,
        description: text(row, 14)?.map(Arc::from),
        subagent_type: text(row, 15)?.map(Arc::from),
        idempotency_key: text(row, 16)?.map(Arc::from),
        metadata: json(row, 17)?,
    })
}

/// A text of a row, or nothing.
pub(super) fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<Option<&'r str>> {
    row.get_ref(column)?
        .as_str_or_null()
        .map_err(|e| Failure::Unreadable(format!("column {column}: {e}")))
}

/// A text of a row.
pub(super) fn required<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r str> {
    text(row, column)?.ok_or_else(|| Failure::Unreadable(format!("column {column} is null")))
}

/// A moment of a row, or nothing.
pub(super) fn time(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>> {
    let ms: Option<i64> = row.get(column)?;
    Ok(ms.map(Timestamp::from_ms))
}

/// A JSON value of a row, or nothing.
pub(super) fn json(row: &Row<'_>, column: usize) -> Result<Option<Json>> {
    Ok(text(row, column)?.map(Json::from_text).transpose()?)
}
