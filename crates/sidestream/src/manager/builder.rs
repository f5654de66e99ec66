//! Puts a manager together, and starts it.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, LazyLock};

use sidestream_core::{Invalid, Namespace, Task, WorkerId};
use tokio_util::sync::CancellationToken;

use crate::chance::{Chance, SystemChance};
use crate::error::Error;
use crate::manager::alike::Alike;
use crate::manager::callbacks::{Callbacks, Ended};
use crate::manager::config::{Config, check, limits};
use crate::manager::{Inner, LOCAL_WORKER, TaskManager, stats};
use crate::store::{Claim, Store};
use crate::stream::Source;
use crate::stream::ring::Ring;
use crate::stream::tail::{Observer, Tail};
use crate::worker::handler::Tool;
use crate::worker::local::LocalBroker;
use crate::worker::running::RunningTasks;
use crate::worker::{Parts, Spawner, Worker, WorkerConfig};
use crate::writer::Writer;

/// A number that no other process has had.
static PROCESS: LazyLock<u64> = LazyLock::new(|| SystemChance.next());

/// How the ids of all workers inside one process begin.
pub(super) fn workers_of(process: u64) -> String {
    format!("{LOCAL_WORKER}{process:016x}-")
}

/// What a manager is made of. See [`TaskManager::builder`].
#[must_use = "nothing runs until it is started"]
#[derive(Debug)]
pub struct Builder {
    store: Arc<dyn Store>,
    tools: Vec<Tool>,
    config: Config,
    callbacks: Callbacks,
    chance: Arc<dyn Chance>,
    process: u64,
}

impl Builder {
    pub(super) fn on(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            tools: Vec::new(),
            config: Config::default(),
            callbacks: Callbacks::default(),
            chance: Arc::new(SystemChance),
            process: *PROCESS,
        }
    }

    /// Adds a tool.
    pub fn tool(mut self, tool: Tool) -> Self {
        self.tools.push(tool);
        self
    }

    /// Adds tools.
    pub fn tools(mut self, tools: impl IntoIterator<Item = Tool>) -> Self {
        self.tools.extend(tools);
        self
    }

    /// Sets how the manager works.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Calls this for each task that completes by a commit of this process.
    ///
    /// Callbacks are a convenience: one is called at most once, and not at all if the process dies
    /// first. What must not be missed is read from [`TaskManager::completions`]. A callback that
    /// panics harms nobody.
    pub fn on_completed<F>(mut self, call: impl Fn(Task) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.callbacks.add(Ended::Completed, call);
        self
    }

    /// Calls this for each task that fails or times out; otherwise as [`Builder::on_completed`].
    pub fn on_failed<F>(mut self, call: impl Fn(Task) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.callbacks.add(Ended::Failed, call);
        self
    }

    /// Calls this for each task that is cancelled; otherwise as [`Builder::on_completed`].
    pub fn on_cancelled<F>(mut self, call: impl Fn(Task) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.callbacks.add(Ended::Cancelled, call);
        self
    }

    /// Draws random numbers from somewhere else: for simulations.
    pub fn chance(mut self, chance: Arc<dyn Chance>) -> Self {
        self.chance = chance;
        self
    }

    /// Says which process this is, by a number that no other has had: for simulations, in which one
    /// process plays several. Without it all managers of a process know each other.
    pub fn process(mut self, process: u64) -> Self {
        self.process = process;
        self
    }

    /// Starts the manager, on the runtime of the caller.
    ///
    /// What a former process of an exclusive store left running is ended first, by the rule its
    /// retries say (R2). What another manager of this process runs goes on; if that manager was dropped
    /// instead of shut down, what it ran ends with its lease.
    ///
    /// # Errors
    /// When a tool or a setting cannot be accepted, or the store cannot be used.
    pub async fn start(self) -> Result<TaskManager, Error> {
        check(&self.config)?;
        let mut tools = BTreeMap::new();
        for tool in self.tools {
            let name = tool.name()?;
            if tool.settings.concurrency == Some(0) {
                let problem = format!("of the tool {name} is 0: none of its tasks could run");
                return Err(Invalid::new("concurrency", problem).into());
            }
            if tools.insert(name, tool.clone()).is_some() {
                let problem = format!("{:?} is registered twice", tool.name);
                return Err(Invalid::new("tool", problem).into());
            }
        }
        let (store, config, chance) = (self.store, self.config, self.chance);
        let spawner = Spawner::default();
        let running = Arc::<RunningTasks>::default();
        let stats = Arc::<stats::Counters>::default();
        let callbacks = self
            .callbacks
            .into_observer(Arc::clone(&store), spawner.clone());
        let observers: Vec<Arc<dyn Observer>> = vec![
            Arc::clone(&running) as _,
            Arc::clone(&stats) as _,
            callbacks,
        ];
        let head = store.head().await?;
        let ring = Arc::new(Ring::new(head.seq, config.ring));
        let tail = Arc::new(Tail::new(Arc::clone(&store), Arc::clone(&ring), observers));
        let (writer, writer_loop) = Writer::new(Arc::clone(&store), Arc::clone(&tail));
        spawner.spawn(writer_loop.run());

        let instance = chance.next();
        let worker = WorkerId::new(format!("{}{instance:016x}", workers_of(self.process)))?;
        let limits = Arc::new(limits(&config, &tools));
        let handlers: HashMap<_, _> = tools
            .iter()
            .filter_map(|(name, tool)| Some((name.clone(), Arc::clone(tool.handler.as_ref()?))))
            .collect();
        let claim = Claim {
            worker: worker.clone(),
            tools: tools
                .keys()
                .filter(|name| handlers.contains_key(*name))
                .cloned()
                .collect(),
            namespace: None,
            limit: 0,
            lease_ms: config.lease_ms,
            limits: Arc::clone(&limits),
        };
        let broker = LocalBroker::new(Arc::clone(&store), writer.clone(), claim, &running);
        let worker = Worker::new(Parts {
            worker,
            log: head.epoch,
            config: WorkerConfig {
                concurrency: config.concurrency,
                lease_ms: config.lease_ms,
                grace: config.grace,
            },
            tools: handlers,
            broker: Arc::new(broker),
            running,
            chance: Arc::clone(&chance),
            spawner: spawner.clone(),
        });
        let inner = Inner {
            source: Source {
                store,
                ring,
                shutdown: CancellationToken::new(),
                open: Arc::default(),
            },
            writer,
            worker,
            limits,
            tools,
            config,
            chance,
            spawner,
            stats,
            process: self.process,
            alike: Alike::default(),
        };
        inner.start(tail).await?;
        Ok(TaskManager {
            inner: Arc::new(inner),
            namespace: Namespace::default(),
        })
    }
}
