//! Tasks a second, dispatched to completed, with no-op handlers.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use sidestream::{
    ChunkType, Config, Context, Filter, HandlerError, MemoryStore, NewTask, SnapshotKind,
    SqliteOptions, SqliteStore, Store, StreamOptions, TaskManager, Tool,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{bare, machine, median, percentile};

/// One line of the table.
#[derive(Serialize)]
pub(crate) struct Row {
    store: &'static str,
    in_flight: usize,
    tasks: usize,
    tasks_per_second: f64,
    /// The same rows written by bare rusqlite, `in_flight` to a commit; none for the memory store.
    limit_per_second: Option<f64>,
    requests_per_commit: f64,
    p50_ms: f64,
    p99_ms: f64,
    peak_memory_kib: u64,
}

/// What one run found.
struct Run {
    per_second: f64,
    requests_per_commit: f64,
    latencies_ms: Vec<f64>,
}

pub(crate) async fn measure(dir: &Path, runs: usize, divide: usize) -> anyhow::Result<Vec<Row>> {
    println!(
        "Tasks dispatched → completed, no-op handler, watched by one stream; SQLite: WAL, synchronous=FULL"
    );
    println!(
        "{:<8}{:>10}{:>12}{:>14}{:>8}{:>14}{:>10}{:>10}{:>12}",
        "store",
        "in flight",
        "tasks/s",
        "bare SQLite/s",
        "ratio",
        "reqs/commit",
        "p50 ms",
        "p99 ms",
        "peak MiB"
    );
    let mut rows = Vec::new();
    for store in ["memory", "sqlite"] {
        for (in_flight, tasks) in [(1, 3_000), (10, 20_000), (100, 40_000), (1_000, 80_000)] {
            let row = measure_one(dir, store, in_flight, tasks / divide, runs).await?;
            print(&row);
            rows.push(row);
        }
    }
    println!();
    Ok(rows)
}

async fn measure_one(
    dir: &Path,
    store: &'static str,
    in_flight: usize,
    tasks: usize,
    runs: usize,
) -> anyhow::Result<Row> {
    let (mut ours, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let place = tempfile::tempdir_in(dir)?;
        ours.push(if store == "memory" {
            run(MemoryStore::new(), in_flight, tasks).await?
        } else {
            let store = SqliteStore::open(place.path(), SqliteOptions::default())?;
            limits.push(bare::lifecycles_per_second(dir, in_flight, tasks)?);
            run(store, in_flight, tasks).await?
        });
    }
    let mut latencies: Vec<_> = ours
        .iter()
        .flat_map(|run| run.latencies_ms.clone())
        .collect();
    Ok(Row {
        store,
        in_flight,
        tasks,
        tasks_per_second: median(ours.iter().map(|run| run.per_second).collect()),
        limit_per_second: (!limits.is_empty()).then(|| median(limits)),
        requests_per_commit: median(ours.iter().map(|run| run.requests_per_commit).collect()),
        p50_ms: percentile(&mut latencies, 0.5),
        p99_ms: percentile(&mut latencies, 0.99),
        peak_memory_kib: machine::peak_memory_kib(),
    })
}

/// Keeps `in_flight` tasks going until `tasks` have completed, as one watcher of a stream sees it.
///
/// Each task is dispatched with the time of its dispatch, and returns it: so the watcher knows how long
/// it took.
async fn run(store: impl Store, in_flight: usize, tasks: usize) -> anyhow::Result<Run> {
    let config = Config {
        concurrency: u32::try_from(in_flight)?.max(10),
        concurrency_per_agent: None,
        ..Config::default()
    };
    let noop = Tool::new("noop", |_: Context, asked_us: u64| async move {
        Ok::<_, HandlerError>(asked_us)
    });
    let manager = TaskManager::builder(store)
        .tool(noop)
        .config(config)
        .start()
        .await?;
    let completed = StreamOptions {
        filter: Filter::default().types([ChunkType::Completed]),
        snapshot: SnapshotKind::None,
        ..StreamOptions::default()
    };
    let mut stream = manager.stream(completed).await?;
    let places = Arc::new(Semaphore::new(in_flight));
    let started = Instant::now();
    let shares = (0..in_flight).map(|n| tasks / in_flight + usize::from(n < tasks % in_flight));
    let dispatching: JoinSet<()> = shares
        .map(|share| dispatch(manager.clone(), Arc::clone(&places), share, started))
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
    let stats = manager.stats();
    manager.shutdown().await;
    Ok(Run {
        per_second: tasks as f64 / took.as_secs_f64(),
        requests_per_commit: stats.requests as f64 / stats.commits as f64,
        latencies_ms,
    })
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
        "{:<8}{:>10}{:>12.0}{limit:>14}{ratio:>8}{:>14.1}{:>10.2}{:>10.2}{:>12.0}",
        row.store,
        row.in_flight,
        row.tasks_per_second,
        row.requests_per_commit,
        row.p50_ms,
        row.p99_ms,
        row.peak_memory_kib as f64 / 1_024.0,
    );
}
