//! Pages of the log.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Row;
use sidestream_core::event::StoredKind;
use sidestream_core::{
    Attempt, Epoch, Event, EventKind, LogEntry, Namespace, ReportNumber, Seq, Spec, TaskId,
    Timestamp,
};

use super::failure::{Failure, Result};
use super::prepare::prepare;
use super::readers::Reading;
use super::spec;
use crate::store::{Head, LogPage, LogQuery};

/// Where the log begins and ends.
pub(super) fn head(reading: &Reading<'_>, epoch: Epoch) -> Result<Head> {
    let mut statement = prepare(reading.connection, "SELECT seq, floor FROM head")?;
    let numbers = statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)));
    let (seq, floor): (i64, i64) = numbers?;
    Ok(Head {
        epoch,
        seq: Seq(seq.cast_unsigned()),
        floor: Seq(floor.cast_unsigned()),
    })
}

pub(super) fn page(reading: &Reading<'_>, epoch: Epoch, query: &LogQuery) -> Result<LogPage> {
    let head = head(reading, epoch)?;
    let mut page = Unfinished::new(reading, query.limit, query.bytes_max);
    match &query.task {
        None => page.read(
            "SELECT seq, task_key, at_ms, code, attempt, report, body FROM events
                WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            |limit| vec![signed(query.after), limit],
        )?,
        Some((namespace, id)) => {
            for key in keys_of(reading, namespace, id)? {
                page.read(
                    "SELECT seq, task_key, at_ms, code, attempt, report, body
                        FROM events INDEXED BY events_of_task
                        WHERE task_key = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
                    |limit| vec![key, signed(query.after), limit],
                )?;
            }
        }
    }
    let through = match page.entries.last() {
        _ if !page.is_full() => head.seq,
        Some(last) => last.event.seq,
        None => query.after,
    };
    Ok(LogPage {
        entries: page.entries,
        head,
        through,
    })
}

/// The numbers of the tasks that have had an id, one after the other: those deleted, then the present
/// one. The events of each come before those of the next.
fn keys_of(reading: &Reading<'_>, namespace: &Namespace, id: &TaskId) -> Result<Vec<i64>> {
    let id = [namespace.as_str(), id.as_str()];
    let mut keys = Vec::new();
    for sql in [
        "SELECT key FROM specs INDEXED BY specs_of_deleted
            WHERE namespace = ?1 AND id = ?2 AND last_seq IS NOT NULL ORDER BY key",
        "SELECT key FROM tasks INDEXED BY tasks_by_id WHERE namespace = ?1 AND id = ?2",
    ] {
        let mut statement = prepare(reading.connection, sql)?;
        let found = statement.query_map(id, |row| row.get(0))?;
        for key in found {
            keys.push(key?);
        }
    }
    Ok(keys)
}

/// One event by its place, if it is still there.
pub(super) fn entry(reading: &Reading<'_>, seq: Seq) -> Result<Option<LogEntry>> {
    let mut page = Unfinished::new(reading, 1, usize::MAX);
    page.read(
        "SELECT seq, task_key, at_ms, code, attempt, report, body FROM events WHERE seq = ?1 LIMIT ?2",
        |limit| vec![signed(seq), limit],
    )?;
    Ok(page.entries.pop())
}

/// A page being read.
struct Unfinished<'r> {
    reading: &'r Reading<'r>,
    entries: Vec<LogEntry>,
    limit: usize,
    bytes_max: usize,
    bytes: usize,
    /// The specs of the tasks that the page is about.
    specs: HashMap<i64, Arc<Spec>>,
}

impl<'r> Unfinished<'r> {
    fn new(reading: &'r Reading<'r>, limit: usize, bytes_max: usize) -> Self {
        Self {
            reading,
            entries: Vec::new(),
            limit,
            bytes_max,
            bytes: 0,
            specs: HashMap::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= self.limit || self.bytes >= self.bytes_max
    }

    fn read(&mut self, sql: &str, params: impl FnOnce(i64) -> Vec<i64>) -> Result<()> {
        if self.is_full() {
            return Ok(());
        }
        let left = self.limit - self.entries.len();
        let params = params(i64::try_from(left).unwrap_or(i64::MAX));
        let mut statement = prepare(self.reading.connection, sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(params))?;
        while !self.is_full()
            && let Some(row) = rows.next()?
        {
            self.add(row)?;
        }
        Ok(())
    }

    fn add(&mut self, row: &Row<'_>) -> Result<()> {
        let seq = Seq(row.get::<_, i64>(0)?.cast_unsigned());
        let key = row.get(1)?;
        let at = Timestamp::from_ms(row.get(2)?);
        let stored = StoredKind {
            code: row.get(3)?,
            attempt: Attempt(row.get(4)?),
            body: spec::json(row, 6)?,
        };
        self.bytes += stored.body.as_ref().map_or(0, |body| body.bytes());
        let spec = self.spec(key)?;
        let task = Arc::clone(&spec.identity);
        let kind = EventKind::from_stored(stored, || Some(spec))?;
        // Whoever shows such an event writes the arguments out with it.
        if let EventKind::Started { .. } | EventKind::Suspended { .. } = kind {
            self.bytes += task.args.bytes();
        }
        let event = Event {
            seq,
            at,
            report: ReportNumber(row.get(5)?),
            kind,
        };
        self.entries.push(LogEntry { task, event });
        Ok(())
    }

    fn spec(&mut self, key: i64) -> Result<Arc<Spec>> {
        if let Some(spec) = self.specs.get(&key) {
            return Ok(Arc::clone(spec));
        }
        let spec = self.reading.specs.of(self.reading.connection, key)?;
        let spec = spec.ok_or_else(|| Failure::Unreadable(format!("task {key} has no spec")))?;
        self.bytes += spec.identity.args.bytes();
        self.specs.insert(key, Arc::clone(&spec));
        Ok(spec)
    }
}

/// A place as SQLite keeps it. One that no log reaches is after every other.
fn signed(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}
