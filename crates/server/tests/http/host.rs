//! A server to test, with tools of the tests' own.

use std::sync::Arc;

use serde_json::{Value, json};
use sidestream::{Config, Context, HandlerError, MemoryStore, Store, TaskManager, Tool};
use sidestream_server::{Server, ServerConfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::{Answer, Call, Open, call};

/// A server that runs until it is dropped.
pub(crate) struct Host {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) manager: Option<TaskManager>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinSet<()>,
}

pub(crate) fn tools() -> Vec<Tool> {
    let echo = Tool::new("echo", |context: Context, args: Value| async move {
        context.output(&json!({"saw": args})).await?;
        Ok::<_, HandlerError>(args)
    });
    let stuck = Tool::new("stuck", |context: Context, _: Value| async move {
        context.cancelled().cancelled().await;
        Ok::<_, HandlerError>("too late")
    });
    let broken = Tool::new("broken", |_: Context, _: Value| async move {
        Err::<(), _>(HandlerError::permanent("it is broken"))
    });
    let ask = Tool::new("ask", |context: Context, _: Value| async move {
        match context.resume_data::<Value>()? {
            Some(answer) => Ok(answer),
            None => Err(context.suspend("may I?")),
        }
    });
    // Emits so many outputs of so many bytes.
    let gush = Tool::new("gush", |context: Context, args: Value| async move {
        let count = args["count"].as_u64().unwrap_or(0);
        let text = "x".repeat(args["bytes"].as_u64().unwrap_or(0) as usize);
        for n in 0..count {
            context.output(&json!({"n": n, "text": text})).await?;
        }
        Ok::<(), HandlerError>(())
    });
    let afar = Tool::remote("afar");
    let narrow = Tool::remote("narrow").concurrency(1);
    vec![echo, stuck, broken, ask, gush, afar, narrow]
}

pub(crate) fn loopback() -> ServerConfig {
    ServerConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        ..ServerConfig::default()
    }
}

impl Host {
    pub(crate) async fn start() -> Self {
        Self::with(loopback(), Config::default()).await
    }

    pub(crate) async fn with(server: ServerConfig, manager: Config) -> Self {
        let builder = TaskManager::builder(MemoryStore::new());
        let manager = builder.tools(tools()).config(manager).start().await;
        Self::of(server, Some(manager.unwrap())).await
    }

    pub(crate) async fn disabled() -> Self {
        Self::of(loopback(), None).await
    }

    pub(crate) async fn of(config: ServerConfig, manager: Option<TaskManager>) -> Self {
        let store = match &manager {
            Some(manager) => Arc::clone(manager.store()),
            None => Arc::new(MemoryStore::new()),
        };
        let bound = Server::bind(config, manager.clone(), Arc::clone(&store)).await;
        let server = bound.unwrap();
        let (address, shutdown) = (server.local_addr(), CancellationToken::new());
        let mut serving = JoinSet::new();
        serving.spawn(server.run(shutdown.clone()));
        Self {
            address,
            manager,
            store,
            shutdown,
            serving,
        }
    }

    pub(crate) fn manager(&self) -> &TaskManager {
        self.manager.as_ref().unwrap()
    }

    pub(crate) fn call(&self, method: &'static str, target: impl Into<String>) -> Call {
        call(self.address, method, target)
    }

    pub(crate) async fn get(&self, target: impl Into<String>) -> Answer {
        self.call("GET", target).send().await
    }

    pub(crate) async fn post(&self, target: impl Into<String>, body: Value) -> Answer {
        self.call("POST", target).json(&body).send().await
    }

    /// Opens a stream, and reads past its first comment.
    pub(crate) async fn stream(&self, target: impl Into<String>) -> Open {
        let mut open = self.call("GET", target).open().await;
        assert_eq!(open.status, 200);
        assert_eq!(open.block().await.unwrap(), "retry: 1000");
        assert_eq!(open.block().await.unwrap(), ": open");
        open
    }

    /// Dispatches a task, and gives its record.
    pub(crate) async fn dispatch(&self, task: Value) -> Value {
        let answer = self.post("/v1/tasks", task).await.expect(201);
        answer.json()["task"].clone()
    }

    /// Dispatches a task, waits until it has ended, and gives its record.
    pub(crate) async fn run(&self, task: Value) -> Value {
        let call = self.call("POST", "/v1/tasks").json(&task);
        let answer = call.header("prefer", "wait=20").send().await.expect(201);
        answer.json()["task"].clone()
    }

    /// Stops the server, and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        self.serving.join_next().await.unwrap().unwrap();
    }
}
