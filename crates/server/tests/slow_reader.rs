//! S4: a slow reader neither loses events, nor slows others, nor grows the server's memory.
//!
//! A test binary of its own, because it measures the memory of its process: server, SQLite and clients
//! together.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

#[path = "http/client.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod client;
#[path = "http/host.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod host;

use std::net::SocketAddr;
use std::time::Duration;

use sidestream::{NewTask, SqliteOptions, SqliteStore, TaskManager};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::time::Instant;

use host::{Host, loopback};

const EVENTS: u64 = 200_000;
const GROWTH_BYTES_MAX: u64 = 16 << 20;

/// A client that keeps nothing of what it reads.
struct Reader {
    lines: Lines<BufReader<TcpStream>>,
    /// The last id seen.
    last: String,
    /// How many outputs were seen: the next must bear this number.
    seen: u64,
}

impl Reader {
    /// Asks in HTTP/1.0, so that the body comes as it is.
    async fn open(address: SocketAddr, last: &str) -> Reader {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let resume = match last {
            "" => String::new(),
            last => format!("last-event-id: {last}\r\n"),
        };
        let head = format!("GET /v1/stream HTTP/1.0\r\nhost: {address}\r\n{resume}\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(socket).lines();
        while !lines.next_line().await.unwrap().unwrap().is_empty() {}
        Reader {
            lines,
            last: last.to_owned(),
            seen: 0,
        }
    }

    /// Reads until the task has ended, or the connection has; checks that every output comes once and in
    /// order. Calls `each` now and then.
    async fn read_to_end(&mut self, mut each: impl FnMut()) -> bool {
        while let Ok(Some(line)) = self.lines.next_line().await {
            if let Some(id) = line.strip_prefix("id: ") {
                self.last.replace_range(.., id);
            } else if line.starts_with("data: {\"type\":\"background-task-output\"") {
                let (_, rest) = line.split_once("\"n\":").unwrap();
                let (n, _) = rest.split_once(',').unwrap();
                assert_eq!(n.parse::<u64>().unwrap(), self.seen);
                self.seen += 1;
                if self.seen.is_multiple_of(1_000) {
                    each();
                }
            } else if line.starts_with("data: {\"type\":\"background-task-completed\"") {
                return true;
            }
        }
        false
    }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

/// Lets so many events pass by a reader that keeps up; how long that took, and the most memory that was in
/// use.
async fn flood(host: &Host, count: u64) -> (Duration, u64) {
    let mut reader = Reader::open(host.address, "").await;
    let began = Instant::now();
    let mut peak = 0;
    let args = serde_json::json!({"count": count, "bytes": 1_024});
    let task = NewTask::new("gush").args(args);
    host.manager().dispatch(task).await.unwrap();
    let is_whole = reader
        .read_to_end(|| peak = peak.max(resident_bytes()))
        .await;
    assert!(is_whole);
    assert_eq!(reader.seen, count);
    (began.elapsed(), peak)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_reader_costs_nobody_anything_and_gets_every_event() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap();
    let builder = TaskManager::builder(store).tools(host::tools());
    let manager = builder.start().await.unwrap();
    let mut config = loopback();
    // Who stalls is not let go, for as long as it takes.
    config.limits.write = Duration::from_secs(600);
    let host = Host::of(config, Some(manager)).await;

    slows_nobody(&host).await;
    let mut stalled = takes_no_memory(&host).await;
    while !stalled.read_to_end(|| {}).await {
        let seen = stalled.seen;
        stalled = Reader::open(host.address, &stalled.last).await;
        stalled.seen = seen;
    }
    assert_eq!(stalled.seen, EVENTS);
    host.stop().await;
}

/// In turns, and the best of each: whatever else the machine does meets both alike.
async fn slows_nobody(host: &Host) {
    let (mut alone, mut beside) = (Duration::MAX, Duration::MAX);
    for _ in 0..5 {
        alone = alone.min(flood(host, EVENTS / 10).await.0);
        let stalled = Reader::open(host.address, "").await;
        beside = beside.min(flood(host, EVENTS / 10).await.0);
        drop(stalled);
    }
    assert!(
        beside < alone * 2,
        "{beside:?} beside a stalled reader, {alone:?} without"
    );
}

/// What is filled once and then stays, the ring and SQLite's page cache, is full by now: what grows yet is
/// the reader's.
async fn takes_no_memory(host: &Host) -> Reader {
    let stalled = Reader::open(host.address, "").await;
    let before = resident_bytes();
    let (_, peak) = flood(host, EVENTS).await;
    let growth = peak.saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "grown by {growth} bytes");
    stalled
}
