//! The snapshot of many running tasks: how soon its first chunk is there, how soon all, what memory it takes, and
//! how long other work waits meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use sidestream::{Config, NewTask, StreamOptions, TaskManager};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::found::{Found, percentile};
use crate::load::{self, Load};
use crate::machine::memory_kib;
use crate::place::{Kind, Place};

/// Snapshots taken one after the other.
const TIMES: usize = 10;

pub(crate) async fn run(
    dir: &Path,
    kind: Kind,
    url: Option<&str>,
    tasks: usize,
) -> anyhow::Result<Found> {
    let store = Place::of(kind, dir, url)?.open().await?;
    let load = Load {
        tasks,
        outputs: 0,
        ends: false,
    };
    load::bring(&*store, load).await?;
    let config = Config {
        accepts_any_tool: true,
        ..crate::site::keeping_all()
    };
    let manager = TaskManager::builder_on(store)
        .config(config)
        .start()
        .await?;
    // Once, so that what any first read costs is not counted as the snapshot's.
    take(&manager, tasks, || {}).await?;
    let idle_kib = memory_kib();
    let mut peak_kib = 0;
    take(&manager, tasks, || peak_kib = memory_kib().max(peak_kib)).await?;
    let (mut first_ms, mut all_ms) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let (first, all) = take(&manager, tasks, || {}).await?;
        first_ms.push(first);
        all_ms.push(all);
    }
    let extra_kib = peak_kib.saturating_sub(idle_kib);
    let mut alone_ms = commits(&manager, Arc::new(AtomicBool::new(false)), 500).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut committing = JoinSet::new();
    let (other, stopping) = (manager.clone(), Arc::clone(&stop));
    committing.spawn(async move { commits(&other, stopping, usize::MAX).await });
    for _ in 0..2 * TIMES {
        take(&manager, tasks, || {}).await?;
    }
    stop.store(true, Relaxed);
    let mut beside_ms = committing.join_next().await.expect("it commits")??;
    manager.shutdown().await;
    let verified = format!(
        "each of {} snapshots showed {tasks} tasks, each once",
        1 + 3 * TIMES
    );
    Ok(Found::verified(verified)
        .value("first_chunk_ms", percentile(&mut first_ms, 0.5))
        .value("first_chunk_worst_ms", percentile(&mut first_ms, 1.0))
        .value("all_ms", percentile(&mut all_ms, 0.5))
        .value("extra_memory_mib", extra_kib as f64 / 1_024.0)
        .value("commit_alone_p99_ms", percentile(&mut alone_ms, 0.99))
        .value("commit_beside_p99_ms", percentile(&mut beside_ms, 0.99)))
}

/// Milliseconds until the first chunk, and until the last. Looks on after each batch.
async fn take(
    manager: &TaskManager,
    tasks: usize,
    mut look: impl FnMut(),
) -> anyhow::Result<(f64, f64)> {
    let begun = Instant::now();
    let ms = || begun.elapsed().as_secs_f64() * 1_000.0;
    let mut stream = manager.stream(StreamOptions::default()).await?;
    let (mut shown, mut first) = (0, None);
    let mut seen = std::collections::HashSet::with_capacity(tasks);
    loop {
        let items = stream.next_batch().await.expect("the stream goes on")?;
        first.get_or_insert_with(ms);
        look();
        for item in &items {
            let Some(chunk) = &item.chunk else {
                anyhow::ensure!(shown >= tasks, "{shown} of {tasks} tasks were shown");
                return Ok((first.expect("it is there"), ms()));
            };
            shown += 1;
            // Sixty-four bits of an id: enough to see one that comes twice, and little memory.
            let id = chunk.task_id().expect("it is of a task").as_str();
            let id = u64::from_str_radix(&id[..16], 16)?;
            anyhow::ensure!(seen.insert(id), "a task was shown twice");
        }
    }
}

/// How long each of some commits takes, one every millisecond.
async fn commits(
    manager: &TaskManager,
    stop: Arc<AtomicBool>,
    count: usize,
) -> anyhow::Result<Vec<f64>> {
    let mut ms = Vec::new();
    while !stop.load(Relaxed) && ms.len() < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let begun = Instant::now();
        manager.dispatch(NewTask::new("nobody's")).await?;
        ms.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(ms)
}
