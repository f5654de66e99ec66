//! What happened, as rows of `events`.

use rusqlite::{Connection, params};
use sidestream_core::LogEntry;

use super::failure::Result;
use super::prepare::prepare;

/// Writes the last of these events, those whose tasks' keys are given, and takes the keys.
pub(super) fn insert(
    connection: &Connection,
    entries: &[LogEntry],
    keys: &mut Vec<i64>,
) -> Result<()> {
    let unwritten = &entries[entries.len() - keys.len()..];
    if unwritten.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO events (seq, task_key, at_ms, code, attempt, report, body)
        VALUES (?, ?, ?, ?, ?, ?, ?)";
    let mut insert = prepare(connection, sql)?;
    for (LogEntry { event, .. }, key) in unwritten.iter().zip(keys.drain(..)) {
        let stored = event.kind.to_stored();
        insert.execute(params![
            event.seq.0.cast_signed(),
            key,
            event.at.ms(),
            stored.code,
            stored.attempt.0,
            event.report.0,
            stored.body.as_ref().map(|body| body.as_str()),
        ])?;
    }
    Ok(())
}
