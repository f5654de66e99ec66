//! From the call that dispatches a task to the first line of its handler, on an idle machine.

use std::path::Path;
use std::time::Duration;

use sidestream::{Context, HandlerError, NewTask, TaskManager, Tool};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::tasks::verify;
use crate::found::Found;
use crate::place::{Kind, Place};

/// Between two samples nothing happens for so long.
const PAUSE: Duration = Duration::from_millis(3);

/// One task after the other.
pub(crate) async fn run(
    dir: &Path,
    kind: Kind,
    url: Option<&str>,
    samples: usize,
) -> anyhow::Result<Found> {
    let (tell, mut began) = mpsc::unbounded_channel();
    let probe = Tool::new("probe", move |_: Context, (): ()| {
        let told = tell.send(Instant::now());
        async move { told.map_err(|_| HandlerError::from("nobody listens")) }
    });
    let store = Place::of(kind, dir, url)?.open().await?;
    let manager = TaskManager::builder_on(store).tool(probe).start().await?;
    let mut latencies_ms = Vec::with_capacity(samples);
    for _ in 0..samples {
        tokio::time::sleep(PAUSE).await;
        let task = NewTask::new("probe").args(serde_json::json!(null));
        let dispatched_at = Instant::now();
        let dispatched = manager.dispatch(task).await?;
        let began_at = began.recv().await.expect("the tool has the other end");
        latencies_ms.push((began_at - dispatched_at).as_secs_f64() * 1_000.0);
        manager.wait(dispatched.id().expect("queued")).await?;
    }
    let verified = verify(&manager, samples).await?;
    manager.shutdown().await;
    Ok(Found::verified(verified).latencies("", latencies_ms))
}
