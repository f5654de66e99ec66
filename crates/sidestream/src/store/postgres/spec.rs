//! What was asked for, as a row of `specs`; and the few that are kept at hand.
//!
//! A spec never changes and its key is never used twice, so one that is kept at hand can be wrong in
//! one way only: its row may be gone. Who must know that asks the database.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use sidestream_core::{
    AgentId, Epoch, Json, Namespace, ResourceId, RetryPolicy, RunId, Spec, Task, TaskId,
    TaskIdentity, ThreadId, Timestamp, ToolCallId, ToolName,
};

use super::Value;
use super::cells::Cells;
use super::connection::Connection;
use super::failure::{Failure, Result};
use super::value::{Column, Kind, Rows, arrays, names};
use crate::store::recent::Recent;

/// What a spec takes beside its arguments and metadata, in bytes: roughly.
const SPEC_BYTES: usize = 700;

/// Specs that were needed of late. Shared by all connections.
#[derive(Debug, Default)]
pub(super) struct Specs(Mutex<AtHand>);

#[derive(Debug, Default)]
struct AtHand {
    /// Of which log: with another one, every key may mean another task.
    epoch: Option<Epoch>,
    specs: Recent<i64, Arc<Spec>>,
}

impl Specs {
    /// Keeps one at hand that has been committed.
    pub(super) fn keep(&self, key: i64, spec: &Arc<Spec>) {
        let metadata = spec.metadata.as_ref().map_or(0, Json::bytes);
        let bytes = SPEC_BYTES + spec.identity.args.bytes() + metadata;
        self.0.lock().specs.keep(key, Arc::clone(spec), bytes);
    }

    /// Learns which log this is. When it is another than before, nothing at hand is of it.
    pub(super) fn of_log(&self, epoch: &Epoch) {
        let mut at_hand = self.0.lock();
        if at_hand.epoch.as_ref() != Some(epoch) {
            at_hand.epoch = Some(epoch.clone());
            at_hand.specs.clear();
        }
    }

