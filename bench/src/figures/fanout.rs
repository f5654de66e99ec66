//! Deliveries a second: clients that all see everything, over HTTP.

use std::path::Path;

use crate::found::{Found, ready};
use crate::machine::memory_kib;
use crate::place::{Kind, Place};
use crate::site::{Pace, Site};
use crate::sse::clients::cpu_seconds;
use crate::sse::{Clients, Ids, Watching};
use crate::work::Work;

/// So many tasks emit.
const TASKS: u64 = 20;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) clients: usize,
    /// Of all tasks together.
    pub(crate) outputs_per_second: u64,
    pub(crate) seconds: u64,
}

impl Settings {
    pub(crate) fn of(work: &Work) -> anyhow::Result<Self> {
        Ok(Self {
            clients: work.number("clients")?,
            outputs_per_second: work.number("outputs_per_second")? as u64,
            seconds: work.number("seconds")? as u64,
        })
    }
}

/// Tasks emit outputs of 200 bytes at a pace, each into the log first; every client sees every one.
pub(crate) async fn run(
    dir: &Path,
    kind: Kind,
    url: Option<&str>,
    settings: Settings,
) -> anyhow::Result<Found> {
    let store = Place::of(kind, dir, url)?.open().await?;
    let site = Site::open(store, TASKS as usize).await?;
    let every_us = TASKS * 1_000_000 / settings.outputs_per_second;
    let outputs = settings.outputs_per_second * settings.seconds / TASKS;
    let pace = |n| Pace {
        outputs,
        every_us,
        first_after_us: every_us * n / TASKS,
    };
    let site_paces: Vec<_> = (0..TASKS).map(pace).collect();
    site.warm_up().await?;
    site.dispatch(&site_paces).await?;
    let idle_kib = memory_kib();
    let clients = Clients::connect(&Watching {
        address: site.address,
        clients: settings.clients,
        path: "/v1/stream?snapshot=none".into(),
        outputs: outputs * TASKS,
        ids: Ids::Dense,
        counted_from: outputs * TASKS / 5,
    })
    .await?;
    ready();
    let cpu = cpu_seconds();
    site.begin();
    let seen = clients.seen().await?;
    let cpu = cpu_seconds() - cpu;
    let memory_kib = memory_kib().saturating_sub(idle_kib);
    site.close().await;
    let verified = format!(
        "each of {} clients saw all {} outputs, in order, none missing and none twice",
        settings.clients,
        outputs * TASKS
    );
    let found =
        Found::verified(verified).value("client_kib", memory_kib as f64 / settings.clients as f64);
    Ok(seen.told(found, "deliveries_per_second", cpu))
}
