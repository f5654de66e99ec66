//! From a handler's output to a stream's reader, through the log: one output every 2 ms, on a machine that is
//! idle otherwise.

use std::path::Path;
use std::time::Duration;

use sidestream::{
    ChunkType, Context, Filter, HandlerError, NewTask, StreamOptions, TaskManager, Tool,
};
use tokio::time::Instant;

use crate::found::Found;
use crate::place::{Kind, Place};

/// Each output says when it was emitted; who reads it looks at the same stopwatch.
pub(crate) async fn run(
    dir: &Path,
    kind: Kind,
    url: Option<&str>,
    outputs: usize,
) -> anyhow::Result<Found> {
    let store = Place::of(kind, dir, url)?.open().await?;
    let stopwatch = Instant::now();
    let emits = Tool::new("emits", move |context: Context, (): ()| async move {
        for _ in 0..outputs {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let emitted_us = u64::try_from(stopwatch.elapsed().as_micros()).unwrap_or(u64::MAX);
            context.output(&emitted_us).await?;
        }
        Ok::<_, HandlerError>(())
    });
    let manager = TaskManager::builder_on(store).tool(emits).start().await?;
    let options = StreamOptions {
        filter: Filter::default().types([ChunkType::Output]),
        ..StreamOptions::default()
    };
    let mut stream = manager.stream(options).await?;
    manager
        .dispatch(NewTask::new("emits").args(serde_json::json!(null)))
        .await?;
    let mut latencies_ms = Vec::with_capacity(outputs);
    let mut last = None;
    while latencies_ms.len() < outputs {
        let item = stream.next().await.expect("the stream goes on")?;
        let read_us = stopwatch.elapsed().as_micros() as f64;
        if let Some(chunk) = item.chunk {
            let emitted_us = chunk.payload().expect("it is JSON")["payload"]
                .as_f64()
                .expect("a number");
            latencies_ms.push((read_us - emitted_us) / 1_000.0);
            anyhow::ensure!(last < Some(emitted_us), "an output came out of order");
            last = Some(emitted_us);
        }
    }
    manager.shutdown().await;
    let verified = format!("{outputs} outputs were read, in their order");
    Ok(Found::verified(verified).latencies("", latencies_ms))
}
