//! The figures of ours, each in a file of its own: what is done, measured and looked at afterwards.

mod across;
mod latency;
mod tasks;

use crate::found::Found;
use crate::work::Work;

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
        "latency" => latency::run(dir, work.store, url, work.number("outputs")?).await,
        "across" => across::run(work.url()?, work.number("samples")?).await,
        other => anyhow::bail!("there is no figure `{other}` of ours"),
    }
}
