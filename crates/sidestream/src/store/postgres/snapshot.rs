//! How tasks stand at one moment, and how they stood then.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use sidestream_core::wire::SnapshotTask;
use sidestream_core::{
    Attempt, EventKind, Json, Namespace, Seq, Status, Task, TaskId, ThreadId, Timestamp,
};

use super::Value;
use super::cells::{self, Cells};
use super::connection::{Connection, Connections};
use super::failure::Result;
use super::log;
use super::reading::{self, Reading};
use super::row::{self, SELECTED};
use super::scan::{self, Statement};
use super::spec::{self, Specs};
use crate::store::snapshot::Finder;
use crate::store::stored::Stored;
use crate::store::wanted::Wanted;
use crate::store::{Head, Pin, SnapshotQuery};

static BY_KEY: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {SELECTED} FROM @tasks t WHERE t.key = ANY ($1)"));

static UNTOLD: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {SELECTED} FROM @tasks t WHERE t.is_untold AND t.thread = $1
        ORDER BY t.seq LIMIT $2"
    )
});

/// So many pins are found at first, and then at a time, where an index has them in order.
const PART_FIRST: usize = 128;
const PART: usize = 8_192;

/// How a snapshot begins.
#[derive(Debug)]
pub(super) struct Begun {
    /// Its moment.
    pub(super) head: Head,
    /// The first tasks.
    pub(super) first: Vec<Pin>,
    /// What finds the others.
    pub(super) rest: Option<Search>,
}

/// Looks for the tasks of a snapshot, in a transaction that sees its moment.
#[derive(Debug)]
pub(super) struct Search {
    connection: Connection,
    wanted: Wanted,
    /// The place of the last task that has been found.
    after: Place,
}

/// Where a task is among the others: when it was created, and its key.
type Place = (i64, i64);

impl Search {
    pub(super) async fn begin(
        connections: &Connections,
        specs: &Specs,
        query: &SnapshotQuery,
    ) -> Result<Begun> {
        let wanted = Wanted::by_filter(&query.namespace, &query.filter, &query.statuses);
        let connection = connections.get().await?;
        let begun = connection.begin_to_search();
        let found = first(&connection, specs, &wanted).await;
        drop(begun);
        match found {
            Ok((
                head,
                Part {
                    pins: first,
                    rest_after: Some(after),
                },
            )) => {
                let rest = Some(Self {
                    connection,
                    wanted,
                    after,
                });
                Ok(Begun { head, first, rest })
            }
            found => {
                let (head, Part { pins: first, .. }) = reading::ended(connection, found)?;
                let rest = None;
                Ok(Begun { head, first, rest })
            }
        }
    }

    /// Finds the others, as long as anybody wants them.
    pub(super) async fn finish(self, finder: Finder) -> Result<()> {
        let found = self.find(&finder).await;
        reading::ended(self.connection, found)
    }

    async fn find(&self, finder: &Finder) -> Result<()> {
        let mut after = Some(self.after);
        while after.is_some() {
            let part = part(&self.connection, &self.wanted, after, PART).await?;
            let is_wanted = finder.found(part.pins);
            after = part.rest_after.filter(|_| is_wanted);
        }
        Ok(())
    }
}

/// Some tasks of a snapshot.
#[derive(Debug)]
struct Part {
    pins: Vec<Pin>,
    /// Behind which place there may be others.
    rest_after: Option<Place>,
}

/// The moment, and the first tasks.
async fn first(connection: &Connection, specs: &Specs, wanted: &Wanted) -> Result<(Head, Part)> {
    let head = log::head(&Reading { connection, specs }).await?;
    let part = match wanted.statuses.is_empty() {
        true => Part {
            pins: Vec::new(),
            rest_after: None,
        },
        false => part(connection, wanted, None, PART_FIRST).await?,
    };
    Ok((head, part))
}

/// The tasks behind a place: so many, where an index has them in order, else all.
async fn part(
    connection: &Connection,
    wanted: &Wanted,
    after: Option<Place>,
    limit: usize,
) -> Result<Part> {
    // A row for each status: a row for each task would take more than what is in it. Aggregates of one group
    // see its rows in one order.
    let mut statement = Statement::new();
    statement.add(
        "SELECT status, array_agg(created_at_ms), array_agg(key), array_agg(attempt), \
            array_agg(since_ms), array_agg(seq) FROM (",
    );
    let is_in_order = !scan::needs_specs(wanted);
    let parts: Vec<Wanted> = match is_in_order {
        true => scan::for_each_status(wanted).collect(),
        false => vec![wanted.clone()],
    };
    let rows = || Value::from(i64::try_from(limit).unwrap_or(i64::MAX));
    for (nth, part) in parts.iter().enumerate() {
        statement.add(if nth > 0 { " UNION ALL (" } else { "(" });
        let columns = "t.status, t.created_at_ms, t.key, t.attempt, t.since_ms, t.seq";
        statement.add(&format!("SELECT {columns}"));
        scan::from(&mut statement, part, !is_in_order);
        if let Some((created_at, key)) = after {
            let values = [created_at.into(), key.into()];
            statement.with(" AND (t.created_at_ms, t.key) > (?, ?)", values);
        }
        if is_in_order {
            statement.with(" ORDER BY t.created_at_ms, t.key LIMIT ?", [rows()]);
        }
        statement.add(")");
    }
    if is_in_order && parts.len() > 1 {
        statement.with(" ORDER BY created_at_ms, key LIMIT ?", [rows()]);
    }
    statement.add(") AS found GROUP BY status");
    let mut pins: Vec<(Place, Pin)> = Vec::new();
    for row in statement.rows(connection).await? {
        let mut cells = Cells::of(&row);
        let status = Status::parse(cells.text()?)?;
        let mut column = || cells.next::<Vec<i64>>();
        let (created_at, keys, attempts) = (column()?, column()?, column()?);
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
            pins.push(((created_at[nth], key), pin));
        }
    }
    pins.sort_unstable_by_key(|(place, _)| *place);
    let last = pins.last().map(|(place, _)| *place);
    let rest_after = last.filter(|_| is_in_order && pins.len() == limit);
    let pins = pins.into_iter().map(|(_, pin)| pin).collect();
    Ok(Part { pins, rest_after })
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
    let keys = pins.iter().map(|pin| pin.key);
    let specs = spec::look_at(reading.connection, keys).await?;
    let payloads = suspend_payloads(reading, pins).await?;
    let resolved = pins
        .iter()
        .filter_map(|pin| Some((pin, specs.get(&pin.key)?)))
        .map(|(pin, spec)| SnapshotTask {
            identity: Arc::clone(&spec.identity),
            status: pin.status,
            attempt: pin.attempt,
            since: pin.since,
            suspend_payload: payloads.get(&pin.seq).cloned(),
        });
    Ok(resolved.collect())
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
