//! Across servers: two of them on one PostgreSQL, a worker elsewhere that claims from the first by long poll,
//! and a client that streams from the second. All of it over HTTP, with nothing else to do.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use sidestream::{Context, HandlerError, NewTask, TaskManager, Tool};
use sidestream_client::worker::Worker;
use sidestream_client::{
    ChunkType, Client, Filter, Item, Json, SnapshotKind, Stream, StreamRequest,
};
use sidestream_server::{Server, ServerConfig};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::{AsyncMessage, NoTls};
use tokio_util::sync::CancellationToken;

use crate::percentile;
use crate::place::{Kind, Place};

/// Between two samples nothing happens for so long.
const PAUSE: Duration = Duration::from_millis(3);

/// One line of the table.
#[derive(Serialize)]
pub(crate) struct Row {
    what: &'static str,
    samples: usize,
    p50_ms: f64,
    p99_ms: f64,
}

pub(crate) async fn measure(
    dir: &std::path::Path,
    runs: usize,
    divide: usize,
) -> anyhow::Result<Vec<Row>> {
    println!(
        "Two servers A and B on one PostgreSQL, a worker elsewhere at A, idle machine otherwise"
    );
    println!("{:<58}{:>8}{:>10}{:>10}", "", "samples", "p50 ms", "p99 ms");
    let samples = 1_000 / divide;
    let mut limit = Vec::new();
    let mut taken = [const { Vec::new() }; 4];
    for _ in 0..runs {
        let place = Place::fresh(Kind::Postgres, dir)?;
        limit.extend(notified_ms(&place, samples).await?);
        let site = Site::open(&place).await?;
        for (dispatched_on, claims) in [(&site.a, 0), (&site.b, 1)] {
            let [claimed, output, completed] = site.samples(dispatched_on, samples).await?;
            taken[claims].extend(claimed);
            taken[2].extend(output);
            taken[3].extend(completed);
        }
        site.close().await;
    }
    let [on_a, on_b, output, completed] = taken;
    let figures = [
        (
            "bare: an insert is committed → another session is notified",
            limit,
        ),
        ("dispatch on A → the worker at A has it", on_a),
        ("dispatch on B → the worker at A has it", on_b),
        ("the worker's output, by A → a client of B has it", output),
        (
            "the worker's end of a task, by A → a client of B has it",
            completed,
        ),
    ];
    let rows = figures.map(|(what, mut ms)| Row {
        what,
        samples: ms.len(),
        p50_ms: percentile(&mut ms, 0.5),
        p99_ms: percentile(&mut ms, 0.99),
    });
    for row in &rows {
        let Row {
            what,
            samples,
            p50_ms,
            p99_ms,
        } = row;
        println!("{what:<58}{samples:>8}{p50_ms:>10.2}{p99_ms:>10.2}");
    }
    println!();
    Ok(rows.into())
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

/// How long PostgreSQL itself takes, from one session to another: a row is inserted and committed on the disk,
/// and who listens is told.
async fn notified_ms(place: &Place, times: usize) -> anyhow::Result<Vec<f64>> {
    let Place::Postgres(cluster) = place else {
        anyhow::bail!("only PostgreSQL notifies");
    };
    let url = cluster.url(&cluster.database());
    let (writer, writing) = tokio_postgres::connect(&url, NoTls).await?;
    let (listener, mut listening) = tokio_postgres::connect(&url, NoTls).await?;
    let (hear, mut heard) = mpsc::unbounded_channel();
    let mut connections = JoinSet::new();
    connections.spawn(async move { drop(writing.await) });
    connections.spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| listening.poll_message(cx)).await {
            if let AsyncMessage::Notification(_) = message
                && hear.send(()).is_err()
            {
                break;
            }
        }
    });
    listener.batch_execute("LISTEN bare").await?;
    writer.batch_execute("CREATE TABLE bare (n BIGINT)").await?;
    let insert = "WITH told AS (SELECT pg_notify('bare', '')) INSERT INTO bare SELECT 1 FROM told";
    let insert = writer.prepare(insert).await?;
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        tokio::time::sleep(PAUSE).await;
        let begun = Instant::now();
        writer.execute(&insert, &[]).await?;
        heard.recv().await.expect("it listens");
        taken.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(taken)
}
