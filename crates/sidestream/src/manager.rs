//! The task manager: dispatches tasks, runs them, and lets everyone watch.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use sidestream_core::{
    Command, Filter, Invalid, Json, Namespace, NewTask, Seq, Spec, Task, TaskId, ThreadId,
    ToolName, WorkerId,
};
use tokio::time::timeout;

use crate::chance::{self, Chance};
use crate::error::{Error, StoreError};
use crate::maintenance::pruner::{Cleaned, Pruner};
use crate::maintenance::rescuer::Rescuer;
use crate::records::Records;
use crate::store::{Admission, Answer, Gone, Head, Limits, ListQuery, Page, Request, Store, Told};
use crate::stream::tail::Tail;
use crate::stream::{ChunkStream, Source, StreamOptions};
use crate::worker::handler::Tool;
use crate::worker::{Spawner, Worker};
use crate::writer::Writer;

mod alike;
mod builder;
mod callbacks;
mod config;
mod elsewhere;
mod stats;

use alike::Alike;
pub use builder::Builder;
pub use config::{Backpressure, Config};
pub use elsewhere::{WorkerClaim, WorkerClaimed};
pub use stats::Stats;

/// Every worker inside a process has an id that begins so, then names the process: of an exclusive store,
/// one of another process is known to be gone.
const LOCAL_WORKER: &str = "local-";
/// How long a shutdown waits, at its end, for whatever is still there.
const END_GRACE: Duration = Duration::from_secs(1);

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
    worker: Worker,
    limits: Arc<Limits>,
    tools: BTreeMap<ToolName, Tool>,
    config: Config,
    chance: Arc<dyn Chance>,
    spawner: Spawner,
    stats: Arc<stats::Counters>,
    /// Which process this is.
    process: u64,
    /// The claims of workers elsewhere that wait.
    alike: Alike,
}

impl Inner {
    async fn start(&self, tail: Arc<Tail>) -> Result<(), Error> {
        let (store, writer) = (&self.source.store, &self.writer);
        let running = Arc::clone(self.worker.running());
        let rescuer = Rescuer {
            store: Arc::clone(store),
            writer: writer.clone(),
            chance: Arc::clone(&self.chance),
            grace: self.config.grace,
            lease_ms: self.config.lease_ms,
            held: Box::new(move || running.held()),
        };
        // Before their tasks are tried again.
        if store.is_exclusive() || self.worker.starts_programs() {
            self.worker.kill_leftovers().await;
        }
        if store.is_exclusive() {
            let gone = Gone {
                prefix: LOCAL_WORKER.to_owned(),
                // Managers of this process may share the store: their workers live.
                except: builder::workers_of(self.process),
            };
            rescuer.end_former(gone).await?;
        }
        self.worker.start();
        self.maintain(rescuer.run());
        self.maintain(self.pruner().run());
        let shutdown = self.source.shutdown.clone();
        self.spawner
            .spawn(async move { shutdown.run_until_cancelled(tail.follow()).await });
        Ok(())
    }

    fn maintain(&self, duty: impl Future<Output = ()> + Send + 'static) {
        let stop = self.worker.stopping().clone();
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
            .field("worker", self.inner.worker.id())
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
        Builder::on(store)
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
        self.inner.worker.id()
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
        // A name that cannot be one is told as that, not as an unknown one.
        let name = ToolName::new(task.tool_name.as_str())?;
        let tool = inner.tools.get(&name);
        if tool.is_none() && !inner.config.accepts_any_tool {
            return Err(unknown_tool(&task.tool_name, &inner.tools).into());
        }
        let defaults = match tool {
            Some(tool) => tool.settings.over(inner.config.defaults),
            None => inner.config.defaults,
        };
        let now = self.store().now();
        let id = chance::task_id(&*inner.chance, now);
        let task = task.dispatched_at(now);
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

    /// Waits until a task has ended, and gives it as it ended. Nothing is polled, but for a record, which
    /// its owner may delete before it has ended. One that has ended already is given at once.
    ///
    /// # Errors
    /// [`Error::Rejected`] when the task does not exist, or no longer; [`Error::ShutDown`] when the
    /// manager is.
    pub async fn wait(&self, id: &TaskId) -> Result<Task, Error> {
        let options = StreamOptions {
            filter: Filter::default().task(id.clone()),
            snapshot: crate::stream::SnapshotKind::None,
            ends_with_task: true,
            ..StreamOptions::default()
        };
        let mut stream = self.stream(options).await?;
        // The place to read on from comes first; an end that is not seen now comes after it.
        loop {
            let item = stream.next().await.transpose()?;
            let is_open = item.is_some();
            let chunk = item.and_then(|item| item.chunk);
            if chunk.is_some_and(|chunk| !chunk.chunk_type.is_terminal()) {
                continue;
            }
            match self.get(id).await? {
                None => return Err(sidestream_core::Rejection::NotFound(id.clone()).into()),
                Some(task) if task.status.is_terminal() => return Ok(task),
                Some(_) if is_open => {}
                Some(_) => return Err(Error::ShutDown),
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
        let inner = &self.inner;
        let streams_open = inner.source.open.load(Relaxed);
        inner.stats.read(
            inner.worker.running().len(),
            streams_open,
            &inner.writer,
            self.ring_head(),
        )
    }

    fn ring_head(&self) -> Seq {
        self.inner.source.ring.head()
    }

    /// The records of this namespace: tasks that their owner elsewhere runs. Ended ones expire after
    /// `expiration_ms` milliseconds; never, if `None`.
    #[must_use]
    pub fn records(&self, expiration_ms: Option<u64>) -> Records {
        let store = Arc::clone(self.store());
        let records = Records::new(store, self.namespace.clone(), expiration_ms);
        records.written_by(self.inner.writer.clone())
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
    /// Can be called more than once; every clone is shut down with it. A handler that blocks its thread
    /// cannot be stopped: it is left behind.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        inner.worker.drain().await;
        let grace = inner.config.grace;
        inner.source.shutdown.cancel();
        // What callers are waiting for is still done; a store that hangs is not waited for.
        let _ = timeout(grace, inner.writer.close()).await;
        inner.spawner.kill();
        // What is killed ends when it next waits: a handler that blocks its thread never does.
        let _ = timeout(END_GRACE, inner.spawner.wait()).await;
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