    /// The specs of these tasks. One whose row is gone is left out, unless it is at hand.
    pub(super) async fn of(
        &self,
        connection: &Connection,
        keys: impl IntoIterator<Item = i64>,
    ) -> Result<HashMap<i64, Arc<Spec>>> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        {
            let mut at_hand = self.0.lock();
            for key in keys {
                match at_hand.specs.get(&key) {
                    Some(spec) => drop(found.insert(key, spec)),
                    None => missing.push(key),
                }
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        missing.sort_unstable();
        missing.dedup();
        let rows = connection
            .query(&SELECT, &[Value::integers(missing)])
            .await?;
        for row in &rows {
            let (key, spec) = read(row)?;
            let spec = Arc::new(spec);
            self.keep(key, &spec);
            found.insert(key, spec);
        }
        Ok(found)
    }
}

/// The specs of these tasks whose rows are there. A look is no need: what is at hand stays so.
pub(super) async fn look_at(
    connection: &Connection,
    keys: impl IntoIterator<Item = i64>,
) -> Result<HashMap<i64, Spec>> {
    let rows = connection.query(&SELECT, &[Value::integers(keys)]).await?;
    rows.iter().map(read).collect()
}

/// A task's spec out of those that were found.
pub(super) fn spec_of(specs: &HashMap<i64, Arc<Spec>>, key: i64) -> Result<Arc<Spec>> {
    let missing = || Failure::Unreadable(format!("task {key} has no spec"));
    specs.get(&key).cloned().ok_or_else(missing)
}

/// Something by its text in a namespace: a hash, since an index cannot hold texts of any length.
pub(super) fn hash(namespace: &Namespace, text: &str) -> Vec<u8> {
    let namespace = namespace.as_str();
    let mut digest = Sha256::new();
    // Where the one ends and the other begins must count.
    digest.update((namespace.len() as u64).to_be_bytes());
    digest.update(namespace.as_bytes());
    digest.update(text.as_bytes());
    digest.finalize().to_vec()
}

/// By what a task is found.
pub(super) fn name(namespace: &Namespace, id: &TaskId) -> Vec<u8> {
    hash(namespace, id.as_str())
}

/// By what a repetition of a dispatch is recognised.
pub(super) fn repetition(spec: &Spec) -> Option<Vec<u8>> {
    let key = spec.repetition_key()?;
    Some(hash(&spec.identity.namespace, &key))
}

/// The columns of a spec, in the order in which [`row`] makes and [`read`] reads them.
const COLUMNS: [Column; 20] = [
    ("key", Kind::Integer),
    ("namespace", Kind::Text),
    ("id", Kind::Text),
    ("tool_name", Kind::Text),
    ("tool_call_id", Kind::Text),
    ("agent_id", Kind::Text),
    ("run_id", Kind::Text),
    ("thread_id", Kind::Text),
    ("resource_id", Kind::Text),
    ("timeout_ms", Kind::Integer),
    ("max_retries", Kind::Integer),
    ("retry_delay_ms", Kind::Integer),
    ("retry_delay_max_ms", Kind::Integer),
    ("priority", Kind::Integer),
    ("run_at_ms", Kind::Integer),
    ("description", Kind::Bytes),
    ("subagent_type", Kind::Bytes),
    ("idempotency_key", Kind::Bytes),
    ("metadata", Kind::Text),
    ("args", Kind::Text),
];

/// Those that only indexes read.
const INDEXED: [Column; 3] = [
    ("name", Kind::Bytes),
    ("repetition", Kind::Bytes),
    ("created_at_ms", Kind::Integer),
];

static SELECT: LazyLock<String> = LazyLock::new(|| {
    let columns = names(&COLUMNS, "");
    format!("SELECT {columns} FROM @specs WHERE key = ANY ($1)")
});

/// The columns that are often alike in all rows of a batch: see [`Rows`]. What is called, and how; what few
/// have; and when.
const ALIKE: [&[&str]; 4] = [
    &[
        "namespace",
        "tool_name",
        "agent_id",
        "timeout_ms",
        "max_retries",
        "retry_delay_ms",
        "retry_delay_max_ms",
        "priority",
    ],
    &["tool_call_id", "run_id", "thread_id", "resource_id"],
    &[
        "run_at_ms",
        "description",
        "subagent_type",
        "idempotency_key",
        "metadata",
        "repetition",
    ],
    &["created_at_ms"],
];

/// The statement that inserts the specs of new tasks, and its values.
///
/// They are inserted in the order of what they are recognised by, so that two batches that dispatch the same
/// tasks wait for each other in one order.
pub(super) fn insert<'t>(
    tasks: impl Iterator<Item = (i64, &'t Task)> + Clone,
) -> (String, Vec<Value<'t>>) {
    let mut values = arrays(
        &COLUMNS,
        tasks.clone().map(|(key, task)| row(key, &task.spec)),
    );
    let indexed = tasks.map(|(_, task)| {
        let identity = task.identity();
        [
            name(&identity.namespace, &identity.id).into(),
            repetition(&task.spec).into(),
            task.created_at.ms().into(),
        ]
    });
    values.extend(arrays(&INDEXED, indexed));
    let columns = [&COLUMNS[..], &INDEXED].concat();
    let rows = Rows::new(&columns, values, &ALIKE);
    let (names, cells) = rows.names_and_cells();
    let (from, repetition) = (&rows.from, rows.cell("repetition"));
    let sql = format!(
        "INSERT INTO @specs ({names}) SELECT {cells} FROM {from}
        ORDER BY {repetition} IS NULL, {repetition}, i.name"
    );
    (sql, rows.values)
}

fn row(key: i64, spec: &Spec) -> [Value<'_>; COLUMNS.len()] {
    let task = &spec.identity;
    let bytes = |text: &'_ Option<Arc<str>>| -> Option<Vec<u8>> {
        text.as_ref().map(|text| text.as_bytes().to_vec())
    };
    [
        key.into(),
        task.namespace.as_str().into(),
        task.id.as_str().into(),
        task.tool_name.as_str().into(),
        task.tool_call_id.as_ref().map(ToolCallId::as_str).into(),
        task.agent_id.as_ref().map(AgentId::as_str).into(),
        task.run_id.as_ref().map(RunId::as_str).into(),
        task.thread_id.as_ref().map(ThreadId::as_str).into(),
        task.resource_id.as_ref().map(ResourceId::as_str).into(),
        spec.timeout_ms.cast_signed().into(),
        i64::from(spec.retry.max_retries).into(),
        spec.retry.delay_ms.cast_signed().into(),
        spec.retry.delay_max_ms.cast_signed().into(),
        i64::from(spec.priority).into(),
        spec.run_at.map(Timestamp::ms).into(),
        bytes(&spec.description).into(),
        bytes(&spec.subagent_type).into(),
        bytes(&spec.idempotency_key).into(),
        spec.metadata.as_ref().map(Json::as_str).into(),
        task.args.as_str().into(),
    ]
}

fn read(row: &tokio_postgres::Row) -> Result<(i64, Spec)> {
    let mut cells = Cells::of(row);
    let key = cells.next()?;
    let mut identity = TaskIdentity {
        namespace: Namespace::new(cells.text()?)?,
        id: TaskId::new(cells.text()?)?,
        tool_name: ToolName::new(cells.text()?)?,
        tool_call_id: cells.made(ToolCallId::new)?,
        agent_id: cells.made(AgentId::new)?,
        run_id: cells.made(RunId::new)?,
        thread_id: cells.made(ThreadId::new)?,
        resource_id: cells.made(ResourceId::new)?,
        args: Json::empty_object(),
    };
    let timeout_ms = cells.unsigned()?;
    let retry = RetryPolicy {
        max_retries: cells.small()?,
        delay_ms: cells.unsigned()?,
        delay_max_ms: cells.unsigned()?,
    };
    let spec = Spec {
        timeout_ms,
        retry,
        priority: cells.small()?,
        run_at: cells.time()?,
        description: cells.bytes_text()?.map(Arc::from),
        subagent_type: cells.bytes_text()?.map(Arc::from),
        idempotency_key: cells.bytes_text()?.map(Arc::from),
        metadata: cells.json()?,
        identity: {
            identity.args = Json::from_text(cells.text()?)?;
            Arc::new(identity)
        },
    };
    Ok((key, spec))
}
