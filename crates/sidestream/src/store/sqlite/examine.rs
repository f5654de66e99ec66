//! An examination of the database: is it whole, is there room, is the clock right?

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use sidestream_core::Timestamp;

use super::backup::missing;
use super::failure::Result;
use super::room::Room;
use super::{SqliteStore, open, schema};
use crate::clock::{Clock, SystemClock};
use crate::error::StoreError;
use crate::store::finding::{Finding, bytes_in_words};
use crate::store::waiting::{self, WAITED_MS_MIN, Waiting};

/// A log ahead larger than this has not been moved into the database for too long, in bytes.
const WAL_BYTES_MAX: u64 = 512 * 1_048_576;
/// Less room than this left is too little, in bytes.
const ROOM_BYTES_MIN: u64 = 1 << 30;
/// A database is bloated if most of it is free and it is larger than this, in bytes.
const BLOAT_BYTES_MIN: u64 = 256 * 1_048_576;
/// Clocks that differ by more than this are wrong, in milliseconds.
const CLOCK_MS_MAX: i64 = 5_000;

impl SqliteStore {
    /// Looks at what can go wrong with a data directory over the years, whether or not somebody has it
    /// open. Reads the whole database, and blocks meanwhile: seconds for each gigabyte.
    ///
    /// # Errors
    /// When there is no database of ours, or it cannot be read at all.
    pub fn examine(data_dir: impl AsRef<Path>) -> std::result::Result<Vec<Finding>, StoreError> {
        let file = open::file_in(data_dir.as_ref());
        if !open::inspect(&file)? {
            return Err(missing(&file));
        }
        let findings = open::connect_to_read(&file).and_then(|connection| {
            Ok(vec![
                version(&connection)?,
                integrity(&connection)?,
                size(&connection, &file)?,
                log_ahead(&file),
                room(&file),
                clock(&connection, SystemClock.now())?,
                tools(&connection, SystemClock.now())?,
            ])
        });
        findings.map_err(|e| e.at(&file))
    }
}

fn version(connection: &Connection) -> Result<Finding> {
    let sqlite = rusqlite::version();
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let newest = schema::VERSION;
    let seen = format!("SQLite {sqlite}, schema {version} of {newest}");
    Ok(Finding::good("version", seen))
}

/// Every page, every row's place in every index.
fn integrity(connection: &Connection) -> Result<Finding> {
    let mut statement = connection.prepare("PRAGMA integrity_check(3)")?;
    let problems = statement.query_map([], |row| row.get::<_, String>(0))?;
    let problems: Vec<String> = problems.collect::<rusqlite::Result<_>>()?;
    Ok(match problems.as_slice() {
        [only] if only == "ok" => Finding::good("integrity", "every page and index is whole"),
        problems => Finding::bad(
            "integrity",
            problems.join("; "),
            "stop the server, and restore a backup with `sidestream restore`",
        ),
    })
}

fn size(connection: &Connection, file: &Path) -> Result<Finding> {
    let room = Room::of(connection)?;
    let seen = format!(
        "{} takes {}, of which {} are free",
        file.display(),
        bytes_in_words(room.bytes),
        bytes_in_words(room.free_bytes)
    );
    let is_bloated = room.bytes > BLOAT_BYTES_MIN && room.is_mostly_free();
    Ok(match (is_bloated, room.is_given_back()) {
        (false, _) => Finding::good("size", seen),
        (true, true) => Finding::doubtful(
            "size",
            seen,
            "the room will be used again; to give it back, start the server anew",
        ),
        (true, false) => Finding::doubtful(
            "size",
            seen,
            "the room will be used again; to give it back, stop the server, `sidestream backup` the data \
             and `sidestream restore` it into a new directory",
        ),
    })
}

fn log_ahead(file: &Path) -> Finding {
    let bytes = fs::metadata(open::beside(file, "-wal")).map_or(0, |metadata| metadata.len());
    let seen = format!("the log ahead takes {}", bytes_in_words(bytes));
    match bytes <= WAL_BYTES_MAX {
        true => Finding::good("log ahead", seen),
        false => Finding::doubtful(
            "log ahead",
            seen,
            "another program holds a read transaction open on the database: find and end it",
        ),
    }
}

fn room(file: &Path) -> Finding {
    let directory = file.parent().unwrap_or(Path::new("."));
    match room_left(directory) {
        None => Finding::good("room", "not known on this system"),
        Some(bytes) => {
            let seen = format!("{} are left on the disk", bytes_in_words(bytes));
            match bytes >= ROOM_BYTES_MIN {
                true => Finding::good("room", seen),
                false => Finding::doubtful(
                    "room",
                    seen,
                    "make room, or keep less: manager.retention_log_ms and its neighbours say how much",
                ),
            }
        }
    }
}

#[cfg(unix)]
fn room_left(directory: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(directory).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn room_left(_: &Path) -> Option<u64> {
    None
}

/// The log's time never goes back. So where the machine's clock was set back, everything is due late.
fn clock(connection: &Connection, now: Timestamp) -> Result<Finding> {
    let sql = "SELECT last_at_ms FROM head";
    let last: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    let ahead = last - now.ms();
    Ok(match ahead <= CLOCK_MS_MAX {
        true => Finding::good("clock", format!("it is {now}")),
        false => Finding::bad(
            "clock",
            format!(
                "the latest event is of {}, and this machine says it is {now}",
                Timestamp::from_ms(last)
            ),
            "set the clock right, and let a time service (NTP) keep it so",
        ),
    })
}

/// Tools whose tasks wait while none of them runs.
fn tools(connection: &Connection, now: Timestamp) -> Result<Finding> {
    let sql = "WITH line AS (
            SELECT tool_name, due_at_ms FROM tasks INDEXED BY tasks_in_line WHERE queue = 'ready'
            UNION ALL
            SELECT tool_name, due_at_ms FROM tasks INDEXED BY tasks_delayed
            WHERE queue = 'delayed' AND due_at_ms <= ?1
        )
        SELECT tool_name, count(*), min(due_at_ms) AS since FROM line
        WHERE tool_name IN (
            SELECT value FROM counters WHERE scope = 'tool' AND namespace = '' AND is_external = 0
                AND pending > 0 AND running = 0
        )
        GROUP BY tool_name HAVING since <= ?2 ORDER BY since, tool_name";
    let mut statement = connection.prepare(sql)?;
    let times = [now.ms(), now.ms().saturating_sub(WAITED_MS_MIN)];
    let waiting = statement.query_map(times, |row| {
        Ok(Waiting {
            tool: row.get(0)?,
            tasks: row.get::<_, i64>(1)?.cast_unsigned(),
            since: Timestamp::from_ms(row.get(2)?),
        })
    })?;
    let waiting: Vec<Waiting> = waiting.collect::<rusqlite::Result<_>>()?;
    Ok(waiting::finding(&waiting, now))
}
