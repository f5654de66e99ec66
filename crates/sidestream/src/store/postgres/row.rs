//! A task as a row of `tasks`: how it is read, inserted, and changed.
//!
//! Rows are written by the batch, an array for each column. A change writes all that may change, but for
//! the payloads, which are large: of those only what did. To add a column, name it in [`FIXED`] or
//! [`CHANGING`] and make it in [`fixed`] or [`changing`]; one that is more than a copy is read in
//! [`read`], too.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use sidestream_core::{
    AgentId, Attempt, Json, Lease, Namespace, Record, ReportNumber, Seq, Spec, Status, Task,
    Timestamp, WorkerId,
};
use tokio_postgres::Row;

use super::Value;
use super::cells::Cells;
use super::connection::Connection;
use super::failure::Result;
use super::spec::{Specs, hash, spec_of};
use super::value::{Column, Kind, Rows, arrays};
use crate::store::stored::{Queue, Stored, reported};

/// Of the hash of a namespace, and of an agent in it, so many bytes make a lane's name.
const NAMESPACE_BYTES: usize = 8;
const AGENT_BYTES: usize = 16;

/// The columns that never change.
const FIXED: [Column; 7] = [
    ("namespace", Kind::Text),
    ("tool_name", Kind::Text),
    ("agent_id", Kind::Text),
    ("thread", Kind::Bytes),
    ("is_external", Kind::Boolean),
    ("lane", Kind::Bytes),
    ("priority", Kind::Integer),
];

/// The columns that a change writes.
const CHANGING: [Column; 19] = [
    ("status", Kind::Text),
    ("attempt", Kind::Integer),
    ("reported", Kind::Integer),
    ("retry_count", Kind::Integer),
    ("is_resuming", Kind::Boolean),
    ("seq", Kind::Integer),
    ("created_at_ms", Kind::Integer),
    ("event_at_ms", Kind::Integer),
    ("since_ms", Kind::Integer),
    ("run_at_ms", Kind::Integer),
    ("started_at_ms", Kind::Integer),
    ("suspended_at_ms", Kind::Integer),
    ("completed_at_ms", Kind::Integer),
    ("queue", Kind::Text),
    ("due_at_ms", Kind::Integer),
    ("worker_id", Kind::Text),
    ("lease_until_ms", Kind::Integer),
    ("deadline_ms", Kind::Integer),
    ("is_untold", Kind::Boolean),
];

/// The columns that a change writes if they differ.
const PAYLOADS: [Column; 5] = [
    ("error", Kind::Text),
    ("suspend_payload", Kind::Text),
    ("resume_data", Kind::Text),
    ("result", Kind::Text),
    ("record", Kind::Text),
];

/// Which row it is.
const KEY: [Column; 1] = [("key", Kind::Integer)];
/// Which event made it.
const FIRST: [Column; 1] = [("first_seq", Kind::Integer)];
/// Which of the payloads differ: a bit for each.
const DIFFERING: [Column; 1] = [("differing", Kind::Integer)];

/// Where the task is whose key is `i.key`.
///
/// Written so that there is one way to carry it out: for each key, one look into the index of keys. A plan
/// is made once, perhaps when the table is empty, when any other way looks as good.
pub(super) const BY_KEY: &str =
    "CROSS JOIN LATERAL (SELECT k.ctid FROM @tasks k WHERE k.key = i.key LIMIT 1) AS at";

/// What [`read`] reads, of the table `t`.
pub(super) const SELECTED: &str = "t.key, t.status, t.attempt, t.reported, t.retry_count, t.is_resuming, t.seq, t.created_at_ms, \
    t.event_at_ms, t.run_at_ms, t.started_at_ms, t.suspended_at_ms, t.completed_at_ms, t.queue, \
    t.worker_id, t.lease_until_ms, t.is_untold, t.error, t.suspend_payload, t.resume_data, t.result, \
    t.record";

/// The columns that are often alike in all rows of a batch: see [`Rows`]. What was dispatched; how it stands
/// after what happened to all at the same time; when it began; and what it carries.
const ALIKE: [&[&str]; 6] = [
    &[
        "namespace",
        "tool_name",
        "agent_id",
        "thread",
        "is_external",
        "lane",
        "priority",
    ],
    &[
        "status",
        "attempt",
        "reported",
        "retry_count",
        "is_resuming",
        "event_at_ms",
        "since_ms",
        "run_at_ms",
        "suspended_at_ms",
        "completed_at_ms",
        "queue",
        "due_at_ms",
        "worker_id",
        "lease_until_ms",
        "deadline_ms",
        "is_untold",
    ],
    &["created_at_ms", "started_at_ms"],
    &["error", "suspend_payload", "resume_data", "record"],
    &["result"],
    &["differing"],
];

