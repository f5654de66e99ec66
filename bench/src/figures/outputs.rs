//! Output events a second: many tasks speak at once, and one watcher hears everything.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use sidestream::core::{EventKind, Seq, TaskId};
use sidestream::store::LogQuery;
use sidestream::{
    ChunkType, Config, Context, Filter, HandlerError, NewTask, SnapshotKind, Store, StreamOptions,
    TaskManager, Tool,
};
use tokio::time::Instant;

use crate::found::Found;
use crate::place::{Kind, Place};

/// With its quotes 200 bytes.
const BYTES: usize = 198;

/// `tasks` at once, each with its share of `outputs`; the time is until the watcher has the last.
pub(crate) async fn run(
    dir: &Path,
    kind: Kind,
    url: Option<&str>,
    tasks: usize,
    outputs: usize,
) -> anyhow::Result<Found> {
    let place = Place::of(kind, dir, url)?;
    let store = place.open().await?;
    let each = outputs / tasks;
    let talks = Tool::new("talks", move |context: Context, (): ()| async move {
        for n in 0..each {
            context.output(&format!("{n:0BYTES$}")).await?;
        }
        Ok::<_, HandlerError>(())
    });
    let config = Config {
        concurrency: u32::try_from(tasks)?,
        concurrency_per_agent: None,
        ..Config::default()
    };
    let builder = TaskManager::builder_on(Arc::clone(&store));
    let manager = builder.tool(talks).config(config).start().await?;
    let options = StreamOptions {
        filter: Filter::default().types([ChunkType::Output]),
        snapshot: SnapshotKind::None,
        ..StreamOptions::default()
    };
    let mut stream = manager.stream(options).await?;
    let started = Instant::now();
    for _ in 0..tasks {
        let task = NewTask::new("talks").args(serde_json::json!(null));
        manager.dispatch(task).await?;
    }
    let mut heard = 0;
    while heard < each * tasks {
        let items = stream.next_batch().await.expect("the stream goes on")?;
        heard += items.iter().filter(|item| item.chunk.is_some()).count();
    }
    let took = started.elapsed();
    let commits = manager.stats().commits;
    manager.shutdown().await;
    let logged = in_order(&*store, tasks, each).await?;
    Ok(
        Found::verified(format!("{heard} outputs were heard; {logged}"))
            .value("events_per_second", heard as f64 / took.as_secs_f64())
            .value("events_per_commit", heard as f64 / commits as f64),
    )
}

/// Every output is in the log, each task's in order.
async fn in_order(store: &dyn Store, tasks: usize, each: usize) -> anyhow::Result<String> {
    let mut next: HashMap<TaskId, usize> = HashMap::new();
    let (mut after, mut events) = (Seq(0), 0_u64);
    loop {
        let query = LogQuery {
            after,
            limit: 10_000,
            bytes_max: LogQuery::BYTES_MAX,
            task: None,
        };
        let page = store.log(&query).await?;
        let Some(last) = page.entries.last() else {
            break;
        };
        after = last.event.seq;
        for entry in &page.entries {
            events += 1;
            anyhow::ensure!(
                entry.event.seq == Seq(events),
                "{} is not there",
                Seq(events)
            );
            if let EventKind::Output { payload, .. } = &entry.event.kind {
                let next = next.entry(entry.task.id.clone()).or_default();
                let said: String = payload.parse()?;
                anyhow::ensure!(said.parse::<usize>()? == *next, "{next} is not there");
                *next += 1;
            }
        }
    }
    let all = next.len() == tasks && next.values().all(|next| *next == each);
    anyhow::ensure!(all, "outputs are missing");
    Ok(format!(
        "{events} events are in the log, each task's in order"
    ))
}
