//! apalis on SQLite: woken by SQLite's hook on insertions, every commit waiting for the disk.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_sqlite::callback::HookCallbackListener;
use apalis_sqlite::{Config, SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteStorage};
use futures::StreamExt as _;
use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};

use crate::flight::FLIGHT;
use crate::work::{Found, Work, add_latencies, peak_kib, ready, until};

type Values = BTreeMap<&'static str, f64>;

const QUEUE: &str = "noop";
const WORKER: &str = "bench";

async fn noop(number: u64) -> Result<(), BoxDynError> {
    FLIGHT.began();
    FLIGHT.completed(number);
    Ok(())
}

pub(crate) async fn run(work: &Work) -> anyhow::Result<Found> {
    warm_up(work).await?;
    ready();
    let (pool, listener) = pool(work)?;
    let (values, verified) = match work.figure.as_str() {
        "tasks" => tasks(work, &pool, listener).await?,
        "drain" => drain(work, &pool).await?,
        "pickup" => pickup(work, &pool, listener).await?,
        other => anyhow::bail!("apalis has no part in {other}"),
    };
    Ok(Found {
        contender: "apalis-sqlite".into(),
        version: "1.0.0".into(),
        durability: durability(&pool).await?,
        values,
        verified,
        peak_kib: peak_kib(),
    })
}

/// Its own `setup` turns `synchronous` off on the connection that it is given, so that one is thrown away.
///
/// On a database that has never been analyzed its acks look through all tasks for each, so it is given what one that
/// has been in use for a while has: statistics of tasks that wait, and of some that its worker has done (of nobody's
/// alone, the planner would take it that a worker has few).
async fn warm_up(work: &Work) -> anyhow::Result<()> {
    let file = file(work).create_if_missing(true).foreign_keys(false);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(file)
        .await?;
    SqliteStorage::setup(&pool).await?;
    let config = Config::default().queue("warm-up");
    let mut storage: SqliteStorage<u64> = SqliteStorage::new(&pool).with_config(config);
    storage.push_bulk((0..1_000).collect()).await?;
    let half = "UPDATE Jobs SET status = 'Done', done_at = 1, lock_by = ?, lock_at = 1 WHERE rowid % 2 = 0";
    sqlx::query(half).bind(WORKER).execute(&pool).await?;
    sqlx::query("ANALYZE").execute(&pool).await?;
    sqlx::query("DELETE FROM Jobs").execute(&pool).await?;
    pool.close().await;
    Ok(())
}

fn file(work: &Work) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(work.dir.join("apalis.db"))
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(30))
        .synchronous(SqliteSynchronous::Full)
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "64000")
}

/// Its connections wait for the disk, each of them.
fn pool(work: &Work) -> anyhow::Result<(SqlitePool, HookCallbackListener)> {
    let url = format!("sqlite://{}", work.dir.join("apalis.db").display());
    let (pool, listener) = SqliteStorage::connect_with_callback(&url)?;
    pool.set_connect_options(file(work));
    Ok((pool, listener))
}

/// Every connection is asked.
async fn durability(pool: &SqlitePool) -> anyhow::Result<String> {
    let mut connections = Vec::new();
    for _ in 0..pool.size() {
        connections.push(pool.acquire().await?);
    }
    let mut said = Vec::new();
    for connection in &mut connections {
        let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
            .fetch_one(&mut **connection)
            .await?;
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
            .fetch_one(&mut **connection)
            .await?;
        let synchronous = ["OFF", "NORMAL", "FULL", "EXTRA"][usize::try_from(synchronous)?];
        said.push(format!("{journal}, synchronous={synchronous}"));
    }
    said.dedup();
    anyhow::ensure!(said.len() == 1, "its connections differ: {said:?}");
    Ok(format!(
        "{} (set by us on every connection: its setup turns it off)",
        said[0]
    ))
}

fn storage(pool: &SqlitePool, batch: usize) -> SqliteStorage<u64> {
    SqliteStorage::new(pool).with_config(Config::default().queue(QUEUE).batch_size(batch))
}

/// Woken by the hook; it looks by itself too, in case.
fn work_on(pool: &SqlitePool, listener: HookCallbackListener, batch: usize) {
    let woken = listener.ready_chunks(batch).map(drop);
    let strategy = Strategy::new()
        .stream(woken)
        .interval(Duration::from_millis(100));
    let backend = storage(pool, batch).poll_with_strategy(strategy);
    tokio::spawn(
        WorkerBuilder::new(WORKER)
            .backend(backend)
            .concurrency(batch)
            .build(noop)
            .run(),
    );
}

async fn tasks(
    work: &Work,
    pool: &SqlitePool,
    listener: HookCallbackListener,
) -> anyhow::Result<(Values, String)> {
    let (in_flight, tasks) = (work.number("in_flight")?, work.number("tasks")?);
    work_on(pool, listener, in_flight);
    let dispatchers = (0..in_flight).map(|_| {
        let storage = storage(pool, in_flight);
        move |number: u64| {
            let mut storage = storage.clone();
            async move { Ok(storage.push(number).await?) }
        }
    });
    let begun = Instant::now();
    let ms = FLIGHT.keep(tasks, dispatchers.collect()).await?;
    // Its acks follow the handlers' ends.
    until(tasks, || done(pool)).await?;
    let mut values = BTreeMap::from([(
        "tasks_per_second",
        tasks as f64 / begun.elapsed().as_secs_f64(),
    )]);
    add_latencies(&mut values, ms);
    Ok((values, format!("{tasks} tasks are done, each handled once")))
}

async fn drain(work: &Work, pool: &SqlitePool) -> anyhow::Result<(Values, String)> {
    let (batch, tasks) = (work.number("batch")?, work.number("tasks")?);
    let mut storage = storage(pool, batch);
    let numbers: Vec<u64> = (0..u64::try_from(tasks)?).collect();
    let storing = Instant::now();
    for numbers in numbers.chunks(batch) {
        storage.push_bulk(numbers.to_vec()).await?;
    }
    let stored = storing.elapsed();
    let begun = Instant::now();
    let backend = storage.poll_with_interval(Duration::from_millis(1));
    tokio::spawn(
        WorkerBuilder::new(WORKER)
            .backend(backend)
            .concurrency(batch)
            .build(noop)
            .run(),
    );
    FLIGHT.reached(tasks).await?;
    until(tasks, || done(pool)).await?;
    let took = begun.elapsed();
    let values = BTreeMap::from([
        ("tasks_per_second", tasks as f64 / took.as_secs_f64()),
        ("stored_per_second", tasks as f64 / stored.as_secs_f64()),
    ]);
    Ok((
        values,
        format!("{tasks} tasks were stored, and are done, each handled once"),
    ))
}

async fn pickup(
    work: &Work,
    pool: &SqlitePool,
    listener: HookCallbackListener,
) -> anyhow::Result<(Values, String)> {
    let samples = work.number("samples")?;
    work_on(pool, listener, 1);
    let storage = storage(pool, 1);
    let ms = FLIGHT.pickups(samples, |number| {
        let mut storage = storage.clone();
        async move { Ok(storage.push(number).await?) }
    });
    let ms = ms.await?;
    until(samples, || done(pool)).await?;
    let mut values = BTreeMap::new();
    add_latencies(&mut values, ms);
    Ok((values, format!("{samples} tasks are done")))
}

async fn done(pool: &SqlitePool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM Jobs WHERE status = 'Done' AND job_type = 'noop'")
        .fetch_one(pool)
        .await
}
