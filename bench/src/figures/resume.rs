//! A reader who comes back far behind: events a second from the log, in process.

use std::path::Path;

use sidestream::{Config, Cursor, Filter, RingLimits, Seq, Start, StreamOptions, TaskManager};
use tokio::time::Instant;

use crate::found::{Found, percentile};
use crate::load::{self, Load};
use crate::place::{Kind, Place};

/// Outputs of each task.
const OUTPUTS: usize = 98;
const TIMES: usize = 5;

/// Reads the last `events` of the log, which have left the ring, or were never in it.
pub(crate) async fn run(
    dir: &Path,
    kind: Kind,
    url: Option<&str>,
    events: usize,
) -> anyhow::Result<Found> {
    let store = Place::of(kind, dir, url)?.open().await?;
    let load = Load {
        tasks: events / (OUTPUTS + 2),
        outputs: OUTPUTS,
        ends: false,
    };
    load::bring(&*store, load).await?;
    let config = Config {
        ring: RingLimits {
            chunks: 1_000,
            ..RingLimits::default()
        },
        ..crate::site::keeping_all()
    };
    let manager = TaskManager::builder_on(store)
        .config(config)
        .start()
        .await?;
    let head = manager.head().await?;
    anyhow::ensure!(
        head.seq.0 == events as u64,
        "the log has {} events",
        head.seq
    );
    let per_second = per_second(&manager, Seq(0), head.seq).await?;
    manager.shutdown().await;
    let verified = format!("{TIMES} times {events} events were read, each after the one before");
    Ok(Found::verified(verified).value("events_per_second", per_second))
}

/// Reads what came after an event, up to the last, again and again: the median.
pub(super) async fn per_second(
    manager: &TaskManager,
    after: Seq,
    last: Seq,
) -> anyhow::Result<f64> {
    let mut per_second = Vec::new();
    for _ in 0..TIMES {
        let begun = Instant::now();
        read(manager, after, last).await?;
        per_second.push((last.0 - after.0) as f64 / begun.elapsed().as_secs_f64());
    }
    Ok(percentile(&mut per_second, 0.5))
}

async fn read(manager: &TaskManager, after: Seq, last: Seq) -> anyhow::Result<()> {
    let options = StreamOptions {
        filter: Filter::default().types(sidestream::ChunkType::ALL),
        start: Start::After(Cursor {
            epoch: None,
            seq: after,
        }),
        ..StreamOptions::default()
    };
    let mut stream = manager.stream(options).await?;
    let mut seen = after;
    while seen < last {
        let items = stream.next_batch().await.expect("the stream goes on")?;
        for chunk in items.iter().filter_map(|item| item.chunk.as_ref()) {
            let seq = chunk.seq.expect("it is of the log");
            anyhow::ensure!(seq == seen.next(), "{seq} came after {seen}");
            seen = seq;
        }
    }
    Ok(())
}
