//! A backlog: all tasks are stored before any is begun, then they are taken as fast as they can be.

use std::path::Path;

use sidestream::{
    ChunkType, Config, Context, Cursor, Filter, HandlerError, NewTask, SnapshotKind, Start,
    StreamOptions, TaskManager, Tool,
};
use tokio::time::Instant;

use super::tasks::verify;
use crate::found::Found;
use crate::place::{Kind, Place};

/// They are dispatched `batch` to a call for a tool that is elsewhere; then somebody comes who has it, and runs
/// `batch` at once. Both share the store, as two servers do.
pub(crate) async fn run(
    dir: &Path,
    kind: Kind,
    url: Option<&str>,
    batch: usize,
    tasks: usize,
) -> anyhow::Result<Found> {
    let store = Place::of(kind, dir, url)?.open().await?;
    let config = Config {
        concurrency: u32::try_from(batch)?,
        concurrency_per_agent: None,
        ..Config::default()
    };
    let dispatcher = TaskManager::builder_on(store.clone())
        .tool(Tool::remote("noop"))
        .config(config.clone());
    let dispatcher = dispatcher.start().await?;
    let began = Instant::now();
    for first in (0..tasks).step_by(batch) {
        let new = |_| NewTask::new("noop").args(serde_json::json!(null));
        let some = (first..tasks.min(first + batch)).map(new);
        for dispatched in dispatcher.dispatch_all(some).await {
            dispatched?;
        }
    }
    let storing = began.elapsed();
    let head = dispatcher.head().await?;
    dispatcher.shutdown().await;

    let noop = Tool::new("noop", |_: Context, (): ()| async {
        Ok::<_, HandlerError>(())
    });
    let completed = StreamOptions {
        filter: Filter::default().types([ChunkType::Completed]),
        snapshot: SnapshotKind::None,
        start: Start::After(Cursor::new(head.epoch, head.seq)),
        ..StreamOptions::default()
    };
    let began = Instant::now();
    let worker = TaskManager::builder_on(store).tool(noop).config(config);
    let worker = worker.start().await?;
    let mut stream = worker.stream(completed).await?;
    let mut seen = 0;
    while seen < tasks {
        let items = stream.next_batch().await.expect("the stream goes on")?;
        seen += items.iter().filter(|item| item.chunk.is_some()).count();
    }
    let draining = began.elapsed();
    let verified = verify(&worker, tasks).await?;
    worker.shutdown().await;
    Ok(Found::verified(verified)
        .value("tasks_per_second", tasks as f64 / draining.as_secs_f64())
        .value("stored_per_second", tasks as f64 / storing.as_secs_f64()))
}
