//! Tasks a second, dispatched to completed, with no-op handlers.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use sidestream::{
    ChunkType, Config, Context, Filter, HandlerError, NewTask, SnapshotKind, Store, StreamOptions,
    TaskManager, Tool,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::place::{self, Kind, Place};
use crate::{Options, bare, machine, median, percentile};

/// One line of the table.
#[derive(Serialize)]
pub(crate) struct Row {
    store: &'static str,
    /// Managers, each on a store of its own with connections of its own, on one database.
    servers: usize,
    in_flight: usize,
    tasks: usize,
    tasks_per_second: f64,
    /// The same rows written by bare SQL, `in_flight` to a commit; none for the memory store.
    limit_per_second: Option<f64>,
    requests_per_commit: f64,
    p50_ms: f64,
    p99_ms: f64,
    peak_memory_kib: u64,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Work {
    kind: Kind,
    servers: usize,
    in_flight: usize,
    tasks: usize,
}

/// What one run found.
struct Run {
    per_second: f64,
    requests_per_commit: f64,
    latencies_ms: Vec<f64>,
}

pub(crate) async fn measure(
    dir: &Path,
    options: &Options,
    divide: usize,
) -> anyhow::Result<Vec<Row>> {
    println!(
        "Tasks dispatched → completed, no-op handler, watched by one stream; every commit waits for the disk"
    );
    println!(
        "{:<12}{:>8}{:>10}{:>10}{:>12}{:>8}{:>14}{:>10}{:>10}{:>10}",
        "store",
        "servers",
        "in flight",
        "tasks/s",
        "bare SQL/s",
        "ratio",
        "reqs/commit",
        "p50 ms",
        "p99 ms",
        "peak MiB"
    );
    let mut rows = Vec::new();
    for kind in &options.stores {
        let servers: &[usize] = match kind {
            Kind::Postgres => &options.servers,
            Kind::Memory | Kind::Sqlite => &[1],
        };
        for servers in servers {
            for in_flight in &options.in_flight {
                // Enough for a few seconds.
                let tasks = match in_flight {
                    0..10 => 3_000,
                    10..100 => 20_000,
                    100..1_000 => 40_000,
                    _ => 80_000,
                };
                let work = Work {
                    kind: *kind,
                    servers: *servers,
                    in_flight: *in_flight,
                    tasks: tasks / divide,
                };
                let row = measure_one(dir, work, options.runs).await?;
                print(&row);
                rows.push(row);
            }
        }
    }
    println!();
    Ok(rows)
}

async fn measure_one(dir: &Path, work: Work, runs: usize) -> anyhow::Result<Row> {
    let (mut ours, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        limits.extend(limit(dir, work).await?);
        let place = Place::fresh(work.kind, dir)?;
        let mut stores = Vec::new();
        for _ in 0..work.servers {
            stores.push(place.open().await?);
        }
        ours.push(run(stores, work).await?);
    }
    let mut latencies: Vec<_> = ours
        .iter()
        .flat_map(|run| run.latencies_ms.clone())
        .collect();
    Ok(Row {
        store: work.kind.name(),
        servers: work.servers,
        in_flight: work.in_flight,
        tasks: work.tasks,
        tasks_per_second: median(ours.iter().map(|run| run.per_second).collect()),
        limit_per_second: (!limits.is_empty()).then(|| median(limits)),
        requests_per_commit: median(ours.iter().map(|run| run.requests_per_commit).collect()),
        p50_ms: percentile(&mut latencies, 0.5),
        p99_ms: percentile(&mut latencies, 0.99),
        peak_memory_kib: machine::peak_memory_kib(),
    })
}

/// The same rows by bare SQL.
async fn limit(dir: &Path, work: Work) -> anyhow::Result<Option<f64>> {
    let (batch, tasks) = (i64::try_from(work.in_flight)?, i64::try_from(work.tasks)?);
    Ok(match work.kind {
        Kind::Memory => None,
        Kind::Sqlite => Some(bare::sqlite::lives_per_second(dir, batch, tasks)?),
        Kind::Postgres => {
            let cluster = place::cluster();
            let url = cluster.url("postgres");
            Some(bare::postgres::lives_per_second(&url, batch, tasks).await?)
        }
    })
}

/// Keeps `in_flight` tasks going until `tasks` have completed, as one watcher of a stream sees it: each
/// server gets its share, and the watcher is on the first.
///
/// Each task is dispatched with the time of its dispatch, and returns it: so the watcher knows how long
/// it took.
async fn run(stores: Vec<Arc<dyn Store>>, work: Work) -> anyhow::Result<Run> {
    let mut managers = Vec::new();
    for store in stores {
        managers.push(manager(store, work.in_flight).await?);
    }
    let completed = StreamOptions {
        filter: Filter::default().types([ChunkType::Completed]),
        snapshot: SnapshotKind::None,
        ..StreamOptions::default()
    };
    let mut stream = managers[0].stream(completed).await?;
    let places = Arc::new(Semaphore::new(work.in_flight));
    let started = Instant::now();
    let (tasks, in_flight) = (work.tasks, work.in_flight);
    let shares = (0..in_flight).map(|n| tasks / in_flight + usize::from(n < tasks % in_flight));
    let dispatching: JoinSet<()> = shares
        .zip(managers.iter().cycle())
        .map(|(share, manager)| dispatch(manager.clone(), Arc::clone(&places), share, started))
        .collect();
    let mut latencies_ms = Vec::with_capacity(tasks);
    while latencies_ms.len() < tasks {
        let items = stream.next_batch().await.expect("the stream goes on")?;
        let now_us = started.elapsed().as_micros() as f64;
        for chunk in items.iter().filter_map(|item| item.chunk.as_ref()) {
            let asked_us = chunk.payload().expect("it is JSON")["result"]
                .as_f64()
                .expect("a number");
            latencies_ms.push((now_us - asked_us) / 1_000.0);
            places.add_permits(1);
        }
    }
    let took = started.elapsed();
    dispatching.join_all().await;
    let (mut requests, mut commits) = (0, 0);
    for manager in managers {
        let stats = manager.stats();
        requests += stats.requests;
        commits += stats.commits;
        manager.shutdown().await;
    }
    Ok(Run {
        per_second: tasks as f64 / took.as_secs_f64(),
        requests_per_commit: requests as f64 / commits as f64,
        latencies_ms,
    })
}

async fn manager(store: Arc<dyn Store>, in_flight: usize) -> anyhow::Result<TaskManager> {
    let config = Config {
        concurrency: u32::try_from(in_flight)?.max(10),
        concurrency_per_agent: None,
        ..Config::default()
    };
    let noop = Tool::new("noop", |_: Context, asked_us: u64| async move {
        Ok::<_, HandlerError>(asked_us)
    });
    let builder = TaskManager::builder_on(store).tool(noop).config(config);
    Ok(builder.start().await?)
}

/// Dispatches its share, each as soon as one in flight has completed.
async fn dispatch(manager: TaskManager, places: Arc<Semaphore>, share: usize, started: Instant) {
    for _ in 0..share {
        places.acquire().await.expect("never closed").forget();
        let asked_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let task = NewTask::new("noop")
            .args(serde_json::json!(asked_us))
            .agent("bench");
        manager.dispatch(task).await.expect("accepted");
    }
}

fn print(row: &Row) {
    let limit = row
        .limit_per_second
        .map_or("-".to_owned(), |l| format!("{l:.0}"));
    let ratio = row
        .limit_per_second
        .map(|l| row.tasks_per_second / l * 100.0);
    let ratio = ratio.map_or("-".to_owned(), |r| format!("{r:.0} %"));
    println!(
        "{:<12}{:>8}{:>10}{:>10.0}{limit:>12}{ratio:>8}{:>14.1}{:>10.2}{:>10.2}{:>10.0}",
        row.store,
        row.servers,
        row.in_flight,
        row.tasks_per_second,
        row.requests_per_commit,
        row.p50_ms,
        row.p99_ms,
        row.peak_memory_kib as f64 / 1_024.0,
    );
}
