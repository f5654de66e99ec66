//! The task manager: dispatches tasks, runs them, and lets everyone watch.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sidestream_core::task::TaskDefaults;
use sidestream_core::{
    Command, Epoch, Filter, Invalid, Json, Namespace, NewTask, Seq, Spec, Task, TaskId, ThreadId,
    ToolName, WorkerId,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::chance::{self, Chance, SystemChance};
use crate::error::{Error, StoreError};
use crate::maintenance::pruner::{Cleaned, Pruner, Retention};
use crate::maintenance::rescuer::Rescuer;
use crate::store::{Admission, Answer, Head, Limits, ListQuery, Page, Request, Store, Told};
use crate::stream::ring::{Ring, RingLimits};
use crate::stream::tail::{Observer, Tail};
use crate::stream::{ChunkStream, Source, StreamOptions};
use crate::worker::handler::Tool;
use crate::worker::{Reason, RunningTasks, Spawner, Worker, WorkerConfig};
use crate::writer::Writer;

mod callbacks;
mod stats;

use callbacks::{Callbacks, Ended};
pub use stats::Stats;

/// Every worker inside a process has an id that begins so: of an exclusive store, a former one is
/// known to be gone.
const LOCAL_WORKER: &str = "local-";
/// How long a shutdown waits for the last reports after the handlers have been stopped.
const REPORT_GRACE: Duration = Duration::from_secs(1);
/// The longest grace and lease, in milliseconds: a day.
const DURATION_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// How a manager works. [`Config::default`] is what existing users expect (WIRE part 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// At most so many tasks run at once in this process: 10.
    pub concurrency: u32,
    /// At most so many tasks of one agent run at once, over all workers of the database: 5. `None` is
    /// no limit.
    pub concurrency_per_agent: Option<u32>,
    /// What a dispatch does when no slot is free: queue.
    pub backpressure: Backpressure,
    /// What a dispatch gets where neither it nor its tool says otherwise: attempts of 5 minutes, no
    /// retries.
    pub defaults: TaskDefaults,
    /// How long a worker may be silent before its attempts are given to another, in milliseconds:
    /// 30,000. Renewed three times as often.
    pub lease_ms: u64,
    /// How long a handler, or a whole process at its shutdown, may take to stop once told: 5 seconds.
    pub grace: Duration,
    /// How long things are kept.
    pub retention: Retention,
    /// How much of the log is kept in memory for those who watch.
    pub ring: RingLimits,
    /// May tasks be dispatched for tools that this process does not have, for workers elsewhere to
    /// run? `false`: such a dispatch is refused.
    pub accepts_any_tool: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            concurrency: 10,
            concurrency_per_agent: Some(5),
            backpressure: Backpressure::Queue,
            defaults: TaskDefaults::default(),
            lease_ms: 30_000,
            grace: Duration::from_secs(5),
            retention: Retention::default(),
            ring: RingLimits::default(),
            accepts_any_tool: false,
        }
    }
}

/// What a dispatch does when no slot is free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backpressure {
    /// The task waits.
    #[default]
    Queue,
    /// The dispatch is refused.
    Reject,
    /// The caller is told to run the tool itself.
    FallbackToSync,
}

/// What a dispatch came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dispatched {
    /// A new task.
    New(Task),
    /// The task that an earlier dispatch of the same key, or of the same tool call, created (R5).
    Known(Task),
    /// No task: the caller should run the tool itself, now.
    FallbackToSync,
}

impl Dispatched {
    /// The task, if there is one.
    #[must_use]
    pub fn task(&self) -> Option<&Task> {
        match self {
            Self::New(task) | Self::Known(task) => Some(task),
            Self::FallbackToSync => None,
        }
    }

    /// The task's id, if there is one.
    #[must_use]
    pub fn id(&self) -> Option<&TaskId> {
        self.task().map(Task::id)
    }
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
}

impl Builder {
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

