//! graphile_worker on PostgreSQL: woken by NOTIFY, with a local queue and batched completions or with neither.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use graphile_worker::{
    IntoTaskHandlerResult, JobComplete, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, Worker,
    WorkerContext, WorkerOptions, WorkerUtils,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::flight::FLIGHT;
use crate::work::{Found, Work, add_latencies, durability_of_postgres, peak_kib, ready, until};

type Values = BTreeMap<&'static str, f64>;

#[derive(Clone, Deserialize, Serialize)]
struct Noop {
    number: u64,
}

impl TaskHandler for Noop {
    const IDENTIFIER: &'static str = "noop";

    async fn run(self, _: WorkerContext) -> impl IntoTaskHandlerResult {
        FLIGHT.began();
        Ok::<(), String>(())
    }
}

pub(crate) async fn run(work: &Work) -> anyhow::Result<Found> {
    let has_local_queue = work.settings.contains_key("local_queue");
    let pool = PgPoolOptions::new()
        .max_connections(20)
        .connect(work.url()?)
        .await?;
    let at_once = ["in_flight", "batch"]
        .iter()
        .find_map(|name| work.number(name).ok())
        .unwrap_or(1);
    let worker = worker(&pool, at_once, has_local_queue).await?;
    let utils = worker.create_utils();
    ready();
    let (values, verified) = match work.figure.as_str() {
        "tasks" => tasks(work, &pool, worker, &utils).await?,
        "drain" => drain(work, &pool, worker, &utils).await?,
        "pickup" => pickup(work, &pool, worker, &utils).await?,
        other => anyhow::bail!("graphile_worker has no part in {other}"),
    };
    Ok(Found {
        contender: format!(
            "graphile_worker{}",
            if has_local_queue { ", local queue" } else { "" }
        ),
        version: "0.14.1".into(),
        durability: durability_of_postgres(&pool).await?,
        values,
        verified,
        peak_kib: peak_kib(),
    })
}

/// Its hook tells when a job's completion is written.
async fn worker(pool: &PgPool, at_once: usize, has_local_queue: bool) -> anyhow::Result<Worker> {
    let options = WorkerOptions::default()
        .pg_pool(pool.clone())
        .concurrency(at_once.min(100))
        .listen_os_shutdown_signals(false)
        .define_job::<Noop>()
        .on(JobComplete, |context| async move {
            let number = context.job.payload()["number"].as_u64();
            FLIGHT.completed(number.expect("we put it there"));
        });
    let options = match has_local_queue {
        true => options
            .local_queue(LocalQueueConfig::default().with_size(at_once.max(2)))
            .complete_job_batch_delay(Duration::from_millis(1)),
        false => options,
    };
    Ok(options.init().await?)
}

fn start(worker: Worker) {
    tokio::spawn(async move { worker.run().await });
}

async fn tasks(
    work: &Work,
    pool: &PgPool,
    worker: Worker,
    utils: &WorkerUtils,
) -> anyhow::Result<(Values, String)> {
    let (in_flight, tasks) = (work.number("in_flight")?, work.number("tasks")?);
    start(worker);
    let dispatchers = (0..in_flight).map(|_| {
        let utils = utils.clone();
        move |number: u64| {
            let utils = utils.clone();
            async move {
                utils.add_job(Noop { number }, JobSpec::default()).await?;
                Ok(())
            }
        }
    });
    let begun = Instant::now();
    let ms = FLIGHT.keep(tasks, dispatchers.collect()).await?;
    until(0, || left(pool)).await?;
    let mut values = BTreeMap::from([(
        "tasks_per_second",
        tasks as f64 / begun.elapsed().as_secs_f64(),
    )]);
    add_latencies(&mut values, ms);
    Ok((
        values,
        format!("{tasks} jobs were completed once each, and none is left"),
    ))
}

async fn drain(
    work: &Work,
    pool: &PgPool,
    worker: Worker,
    utils: &WorkerUtils,
) -> anyhow::Result<(Values, String)> {
    let (batch, tasks) = (work.number("batch")?, work.number("tasks")?);
    let numbers: Vec<u64> = (0..u64::try_from(tasks)?).collect();
    let storing = Instant::now();
    for numbers in numbers.chunks(batch) {
        let job = |number: &u64| RawJobSpec {
            identifier: Noop::IDENTIFIER.into(),
            payload: serde_json::json!({ "number": number }),
            spec: JobSpec::default(),
        };
        utils
            .add_raw_jobs(&numbers.iter().map(job).collect::<Vec<_>>())
            .await?;
    }
    let stored = storing.elapsed();
    let begun = Instant::now();
    start(worker);
    FLIGHT.reached(tasks).await?;
    until(0, || left(pool)).await?;
    let took = begun.elapsed();
    let values = BTreeMap::from([
        ("tasks_per_second", tasks as f64 / took.as_secs_f64()),
        ("stored_per_second", tasks as f64 / stored.as_secs_f64()),
    ]);
    Ok((
        values,
        format!("{tasks} jobs were stored, then completed once each, and none is left"),
    ))
}

async fn pickup(
    work: &Work,
    pool: &PgPool,
    worker: Worker,
    utils: &WorkerUtils,
) -> anyhow::Result<(Values, String)> {
    let samples = work.number("samples")?;
    start(worker);
    let ms = FLIGHT.pickups(samples, |number| async move {
        utils.add_job(Noop { number }, JobSpec::default()).await?;
        Ok(())
    });
    let ms = ms.await?;
    until(0, || left(pool)).await?;
    let mut values = BTreeMap::new();
    add_latencies(&mut values, ms);
    Ok((
        values,
        format!("{samples} jobs were completed, and none is left"),
    ))
}

async fn left(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM graphile_worker._private_jobs")
        .fetch_one(pool)
        .await
}
