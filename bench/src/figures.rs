//! The figures of ours, each in a file of its own: what is done, measured and looked at afterwards.

mod across;
mod drain;
pub(crate) mod fanout;
mod growth;
mod latency;
mod list;
mod outputs;
mod pickup;
mod resume;
mod snapshot;
pub(crate) mod soak;
pub(crate) mod start;
mod stores;
mod tasks;
mod threads;

use std::path::PathBuf;

use crate::found::Found;
use crate::load;
use crate::work::Work;

/// Where a figure on SQLite has its store: those of a large database share one.
pub(crate) fn store_of(work: &Work) -> anyhow::Result<PathBuf> {
    Ok(match work.figure.as_str() {
        "list" => load::folder(&work.big()?, start::load(work.number("tasks")?)),
        _ => work.dir.clone(),
    }
    .join("store"))
}

/// Carries out one.
pub(crate) async fn run(work: &Work) -> anyhow::Result<Found> {
    let (dir, url) = (work.dir.as_path(), work.url.as_deref());
    match work.figure.as_str() {
        "tasks" => {
            let settings = tasks::Settings {
                servers: work.number("servers").unwrap_or(1),
                in_flight: work.number("in_flight")?,
                tasks: work.number("tasks")?,
            };
            tasks::run(dir, work.store, url, settings).await
        }
        "drain" => {
            let (batch, tasks) = (work.number("batch")?, work.number("tasks")?);
            drain::run(dir, work.store, url, batch, tasks).await
        }
        "pickup" => pickup::run(dir, work.store, url, work.number("samples")?).await,
        "stores" => stores::run(dir, work.store, work.number("records")?).await,
        "latency" => latency::run(dir, work.store, url, work.number("outputs")?).await,
        "outputs" => {
            let (tasks, outputs) = (work.number("tasks")?, work.number("outputs")?);
            outputs::run(dir, work.store, url, tasks, outputs).await
        }
        "fanout" | "delivery" => {
            fanout::run(dir, work.store, url, fanout::Settings::of(work)?).await
        }
        "threads" => threads::run(dir, work.store, url, fanout::Settings::of(work)?).await,
        "snapshot" => snapshot::run(dir, work.store, url, work.number("tasks")?).await,
        "resume" => resume::run(dir, work.store, url, work.number("events")?).await,
        "list" => list::run(&work.big()?, work.number("tasks")?).await,
        "growth" => growth::run(&work.big()?, dir, work.number("stored")?).await,
        "start" => start::run(&work.big()?, dir, work.number("tasks")?).await,
        "across" => across::run(work.url()?, work.number("samples")?).await,
        other => anyhow::bail!("there is no figure `{other}` of ours"),
    }
}
