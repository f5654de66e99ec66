//! Pages of the log.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use sidestream_core::event::StoredKind;
use sidestream_core::{Attempt, Event, EventKind, LogEntry, ReportNumber, Seq, Spec};
use tokio_postgres::Row;

use super::Value;
use super::cells::Cells;
use super::connection::{Connection, answer};
use super::failure::{Failure, Result};
use super::reading::Reading;
use super::spec::{self, Specs, spec_of};
use super::start::{HEAD, Read};
use crate::store::{Head, LogPage, LogQuery};

/// The first of the events in `e`, up to the one that brings them to $3 bytes: their bodies, and the arguments
/// of their tasks, once as they are read, and once for each event that shows them (started, suspended).
fn bounded(events: &str) -> String {
    format!(
        "SELECT seq, task_key, at_ms, code, attempt, report, body, through FROM (
            SELECT o.*, sum(o.bytes) OVER (ORDER BY o.seq) AS through FROM (
                SELECT e.*, coalesce(octet_length(e.body), 0)
                    + CASE WHEN e.code IN (1, 3) THEN octet_length(s.args) ELSE 0 END
                    + CASE WHEN row_number() OVER (PARTITION BY e.task_key ORDER BY e.seq) = 1
                        THEN octet_length(s.args) ELSE 0 END AS bytes
                FROM ({events}) AS e JOIN @specs s ON s.key = e.task_key
            ) AS o
        ) AS b WHERE b.through - b.bytes < $3 ORDER BY seq"
    )
}

static ALL: LazyLock<String> =
    LazyLock::new(|| bounded("SELECT * FROM @events WHERE seq > $1 ORDER BY seq LIMIT $2"));

/// The tasks that have had an id, one after the other: those deleted, and the present one.
static OF_TASK: LazyLock<String> = LazyLock::new(|| {
    bounded(
        "SELECT o.* FROM (
            SELECT key FROM @specs WHERE name = $4 AND last_seq IS NOT NULL
            UNION ALL
            SELECT key FROM @specs WHERE name = $4 AND last_seq IS NULL
        ) AS s CROSS JOIN LATERAL (
            SELECT * FROM @events WHERE task_key = s.key AND seq > $1 ORDER BY seq LIMIT $2
        ) AS o ORDER BY o.seq LIMIT $2",
    )
});

const ONE: &str =
    "SELECT seq, task_key, at_ms, code, attempt, report, body FROM @events WHERE seq = ANY ($1)";

/// Where the log begins and ends.
pub(super) async fn head(reading: &Reading<'_>) -> Result<Head> {
    let rows = reading.connection.query(HEAD, &[]).await?;
    known(reading.specs, &rows)
}

/// The head, as it was read. Whatever is at hand of another log is forgotten.
pub(super) fn known(specs: &Specs, rows: &[Row]) -> Result<Head> {
    let Read {
        epoch, seq, floor, ..
    } = Read::of(rows)?;
    specs.of_log(&epoch);
    Ok(Head { epoch, seq, floor })
}

pub(super) async fn page(reading: &Reading<'_>, query: &LogQuery) -> Result<LogPage> {
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let bytes_max = i64::try_from(query.bytes_max).unwrap_or(i64::MAX);
    let mut values = vec![
        Value::from(signed(query.after)),
        Value::from(limit),
        Value::from(bytes_max),
    ];
    let sql: &str = match &query.task {
        None => &ALL,
        Some((namespace, id)) => {
            values.push(spec::name(namespace, id).into());
            &OF_TASK
        }
    };
    let connection = reading.connection;
    let head_ready = connection.prepare(HEAD, &[]).await?;
    let page_ready = connection.prepare(sql, &values).await?;
    let head_sent = connection.send(&head_ready, &[]);
    let page_sent = connection.send(&page_ready, &values);
    let head = known(reading.specs, &answer(head_sent).await?)?;
    let rows = answer(page_sent).await?;
    let bytes: i64 = rows
        .last()
        .map(|row| row.try_get(7))
        .transpose()?
        .unwrap_or(0);
    let entries = read(connection, reading.specs, &rows).await?;
    let is_full = entries.len() >= query.limit || bytes >= bytes_max;
    let through = match entries.last() {
        _ if !is_full => head.seq,
        Some(last) => last.event.seq,
        None => query.after,
    };
    Ok(LogPage {
        entries,
        head,
        through,
    })
}

/// Some events by their places, as far as they are still there.
pub(super) async fn entries(
    reading: &Reading<'_>,
    places: impl IntoIterator<Item = Seq>,
) -> Result<HashMap<Seq, LogEntry>> {
    let places = places.into_iter().map(signed);
    let values = [Value::integers(places)];
    let rows = reading.connection.query(ONE, &values).await?;
    let entries = read(reading.connection, reading.specs, &rows).await?;
    let by_place = entries.into_iter().map(|entry| (entry.event.seq, entry));
    Ok(by_place.collect())
}

/// The events of some rows.
async fn read(connection: &Connection, specs: &Specs, rows: &[Row]) -> Result<Vec<LogEntry>> {
    let keys = rows.iter().map(|row| row.get::<_, i64>(1));
    let specs = specs.of(connection, keys).await?;
    rows.iter().map(|row| entry(row, &specs)).collect()
}

fn entry(row: &Row, specs: &HashMap<i64, Arc<Spec>>) -> Result<LogEntry> {
    let mut cells = Cells::of(row);
    let seq = Seq(cells.unsigned()?);
    let key = cells.next()?;
    let at = cells.moment()?;
    let (code, attempt) = (cells.small()?, Attempt(cells.small()?));
    let report = ReportNumber(cells.small()?);
    let stored = StoredKind {
        code,
        attempt,
        body: cells.json()?,
    };
    let spec = spec_of(specs, key)?;
    let task = Arc::clone(&spec.identity);
    let kind = EventKind::from_stored(stored, || Some(spec)).map_err(Failure::from)?;
    let event = Event {
        seq,
        at,
        report,
        kind,
    };
    Ok(LogEntry { task, event })
}

/// A place as the database keeps it. One that no log reaches is after every other.
fn signed(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}