    /// Starts the manager, on the runtime of the caller.
    ///
    /// What a former process of an exclusive store left running is ended first, by the rule its
    /// retries say (R2).
    ///
    /// # Errors
    /// When a tool or a setting cannot be accepted, or the store cannot be used.
    pub async fn start(self) -> Result<TaskManager, Error> {
        check(&self.config)?;
        let mut tools = BTreeMap::new();
        for tool in self.tools {
            let name = tool.checked_name()?;
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
        let worker = WorkerId::new(format!("{LOCAL_WORKER}{instance:016x}"))?;
        let limits = Arc::new(limits(&config, &tools));
        let inner = Inner {
            stop_work: CancellationToken::new(),
            source: Source {
                store,
                ring,
                shutdown: CancellationToken::new(),
            },
            writer,
            worker,
            limits,
            tools,
            config,
            chance,
            spawner,
            running,
            stats,
        };
        inner.start(tail, head.epoch).await?;
        Ok(TaskManager {
            inner: Arc::new(inner),
            namespace: Namespace::default(),
        })
    }
}

/// Kills the programs that a former process of this store left running, before their tasks are tried
/// again.
async fn kill_former_programs(log: Epoch) {
    #[cfg(unix)]
    {
        let search = move || crate::worker::process::kill_leftovers(log.as_str());
        match tokio::task::spawn_blocking(search).await {
            Ok(0) => {}
            Ok(killed) => tracing::warn!(killed, "programs of a former process killed"),
            Err(error) => tracing::error!(%error, "programs of a former process not looked for"),
        }
    }
    #[cfg(not(unix))]
    drop(log);
}

fn check(config: &Config) -> Result<(), Invalid> {
    let positive = [
        ("concurrency", u64::from(config.concurrency)),
        ("leaseMs", config.lease_ms),
    ];
    for (field, number) in positive {
        if number == 0 {
            return Err(Invalid::new(field, "is 0"));
        }
    }
    let grace_ms = u64::try_from(config.grace.as_millis()).unwrap_or(u64::MAX);
    for (field, ms) in [("leaseMs", config.lease_ms), ("graceMs", grace_ms)] {
        if ms > DURATION_MS_MAX {
            let problem = format!("is {ms}, more than the {DURATION_MS_MAX} allowed");
            return Err(Invalid::new(field, problem));
        }
    }
    Ok(())
}

fn limits(config: &Config, tools: &BTreeMap<ToolName, Tool>) -> Limits {
    let per_tool = tools.iter().filter_map(|(name, tool)| {
        let limit = tool.settings.concurrency?;
        Some((name.clone(), limit))
    });
    Limits {
        total: Some(config.concurrency),
        per_agent: config.concurrency_per_agent,
        per_tool: per_tool.collect(),
    }
}

/// Dispatches tasks, runs them, and lets everyone watch. Cloning shares it.
///
/// It speaks for one namespace; [`TaskManager::in_namespace`] gives its like for another. When the
/// last clone is dropped everything stops where it stands, as in a crash: call
/// [`TaskManager::shutdown`] to end well.
#[derive(Clone)]
pub struct TaskManager {
    inner: Arc<Inner>,
    namespace: Namespace,
}

struct Inner {
    source: Source,
    writer: Writer,
    worker: WorkerId,
    limits: Arc<Limits>,
    tools: BTreeMap<ToolName, Tool>,
    config: Config,
    chance: Arc<dyn Chance>,
    spawner: Spawner,
    running: Arc<RunningTasks>,
    stats: Arc<stats::Counters>,
    /// Ends the worker's claiming, and all maintenance.
    stop_work: CancellationToken,
}

impl Inner {
    async fn start(&self, tail: Arc<Tail>, log: Epoch) -> Result<(), Error> {
        let (store, writer) = (&self.source.store, &self.writer);
        let rescuer = Rescuer {
            store: Arc::clone(store),
            writer: writer.clone(),
            chance: Arc::clone(&self.chance),
            grace: self.config.grace,
            lease_ms: self.config.lease_ms,
        };
        if store.is_exclusive() {
            kill_former_programs(log.clone()).await;
            rescuer.end_former(LOCAL_WORKER, &self.worker).await?;
        }
        let worker = Worker::new(
            self.worker.clone(),
            log,
            WorkerConfig {
                concurrency: self.config.concurrency,
                lease_ms: self.config.lease_ms,
                grace: self.config.grace,
                limits: Arc::clone(&self.limits),
            },
            &self.tools,
            Arc::clone(store),
            writer.clone(),
            Arc::clone(&self.chance),
            self.spawner.clone(),
            Arc::clone(&self.running),
        );
        self.spawner.spawn(worker.run(self.stop_work.clone()));
        self.maintain(rescuer.run());
        self.maintain(self.pruner().run());
        let shutdown = self.source.shutdown.clone();
        self.spawner
            .spawn(async move { shutdown.run_until_cancelled(tail.follow()).await });
        Ok(())
    }

