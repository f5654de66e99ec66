//! Bare rusqlite: a prepared statement for each row.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, params};

use super::{AT_MS, BODY, TRANSITIONS, batches, id};

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE tasks (
        key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, status INTEGER NOT NULL,
        attempt INTEGER NOT NULL, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,
        started_ms INTEGER, completed_ms INTEGER, lease_ms INTEGER, worker TEXT, result TEXT,
        tool TEXT NOT NULL, agent TEXT, args TEXT NOT NULL, seq INTEGER NOT NULL
    );
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY, task INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        code INTEGER NOT NULL, attempt INTEGER NOT NULL, body TEXT
    );
";

const INSERT: &str = "INSERT INTO tasks
    (key, id, status, attempt, created_ms, updated_ms, tool, agent, args, seq)
    VALUES (?1, ?2, 0, 0, ?3, ?3, 'noop', 'bench', 'null', ?4)";
const CLAIM: &str = "UPDATE tasks SET status = 1, attempt = 1, started_ms = ?2, updated_ms = ?2,
    lease_ms = ?2, worker = 'local-0123456789abcdef', seq = ?3 WHERE key = ?1";
const COMPLETE: &str = "UPDATE tasks SET status = 3, completed_ms = ?2, updated_ms = ?2,
    lease_ms = NULL, result = '1', seq = ?3 WHERE key = ?1";
const EVENT: &str = "INSERT INTO events (seq, task, at_ms, code, attempt, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// Whole lives a second, `batch` tasks to a commit.
#[expect(clippy::disallowed_methods, reason = "a stopwatch on a plain thread")]
pub(crate) fn lives_per_second(dir: &Path, batch: i64, tasks: i64) -> anyhow::Result<f64> {
    let place = tempfile::tempdir_in(dir)?;
    let mut connection = Connection::open(place.path().join("bare.db"))?;
    connection.execute_batch(SCHEMA)?;
    let started = Instant::now();
    let mut seq = 0;
    for keys in batches(tasks, batch) {
        for code in TRANSITIONS {
            transition(&mut connection, keys.clone(), code, &mut seq)?;
        }
    }
    let took = started.elapsed();
    let completed = "SELECT count(*) FROM tasks WHERE status = 3";
    for (count, wanted) in [
        (completed, tasks),
        ("SELECT count(*) FROM events", 3 * tasks),
    ] {
        let found: i64 = connection.query_row(count, [], |row| row.get(0))?;
        anyhow::ensure!(found == wanted, "{count}: {found}, not {wanted}");
    }
    Ok(tasks as f64 / took.as_secs_f64())
}

fn transition(
    connection: &mut Connection,
    keys: RangeInclusive<i64>,
    code: i64,
    seq: &mut i64,
) -> anyhow::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut event = transaction.prepare_cached(EVENT)?;
        for key in keys {
            *seq += 1;
            match code {
                0 => {
                    let mut insert = transaction.prepare_cached(INSERT)?;
                    insert.execute(params![key, id(key), AT_MS, *seq])?;
                }
                1 => {
                    let mut claim = transaction.prepare_cached(CLAIM)?;
                    claim.execute(params![key, AT_MS, *seq])?;
                }
                _ => {
                    let mut complete = transaction.prepare_cached(COMPLETE)?;
                    complete.execute(params![key, AT_MS, *seq])?;
                }
            }
            event.execute(params![*seq, key, AT_MS, code, 1, BODY])?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Rows of events a second, each with a body of 200 bytes, `batch` to a commit.
#[expect(clippy::disallowed_methods, reason = "a stopwatch on a plain thread")]
pub(crate) fn events_per_second(dir: &Path, batch: i64, events: i64) -> anyhow::Result<f64> {
    let place = tempfile::tempdir_in(dir)?;
    let mut connection = Connection::open(place.path().join("bare.db"))?;
    connection.execute_batch(SCHEMA)?;
    let body = format!("{:0200}", 0);
    let started = Instant::now();
    for seqs in batches(events, batch) {
        let transaction = connection.transaction()?;
        {
            let mut event = transaction.prepare_cached(EVENT)?;
            for seq in seqs {
                event.execute(params![seq, seq % 100, AT_MS, 2, 1, body])?;
            }
        }
        transaction.commit()?;
    }
    Ok(events as f64 / started.elapsed().as_secs_f64())
}
