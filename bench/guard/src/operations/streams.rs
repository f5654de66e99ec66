//! What watchers cost: reading the ring, and sending what it has as server-sent events.

use std::net::SocketAddr;
use std::sync::Arc;

use sidestream::{
    ChunkType, Cursor, Filter, MemoryStore, NewTask, Start, Store, StreamOptions, TaskManager, Tool,
};
use sidestream_server::{Server, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Operation;

const EVENTS: usize = 1_000;

/// A manager whose ring has a thousand events, on a runtime of one thread.
struct Managed {
    runtime: Runtime,
    manager: TaskManager,
    store: Arc<dyn Store>,
    start: Cursor,
}

impl Managed {
    fn new() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (manager, start) = runtime.block_on(async {
            // Nobody claims them, so that nothing else goes on.
            let builder = TaskManager::builder_on(Arc::clone(&store)).tool(Tool::remote("tool"));
            let manager = builder.start().await?;
            let head = store.head().await?;
            let task = |n| {
                let task = NewTask::new("tool").args(serde_json::json!({"n": n}));
                task.agent("agent").thread(format!("thread-{}", n % 10))
            };
            for dispatched in manager.dispatch_all((0..EVENTS).map(task)).await {
                dispatched?;
            }
            anyhow::Ok((manager, Cursor::new(head.epoch, head.seq)))
        })?;
        Ok(Self {
            runtime,
            manager,
            store,
            start,
        })
    }
}

pub(super) fn ring() -> anyhow::Result<Operation> {
    let managed = Managed::new()?;
    Ok(Box::new(move || {
        managed.runtime.block_on(async {
            let stream = managed.manager.stream(StreamOptions {
                filter: Filter::default().types([ChunkType::Started]),
                start: Start::After(managed.start.clone()),
                ..StreamOptions::default()
            });
            let mut stream = stream.await?;
            let mut seen = 0;
            while seen < EVENTS {
                let Some(items) = stream.next_batch().await else {
                    anyhow::bail!("the stream has ended");
                };
                seen += items?.iter().filter(|item| item.chunk.is_some()).count();
            }
            Ok(())
        })
    }))
}

pub(super) fn sse() -> anyhow::Result<Operation> {
    let managed = Managed::new()?;
    let config = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        ..ServerConfig::default()
    };
    let server = Server::bind(
        config,
        Some(managed.manager.clone()),
        Arc::clone(&managed.store),
    );
    let server = managed.runtime.block_on(server)?;
    let address = server.local_addr();
    let mut serving = JoinSet::new();
    serving.spawn_on(
        server.run(CancellationToken::new()),
        managed.runtime.handle(),
    );
    let request = format!(
        "GET /v1/stream?after={}&type={} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        managed.start,
        ChunkType::Started
    );
    let mut is_counted = false;
    Ok(Box::new(move || {
        // Held, so that the server goes on.
        let _serving = &serving;
        let received = managed.runtime.block_on(receive(address, &request))?;
        // Once is enough, and before it is counted: looking at each byte takes longer than sending it.
        if !is_counted {
            let seen = received
                .windows(6)
                .filter(|bytes| bytes == b"data: ")
                .count();
            anyhow::ensure!(seen == EVENTS, "{seen} events were sent");
            is_counted = true;
        }
        Ok(())
    }))
}

/// All that the server sends, up to the last event.
async fn receive(address: SocketAddr, request: &str) -> anyhow::Result<Vec<u8>> {
    let mut client = TcpStream::connect(address).await?;
    client.write_all(request.as_bytes()).await?;
    let last = format!("-{EVENTS}\ndata: ");
    let mut received = Vec::with_capacity(1 << 20);
    loop {
        let read = client.read_buf(&mut received).await?;
        anyhow::ensure!(read > 0, "the server has hung up");
        let end = &received[received.len().saturating_sub(1_000)..];
        let is_last = end
            .windows(last.len())
            .any(|bytes| bytes == last.as_bytes());
        if is_last && received.ends_with(b"\n\n\r\n") {
            return Ok(received);
        }
    }
}