    fn maintain(&self, duty: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop_work.clone();
        self.spawner
            .spawn(async move { stop.run_until_cancelled(duty).await });
    }

    fn pruner(&self) -> Pruner {
        Pruner {
            store: Arc::clone(&self.source.store),
            writer: self.writer.clone(),
            retention: self.config.retention.clone(),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.source.shutdown.cancel();
        self.spawner.kill();
    }
}

impl fmt::Debug for TaskManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskManager")
            .field("namespace", &self.namespace)
            .field("worker", &self.inner.worker)
            .finish_non_exhaustive()
    }
}

impl TaskManager {
    /// Begins a manager on a store.
    pub fn builder(store: impl Store) -> Builder {
        Self::builder_on(Arc::new(store))
    }

    /// As [`TaskManager::builder`], on a store that others share.
    pub fn builder_on(store: Arc<dyn Store>) -> Builder {
        Builder {
            store,
            tools: Vec::new(),
            config: Config::default(),
            callbacks: Callbacks::default(),
            chance: Arc::new(SystemChance),
        }
    }

    /// The same manager, for another tenant (E2).
    #[must_use]
    pub fn in_namespace(&self, namespace: Namespace) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            namespace,
        }
    }

    /// Whom it speaks for.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The id of the worker inside it.
    #[must_use]
    pub fn worker_id(&self) -> &WorkerId {
        &self.inner.worker
    }

    /// The names of its tools.
    pub fn tools(&self) -> impl Iterator<Item = &ToolName> {
        self.inner.tools.keys()
    }

    /// The store it works on.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.source.store
    }

    /// Creates a task; once this returns it is durable, and will run.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field that cannot be accepted; [`Error::Rejected`] says that no
    /// slot is free, where the policy is to refuse.
    pub async fn dispatch(&self, task: NewTask) -> Result<Dispatched, Error> {
        let request = self.dispatch_request(task)?;
        dispatched(self.inner.writer.submit(request).await)
    }

    /// Creates many tasks, in few commits. Each is accepted or refused on its own, and the answers are
    /// in the order of the tasks.
    pub async fn dispatch_all(
        &self,
        tasks: impl IntoIterator<Item = NewTask>,
    ) -> Vec<Result<Dispatched, Error>> {
        let requests: Vec<_> = tasks
            .into_iter()
            .map(|t| self.dispatch_request(t))
            .collect();
        let fit = requests.iter().filter_map(|r| r.as_ref().ok()).cloned();
        let mut answers = self
            .inner
            .writer
            .submit_all(fit.collect())
            .await
            .into_iter();
        let answer = |request: Result<Request, Error>| {
            request.and_then(|_| dispatched(answers.next().unwrap_or(Err(Error::ShutDown))))
        };
        requests.into_iter().map(answer).collect()
    }

    fn dispatch_request(&self, task: NewTask) -> Result<Request, Error> {
        let inner = &self.inner;
        let tool = inner.tools.get(task.tool_name.as_str());
        if tool.is_none() && !inner.config.accepts_any_tool {
            return Err(unknown_tool(&task.tool_name, &inner.tools).into());
        }
        let defaults = match tool {
            Some(tool) => tool.settings.over(inner.config.defaults),
            None => inner.config.defaults,
        };
        let id = chance::task_id(&*inner.chance);
        let spec = task.into_spec(self.namespace.clone(), id, defaults)?;
        Ok(Request::Dispatch {
            spec: Arc::<Spec>::new(spec),
            admission: self.admission(),
        })
    }

    fn admission(&self) -> Admission {
        let limits = || (*self.inner.limits).clone();
        match self.inner.config.backpressure {
            Backpressure::Queue => Admission::Queue,
            Backpressure::Reject => Admission::Reject(limits()),
            Backpressure::FallbackToSync => Admission::FallbackToSync(limits()),
        }
    }

    /// One task; `None` when there is none of that id in this namespace.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn get(&self, id: &TaskId) -> Result<Option<Task>, StoreError> {
        self.store().get(&self.namespace, id).await
    }

    /// A page of tasks of this namespace, whatever namespace the query names.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        let namespace = self.namespace.clone();
        self.store().list(&ListQuery { namespace, ..query }).await
    }

    /// Ends a task that has not ended: at once for everyone who looks. Its handler is told, and after
    /// the grace stopped (R3). One that is cancelled already stays so.
    ///
    /// # Errors
    /// [`Error::Rejected`] when the task ended otherwise, or does not exist.
    pub async fn cancel(&self, id: &TaskId) -> Result<Task, Error> {
        self.command(id, Command::Cancel).await
    }

    /// Gives a suspended task what it waits for; it runs again as soon as a slot is free.
    ///
    /// # Errors
    /// [`Error::Rejected`] when the task is not suspended, or does not exist.
    pub async fn resume(&self, id: &TaskId, data: impl Into<Json>) -> Result<Task, Error> {
        let data = data.into();
        self.command(id, Command::Resume { data }).await
    }

    /// Tries a failed, timed-out or cancelled task again, with all its retries.
    ///
    /// # Errors
    /// [`Error::Rejected`] when the task has not ended so, or does not exist.
    pub async fn retry(&self, id: &TaskId) -> Result<Task, Error> {
        self.command(id, Command::Retry).await
    }

    async fn command(&self, id: &TaskId, command: Command) -> Result<Task, Error> {
        let request = Request::Command {
            namespace: self.namespace.clone(),
            id: id.clone(),
            command,
        };
        match self.inner.writer.submit(request).await? {
            Answer::Applied(task) => Ok(task),
            other => unreachable!("a command is answered by its task: {other:?}"),
        }
    }

    /// Removes an ended task. Its events stay in the log until they are pruned.
    ///
    /// # Errors
    /// [`Error::Rejected`] when the task has not ended, or does not exist.
    pub async fn delete(&self, id: &TaskId) -> Result<(), Error> {
        let request = Request::Delete {
            namespace: self.namespace.clone(),
            id: id.clone(),
        };
        self.inner.writer.submit(request).await.map(drop)
    }

    /// Waits until a task has ended, and gives it as it ended. Nothing is polled. One that has ended
    /// already is given at once.
    ///
    /// # Errors
    /// [`Error::Rejected`] when the task does not exist, or no longer; [`Error::ShutDown`] when the
    /// manager is.
    pub async fn wait(&self, id: &TaskId) -> Result<Task, Error> {
        let options = StreamOptions {
            filter: Filter::default().task(id.clone()),
            snapshot: crate::stream::SnapshotKind::None,
            ..StreamOptions::default()
        };
        let mut stream = self.stream(options).await?;
        // The place to read on from comes first; an end that is not seen now comes after it.
        loop {
            match stream.next().await {
                None => return Err(Error::ShutDown),
                Some(item) => {
                    let item = item?;
                    let is_over =
                        |chunk: &Arc<sidestream_core::Chunk>| chunk.chunk_type.is_terminal();
                    if !item.chunk.as_ref().is_none_or(is_over) {
                        continue;
                    }
                }
            }
            match self.get(id).await? {
                None => return Err(sidestream_core::Rejection::NotFound(id.clone()).into()),
                Some(task) if task.status.is_terminal() => return Ok(task),
                Some(_) => {}
            }
        }
    }

    /// Watches (S1–S8). The moment of the snapshot, or the place to go on from, is fixed when this
    /// returns: what happens afterwards will be seen, however late the stream is read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stream(&self, options: StreamOptions) -> Result<ChunkStream, StoreError> {
        self.inner.stats.stream_opened();
        self.inner
            .source
            .open(self.namespace.clone(), options)
            .await
    }

    /// What an agent has not yet been told: the ended tasks of a thread that nobody acknowledged,
    /// oldest end first. They stay here until [`TaskManager::acknowledge`] (R6).
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn completions(
        &self,
        thread: &ThreadId,
        limit: usize,
    ) -> Result<Vec<Task>, StoreError> {
        let namespace = &self.namespace;
        self.store().completions(namespace, thread, limit).await
    }

    /// Says that ends were told, and need not be again; returns how many that newly are. Give each with
    /// the `seq` that was told: a task that ended anew since will be told again.
    ///
    /// # Errors
    /// When the store could not do it.
    pub async fn acknowledge(&self, thread: &ThreadId, told: Told) -> Result<u64, Error> {
        let request = Request::Acknowledge {
            namespace: self.namespace.clone(),
            thread: thread.clone(),
            told,
        };
        match self.inner.writer.submit(request).await? {
            Answer::Acknowledged(count) => Ok(count),
            other => unreachable!("an acknowledgement is answered as one: {other:?}"),
        }
    }

    /// Removes what is older than its retention, now.
    ///
    /// # Errors
    /// When the store could not do it.
    pub async fn cleanup(&self) -> Result<Cleaned, Error> {
        self.inner.pruner().clean().await
    }

    /// Where the log begins and ends.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn head(&self) -> Result<Head, StoreError> {
        self.store().head().await
    }

    /// What the manager has done since it started, and is doing now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.stats.read(
            self.inner.running.len(),
            &self.inner.writer,
            self.ring_head(),
        )
    }

    fn ring_head(&self) -> Seq {
        self.inner.source.ring.head()
    }

    /// Commits requests of one's own, in a group with everyone else's: for those who build on the
    /// manager, as the server and the record API do.
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.inner.writer
    }

    /// Ends well: claims no more, gives running handlers the grace to finish, stops those that do not,
    /// and ends every stream. Their tasks go the way their retries say.
    ///
    /// Can be called more than once; every clone is shut down with it.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        inner.stop_work.cancel();
        let grace = inner.config.grace;
        if timeout(grace, inner.running.idle()).await.is_err() {
            inner.running.take_all(Reason::ShutDown);
            // The handlers' own grace, and a little for their reports.
            let _ = timeout(grace + REPORT_GRACE, inner.running.idle()).await;
        }
        inner.source.shutdown.cancel();
        inner.spawner.kill();
        inner.spawner.wait().await;
    }

    /// Stops everything where it stands, as a crash of the process would: for tests.
    pub fn kill(&self) {
        self.inner.source.shutdown.cancel();
        self.inner.spawner.kill();
    }
}

fn dispatched(answer: Result<Answer, Error>) -> Result<Dispatched, Error> {
    match answer? {
        Answer::Dispatched { task, is_new: true } => Ok(Dispatched::New(task)),
        Answer::Dispatched { task, .. } => Ok(Dispatched::Known(task)),
        Answer::FallbackToSync => Ok(Dispatched::FallbackToSync),
        other => unreachable!("a dispatch is answered as one: {other:?}"),
    }
}

fn unknown_tool(name: &str, tools: &BTreeMap<ToolName, Tool>) -> Invalid {
    let known: Vec<_> = tools.keys().take(20).map(ToolName::as_str).collect();
    let known = match known.as_slice() {
        [] => "no tool is registered".to_owned(),
        known => format!("there are {}", known.join(", ")),
    };
    Invalid::new("toolName", format!("{name:?} is not registered: {known}"))
}
