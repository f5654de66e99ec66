//! Across servers: two of them on one PostgreSQL, a worker elsewhere that claims from the first by long poll,
//! and a client that streams from the second. All of it over HTTP, with nothing else to do.

use std::net::SocketAddr;
use std::time::Duration;

use sidestream::{Context, HandlerError, NewTask, TaskManager, Tool};
use sidestream_client::worker::Worker;
use sidestream_client::{
    ChunkType, Client, Filter, Item, Json, SnapshotKind, Stream, StreamRequest,
};
use sidestream_server::{Server, ServerConfig};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::found::Found;
use crate::place::Place;

/// Between two samples nothing happens for so long.
const PAUSE: Duration = Duration::from_millis(3);

/// Takes as many samples of a dispatch on either server; `url` is of an empty database.
pub(crate) async fn run(url: &str, samples: usize) -> anyhow::Result<Found> {
    let site = Site::open(&Place::Postgres(url.to_owned())).await?;
    let mut found = Found::verified(format!(
        "{} tasks were claimed, heard of and completed, one after the other",
        2 * samples
    ));
    let (mut outputs_ms, mut completed_ms) = (Vec::new(), Vec::new());
    for (server, dispatched_on) in [(&site.a, "on_a_"), (&site.b, "on_b_")] {
        let [claimed, output, completed] = site.samples(server, samples).await?;
        found = found.latencies(dispatched_on, claimed);
        outputs_ms.extend(output);
        completed_ms.extend(completed);
    }
    site.close().await;
    Ok(found
        .latencies("output_", outputs_ms)
        .latencies("completed_", completed_ms))
}

/// The servers, the worker, the client that streams, and what they have in common: a stopwatch.
struct Site {
    a: Client,
    b: Client,
    clock: Instant,
    managers: Vec<TaskManager>,
    serving: JoinSet<()>,
    stopping: CancellationToken,
    worker: Worker,
    claims: tokio::sync::Mutex<mpsc::UnboundedReceiver<f64>>,
    news: tokio::sync::Mutex<Stream>,
}

impl Site {
    async fn open(place: &Place) -> anyhow::Result<Self> {
        let clock = Instant::now();
        let stopping = CancellationToken::new();
        let (mut managers, mut clients) = (Vec::new(), Vec::new());
        let mut serving = JoinSet::new();
        for _ in 0..2 {
            let store = place.open().await?;
            let manager = TaskManager::builder_on(store.clone());
            let manager = manager.tool(Tool::remote("probe")).start().await?;
            let config = ServerConfig {
                listen: SocketAddr::from(([127, 0, 0, 1], 0)),
                ..ServerConfig::default()
            };
            let server = Server::bind(config, Some(manager.clone()), store).await?;
            clients.push(Client::new(format!("http://{}", server.local_addr()))?);
            serving.spawn(server.run(stopping.clone()));
            managers.push(manager);
        }
        let [a, b] = <[Client; 2]>::try_from(clients).expect("there are two");
        let (claimed, claims) = mpsc::unbounded_channel();
        let probe = Tool::new("probe", move |context: Context, asked_us: u64| {
            let claimed = claimed.clone();
            async move {
                let now_us = since(clock);
                // Whoever listened has all the samples it wanted.
                let _ = claimed.send(ms(now_us, asked_us));
                context.output(&since(clock)).await?;
                tokio::time::sleep(PAUSE).await;
                Ok::<_, HandlerError>(since(clock))
            }
        });
        let worker = Worker::builder(a.clone()).tool(probe).start().await?;
        let request = StreamRequest::watch(Filter::default())
            .types([ChunkType::Output, ChunkType::Completed])
            .snapshot(SnapshotKind::None);
        let mut news = b.stream(request);
        // It stands before the first sample.
        while !matches!(next(&mut news).await?, Item::Connected) {}
        Ok(Self {
            a,
            b,
            clock,
            managers,
            serving,
            stopping,
            worker,
            claims: claims.into(),
            news: news.into(),
        })
    }

    /// One task after the other: how long each took to be claimed, its output to be seen, and its end.
    async fn samples(&self, server: &Client, samples: usize) -> anyhow::Result<[Vec<f64>; 3]> {
        let (mut claims, mut news) = (self.claims.lock().await, self.news.lock().await);
        let mut taken = [const { Vec::new() }; 3];
        for _ in 0..samples {
            tokio::time::sleep(PAUSE).await;
            let task = NewTask::new("probe").args(serde_json::json!(since(self.clock)));
            server.dispatch(&task).await?;
            let claimed = claims.recv().await;
            taken[0].push(claimed.expect("the worker works"));
            loop {
                let item = next(&mut news).await?;
                let now_us = since(self.clock);
                let Item::Chunk(chunk) = item else { continue };
                let payload = &chunk.payload;
                if let Some(emitted) = &payload.payload {
                    taken[1].push(ms(now_us, told(emitted)?));
                } else if let Some(result) = &payload.result {
                    taken[2].push(ms(now_us, told(result)?));
                    break;
                }
            }
        }
        Ok(taken)
    }

    async fn close(mut self) {
        self.worker.shutdown().await;
        self.stopping.cancel();
        while self.serving.join_next().await.is_some() {}
        for manager in self.managers {
            manager.shutdown().await;
        }
    }
}

async fn next(stream: &mut Stream) -> anyhow::Result<Item> {
    Ok(stream.next().await.expect("it never ends by itself")?)
}

fn told(json: &Json) -> anyhow::Result<u64> {
    Ok(json.parse()?)
}

fn since(clock: Instant) -> u64 {
    u64::try_from(clock.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn ms(now_us: u64, then_us: u64) -> f64 {
    now_us.saturating_sub(then_us) as f64 / 1_000.0
}
