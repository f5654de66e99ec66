//! A worker on another machine: it claims tasks of a server and runs them here.
//!
//! The loop, the handlers and all that is promised of them are those of the crate `sidestream`; only the
//! broker is another: the server, over HTTP (`docs/protocol.md`, "Workers").
//!
//! ```no_run
//! use sidestream_client::Client;
//! use sidestream_client::worker::Worker;
//! use sidestream::{Context, HandlerError, Tool};
//!
//! # async fn example() -> Result<(), sidestream_client::Error> {
//! let shout = Tool::new("shout", |_: Context, word: String| async move {
//!     Ok::<_, HandlerError>(word.to_uppercase())
//! });
//! let client = Client::builder("https://tasks.example.com").api_key("sk_…").build()?;
//! let worker = Worker::builder(client).tool(shout).concurrency(4).start().await?;
//! // …until told to stop:
//! worker.shutdown().await;
//! # Ok(())
//! # }
//! ```

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sidestream::chance::{Chance, SystemChance};
use sidestream::core::WorkerId;
use sidestream::worker::running::RunningTasks;
use sidestream::worker::{Parts, Spawner, Worker as Loop, WorkerConfig};
use sidestream::{Tool, ToolName};

use crate::client::Client;
use crate::error::Error;

mod broker;
mod cancellations;

use broker::RemoteBroker;
use cancellations::Cancellations;

/// How long a lease lasts unless the builder says otherwise, in milliseconds.
const LEASE_MS: u64 = 30_000;
/// How many tasks run at once unless the builder says otherwise.
const CONCURRENCY: u32 = 10;
/// How long a handler may take to stop unless the builder says otherwise.
const GRACE: Duration = Duration::from_secs(5);

/// Makes a [`Worker`].
#[derive(Debug)]
#[must_use = "nothing runs until it is started"]
pub struct Builder {
    client: Client,
    name: String,
    tools: Vec<Tool>,
    config: WorkerConfig,
    chance: Arc<dyn Chance>,
}

impl Builder {
    /// Adds a tool. One that cannot be run here is left out.
    pub fn tool(mut self, tool: Tool) -> Self {
        self.tools.push(tool);
        self
    }

    /// Adds tools.
    pub fn tools(mut self, tools: impl IntoIterator<Item = Tool>) -> Self {
        self.tools.extend(tools);
        self
    }

    /// What its tasks say of who runs them: this, and something random, so that no other process has the
    /// same. `worker`, unless said otherwise.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// At most so many tasks run at once: 10.
    pub fn concurrency(mut self, concurrency: u32) -> Self {
        self.config.concurrency = concurrency;
        self
    }

    /// How long the worker may be silent before its tasks are given to others: 30 seconds. Kept to the
    /// millisecond.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.config.lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// How long a handler, or the whole worker at its shutdown, may take to stop once told: 5 seconds.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.config.grace = grace;
        self
    }

    /// Starts the worker, on the runtime of the caller, as soon as the server is there.
    ///
    /// Programs that a former worker of this server left running on this machine are killed first.
    ///
    /// # Errors
    /// When a tool or a setting cannot be accepted, or the server refuses for good.
    pub async fn start(self) -> Result<Worker, Error> {
        let mut tools = HashMap::new();
        for tool in &self.tools {
            let name = tool.name().map_err(configuration)?;
            if let Some(handler) = tool.handler()
                && tools.insert(name.clone(), Arc::clone(handler)).is_some()
            {
                return Err(Error::Configuration(format!("tool {name} is given twice")));
            }
        }
        if tools.is_empty() {
            return Err(Error::Configuration("there is no tool to run".into()));
        }
        if self.config.concurrency == 0 {
            return Err(Error::Configuration("the concurrency is 0".into()));
        }
        let name = format!("{}-{:016x}", self.name, self.chance.next());
        let worker = WorkerId::new(name).map_err(configuration)?;

        let running = Arc::<RunningTasks>::default();
        let cancellations = Cancellations::follow(&self.client, Arc::clone(&running)).await?;
        let log = cancellations.log()?;
        let mut names: Vec<ToolName> = tools.keys().cloned().collect();
        names.sort();
        let spawner = Spawner::default();
        let broker = Arc::new(RemoteBroker::new(
            self.client,
            worker.clone(),
            &names,
            self.config.lease_ms,
            cancellations.room(),
        ));
        let looping = Loop::new(Parts {
            worker,
            log,
            config: self.config,
            tools,
            broker: Arc::clone(&broker) as _,
            running,
            chance: self.chance,
            spawner: spawner.clone(),
        });
        looping.kill_leftovers().await;
        let refused = Arc::clone(&broker);
        spawner.spawn(async move {
            if let Err(error) = cancellations.listen().await {
                refused.refuse(error);
            }
        });
        looping.start();
        Ok(Worker {
            looping,
            broker,
            spawner,
        })
    }
}

fn configuration(error: sidestream::core::Invalid) -> Error {
    Error::Configuration(error.to_string())
}

/// Claims tasks of a server and runs them here, until it is shut down. When it is dropped everything stops
/// where it stands, as in a crash: call [`Worker::shutdown`] to end well.
pub struct Worker {
    looping: Loop,
    broker: Arc<RemoteBroker>,
    spawner: Spawner,
}

impl Worker {
    /// Begins a worker for the server of this client, whose key must have the role `worker`.
    pub fn builder(client: Client) -> Builder {
        Builder {
            client,
            name: "worker".into(),
            tools: Vec::new(),
            config: WorkerConfig {
                concurrency: CONCURRENCY,
                lease_ms: LEASE_MS,
                grace: GRACE,
            },
            chance: Arc::new(SystemChance),
        }
    }

    /// Its name, as tasks show it.
    #[must_use]
    pub fn id(&self) -> &WorkerId {
        self.looping.id()
    }

    /// How many tasks it runs now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.looping.running().len()
    }

    /// Waits until the server refuses for good, and says why: the key is revoked, say. A server that
    /// cannot be reached is waited for.
    pub async fn refused(&self) -> Error {
        self.broker.refused().await
    }

    /// Ends well: claims no more, gives running handlers the grace to finish, stops those that do not, and
    /// reports. Their tasks go the way their retries say.
    pub async fn shutdown(&self) {
        self.looping.drain().await;
        self.spawner.kill();
        self.spawner.wait().await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.spawner.kill();
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("id", self.id())
            .field("server", &self.broker.server())
            .finish_non_exhaustive()
    }
}
