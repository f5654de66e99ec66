//! A store that fails or hangs: clients are told, nothing is lost, and all goes on afterwards.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sidestream::store::Request;
use sidestream::stream::RingLimits;
use sidestream::testing::{Faults, FaultyStore, SeededChance};
use sidestream::{Config, MemoryStore, Namespace, Store, TaskManager};
use sidestream_server::{NewKey, Role, ServerConfig};

use crate::host::{Host, loopback, tools};

async fn faulty(server: ServerConfig, config: Config) -> (Host, Arc<FaultyStore>) {
    let chance = Arc::new(SeededChance::new(1));
    let store = FaultyStore::new(Arc::new(MemoryStore::new()), chance);
    let store = Arc::new(store);
    let builder = TaskManager::builder_on(Arc::clone(&store) as Arc<dyn Store>);
    let manager = builder.tools(tools()).config(config).start().await;
    (Host::of(server, Some(manager.unwrap())).await, store)
}

#[tokio::test]
async fn during_an_outage_clients_are_told_to_come_again() {
    let (host, store) = faulty(loopback(), Config::default()).await;
    let task = json!({"toolName": "stuck"});
    store.set_faults(Faults::OUTAGE);
    for (method, target) in [
        ("GET", "/v1/tasks"),
        ("GET", "/v1/tasks/x"),
        ("GET", "/v1/stream"),
        ("POST", "/v1/tasks"),
        ("DELETE", "/v1/tasks/x"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
    ] {
        let answer = host.call(method, target).json(&task).send().await;
        let answer = answer.expect(503);
        assert_eq!(answer.header("retry-after"), Some("1"), "{target}");
        let problem = answer.json();
        assert_eq!(problem["type"], "urn:sidestream:problem:unavailable");
    }
    let plain = host.get("/api/background-tasks").await.expect(503).json();
    assert!(plain["error"].is_string());
    host.get("/healthz").await.expect(200);

    store.set_faults(Faults::NONE);
    host.get("/readyz").await.expect(200);
    assert_eq!(host.get("/v1/tasks").await.expect(200).json()["total"], 0);
    host.dispatch(task).await;
}

/// A server whose streams must read the log, because nothing of it is kept in memory.
async fn without_ring(write: Duration) -> (Host, Arc<FaultyStore>) {
    let config = Config {
        ring: RingLimits {
            chunks: 1,
            bytes: 1,
        },
        ..Config::default()
    };
    let mut server = loopback();
    server.limits.write = write;
    faulty(server, config).await
}

const NO_READS: Faults = Faults {
    fails_reads: 1_000,
    ..Faults::NONE
};

#[tokio::test]
async fn a_stream_goes_on_after_a_short_outage() {
    let (host, store) = without_ring(Duration::from_secs(60)).await;
    let mut stream = host.stream("/v1/stream?type=started").await;
    stream.block().await.unwrap();
    store.set_faults(NO_READS);
    let first = host.dispatch(json!({"toolName": "stuck"})).await;
    let second = host.dispatch(json!({"toolName": "stuck"})).await;
    assert_eq!(stream.block().await.unwrap(), ": keep-alive");
    store.set_faults(Faults::NONE);
    for task in [first, second] {
        assert_eq!(
            stream.chunk().await.unwrap().1["payload"]["taskId"],
            task["id"]
        );
    }
}

/// One that cannot be read on for long breaks off, so that nobody takes it for ended, and resumes.
#[tokio::test]
async fn a_stream_breaks_off_in_a_long_outage() {
    let (host, store) = without_ring(Duration::from_millis(100)).await;
    let mut stream = host.stream("/v1/stream?type=started").await;
    let end = stream.block().await.unwrap();
    let cursor = end.strip_prefix("id: ").unwrap();
    store.set_faults(NO_READS);
    let first = host.dispatch(json!({"toolName": "stuck"})).await;
    host.dispatch(json!({"toolName": "stuck"})).await;
    while let Some(block) = stream.block().await {
        assert_eq!(block, ": keep-alive");
    }
    assert!(!stream.has_ended_well());
    store.set_faults(Faults::NONE);
    let mut again = host
        .stream(format!("/v1/stream?type=started&after={cursor}"))
        .await;
    assert_eq!(
        again.chunk().await.unwrap().1["payload"]["taskId"],
        first["id"]
    );
}

/// So does one whose snapshots all break off, though each shows something before.
#[tokio::test]
async fn a_stream_breaks_off_when_no_snapshot_can_be_read_to_its_end() {
    let (host, store) = without_ring(Duration::from_millis(100)).await;
    for _ in 0..10 {
        host.dispatch(json!({"toolName": "stuck"})).await;
    }
    store.set_faults(Faults {
        breaks_snapshots: 1_000,
        ..Faults::NONE
    });
    let mut stream = host.stream("/v1/stream?snapshot=active").await;
    let mut resets = 0;
    while let Some(block) = stream.block().await {
        resets += usize::from(block.contains("stream-reset"));
        assert!(resets < 5, "it begins anew for ever");
    }
    assert!(!stream.has_ended_well());
}

#[tokio::test]
async fn a_request_is_not_waited_for_for_ever() {
    let mut server = loopback();
    server.limits.request = Duration::from_millis(100);
    let (host, store) = faulty(server, Config::default()).await;
    store.cut();
    for (method, target) in [
        ("GET", "/v1/tasks"),
        ("GET", "/v1/stream"),
        ("DELETE", "/v1/tasks/x"),
    ] {
        let answer = host.call(method, target).send().await.expect(503);
        let detail = answer.json()["detail"].clone();
        assert_eq!(detail, "the request was not answered within 0.1 s");
    }
}

/// Who had a key keeps it, and nobody else gets in, while the keys cannot be read.
#[tokio::test]
async fn keys_stay_in_force_while_they_cannot_be_read() {
    let (host, store) = faulty(loopback(), Config::default()).await;
    let now = host.store.now();
    let chance = SeededChance::new(2);
    let key = NewKey::make("", Role::Read, Namespace::default(), now, &chance).unwrap();
    let add = Request::AddKey(key.kept.clone());
    host.manager().writer().submit(add).await.unwrap();
    while host
        .call("GET", "/v1/tasks")
        .key(&key.text)
        .send()
        .await
        .status
        != 200
    {}
    store.set_faults(Faults::OUTAGE);
    // Twice as long as it takes until they are read anew: nothing happens that could be waited for.
    tokio::time::sleep(Duration::from_secs(1)).await;
    host.call("GET", "/v1/tasks")
        .key(&key.text)
        .send()
        .await
        .expect(503);
    host.get("/v1/tasks").await.expect(401);
    store.set_faults(Faults::NONE);
    host.call("GET", "/v1/tasks")
        .key(&key.text)
        .send()
        .await
        .expect(200);
}
