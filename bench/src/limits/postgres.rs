//! Bare batched SQL: a statement for all rows of a table, an array for each column, and one journey to
//! the server for each commit.

use std::ops::RangeInclusive;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Statement};

use super::{AT_MS, BODY, TRANSITIONS, batches, id};

mod indexed;

pub(super) use indexed::lives_per_second as indexed_lives_per_second;

const SCHEMA: &str = "
    CREATE TABLE tasks (
        key BIGINT PRIMARY KEY, id TEXT NOT NULL UNIQUE, status BIGINT NOT NULL,
        attempt BIGINT NOT NULL, created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL,
        started_ms BIGINT, completed_ms BIGINT, lease_ms BIGINT, worker TEXT, result TEXT,
        tool TEXT NOT NULL, agent TEXT, args TEXT NOT NULL, seq BIGINT NOT NULL
    ) WITH (fillfactor = 70);
    CREATE TABLE events (
        seq BIGINT PRIMARY KEY, task BIGINT NOT NULL, at_ms BIGINT NOT NULL,
        code BIGINT NOT NULL, attempt BIGINT NOT NULL, body TEXT
    );
";
/// Plans are made once, for tables that are not empty.
const BY_INDEX: &str = "SET plan_cache_mode = force_generic_plan; SET enable_hashjoin = off;
    SET enable_mergejoin = off; SET enable_seqscan = off; SET enable_material = off; SET jit = off;";

/// `$1` keys, `$2` ids, `$3` the time, `$4` places.
const INSERT: &str = "INSERT INTO tasks
    (key, id, status, attempt, created_ms, updated_ms, tool, agent, args, seq)
    SELECT i.key, i.id, 0, 0, $3, $3, 'noop', 'bench', 'null', i.seq
    FROM unnest($1::bigint[], $2::text[], $4::bigint[]) AS i(key, id, seq)";
/// `$1` keys, `$2` the time, `$3` places.
const CLAIM: &str = "UPDATE tasks SET status = 1, attempt = 1, started_ms = $2, updated_ms = $2,
    lease_ms = $2, worker = 'local-0123456789abcdef', seq = i.seq
    FROM unnest($1::bigint[], $3::bigint[]) AS i(key, seq) WHERE tasks.key = i.key";
const COMPLETE: &str = "UPDATE tasks SET status = 3, completed_ms = $2, updated_ms = $2,
    lease_ms = NULL, result = '1', seq = i.seq
    FROM unnest($1::bigint[], $3::bigint[]) AS i(key, seq) WHERE tasks.key = i.key";
/// `$1` places, `$2` keys, `$3` the time, `$4` what happened, `$5` the body.
const EVENT: &str = "INSERT INTO events (seq, task, at_ms, code, attempt, body)
    SELECT i.seq, i.key, $3, $4, 1, $5
    FROM unnest($1::bigint[], $2::bigint[]) AS i(seq, key)";

/// Whole lives a second, `batch` tasks to a commit, in a database that is empty.
pub(crate) async fn lives_per_second(url: &str, batch: i64, tasks: i64) -> anyhow::Result<f64> {
    let (client, connecting) = connect(url).await?;
    client.batch_execute(SCHEMA).await?;
    client.batch_execute(BY_INDEX).await?;
    let mut statements = Vec::new();
    for sql in [INSERT, CLAIM, COMPLETE, EVENT] {
        statements.push(client.prepare(sql).await?);
    }
    let started = Instant::now();
    let mut seq = 0;
    for keys in batches(tasks, batch) {
        for code in TRANSITIONS {
            transition(&client, &statements, keys.clone(), code, &mut seq).await?;
        }
    }
    let took = started.elapsed();
    verify(client, connecting, "status = 3", tasks).await?;
    Ok(tasks as f64 / took.as_secs_f64())
}

/// The session, and what ends with it.
type Connecting = JoinSet<Result<(), tokio_postgres::Error>>;

async fn connect(url: &str) -> anyhow::Result<(Client, Connecting)> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let mut connecting = JoinSet::new();
    connecting.spawn(connection);
    Ok((client, connecting))
}

/// Every task is completed, by three events; then the session ends.
async fn verify(
    client: Client,
    mut connecting: Connecting,
    is_completed: &str,
    tasks: i64,
) -> anyhow::Result<()> {
    let completed = format!("SELECT count(*) FROM tasks WHERE {is_completed}");
    let events = "SELECT count(*) FROM events".to_owned();
    for (count, wanted) in [(completed, tasks), (events, 3 * tasks)] {
        let found: i64 = client.query_one(&count, &[]).await?.get(0);
        anyhow::ensure!(found == wanted, "{count}: {found}, not {wanted}");
    }
    drop(client);
    while let Some(ended) = connecting.join_next().await {
        ended??;
    }
    Ok(())
}

async fn transition(
    client: &Client,
    statements: &[Statement],
    keys: RangeInclusive<i64>,
    code: i64,
    seq: &mut i64,
) -> anyhow::Result<()> {
    let keys: Vec<i64> = keys.collect();
    let last = *seq + i64::try_from(keys.len())?;
    let seqs: Vec<i64> = (*seq + 1..=last).collect();
    *seq = last;
    let ids: Vec<String> = match code {
        0 => keys.iter().copied().map(id).collect(),
        _ => Vec::new(),
    };
    let (write, values): (_, Vec<&(dyn ToSql + Sync)>) = match code {
        0 => (&statements[0], vec![&keys, &ids, &AT_MS, &seqs]),
        1 => (&statements[1], vec![&keys, &AT_MS, &seqs]),
        _ => (&statements[2], vec![&keys, &AT_MS, &seqs]),
    };
    let event: Vec<&(dyn ToSql + Sync)> = vec![&seqs, &keys, &AT_MS, &code, &BODY];
    // Sent one behind the other; the answers come together.
    let (begun, written, logged, committed) = tokio::join!(
        client.batch_execute("BEGIN"),
        client.execute(write, &values),
        client.execute(&statements[3], &event),
        client.batch_execute("COMMIT"),
    );
    begun?;
    let is_whole = written? == keys.len() as u64 && logged? == keys.len() as u64;
    anyhow::ensure!(is_whole, "a row was not written");
    Ok(committed?)
}
