//! apalis on PostgreSQL: woken by NOTIFY.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage};
use sqlx::postgres::PgPoolOptions;

use crate::flight::FLIGHT;
use crate::work::{Found, Work, add_latencies, durability_of_postgres, peak_kib, ready, until};

type Values = BTreeMap<&'static str, f64>;

const QUEUE: &str = "noop";

async fn noop(number: u64) -> Result<(), BoxDynError> {
    FLIGHT.began();
    FLIGHT.completed(number);
    Ok(())
}

pub(crate) async fn run(work: &Work) -> anyhow::Result<Found> {
    let pool = PgPoolOptions::new()
        .max_connections(20)
        .connect(work.url()?)
        .await?;
    PostgresStorage::setup(&pool).await?;
    ready();
    let (values, verified) = match work.figure.as_str() {
        "tasks" => tasks(work, &pool).await?,
        "drain" => drain(work, &pool).await?,
        "pickup" => pickup(work, &pool).await?,
        other => anyhow::bail!("apalis has no part in {other}"),
    };
    Ok(Found {
        contender: "apalis-postgres".into(),
        version: "1.0.0".into(),
        durability: durability_of_postgres(&pool).await?,
        values,
        verified,
        peak_kib: peak_kib(),
    })
}

fn storage(pool: &PgPool, batch: usize) -> PostgresStorage<u64> {
    PostgresStorage::new(pool).with_config(Config::default().queue(QUEUE).batch_size(batch))
}

/// Woken by NOTIFY; it looks by itself too, in case.
fn work_on(pool: &PgPool, batch: usize) {
    let strategy = Strategy::new().interval(Duration::from_millis(100));
    let backend = storage(pool, batch)
        .with_pubsub()
        .poll_with_strategy(strategy);
    tokio::spawn(
        WorkerBuilder::new("bench")
            .backend(backend)
            .concurrency(batch)
            .build(noop)
            .run(),
    );
}

async fn tasks(work: &Work, pool: &PgPool) -> anyhow::Result<(Values, String)> {
    let (in_flight, tasks) = (work.number("in_flight")?, work.number("tasks")?);
    work_on(pool, in_flight);
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

async fn drain(work: &Work, pool: &PgPool) -> anyhow::Result<(Values, String)> {
    let (batch, tasks) = (work.number("batch")?, work.number("tasks")?);
    let mut storage = storage(pool, batch);
    let numbers: Vec<u64> = (0..u64::try_from(tasks)?).collect();
    let storing = Instant::now();
    for numbers in numbers.chunks(batch) {
        storage.push_bulk(numbers.to_vec()).await?;
    }
    let stored = storing.elapsed();
    // As the database does by itself, a minute later.
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

async fn pickup(work: &Work, pool: &PgPool) -> anyhow::Result<(Values, String)> {
    let samples = work.number("samples")?;
    work_on(pool, 1);
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

async fn done(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM apalis.jobs WHERE status = 'Done'")
        .fetch_one(pool)
        .await
}
