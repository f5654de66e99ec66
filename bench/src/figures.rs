//! The figures of ours, each in a file of its own: what is done, measured and looked at afterwards.

mod across;
mod drain;
mod latency;
mod pickup;
mod soak;
mod stores;
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
        "drain" => {
            let (batch, tasks) = (work.number("batch")?, work.number("tasks")?);
            drain::run(dir, work.store, url, batch, tasks).await
        }
        "pickup" => pickup::run(dir, work.store, url, work.number("samples")?).await,
        "soak" => {
            let settings = soak::Settings {
                seconds: work.number("seconds").unwrap_or(1_800),
                line_seconds: work.number("line_seconds").unwrap_or(60),
            };
            soak::run(dir, work.store, url, settings).await
        }
        "stores" => stores::run(dir, work.store, work.number("records")?).await,
        "latency" => latency::run(dir, work.store, url, work.number("outputs")?).await,
        "across" => across::run(work.url()?, work.number("samples")?).await,
        other => anyhow::bail!("there is no figure `{other}` of ours"),
    }
}
