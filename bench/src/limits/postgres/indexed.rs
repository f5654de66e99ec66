//! The same in Sidestream's own tables, with all their indexes, by the statements that a transaction comes to in
//! the end.

use std::ops::RangeInclusive;

use sha2::{Digest as _, Sha256};
use sidestream::{PostgresOptions, PostgresStore};
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::super::{AT_MS, BODY, commits, id};
use super::{BY_INDEX, connect, verify};

/// `$1` keys, `$2` hashes of ids, `$3` ids, `$4` the time.
const SPEC: &str =
    "INSERT INTO specs (key, name, namespace, id, tool_name, agent_id, created_at_ms, timeout_ms,
    max_retries, retry_delay_ms, retry_delay_max_ms, priority, args)
    SELECT i.key, i.name, 'default', i.id, 'noop', 'bench', $4, 300000, 0, 1000, 30000, 0, '123456'
    FROM unnest($1::bigint[], $2::bytea[], $3::text[]) AS i(key, name, id)";
/// `$1` keys, `$2` their last places, `$3` the time, `$4` a lane.
const TASK: &str = "INSERT INTO tasks (key, namespace, tool_name, agent_id, is_external, lane, priority, first_seq,
    status, attempt, reported, retry_count, is_resuming, seq, created_at_ms, event_at_ms, since_ms, started_at_ms,
    worker_id, lease_until_ms, deadline_ms, is_untold)
    SELECT i.key, 'default', 'noop', 'bench', false, $4, 0, i.seq - 1, 'running', 1, 0, 0, false, i.seq, $3, $3, $3,
    $3, 'local-0123456789abcdef', $3::bigint + 30000, $3::bigint + 300000, false
    FROM unnest($1::bigint[], $2::bigint[]) AS i(key, seq)";
/// `$1` keys, `$2` places, `$3` the time.
const END: &str = "UPDATE tasks SET status = 'completed', reported = 1, seq = i.seq, event_at_ms = $3, since_ms = $3,
    completed_at_ms = $3, lease_until_ms = NULL, deadline_ms = NULL, result = '123456'
    FROM unnest($1::bigint[], $2::bigint[]) AS i(key, seq) WHERE tasks.key = i.key";
/// `$1` places, `$2` keys, `$3` what happened, `$4` the time, `$5` the body.
const EVENT: &str = "INSERT INTO events (seq, task_key, at_ms, code, attempt, report, body)
    SELECT i.seq, i.key, $4, i.code, 1, 0, $5
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS i(seq, key, code)";
/// `$1` how many end.
const COUNT: &str = "UPDATE counters SET completed = completed + $1";
/// `$1` the last place, `$2` the time.
const HEAD: &str = "UPDATE head SET seq = $1, last_at_ms = $2";
const COUNTERS: &str = "INSERT INTO counters VALUES
    ('all', '', '', false, 0, 0, 0, 0, 0, 0, 0), ('tool', '', 'noop', false, 0, 0, 0, 0, 0, 0, 0),
    ('namespace', 'default', '', false, 0, 0, 0, 0, 0, 0, 0),
    ('namespace_tool', 'default', 'noop', false, 0, 0, 0, 0, 0, 0, 0),
    ('namespace_agent', 'default', 'bench', false, 0, 0, 0, 0, 0, 0, 0)";

/// Whole lives a second, `batch` transitions to a commit, in a database that is empty.
pub(crate) async fn lives_per_second(url: &str, batch: i64, tasks: i64) -> anyhow::Result<f64> {
    drop(PostgresStore::open(url, PostgresOptions::default()).await?);
    let (client, connecting) = connect(url).await?;
    let settings = format!("SET search_path = sidestream; {BY_INDEX} {COUNTERS}");
    client.batch_execute(&settings).await?;
    let statements = Statements::prepare(&client).await?;
    let commits = commits(tasks, batch);
    let started = Instant::now();
    let mut seq = 0;
    for [new, ending] in commits {
        statements.commit(&client, new, ending, &mut seq).await?;
    }
    let took = started.elapsed();
    verify(client, connecting, "status = 'completed'", tasks).await?;
    Ok(tasks as f64 / took.as_secs_f64())
}

struct Statements {
    spec: Statement,
    task: Statement,
    end: Statement,
    event: Statement,
    count: Statement,
    head: Statement,
}

impl Statements {
    async fn prepare(client: &Client) -> anyhow::Result<Self> {
        Ok(Self {
            spec: client.prepare(SPEC).await?,
            task: client.prepare(TASK).await?,
            end: client.prepare(END).await?,
            event: client.prepare(EVENT).await?,
            count: client.prepare(COUNT).await?,
            head: client.prepare(HEAD).await?,
        })
    }

    /// One commit: some tasks are dispatched and begin, others end.
    async fn commit(
        &self,
        client: &Client,
        new: RangeInclusive<i64>,
        ending: RangeInclusive<i64>,
        seq: &mut i64,
    ) -> anyhow::Result<()> {
        let first = *seq + 1;
        let at = AT_MS + new.start().max(ending.start()) / 10;
        let new: Vec<i64> = new.collect();
        let ending: Vec<i64> = ending.collect();
        let (begun, ended) = (i64::try_from(new.len())?, i64::try_from(ending.len())?);
        *seq += 2 * begun + ended;
        let ids: Vec<String> = new.iter().copied().map(id).collect();
        let names: Vec<Vec<u8>> = ids.iter().map(|id| Sha256::digest(id).to_vec()).collect();
        let lane = vec![7_u8; 24];
        let running: Vec<i64> = (first..).skip(1).step_by(2).take(new.len()).collect();
        let completed: Vec<i64> = (first + 2 * begun..=*seq).collect();
        let places: Vec<i64> = (first..=*seq).collect();
        let lives = new.iter().flat_map(|key| [(*key, 0), (*key, 1)]);
        let (keys, codes): (Vec<i64>, Vec<i64>) =
            lives.chain(ending.iter().map(|key| (*key, 5))).unzip();
        let spec: [&(dyn ToSql + Sync); 4] = [&new, &names, &ids, &at];
        let task: [&(dyn ToSql + Sync); 4] = [&new, &running, &at, &lane];
        let end: [&(dyn ToSql + Sync); 3] = [&ending, &completed, &at];
        let event: [&(dyn ToSql + Sync); 5] = [&places, &keys, &codes, &at, &BODY];
        let count: [&(dyn ToSql + Sync); 1] = [&ended];
        let last: [&(dyn ToSql + Sync); 2] = [&*seq, &at];
        // Sent one behind the other; the answers come together.
        let (begin, specs, tasks, ends, events, counters, head, committed) = tokio::join!(
            client.batch_execute("BEGIN"),
            client.execute(&self.spec, &spec),
            client.execute(&self.task, &task),
            client.execute(&self.end, &end),
            client.execute(&self.event, &event),
            client.execute(&self.count, &count),
            client.execute(&self.head, &last),
            client.batch_execute("COMMIT"),
        );
        begin?;
        let written = [specs?, tasks?, ends?, events?, counters?, head?];
        let wanted = [new.len(), new.len(), ending.len(), places.len(), 5, 1];
        anyhow::ensure!(
            written.into_iter().eq(wanted.map(|rows| rows as u64)),
            "{written:?} rows were written, not {wanted:?}"
        );
        Ok(committed?)
    }
}
