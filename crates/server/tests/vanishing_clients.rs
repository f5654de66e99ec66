//! S5: connections that open and vanish leave nothing behind.
//!
//! A test binary of its own, because it counts the file handles of its process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

#[path = "http/client.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod client;
#[path = "http/host.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod host;

use std::sync::Arc;

use sidestream::{NewTask, TaskManager};
use tokio::task::JoinSet;

use client::PATIENCE;
use host::Host;

const CLIENTS: usize = 1_000;
const AT_ONCE: usize = 100;

/// What a server holds: streams, futures, file handles.
fn held(manager: &TaskManager) -> (usize, usize, usize) {
    let futures = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    let handles = std::fs::read_dir("/proc/self/fd").unwrap().count();
    (manager.stats().streams_open, futures, handles)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_that_vanish_leave_nothing_behind() {
    let host = Arc::new(Host::start().await);
    let manager = host.manager().clone();
    drop(host.stream("/v1/stream").await);
    host.get("/healthz").await.expect(200);
    let freed = async {
        while manager.stats().streams_open > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.unwrap();
    let before = held(&manager);

    let mut most = 0;
    for round in 0..CLIENTS / AT_ONCE {
        let mut opening = JoinSet::new();
        for n in 0..AT_ONCE {
            let host = Arc::clone(&host);
            let target = match n % 4 {
                0 => "/v1/stream".to_owned(),
                1 => format!("/v1/stream?threadId=t{n}"),
                2 => "/v1/stream?after=0".to_owned(),
                _ => format!("/api/background-tasks/stream?runId=r{n}"),
            };
            opening.spawn(async move { host.stream(target).await });
        }
        let streams = opening.join_all().await;
        most = most.max(manager.stats().streams_open);
        // Half of them vanish while they are being written to.
        if round % 2 == 0 {
            manager.dispatch(NewTask::new("echo")).await.unwrap();
        }
        drop(streams);
    }
    assert!(most >= AT_ONCE, "{most}");
    let all_gone = async {
        while held(&manager) > before {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, all_gone).await;
    assert!(
        waited.is_ok(),
        "{:?} streams, futures and handles, not {before:?}",
        held(&manager)
    );
}
