//! apalis on SQLite: woken by SQLite's hook on insertions, every commit waiting for the disk.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_sqlite::callback::HookCallbackListener;
use apalis_sqlite::{Config, SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteStorage};
use futures::StreamExt as _;
use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};

use crate::flight::FLIGHT;
use crate::work::{Found, Work, add_latencies, until};

type Values = BTreeMap<&'static str, f64>;

const QUEUE: &str = "noop";

async fn noop(number: u64) -> Result<(), BoxDynError> {
    FLIGHT.began();
    FLIGHT.completed(number);
    Ok(())
}

pub(crate) async fn run(work: &Work) -> anyhow::Result<Found> {
    let (pool, listener) = pool(work).await?;
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
    })
}

/// Its own `setup` turns `synchronous` off on the connection that it is given, so that one is thrown away; all that
/// are used wait for the disk.
async fn pool(work: &Work) -> anyhow::Result<(SqlitePool, HookCallbackListener)> {
    let path = work.dir.join("apalis.db");
    let file = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(30))
        .synchronous(SqliteSynchronous::Full)
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "64000");
    let thrown_away = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(file.clone())
        .await?;
    SqliteStorage::setup(&thrown_away).await?;
    thrown_away.close().await;
    let (pool, listener) =
        SqliteStorage::connect_with_callback(&format!("sqlite://{}", path.display()))?;
    pool.set_connect_options(file);
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
        WorkerBuilder::new("bench")
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
    // Without it the acks' plan looks through the whole table for each.
    sqlx::query("ANALYZE").execute(pool).await?;
    let begun = Instant::now();
    let backend = storage.poll_with_interval(Duration::from_millis(1));
    tokio::spawn(
        WorkerBuilder::new("bench")
            .backend(backend)
            .concurrency(batch)
            .build(noop)
            .run(),
    );
    until(tasks, || done(pool)).await?;
    let took = begun.elapsed();
    anyhow::ensure!(
        FLIGHT.count() == tasks,
        "{} of {tasks} tasks were handled",
        FLIGHT.count()
    );
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
    sqlx::query_scalar("SELECT count(*) FROM Jobs WHERE status = 'Done'")
        .fetch_one(pool)
        .await
}
