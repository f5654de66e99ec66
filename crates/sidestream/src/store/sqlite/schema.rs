//! The schema's versions: numbered, embedded, each applied once, all that are missing in one
//! transaction.

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use sidestream_core::Timestamp;

use super::failure::{Failure, Result};

/// Marks a SQLite file as ours, in its header: `SdSt`.
pub(super) const APPLICATION_ID: u32 = 0x5364_5374;

/// In order; the first is version 1. One that has been released is never edited: its checksum is kept
/// with the database.
const MIGRATIONS: [&str; 2] = [
    include_str!("migrations/0001_tasks_and_log.sql"),
    include_str!("migrations/0002_fewer_index_entries.sql"),
];

/// The newest version that this code knows.
pub(super) const VERSION: u32 = MIGRATIONS.len() as u32;

/// Brings a database to [`VERSION`]. Says whether there was anything to do.
pub(super) fn migrate(connection: &Connection, now: Timestamp) -> Result<bool> {
    let known = applied(connection)?;
    for (version, checksum) in &known {
        let ours = MIGRATIONS.get(*version as usize - 1).map(|sql| sum(sql));
        if ours.as_ref() != Some(checksum) {
            let problem = format!("its migration {version} is not the one that this version knows");
            return Err(Failure::Unreadable(problem));
        }
    }
    if known.len() == MIGRATIONS.len() {
        return Ok(false);
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let done = apply(connection, known.len(), now);
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    connection.execute_batch(end)?;
    done.map(|()| true)
}

fn apply(connection: &Connection, known: usize, now: Timestamp) -> Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS migrations (
            version       INTEGER PRIMARY KEY, -- 1, 2, …
            checksum      TEXT    NOT NULL,    -- SHA-256 of its SQL, in hexadecimal
            applied_at_ms INTEGER NOT NULL     -- when it was applied
        ) STRICT",
    )?;
    for (sql, version) in MIGRATIONS.iter().zip(1_i64..).skip(known) {
        connection.execute_batch(sql)?;
        connection.execute(
            "INSERT INTO migrations (version, checksum, applied_at_ms) VALUES (?, ?, ?)",
            params![version, sum(sql), now.ms()],
        )?;
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", VERSION)?;
    Ok(())
}

/// The versions applied so far, each with its checksum.
fn applied(connection: &Connection) -> Result<Vec<(i64, String)>> {
    let table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'migrations'";
    let is_there = connection.query_row(table, [], |_| Ok(())).optional()?;
    if is_there.is_none() {
        return Ok(Vec::new());
    }
    let sql = "SELECT version, checksum FROM migrations ORDER BY version";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn sum(sql: &str) -> String {
    let digest = Sha256::digest(sql.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
