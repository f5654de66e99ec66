//! What the same work costs beside ever more that is stored: nothing of it may grow.

use std::path::Path;
use std::sync::Arc;

use sidestream::{Seq, SqliteOptions, SqliteStore, Store};

use super::{list, resume, start, tasks};
use crate::found::{Found, ready};
use crate::load;

const IN_FLIGHT: usize = 100;
/// Tasks that run beside those that are there.
const MORE: usize = 20_000;
/// So many events back a stream begins; fewer, where there are not so many.
const BEHIND: u64 = 100_000;

/// Works on a copy of a database of so many tasks, each with ten events. `big` is a folder that keeps it for the
/// next run.
pub(crate) async fn run(big: &Path, dir: &Path, stored: usize) -> anyhow::Result<Found> {
    let place = dir.join("store");
    load::copy(big, start::load(stored), &place).await?;
    ready();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&place, SqliteOptions::default())?);
    let listed = list::in_process(&*store, stored).await?;
    let manager = tasks::manager(store, IN_FLIGHT).await?;
    let head = manager.head().await?.seq;
    anyhow::ensure!(
        head.0 == 10 * stored as u64,
        "the log has {head} events, not ten of each of {stored} tasks"
    );
    let after = Seq(head.0.saturating_sub(BEHIND));
    let resumed_per_second = resume::per_second(&manager, after, head).await?;
    let managers = [manager];
    let (took, latencies_ms) = tasks::keep_going(&managers, IN_FLIGHT, MORE).await?;
    let [manager] = managers;
    let now = manager.head().await?.seq;
    anyhow::ensure!(
        now.0 == head.0 + 3 * MORE as u64,
        "the log goes from {head} to {now}, not by three events for each of {MORE} tasks"
    );
    manager.shutdown().await;
    let verified = format!(
        "{MORE} tasks completed beside {stored}, by three events each; {}",
        listed.verified
    );
    Ok(Found::verified(verified)
        .value("tasks_per_second", MORE as f64 / took.as_secs_f64())
        .latencies("", latencies_ms)
        .value("page_p99_ms", listed.values["p99_ms"])
        .value("resumed_per_second", resumed_per_second))
}
