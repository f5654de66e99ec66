//! Clients that each follow a thread of their own, over HTTP: what an event costs when one of thousands wants it.

use std::path::Path;

use crate::figures::fanout::Settings;
use crate::found::{Found, ready};
use crate::machine::memory_kib;
use crate::place::{Kind, Place};
use crate::site::{Pace, Site};
use crate::sse::clients::cpu_seconds;
use crate::sse::{Clients, Ids, Watching};

/// On each thread runs one task, which emits outputs of 200 bytes at a pace; one client follows it.
pub(crate) async fn run(
    dir: &Path,
    kind: Kind,
    url: Option<&str>,
    settings: Settings,
) -> anyhow::Result<Found> {
    let store = Place::of(kind, dir, url)?.open().await?;
    let site = Site::open(store, settings.clients).await?;
    let threads = settings.clients as u64;
    let every_us = threads * 1_000_000 / settings.outputs_per_second;
    let outputs = (settings.outputs_per_second * settings.seconds / threads).max(1);
    let pace = |n| Pace {
        outputs,
        every_us,
        first_after_us: every_us * n / threads,
    };
    let paces: Vec<_> = (0..threads).map(pace).collect();
    site.warm_up().await?;
    site.dispatch(&paces).await?;
    let idle_kib = memory_kib();
    let clients = Clients::connect(&Watching {
        address: site.address,
        clients: settings.clients,
        path: "/v1/stream?snapshot=none&type=output&threadId=thread-{n}".into(),
        outputs,
        ids: Ids::Rising,
        counted_from: outputs / 5,
    })
    .await?;
    let connected_kib = memory_kib();
    ready();
    let cpu = cpu_seconds();
    site.begin();
    let seen = clients.seen().await?;
    let cpu = cpu_seconds() - cpu;
    let busy_kib = memory_kib();
    site.close().await;
    let each = |kib: u64| kib.saturating_sub(idle_kib) as f64 / settings.clients as f64;
    let verified =
        format!("each of {threads} clients saw the {outputs} outputs of its thread, in order");
    let found = Found::verified(verified)
        .value("client_kib", each(connected_kib))
        .value("busy_client_kib", each(busy_kib));
    Ok(seen.told(found, "events_per_second", cpu))
}
