//! A server on loopback, and a tool whose tasks emit outputs at a given pace.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sidestream::{
    Config, Context, Dispatched, HandlerError, Json, NewTask, Retention, Status, Store,
    TaskManager, Tool,
};
use sidestream_server::{Server, ServerConfig};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::sse::clients::now_us;

/// An output has so many bytes.
const OUTPUT_BYTES: usize = 200;
/// More outputs than the ring and the database's page cache hold.
const WARM_UP_OUTPUTS: u64 = 100_000;

/// How a task emits.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Pace {
    pub(crate) outputs: u64,
    pub(crate) every_us: u64,
    /// So long after the sign: tasks of one pace do not all emit in the same moment.
    pub(crate) first_after_us: u64,
}

/// A manager behind a server of its own.
pub(crate) struct Site {
    pub(crate) manager: TaskManager,
    pub(crate) address: SocketAddr,
    begin: watch::Sender<Option<Instant>>,
    serving: JoinSet<()>,
    connections: Option<tokio::runtime::Runtime>,
    stopping: CancellationToken,
}

impl Site {
    /// Serves a store; at most so many tasks run at once.
    pub(crate) async fn open(store: Arc<dyn Store>, concurrency: usize) -> anyhow::Result<Self> {
        let (begin, sign) = watch::channel(None);
        let emits = Tool::new("emits", move |context: Context, pace: Pace| {
            let sign = sign.clone();
            async move { emit(&context, pace, sign).await }
        });
        let warms_up = Tool::new("warms-up", warm_up);
        let config = Config {
            concurrency: u32::try_from(concurrency)?.max(10),
            concurrency_per_agent: None,
            ..Config::default()
        };
        let manager = TaskManager::builder_on(store.clone());
        let manager = manager.tool(emits).tool(warms_up).config(config);
        let manager = manager.start().await?;
        let mut config = ServerConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..ServerConfig::default()
        };
        // Beside the clients, one who asks.
        config.limits.connections += 100;
        let server = Server::bind(config, Some(manager.clone()), store).await?;
        let (address, stopping) = (server.local_addr(), CancellationToken::new());
        // On threads of their own, as `sidestream serve` has them.
        let connections = tokio::runtime::Runtime::new()?;
        let mut serving = JoinSet::new();
        serving.spawn_on(server.run(stopping.clone()), connections.handle());
        Ok(Self {
            manager,
            address,
            begin,
            serving,
            connections: Some(connections),
            stopping,
        })
    }

    /// Fills what a server that has been at work holds, whoever watches: the recent end of the log, and pages of
    /// the database. What it takes from then on is the watchers'.
    pub(crate) async fn warm_up(&self) -> anyhow::Result<()> {
        let dispatched = self.manager.dispatch(NewTask::new("warms-up")).await?;
        let id = dispatched.id().context("it became a task")?;
        let task = self.manager.wait(id).await?;
        anyhow::ensure!(task.status == Status::Completed, "{task:?}");
        Ok(())
    }

    /// Dispatches a task for each pace, the n-th on thread `thread-n`; all of them run, and wait for the sign,
    /// when this returns.
    pub(crate) async fn dispatch(&self, paces: &[Pace]) -> anyhow::Result<()> {
        for (first, paces) in paces.chunks(1_000).enumerate() {
            let task = |(n, pace): (usize, &Pace)| {
                let task = NewTask::new("emits").thread(format!("thread-{}", first * 1_000 + n));
                Ok(task.args(serde_json::to_value(pace)?))
            };
            let tasks = paces.iter().enumerate().map(task);
            let tasks = tasks.collect::<Result<Vec<_>, serde_json::Error>>()?;
            for dispatched in self.manager.dispatch_all(tasks).await {
                let dispatched = dispatched?;
                anyhow::ensure!(matches!(dispatched, Dispatched::New(_)), "a task was known");
            }
        }
        while self.begin.receiver_count() <= paces.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The last of them are in the log as well.
        while self.manager.stats().started < paces.len() as u64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Gives the sign.
    pub(crate) fn begin(&self) {
        self.begin.send_replace(Some(Instant::now()));
    }

    pub(crate) async fn close(mut self) {
        self.stopping.cancel();
        while self.serving.join_next().await.is_some() {}
        self.manager.shutdown().await;
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // It must not be waited for where it is dropped.
        if let Some(connections) = self.connections.take() {
            connections.shutdown_background();
        }
    }
}

async fn emit(
    context: &Context,
    pace: Pace,
    mut sign: watch::Receiver<Option<Instant>>,
) -> Result<(), HandlerError> {
    // Without a sign the manager is shut down.
    let Ok(begun) = sign.wait_for(Option::is_some).await.map(|at| *at) else {
        return Ok(());
    };
    let Some(begun) = begun else { return Ok(()) };
    for n in 0..pace.outputs {
        let after = Duration::from_micros(pace.first_after_us + n * pace.every_us);
        tokio::time::sleep_until(begun + after).await;
        context.output_json(output(now_us())).await?;
    }
    Ok(())
}

async fn warm_up(context: Context, (): ()) -> Result<(), HandlerError> {
    for _ in 0..WARM_UP_OUTPUTS {
        context.output_json(output(now_us())).await?;
    }
    Ok(())
}

/// Nothing is pruned while it is measured.
pub(crate) fn keeping_all() -> Config {
    Config {
        retention: Retention::for_ever(),
        ..Config::default()
    }
}

/// An output that says when it was born.
pub(crate) fn output(born_us: u64) -> Json {
    let rest = "{\"text\":\"\",\"at\":1790000000000000}".len();
    let text = "x".repeat(OUTPUT_BYTES - rest);
    Json::from_text(format!("{{\"text\":\"{text}\",\"at\":{born_us}}}")).expect("it is JSON")
}