/// The statement that inserts new tasks, each with its first event, and its values.
pub(super) fn insert<'t>(
    tasks: impl Iterator<Item = (Seq, &'t Stored)> + Clone,
) -> (String, Vec<Value<'t>>) {
    let first = tasks
        .clone()
        .map(|(first, _)| [first.0.cast_signed().into()]);
    let tasks = tasks.map(|(_, stored)| stored);
    let keys = tasks.clone().map(|stored| [stored.key.into()]);
    let mut values = arrays(&KEY, keys);
    values.extend(arrays(&FIRST, first));
    values.extend(arrays(&FIXED, tasks.clone().map(fixed)));
    values.extend(arrays(&CHANGING, tasks.clone().map(changing)));
    values.extend(arrays(&PAYLOADS, tasks.map(payloads)));
    let columns = [&KEY[..], &FIRST, &FIXED, &CHANGING, &PAYLOADS].concat();
    let rows = Rows::new(&columns, values, &ALIKE);
    let (names, cells) = rows.names_and_cells();
    let sql = format!(
        "INSERT INTO @tasks ({names}) SELECT {cells} FROM {}",
        rows.from
    );
    (sql, rows.values)
}

/// The statement that changes tasks, each from how it was to how it is, and its values.
pub(super) fn update<'t>(
    changes: impl Iterator<Item = (&'t Stored, &'t Stored)> + Clone,
) -> (String, Vec<Value<'t>>) {
    let after = changes.clone().map(|(_, after)| after);
    let mut values = arrays(&KEY, after.clone().map(|stored| [stored.key.into()]));
    values.extend(arrays(&CHANGING, after.map(changing)));
    let differences = changes.map(|(before, after)| differences(before, after));
    let (masks, payloads): (Vec<i64>, Vec<_>) = differences.unzip();
    values.extend(arrays(&PAYLOADS, payloads));
    values.push(Value::integers(masks));
    let columns = [&KEY[..], &CHANGING, &PAYLOADS, &DIFFERING].concat();
    let rows = Rows::new(&columns, values, &ALIKE);
    let changing = CHANGING
        .iter()
        .map(|(name, _)| format!("{name} = {}", rows.cell(name)));
    let differing = rows.cell("differing");
    let payloads = PAYLOADS.iter().enumerate().map(|(n, (name, _))| {
        let (bit, cell) = (1 << n, rows.cell(name));
        format!("{name} = CASE WHEN {differing} & {bit} <> 0 THEN {cell} ELSE t.{name} END")
    });
    let set = changing.chain(payloads).collect::<Vec<_>>().join(", ");
    let from = &rows.from;
    let sql = format!("UPDATE @tasks AS t SET {set} FROM {from} {BY_KEY} WHERE t.ctid = at.ctid");
    (sql, rows.values)
}

/// Which payloads differ, and to what.
fn differences<'t>(before: &'t Stored, after: &'t Stored) -> (i64, [Value<'t>; PAYLOADS.len()]) {
    let (old, mut new) = (payloads(before), payloads(after));
    let mut mask = 0;
    for (n, (old, new)) in old.iter().zip(&mut new).enumerate() {
        if old == new {
            *new = Value::Text(None);
        } else {
            mask |= 1 << n;
        }
    }
    (mask, new)
}

fn fixed(stored: &Stored) -> [Value<'_>; FIXED.len()] {
    let task = stored.task.identity();
    [
        task.namespace.as_str().into(),
        task.tool_name.as_str().into(),
        task.agent_id.as_ref().map(AgentId::as_str).into(),
        task.thread_id
            .as_ref()
            .map(|thread| hash(&task.namespace, thread.as_str()))
            .into(),
        stored.task.is_external().into(),
        lane(&task.namespace, task.agent_id.as_ref()).into(),
        i64::from(stored.task.spec.priority).into(),
    ]
}

