//! How tasks stand at one moment, and how they stood then.

use std::mem;
use std::sync::Arc;

use rusqlite::{Row, params};
use sidestream_core::wire::SnapshotTask;
use sidestream_core::{
    Attempt, EventKind, Json, Namespace, Seq, Status, Task, ThreadId, Timestamp,
};

use super::choice;
use super::failure::Result;
use super::log;
use super::prepare::prepare;
use super::readers::Reading;
use super::row;
use super::scan::{self, Way};
use super::spec;
use crate::store::snapshot::Finder;
use crate::store::wanted::Wanted;
use crate::store::{Pin, SnapshotQuery};

/// No more ends are told at once than those that bring them to so many bytes.
const COMPLETIONS_BYTES_MAX: usize = 8 << 20;

/// So many pins are handed on at first, and then at a time.
const PART_FIRST: usize = 128;
const PART: usize = 4_096;

/// Finds the pins of a snapshot, as long as anybody wants them.
pub(super) fn find_pins(
    reading: &Reading<'_>,
    query: &SnapshotQuery,
    finder: &Finder,
) -> Result<()> {
    if query.statuses.is_empty() {
        return Ok(());
    }
    let wanted = Wanted::by_filter(&query.namespace, &query.filter, &query.statuses);
    let ranges = way_to(reading, &wanted)?.ranges(&wanted).into_iter();
    let statements = ranges.map(|range| {
        let columns = "created_at_ms, key, status, attempt, since_ms, seq";
        let mut statement = range.select(columns, &wanted);
        statement.then("ORDER BY created_at_ms, key", []);
        statement
    });
    let mut part = Vec::with_capacity(PART_FIRST);
    scan::read_side_by_side(
        reading.connection,
        &statements.collect::<Vec<_>>(),
        pin,
        |(one, _), (other, _)| one.cmp(other),
        |(_, pin)| {
            part.push(pin);
            part.len() < part.capacity()
                || finder.found(mem::replace(&mut part, Vec::with_capacity(PART)))
        },
    )?;
    finder.found(part);
    Ok(())
}

/// A pin, and its place among the others.
fn pin(row: &Row<'_>) -> Result<((i64, i64), Pin)> {
    let (created_at, key) = (row.get(0)?, row.get(1)?);
    let pin = Pin {
        key,
        status: row::status(spec::required(row, 2)?)?,
        attempt: Attempt(row.get(3)?),
        since: Timestamp::from_ms(row.get(4)?),
        seq: Seq(row.get::<_, i64>(5)?.cast_unsigned()),
    };
    Ok(((created_at, key), pin))
}

fn way_to(reading: &Reading<'_>, wanted: &Wanted) -> Result<Way> {
    if let Some(way) = choice::by_id(wanted) {
        return Ok(way);
    }
    let counts = choice::counts(reading.connection, wanted)?;
    Ok(choice::cheapest(choice::counted(wanted, &counts)).map_or(Way::Status, |found| found.way))
}

/// How a pinned task stood; `None` if nothing of it is left.
///
/// Since its pin's moment it may have gone on. What never changes is in its spec; what a suspended one
/// waited for is in its row if it has not gone on, else in the event that the pin names.
pub(super) fn resolve(reading: &Reading<'_>, pin: &Pin) -> Result<Option<SnapshotTask>> {
    let connection = reading.connection;
    let Some(spec) = reading.specs.glance(connection, pin.key)? else {
        return Ok(None);
    };
    let suspend_payload = match pin.status {
        Status::Suspended => suspend_payload(reading, pin)?,
        _ => None,
    };
    Ok(Some(SnapshotTask {
        identity: Arc::clone(&spec.identity),
        status: pin.status,
        attempt: pin.attempt,
        since: pin.since,
        suspend_payload,
    }))
}

fn suspend_payload(reading: &Reading<'_>, pin: &Pin) -> Result<Option<Json>> {
    let stored = row::by_key(reading.connection, reading.specs, pin.key)?;
    if let Some(unchanged) = stored.filter(|stored| stored.task.seq == pin.seq) {
        return Ok(unchanged.task.suspend_payload);
    }
    let entry = log::entry(reading, pin.seq)?;
    Ok(entry.and_then(|entry| match entry.event.kind {
        EventKind::Suspended { payload, .. } => Some(payload),
        _ => None,
    }))
}

/// The tasks of a thread whose end has not been told, the oldest end first.
pub(super) fn completions(
    reading: &Reading<'_>,
    namespace: &Namespace,
    thread: &ThreadId,
    limit: usize,
) -> Result<Vec<Task>> {
    let sql = "SELECT key FROM tasks INDEXED BY tasks_untold
        WHERE is_untold = 1 AND namespace = ? AND thread_id = ? ORDER BY seq LIMIT ?";
    let mut statement = prepare(reading.connection, sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![namespace.as_str(), thread.as_str(), limit])?;
    let (mut tasks, mut bytes) = (Vec::new(), 0);
    while bytes < COMPLETIONS_BYTES_MAX
        && let Some(row) = rows.next()?
    {
        let stored = row::by_key(reading.connection, reading.specs, row.get(0)?)?;
        let task = stored.map(|stored| stored.task);
        bytes += task.as_ref().map_or(0, Task::payload_bytes);
        tasks.extend(task);
    }
    Ok(tasks)
}
