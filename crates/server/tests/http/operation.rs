//! What an operator relies on: health, numbers, limits, and a good end.

use std::time::Duration;

use serde_json::json;
use sidestream::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{PATIENCE, raw};
use crate::host::{Host, loopback};

#[tokio::test]
async fn a_server_says_that_it_is_up_and_ready() {
    let host = Host::start().await;
    assert_eq!(host.get("/healthz").await.expect(200).text(), "ok\n");
    assert_eq!(host.get("/readyz").await.expect(200).text(), "ready\n");
    assert!(
        host.get("/")
            .await
            .expect(200)
            .text()
            .contains("Sidestream")
    );
    // With the manager down nothing can be written.
    host.manager().shutdown().await;
    host.get("/readyz").await.expect(503);
    host.get("/healthz").await.expect(200);
    let refused = host
        .post("/v1/tasks", json!({"toolName": "echo"}))
        .await
        .expect(503);
    assert_eq!(refused.header("retry-after"), Some("1"));
}

/// The value of one line of the metrics.
async fn metric(host: &Host, line: &str) -> f64 {
    let text = host.get("/metrics").await.expect(200).text();
    let found = text
        .lines()
        .find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
    found
        .unwrap_or_else(|| panic!("no {line} in\n{text}"))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn the_numbers_are_right() {
    let host = Host::start().await;
    let mut stream = host.stream("/v1/stream").await;
    host.run(json!({"toolName": "echo"})).await;
    host.run(json!({"toolName": "broken"})).await;
    stream.until("failed").await;
    host.get("/v1/tasks/none").await.expect(404);
    host.get("/nonsense").await.expect(404);
    for (line, value) in [
        ("sidestream_tasks{status=\"completed\"}", 1.0),
        ("sidestream_tasks{status=\"failed\"}", 1.0),
        ("sidestream_tasks{status=\"running\"}", 0.0),
        ("sidestream_events_total{event=\"dispatched\"}", 2.0),
        ("sidestream_events_total{event=\"output\"}", 1.0),
        ("sidestream_streams", 1.0),
        ("sidestream_stream_chunks_total", 5.0),
        ("sidestream_log_head", 7.0),
        (
            "sidestream_http_requests_total{method=\"POST\",route=\"/v1/tasks\",status=\"201\"}",
            2.0,
        ),
        (
            "sidestream_http_requests_total{method=\"GET\",route=\"/v1/tasks/{id}\",status=\"404\"}",
            1.0,
        ),
        (
            "sidestream_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"}",
            1.0,
        ),
    ] {
        assert!((metric(&host, line).await - value).abs() < 0.5, "{line}");
    }
    assert!(metric(&host, "sidestream_connections").await >= 2.0);
    let answer = host.get("/metrics").await;
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    assert!(answer.text().ends_with("# EOF\n"));
}

/// S5: who is gone is forgotten at once, whatever it was doing.
#[tokio::test]
async fn a_stream_is_freed_when_its_client_is_gone() {
    let host = Host::start().await;
    let streams = [
        host.stream("/v1/stream").await,
        host.stream("/v1/stream?threadId=t").await,
    ];
    assert_eq!(host.manager().stats().streams_open, 2);
    assert!((metric(&host, "sidestream_streams").await - 2.0).abs() < 0.5);
    drop(streams);
    let freed = async {
        while host.manager().stats().streams_open > 0
            || metric(&host, "sidestream_streams").await > 0.5
            // The one that asks is open itself.
            || metric(&host, "sidestream_connections").await > 1.5
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, freed)
        .await
        .expect("a stream stays open");
}

/// Streams end as ended, so that clients know to come again elsewhere; requests under way are answered.
#[tokio::test]
async fn a_server_ends_well() {
    let mut config = loopback();
    // Longer than anybody waits here: it ends by itself, not because its time is over.
    config.limits.grace = Duration::from_secs(600);
    let host = Host::with(config, Config::default()).await;
    let mut streams = Vec::new();
    for target in [
        "/v1/stream",
        "/v1/stream?after=0&agentId=a",
        "/api/background-tasks/stream",
    ] {
        streams.push(host.stream(target).await);
    }
    // One that waits for a task's end is under way.
    let call = host
        .call("POST", "/v1/tasks")
        .json(&json!({"toolName": "stuck"}));
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(call.header("prefer", "wait=60").send());
    streams[0].until("running").await;
    // And one connection is kept for a next request that does not come.
    let mut silent = TcpStream::connect(host.address).await.unwrap();
    ask_for_health(&mut silent).await;

    let address = host.address;
    let stopping = tokio::time::timeout(PATIENCE, host.stop());
    stopping.await.expect("the server does not end");
    for stream in &mut streams {
        while stream.block().await.is_some() {}
        assert!(stream.has_ended_well());
    }
    let answer = waiting.join_next().await.unwrap().unwrap().expect(201);
    assert_eq!(answer.json()["task"]["status"], "running");
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0, "closed");
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}

