//! How tasks stand at one moment, and how they stood then.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use sidestream_core::wire::SnapshotTask;
use sidestream_core::{
    Attempt, EventKind, Json, Namespace, Seq, Status, Task, TaskId, ThreadId, Timestamp,
};

use super::Value;
use super::cells::{self, Cells};
use super::failure::Result;
use super::log;
use super::reading::Reading;
use super::row::{self, SELECTED};
use super::scan;
use super::spec;
use crate::store::stored::Stored;
use crate::store::wanted::Wanted;
use crate::store::{Pin, SnapshotQuery};

static BY_KEY: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {SELECTED} FROM @tasks t WHERE t.key = ANY ($1)"));

static UNTOLD: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {SELECTED} FROM @tasks t WHERE t.is_untold AND t.thread = $1
        ORDER BY t.seq LIMIT $2"
    )
});

/// The pins of a snapshot, in the order of dispatch.
pub(super) async fn pins(reading: &Reading<'_>, query: &SnapshotQuery) -> Result<Vec<Pin>> {
    if query.statuses.is_empty() {
        return Ok(Vec::new());
    }
    let wanted = Wanted::by_filter(&query.namespace, &query.filter, &query.statuses);
    // A row for each status: a row for each task would take more than what is in it. Aggregates of one group
    // see its rows in one order.
    let columns = "t.status, array_agg(t.first_seq), array_agg(t.key), array_agg(t.attempt), \
        array_agg(t.since_ms), array_agg(t.seq)";
    let mut statement = scan::select(columns, &wanted);
    statement.add(" GROUP BY t.status");
    let mut pins: Vec<(u64, Pin)> = Vec::new();
    for row in statement.rows(reading.connection).await? {
        let mut cells = Cells::of(&row);
        let status = Status::parse(cells.text()?)?;
        let mut column = || cells.next::<Vec<i64>>();
        let (first, keys, attempts) = (column()?, column()?, column()?);
        let (since, seqs) = (column()?, column()?);
        drop(row);
        pins.reserve(keys.len());
        for (nth, key) in keys.into_iter().enumerate() {
            let pin = Pin {
                key,
                status,
                attempt: Attempt(cells::small(attempts[nth])?),
                since: Timestamp::from_ms(since[nth]),
                seq: Seq(seqs[nth].cast_unsigned()),
            };
            pins.push((first[nth].cast_unsigned(), pin));
        }
    }
    pins.sort_unstable_by_key(|(first, _)| *first);
    Ok(pins.into_iter().map(|(_, pin)| pin).collect())
}

/// Tasks by their keys, as far as they are there.
pub(super) async fn by_keys(
    reading: &Reading<'_>,
    keys: impl IntoIterator<Item = i64>,
) -> Result<HashMap<i64, Stored>> {
    let keys = [Value::integers(keys)];
    let rows = reading.connection.query(&BY_KEY, &keys).await?;
    let found = row::read_all(reading.connection, reading.specs, &rows).await?;
    Ok(found
        .into_iter()
        .map(|stored| (stored.key, stored))
        .collect())
}

/// How pinned tasks stood, as far as something of them is left.
///
/// Since its pin's moment a task may have gone on. What never changes is in its spec; what a suspended
/// one waited for is in its row if it has not gone on, else in the event that the pin names.
pub(super) async fn resolve(reading: &Reading<'_>, pins: &[Pin]) -> Result<Vec<SnapshotTask>> {
    let keys = Value::integers(pins.iter().map(|pin| pin.key));
    let connection = reading.connection;
    // A spec at hand may be one whose row is gone.
    let sql = "SELECT key FROM @specs WHERE key = ANY ($1)";
    let rows = connection.query(sql, &[keys]).await?;
    let left = rows.iter().map(|row| row.get::<_, i64>(0));
    let specs = reading.specs.of(connection, left.clone()).await?;
    let left: std::collections::HashSet<i64> = left.collect();
    let payloads = suspend_payloads(reading, pins).await?;
    let resolved = pins
        .iter()
        .filter(|pin| left.contains(&pin.key))
        .map(|pin| {
            let spec = spec::spec_of(&specs, pin.key)?;
            Ok(SnapshotTask {
                identity: Arc::clone(&spec.identity),
                status: pin.status,
                attempt: pin.attempt,
                since: pin.since,
                suspend_payload: payloads.get(&pin.seq).cloned(),
            })
        });
    resolved.collect()
}

/// What the suspended ones waited for, each by the event that its pin names.
async fn suspend_payloads(reading: &Reading<'_>, pins: &[Pin]) -> Result<HashMap<Seq, Json>> {
    let suspended = || pins.iter().filter(|pin| pin.status == Status::Suspended);
    if suspended().next().is_none() {
        return Ok(HashMap::new());
    }
    let rows = by_keys(reading, suspended().map(|pin| pin.key)).await?;
    let mut payloads = HashMap::new();
    let mut gone_on = Vec::new();
    for pin in suspended() {
        match rows.get(&pin.key).filter(|row| row.task.seq == pin.seq) {
            Some(unchanged) => {
                let payload = unchanged.task.suspend_payload.clone();
                payloads.extend(payload.map(|payload| (pin.seq, payload)));
            }
            None => gone_on.push(pin.seq),
        }
    }
    if gone_on.is_empty() {
        return Ok(payloads);
    }
    for (seq, entry) in log::entries(reading, gone_on).await? {
        if let EventKind::Suspended { payload, .. } = entry.event.kind {
            payloads.insert(seq, payload);
        }
    }
    Ok(payloads)
}

/// The tasks of a thread whose end has not been told, the oldest end first.
pub(super) async fn completions(
    reading: &Reading<'_>,
    namespace: &Namespace,
    thread: &ThreadId,
    limit: usize,
) -> Result<Vec<Task>> {
    let values = [
        Value::from(spec::hash(namespace, thread.as_str())),
        Value::from(i64::try_from(limit).unwrap_or(i64::MAX)),
    ];
    let rows = reading.connection.query(&UNTOLD, &values).await?;
    let found = row::read_all(reading.connection, reading.specs, &rows).await?;
    Ok(found.into_iter().map(|stored| stored.task).collect())
}

static BY_ID: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {SELECTED} FROM (
            SELECT s.key FROM @specs s WHERE s.name = $1 AND s.last_seq IS NULL LIMIT 1
        ) AS s CROSS JOIN LATERAL (SELECT t.* FROM @tasks t WHERE t.key = s.key LIMIT 1) AS t"
    )
});

/// A task by its id.
pub(super) async fn by_id(
    reading: &Reading<'_>,
    namespace: &Namespace,
    id: &TaskId,
) -> Result<Option<Task>> {
    let values = [Value::from(spec::name(namespace, id))];
    let rows = reading.connection.query(&BY_ID, &values).await?;
    let found = row::read_all(reading.connection, reading.specs, &rows).await?;
    Ok(found.into_iter().next().map(|stored| stored.task))
}
