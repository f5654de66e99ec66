//! From a handler's output to a stream's reader, through the log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sidestream::{
    ChunkType, Context, Filter, HandlerError, NewTask, Store, StreamOptions, TaskManager, Tool,
};
use tokio::time::Instant;

use crate::percentile;
use crate::place::{Kind, Place};

/// One line of the table.
#[derive(Serialize)]
pub(crate) struct Row {
    store: &'static str,
    outputs: usize,
    p50_ms: f64,
    p99_ms: f64,
    /// One fsync of this disk, in the same run; none for the memory store.
    fsync_p50_ms: Option<f64>,
    fsync_p99_ms: Option<f64>,
}

pub(crate) async fn measure(
    dir: &Path,
    stores: &[Kind],
    runs: usize,
    divide: usize,
) -> anyhow::Result<Vec<Row>> {
    println!("Output → reader of a stream, one output every 2 ms, idle machine otherwise");
    println!(
        "{:<12}{:>10}{:>10}{:>10}{:>15}{:>15}",
        "store", "outputs", "p50 ms", "p99 ms", "fsync p50 ms", "fsync p99 ms"
    );
    let outputs = 1_000 / divide;
    let mut rows = Vec::new();
    for kind in stores {
        let (mut ours, mut fsyncs) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            if *kind != Kind::Memory {
                fsyncs.extend(fsync_ms(dir, outputs)?);
            }
            let place = Place::fresh(*kind, dir)?;
            ours.extend(run(place.open().await?, outputs).await?);
        }
        let has_fsync = !fsyncs.is_empty();
        let row = Row {
            store: kind.name(),
            outputs: ours.len(),
            p50_ms: percentile(&mut ours, 0.5),
            p99_ms: percentile(&mut ours, 0.99),
            fsync_p50_ms: has_fsync.then(|| percentile(&mut fsyncs, 0.5)),
            fsync_p99_ms: has_fsync.then(|| percentile(&mut fsyncs, 0.99)),
        };
        let or_none = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.2}"));
        println!(
            "{:<12}{:>10}{:>10.2}{:>10.2}{:>15}{:>15}",
            row.store,
            row.outputs,
            row.p50_ms,
            row.p99_ms,
            or_none(row.fsync_p50_ms),
            or_none(row.fsync_p99_ms)
        );
        rows.push(row);
    }
    println!();
    Ok(rows)
}

/// Each output says when it was emitted; who reads it looks at the same stopwatch.
async fn run(store: Arc<dyn Store>, outputs: usize) -> anyhow::Result<Vec<f64>> {
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
    let mut latencies = Vec::with_capacity(outputs);
    while latencies.len() < outputs {
        let item = stream.next().await.expect("the stream goes on")?;
        let read_us = stopwatch.elapsed().as_micros() as f64;
        if let Some(chunk) = item.chunk {
            let emitted_us = chunk.payload().expect("it is JSON")["payload"]
                .as_f64()
                .expect("a number");
            latencies.push((read_us - emitted_us) / 1_000.0);
        }
    }
    manager.shutdown().await;
    Ok(latencies)
}

/// How long this disk takes to make 4 KiB at the end of a file durable.
#[expect(clippy::disallowed_methods, reason = "a stopwatch on a plain thread")]
fn fsync_ms(dir: &Path, times: usize) -> anyhow::Result<Vec<f64>> {
    use std::io::Write as _;
    let mut file = std::fs::File::create(dir.join("fsync"))?;
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let started = std::time::Instant::now();
        file.write_all(&[7; 4_096])?;
        file.sync_data()?;
        took.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(took)
}
