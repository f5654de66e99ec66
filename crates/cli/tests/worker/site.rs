//! A server whose tools only workers elsewhere run, a way to it, and workers.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use sidestream::core::EventKind;
use sidestream::store::LogQuery;
use sidestream::{Config, MemoryStore, NewTask, Seq, Status, Task, TaskId, TaskManager, Tool};
use sidestream_client::Client;
use sidestream_client::worker::{Builder, Worker};
use sidestream_server::{Server, ServerConfig};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::proxy::Proxy;

/// Longer than anything here takes, and short enough to say that something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Site {
    pub(crate) manager: TaskManager,
    pub(crate) proxy: Proxy,
    address: SocketAddr,
    serving: Option<(JoinSet<()>, CancellationToken)>,
}

impl Site {
    pub(crate) async fn open() -> Self {
        let builder = TaskManager::builder(MemoryStore::new()).config(Config {
            lease_ms: 60_000,
            ..Config::default()
        });
        let tools = ["work", "other"].map(Tool::remote);
        let manager = builder.tools(tools).start().await.unwrap();
        let mut site = Self {
            proxy: Proxy::to(([127, 0, 0, 1], 1).into()).await,
            manager,
            address: ([127, 0, 0, 1], 0).into(),
            serving: None,
        };
        site.start_server().await;
        site.proxy = Proxy::to(site.address).await;
        site
    }

    /// A server at the same address as the last one.
    pub(crate) async fn start_server(&mut self) {
        let config = ServerConfig {
            listen: self.address,
            ..ServerConfig::default()
        };
        let (manager, store) = (self.manager.clone(), self.manager.store().clone());
        let server = Server::bind(config, Some(manager), store).await.unwrap();
        self.address = server.local_addr();
        let shutdown = CancellationToken::new();
        let serving = JoinSet::from_iter([server.run(shutdown.clone())]);
        self.serving = Some((serving, shutdown));
    }

    /// Ends the server at once, as a crash would; what it kept stays.
    pub(crate) async fn crash_server(&mut self) {
        let (mut serving, _) = self.serving.take().unwrap();
        serving.shutdown().await;
    }

    /// Ends it well.
    pub(crate) async fn stop_server(&mut self) {
        let (mut serving, shutdown) = self.serving.take().unwrap();
        shutdown.cancel();
        serving.join_next().await.unwrap().unwrap();
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(format!("http://{}", self.proxy.address)).unwrap()
    }

    /// A worker that comes by the proxy.
    pub(crate) fn worker(&self) -> Builder {
        Worker::builder(self.client()).name("afar")
    }

    /// One that comes by another way.
    pub(crate) fn neighbour(&self) -> Builder {
        let client = Client::new(format!("http://{}", self.address)).unwrap();
        Worker::builder(client).name("near")
    }

    pub(crate) async fn dispatch(&self, task: NewTask) -> TaskId {
        let task = task.args(json!({"q": 1}));
        self.manager
            .dispatch(task)
            .await
            .unwrap()
            .id()
            .unwrap()
            .clone()
    }

    pub(crate) async fn end_of(&self, id: &TaskId) -> Task {
        let ended = timeout(PATIENCE, self.manager.wait(id)).await;
        ended.expect("it does not end").unwrap()
    }

    pub(crate) async fn completed(&self, id: &TaskId) -> Task {
        let task = self.end_of(id).await;
        assert_eq!(task.status, Status::Completed, "{task:?}");
        task
    }

    /// What the log has of a task.
    pub(crate) async fn events(&self, id: &TaskId) -> Vec<EventKind> {
        let query = LogQuery {
            after: Seq(0),
            limit: 10_000,
            bytes_max: LogQuery::BYTES_MAX,
            task: Some((self.manager.namespace().clone(), id.clone())),
        };
        let page = self.manager.store().log(&query).await.unwrap();
        page.entries
            .into_iter()
            .map(|entry| entry.event.kind)
            .collect()
    }

    /// Its outputs, with the attempts that emitted them.
    pub(crate) async fn outputs(&self, id: &TaskId) -> Vec<(u32, String)> {
        let events = self.events(id).await;
        let outputs = events.into_iter().filter_map(|kind| match kind {
            EventKind::Output { attempt, payload } => Some((attempt.0, payload.to_string())),
            _ => None,
        });
        outputs.collect()
    }
}