/// A request that has not ended when the grace is over is cut off: a server always ends.
#[tokio::test]
async fn a_server_does_not_wait_for_ever_to_end() {
    let mut config = loopback();
    config.limits.grace = Duration::from_millis(100);
    let host = Host::with(config, Config::default()).await;
    let mut slow = TcpStream::connect(host.address).await.unwrap();
    let head = "POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    host.get("/healthz").await.expect(200);
    tokio::time::timeout(Duration::from_secs(5), host.stop())
        .await
        .expect("the server does not end");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let mut config = loopback();
    config.limits.request = Duration::from_millis(200);
    let host = Host::with(config, Config::default()).await;
    let head = format!(
        "POST /v1/tasks HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: 100\r\n\r\n{{",
        host.address
    );
    let answer = raw(host.address, head.as_bytes()).await;
    assert_eq!(answer.status, 408);
    assert_eq!(
        answer.json()["type"],
        "urn:sidestream:problem:request-timeout"
    );
}

/// R7: a client that takes nothing is let go; it resumes by its cursor.
#[tokio::test]
async fn a_client_that_reads_nothing_is_let_go() {
    let mut config = loopback();
    config.limits.write = Duration::from_millis(200);
    let host = Host::with(config, Config::default()).await;
    let mut stalled = host.stream("/v1/stream?snapshot=none").await;
    // More than the sockets between us hold.
    host.run(json!({"toolName": "gush", "args": {"count": 24, "bytes": 500_000}}))
        .await;
    let let_go = async {
        while host.manager().stats().streams_open > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, let_go)
        .await
        .expect("the stream stays open");
    let (mut last, mut seen) = (String::new(), 0);
    while let Some((id, _)) = stalled.chunk().await {
        (last, seen) = (id.unwrap(), seen + 1);
    }
    assert!(!stalled.has_ended_well());
    assert!(seen < 26, "{seen}");
    // It comes again, and misses nothing; as often as a busy machine makes it too slow once more.
    let mut has_ended = false;
    while !has_ended {
        let again = host.call("GET", "/v1/stream");
        let mut again = again.header("last-event-id", last.clone()).open().await;
        while !has_ended && let Some((id, chunk)) = again.chunk().await {
            (last, seen) = (id.unwrap(), seen + 1);
            has_ended = chunk["type"] == "background-task-completed";
        }
    }
    assert_eq!(seen, 26);
}

/// A connection over the limit waits for a place.
#[tokio::test]
async fn connections_are_bounded() {
    let mut config = loopback();
    config.limits.connections = 2;
    let host = Host::with(config, Config::default()).await;
    let streams = [
        host.stream("/v1/stream").await,
        host.stream("/v1/stream").await,
    ];
    let mut third = TcpStream::connect(host.address).await.unwrap();
    third
        .write_all(b"GET /healthz HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 12];
    let mut reading = std::pin::pin!(third.read_exact(&mut answer));
    assert!(futures_poll_once(reading.as_mut()).await.is_none());
    drop(streams);
    reading.await.unwrap();
    assert_eq!(&answer, b"HTTP/1.0 200");
}

/// What a future has to say now, after everything else has had its turn.
async fn futures_poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

/// HTTP/1.1 clients keep their connection: several requests go over one.
#[tokio::test]
async fn a_connection_serves_many_requests() {
    let host = Host::start().await;
    let mut socket = TcpStream::connect(host.address).await.unwrap();
    for _ in 0..3 {
        ask_for_health(&mut socket).await;
    }
}

async fn ask_for_health(socket: &mut TcpStream) {
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    socket.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok\n") {
        assert!(socket.read_buf(&mut answer).await.unwrap() > 0);
    }
}
