//! Bare rusqlite: a prepared statement for each row.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, params};
use sidestream::{SqliteOptions, SqliteStore};

use super::{AT_MS, BODY, TRANSITIONS, batches, commits, id};

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
    verify(&connection, "status = 3", tasks)?;
    Ok(tasks as f64 / took.as_secs_f64())
}

/// Every task is completed, by three events.
fn verify(connection: &Connection, is_completed: &str, tasks: i64) -> anyhow::Result<()> {
    let completed = format!("SELECT count(*) FROM tasks WHERE {is_completed}");
    let events = "SELECT count(*) FROM events".to_owned();
    for (count, wanted) in [(completed, tasks), (events, 3 * tasks)] {
        let found: i64 = connection.query_row(&count, [], |row| row.get(0))?;
        anyhow::ensure!(found == wanted, "{count}: {found}, not {wanted}");
    }
    Ok(())
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

/// The same in Sidestream's own tables, with all their indexes: whole lives a second by the statements that a
/// transaction comes to in the end, and nothing else.
#[expect(clippy::disallowed_methods, reason = "a stopwatch on a plain thread")]
pub(crate) fn indexed_lives_per_second(dir: &Path, batch: i64, tasks: i64) -> anyhow::Result<f64> {
    let place = tempfile::tempdir_in(dir)?;
    drop(SqliteStore::open(place.path(), SqliteOptions::default())?);
    let mut connection = Connection::open(place.path().join("sidestream.db"))?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 8000")?;
    connection.set_prepared_statement_cache_capacity(64);
    let commits = commits(tasks, batch);
    let started = Instant::now();
    let mut seq = 0;
    for [new, ending] in commits {
        indexed(&mut connection, new, ending, &mut seq)?;
    }
    let took = started.elapsed();
    verify(&connection, "status = 'completed'", tasks)?;
    Ok(tasks as f64 / took.as_secs_f64())
}

/// One commit: some tasks are dispatched and begin, others end.
fn indexed(
    connection: &mut Connection,
    new: RangeInclusive<i64>,
    ending: RangeInclusive<i64>,
    seq: &mut i64,
) -> anyhow::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut spec = transaction.prepare_cached(OUR_SPEC)?;
        let mut task = transaction.prepare_cached(OUR_TASK)?;
        let mut end = transaction.prepare_cached(OUR_END)?;
        let mut event = transaction.prepare_cached(OUR_EVENT)?;
        let first = *seq;
        for key in new.clone() {
            *seq += 2;
            spec.execute(params![key, id(key)])?;
            task.execute(params![key, id(key), *seq, AT_MS + key / 10])?;
        }
        for key in ending.clone() {
            *seq += 1;
            end.execute(params![key, *seq, AT_MS + key / 10])?;
        }
        let begun = new.flat_map(|key| [(key, 0), (key, 1)]);
        let ended = ending.map(|key| (key, 5));
        for (nth, (key, code)) in (first + 1..).zip(begun.chain(ended)) {
            event.execute(params![nth, key, AT_MS + key / 10, code, 1, BODY])?;
        }
        for (scope, namespace, value) in COUNTERS {
            let mut counter = transaction.prepare_cached(OUR_COUNTER)?;
            counter.execute(params![scope, namespace, value, *seq])?;
        }
        let mut head = transaction.prepare_cached(OUR_HEAD)?;
        head.execute(params![*seq, AT_MS])?;
    }
    transaction.commit()?;
    Ok(())
}

const OUR_SPEC: &str =
    "INSERT INTO specs (key, namespace, id, tool_name, agent_id, timeout_ms, max_retries,
    retry_delay_ms, retry_delay_max_ms, priority, args)
    VALUES (?1, 'default', ?2, 'noop', 'bench', 300000, 0, 1000, 30000, 0, '123456')";
const OUR_TASK: &str = "INSERT INTO tasks (key, namespace, id, tool_name, agent_id, is_external, priority, status,
    attempt, reported, retry_count, is_resuming, seq, created_at_ms, event_at_ms, since_ms, started_at_ms, worker_id,
    lease_until_ms, deadline_ms, is_untold)
    VALUES (?1, 'default', ?2, 'noop', 'bench', 0, 0, 'running', 1, 0, 0, 0, ?3, ?4, ?4, ?4, ?4,
    'local-0123456789abcdef', ?4 + 30000, ?4 + 300000, 0)";
const OUR_END: &str = "UPDATE tasks SET status = 'completed', reported = 1, seq = ?2, event_at_ms = ?3, since_ms = ?3,
    completed_at_ms = ?3, lease_until_ms = NULL, deadline_ms = NULL, result = '123456' WHERE key = ?1";
const OUR_EVENT: &str = "INSERT INTO events (seq, task_key, at_ms, code, attempt, report, body)
    VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6)";
const OUR_COUNTER: &str = "INSERT OR REPLACE INTO counters (scope, namespace, value, is_external, pending, running,
    suspended, completed, failed, timed_out, cancelled) VALUES (?1, ?2, ?3, 0, 0, 0, 0, ?4, 0, 0, 0)";
const OUR_HEAD: &str = "UPDATE head SET seq = ?1, last_at_ms = ?2";
const COUNTERS: [(&str, &str, &str); 5] = [
    ("all", "", ""),
    ("tool", "", "noop"),
    ("namespace", "default", ""),
    ("namespace_tool", "default", "noop"),
    ("namespace_agent", "default", "bench"),
];

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