fn changing(stored: &Stored) -> [Value<'_>; CHANGING.len()] {
    let task = &stored.task;
    let is_ours = !task.is_external();
    let ms = |at: Option<Timestamp>| Value::from(at.map(Timestamp::ms));
    [
        task.status.as_str().into(),
        i64::from(task.attempt.0).into(),
        i64::from(task.reported.0).into(),
        i64::from(task.retry_count).into(),
        task.is_resuming.into(),
        task.seq.0.cast_signed().into(),
        task.created_at.ms().into(),
        stored.event_at.ms().into(),
        stored.since().ms().into(),
        ms(task.run_at),
        ms(task.started_at),
        ms(task.suspended_at),
        ms(task.completed_at),
        stored.queue.map(Queue::as_str).into(),
        ms(stored.queue.map(|_| task.due_at())),
        task.worker_id.as_ref().map(WorkerId::as_str).into(),
        ms(task.lease.as_ref().map(|lease| lease.until)),
        ms(task.deadline().filter(|_| is_ours)),
        stored.is_untold.into(),
    ]
}

/// What a task carries. Of a record all of it is in the document.
fn payloads(stored: &Stored) -> [Value<'_>; PAYLOADS.len()] {
    let task = &stored.task;
    let is_ours = !task.is_external();
    let error = task.error.as_ref().filter(|_| is_ours).map(|error| {
        let json = Json::from_value(error).expect("texts are JSON");
        Cow::Owned(json.as_str().to_owned())
    });
    let record = task
        .record
        .as_ref()
        .map(|record| record.document().as_str());
    [
        Value::Text(error),
        task.suspend_payload.as_ref().map(Json::as_str).into(),
        task.resume_data.as_ref().map(Json::as_str).into(),
        task.result
            .as_ref()
            .filter(|_| is_ours)
            .map(Json::as_str)
            .into(),
        record.into(),
    ]
}

/// The name of a lane: short enough for an index, and those of a namespace stand together.
pub(super) fn lane(namespace: &Namespace, agent: Option<&AgentId>) -> Vec<u8> {
    let mut lane = namespace_of_lanes(namespace);
    // No agent's id is empty.
    let agent = agent.map_or("", AgentId::as_str);
    lane.extend_from_slice(&Sha256::digest(agent.as_bytes())[..AGENT_BYTES]);
    lane
}

/// How the names of a namespace's lanes begin.
pub(super) fn namespace_of_lanes(namespace: &Namespace) -> Vec<u8> {
    Sha256::digest(namespace.as_str().as_bytes())[..NAMESPACE_BYTES].to_vec()
}

/// The tasks of some rows that begin with what is [`SELECTED`], in the order of the rows.
pub(super) async fn read_all(
    connection: &Connection,
    specs: &Specs,
    rows: &[Row],
) -> Result<Vec<Stored>> {
    let keys: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let specs = specs.of(connection, keys).await?;
    rows.iter().map(|row| read(row, &specs)).collect()
}

fn read(row: &Row, specs: &HashMap<i64, Arc<Spec>>) -> Result<Stored> {
    let mut cells = Cells::of(row);
    let key = cells.next()?;
    let spec = spec_of(specs, key)?;
    let mut task = Task {
        spec,
        status: Status::parse(cells.text()?)?,
        attempt: Attempt(cells.small()?),
        reported: ReportNumber(cells.small()?),
        retry_count: cells.small()?,
        is_resuming: cells.next()?,
        seq: Seq(cells.unsigned()?),
        created_at: cells.moment()?,
        updated_at: cells.moment()?,
        run_at: cells.time()?,
        started_at: cells.time()?,
        suspended_at: cells.time()?,
        completed_at: cells.time()?,
        result: None,
        error: None,
        suspend_payload: None,
        resume_data: None,
        worker_id: None,
        lease: None,
        record: None,
    };
    let event_at = task.updated_at;
    let queue = cells.made(Queue::parse)?;
    task.worker_id = cells.made(WorkerId::new)?;
    let lease = task.worker_id.clone().zip(cells.time()?);
    task.lease = lease.map(|(worker, until)| Lease { worker, until });
    let is_untold = cells.next()?;
    task.error = cells.json()?.map(|error| error.parse()).transpose()?;
    task.suspend_payload = cells.json()?;
    task.resume_data = cells.json()?;
    task.result = cells.json()?;
    if let Some(document) = cells.json()? {
        let record = Arc::new(Record::from_document(document)?);
        task = reported(task.identity(), record, task.seq, event_at);
    }
    Ok(Stored {
        key,
        task,
        event_at,
        queue,
        is_untold,
    })
}
