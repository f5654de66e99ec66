//! Tasks a second, dispatched to completed, with no-op handlers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sidestream::store::ListQuery;
use sidestream::{
    ChunkType, Config, Context, Filter, HandlerError, NewTask, SnapshotKind, Status, Store,
    StreamOptions, TaskManager, Tool,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::found::Found;
use crate::place::{Kind, Place};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Managers, each on a store of its own with connections of its own, on one database.
    pub(crate) servers: usize,
    pub(crate) in_flight: usize,
    pub(crate) tasks: usize,
}

/// Keeps `in_flight` tasks going until `tasks` have completed, as one watcher of a stream sees it: each
/// server gets its share, and the watcher is on the first.
///
/// Each task is dispatched with the time of its dispatch, and returns it: so the watcher knows how long
/// it took.
pub(crate) async fn run(
    dir: &Path,
    kind: Kind,
    url: Option<&str>,
    settings: Settings,
) -> anyhow::Result<Found> {
    let Settings {
        servers,
        in_flight,
        tasks,
    } = settings;
    let place = Place::of(kind, dir, url)?;
    let mut managers = Vec::new();
    for _ in 0..servers {
        managers.push(manager(place.open().await?, in_flight).await?);
    }
    let (took, latencies_ms) = keep_going(&managers, in_flight, tasks).await?;
    let verified = verify(&managers[0], tasks).await?;
    let (mut requests, mut commits) = (0, 0);
    for manager in managers {
        let stats = manager.stats();
        requests += stats.requests;
        commits += stats.commits;
        manager.shutdown().await;
    }
    Ok(Found::verified(verified)
        .value("tasks_per_second", tasks as f64 / took.as_secs_f64())
        .value("requests_per_commit", requests as f64 / commits as f64)
        .value(
            "transitions_per_commit",
            3.0 * tasks as f64 / commits as f64,
        )
        .latencies("", latencies_ms))
}

/// Keeps them in flight until so many have completed. Says how long it took, and each task, in milliseconds.
pub(super) async fn keep_going(
    managers: &[TaskManager],
    in_flight: usize,
    tasks: usize,
) -> anyhow::Result<(Duration, Vec<f64>)> {
    let completed = StreamOptions {
        filter: Filter::default().types([ChunkType::Completed]),
        snapshot: SnapshotKind::None,
        ..StreamOptions::default()
    };
    let mut stream = managers[0].stream(completed).await?;
    let places = Arc::new(Semaphore::new(in_flight));
    let started = Instant::now();
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
    Ok((took, latencies_ms))
}

pub(super) async fn manager(
    store: Arc<dyn Store>,
    in_flight: usize,
) -> anyhow::Result<TaskManager> {
    let config = Config {
        concurrency: u32::try_from(in_flight)?.max(10),
        concurrency_per_agent: None,
        ..crate::site::keeping_all()
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

/// Every task is there and completed, and its life is in the log: dispatched, running, completed.
pub(crate) async fn verify(manager: &TaskManager, tasks: usize) -> anyhow::Result<String> {
    let completed = ListQuery {
        statuses: vec![Status::Completed],
        ..ListQuery::new(manager.namespace().clone(), 0)
    };
    let (all, events) = (tasks as u64, manager.head().await?.seq.0);
    let completed = manager.list(completed).await?.total;
    anyhow::ensure!(completed == all, "{completed} of {all} tasks are completed");
    anyhow::ensure!(
        events == 3 * all,
        "{events} events of {all} tasks, not three of each"
    );
    Ok(format!("{all} tasks are completed, by {events} events"))
}
