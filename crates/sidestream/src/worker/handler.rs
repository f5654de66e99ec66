//! What a tool runs: an async function of the application's, and what it may do while it runs.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sidestream_core::task::{PAYLOAD_BYTES_MAX, TaskDefaults};
use sidestream_core::{
    Attempt, Epoch, Invalid, Json, RetryPolicy, Task, TaskError, TaskId, Timestamp,
};
use sidestream_core::{TaskIdentity, ToolName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

mod error;

pub use error::{HandlerError, OutputError, Stopped};

/// Something that can be dispatched: a name, the handler behind it, and its own settings.
///
/// ```
/// use sidestream::{Context, HandlerError, Tool};
///
/// #[derive(serde::Deserialize)]
/// struct Args {
///     city: String,
/// }
///
/// let weather = Tool::new("weather", |context: Context, args: Args| async move {
///     context.output(&format!("asking about {}", args.city)).await?;
///     Ok::<_, HandlerError>("sunny")
/// })
/// .max_retries(2)
/// .concurrency(4);
/// ```
#[derive(Clone)]
pub struct Tool {
    pub(crate) name: String,
    /// `None`: workers elsewhere run it.
    pub(crate) handler: Option<Arc<dyn Handler>>,
    pub(crate) settings: ToolSettings,
}

/// What a tool says about its tasks where the dispatch says nothing. `None` leaves it to the manager.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolSettings {
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// How many failures are followed by another attempt.
    pub max_retries: Option<u32>,
    /// The longest wait before the first retry, in milliseconds; it doubles with each further one.
    pub retry_delay_ms: Option<u64>,
    /// What that wait never exceeds, in milliseconds.
    pub retry_delay_max_ms: Option<u64>,
    /// How many tasks of the tool may run at once, over all workers.
    pub concurrency: Option<u32>,
}

impl ToolSettings {
    /// The defaults of a dispatch: the tool's settings over the manager's.
    pub(crate) fn over(&self, manager: TaskDefaults) -> TaskDefaults {
        let retry = manager.retry;
        TaskDefaults {
            timeout_ms: self.timeout_ms.unwrap_or(manager.timeout_ms),
            retry: RetryPolicy {
                max_retries: self.max_retries.unwrap_or(retry.max_retries),
                delay_ms: self.retry_delay_ms.unwrap_or(retry.delay_ms),
                delay_max_ms: self.retry_delay_max_ms.unwrap_or(retry.delay_max_ms),
            },
        }
    }
}

impl Tool {
    /// A tool behind an async function of typed arguments and result.
    ///
    /// Arguments that do not have the shape of `Args` fail the task for good, since no retry can help. A
    /// task without arguments has `{}`, which `()` takes, too.
    /// A result of `()` is no result.
    pub fn new<Args, Output, Call, Running>(name: impl Into<String>, call: Call) -> Self
    where
        Args: DeserializeOwned + Send + 'static,
        Output: Serialize + Send + 'static,
        Call: Fn(Context, Args) -> Running + Send + Sync + 'static,
        Running: Future<Output = Result<Output, HandlerError>> + Send + 'static,
    {
        let typed = Typed {
            call,
            shape: std::marker::PhantomData,
        };
        Self::from_handler(name, typed)
    }

    /// A tool behind a handler of one's own.
    pub fn from_handler(name: impl Into<String>, handler: impl Handler) -> Self {
        Self {
            name: name.into(),
            handler: Some(Arc::new(handler)),
            settings: ToolSettings::default(),
        }
    }

    /// A tool that only workers elsewhere can run: tasks of it may be dispatched, and wait for one.
    pub fn remote(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            handler: None,
            settings: ToolSettings::default(),
        }
    }

    /// The same tool, left to workers elsewhere.
    #[must_use]
    pub fn left_to_others(self) -> Self {
        Self {
            handler: None,
            ..self
        }
    }

    /// Can the tool be run where it is registered?
    #[must_use]
    pub fn can_run(&self) -> bool {
        self.handler.is_some()
    }

    /// Its name.
    ///
    /// # Errors
    /// When it cannot be a tool's.
    pub fn name(&self) -> Result<ToolName, Invalid> {
        ToolName::new(self.name.as_str())
    }

    /// What runs it; `None` where workers elsewhere do.
    #[must_use]
    pub fn handler(&self) -> Option<&Arc<dyn Handler>> {
        self.handler.as_ref()
    }

    /// Replaces all settings.
    #[must_use]
    pub fn settings(mut self, settings: ToolSettings) -> Self {
        self.settings = settings;
        self
    }

    /// How long one attempt may take, where a dispatch does not say; kept to the millisecond.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// How many failures are followed by another attempt, where a dispatch does not say.
    #[must_use]
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.settings.max_retries = Some(max_retries);
        self
    }

    /// How many tasks of the tool may run at once, over all workers of the database.
    #[must_use]
    pub fn concurrency(mut self, concurrency: u32) -> Self {
        self.settings.concurrency = Some(concurrency);
        self
    }
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Does a tool's work. [`Tool::new`] makes one of an async function.
pub trait Handler: Send + Sync + 'static {
    /// One attempt. The future is dropped when it goes on after the grace that follows cancellation or
    /// a timeout; whatever it returns by then is discarded.
    fn call(&self, context: Context) -> BoxFuture<'static, Outcome>;

    /// Does it start programs that could outlive this process? Then those that a former process left
    /// behind are killed before this one begins. `false` unless said otherwise.
    fn starts_programs(&self) -> bool {
        false
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With a result, or none.
    Completed(Option<Json>),
    /// It waits for somebody: the payload says for what.
    Suspended(Json),
    /// It failed.
    Failed {
        /// Why.
        error: TaskError,
        /// Can another attempt help?
        is_retryable: bool,
    },
}

/// So many bytes of outputs of one attempt wait for the log before its handler does.
pub(crate) const OUTPUT_BYTES_WAITING_MAX: usize = 4 * PAYLOAD_BYTES_MAX;

/// What a handler emits, on its way to the log.
#[derive(Debug)]
pub(crate) enum Emitted {
    /// It holds its share of the attempt's [`OUTPUT_BYTES_WAITING_MAX`] until it is in the log.
    Output(Json, OwnedSemaphorePermit),
    /// Everything before it is in the log once this is answered.
    Flush(oneshot::Sender<()>),
    /// The same, and nothing after it will be.
    End(oneshot::Sender<()>),
}

/// What a handler knows of its attempt, and can do while it runs. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Context {
    task: Arc<Task>,
    log: Epoch,
    deadline: tokio::time::Instant,
    cancelled: CancellationToken,
    outputs: mpsc::Sender<Emitted>,
    output_bytes: Arc<Semaphore>,
}

impl Context {
    pub(crate) fn new(
        task: Arc<Task>,
        log: Epoch,
        deadline: tokio::time::Instant,
        cancelled: CancellationToken,
        outputs: mpsc::Sender<Emitted>,
    ) -> Self {
        Self {
            task,
            log,
            deadline,
            cancelled,
            outputs,
            output_bytes: Arc::new(Semaphore::new(OUTPUT_BYTES_WAITING_MAX)),
        }
    }

    /// The task's id.
    #[must_use]
    pub fn task_id(&self) -> &TaskId {
        self.task.id()
    }

    /// What the task was dispatched as: its tool, arguments, agent, run, thread and resource.
    #[must_use]
    pub fn task(&self) -> &Arc<TaskIdentity> {
        self.task.identity()
    }

    /// The name of the log that the task is in: tells its database apart from every other, for marking
    /// what belongs to it.
    #[must_use]
    pub fn log(&self) -> &Epoch {
        &self.log
    }

    /// The number of this attempt: 1, 2, 3, …
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        self.task.attempt
    }

    /// When this attempt began, by the clock of the store.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        self.task.started_at.unwrap_or(self.task.updated_at)
    }

    /// How much time is left before this attempt times out.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline
            .saturating_duration_since(tokio::time::Instant::now())
    }

    /// When this attempt times out.
    #[must_use]
    pub fn deadline(&self) -> tokio::time::Instant {
        self.deadline
    }

    /// Cancelled when the attempt should stop: the task was cancelled, timed out or taken away, or
    /// the process shuts down. A handler that goes on after the grace is dropped.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// What the task was last resumed with, as a type of the handler's; `None` if it never was.
    ///
    /// # Errors
    /// When the data does not have that shape.
    pub fn resume_data<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error> {
        let data = self.task.resume_data.as_ref();
        data.map(Json::parse).transpose()
    }

    /// What the task was last resumed with, as it came.
    #[must_use]
    pub fn resume_json(&self) -> Option<&Json> {
        self.task.resume_data.as_ref()
    }

    /// Emits something for whoever watches. It is durable, and kept in order, before the attempt's end
    /// is; a handler that must know that it is durable *now* says [`Context::flush`].
    ///
    /// Waits while the store is behind. Dropping the future before it returns may or may not emit.
    ///
    /// # Errors
    /// [`OutputError::Stopped`] when the attempt should stop, [`OutputError::Json`] and
    /// [`OutputError::Invalid`] when the value cannot be an output.
    pub async fn output<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), OutputError> {
        self.output_json(Json::from_value(value)?).await
    }

    /// As [`Context::output`], for a value that is JSON already.
    ///
    /// # Errors
    /// As [`Context::output`].
    pub async fn output_json(&self, value: Json) -> Result<(), OutputError> {
        if value.bytes() > PAYLOAD_BYTES_MAX {
            let invalid = Invalid::too_long("output", value.bytes(), PAYLOAD_BYTES_MAX);
            return Err(invalid.into());
        }
        let bytes = u32::try_from(value.bytes()).expect("it is of limited size");
        let room = Arc::clone(&self.output_bytes).acquire_many_owned(bytes);
        let emitting = async {
            let room = room.await.map_err(|_| Stopped)?;
            let sent = self.outputs.send(Emitted::Output(value, room)).await;
            sent.map_err(|_| Stopped)
        };
        Ok(self.until_stopped(emitting).await?)
    }

    /// Waits until everything emitted so far is in the log.
    ///
    /// # Errors
    /// When the attempt should stop.
    pub async fn flush(&self) -> Result<(), Stopped> {
        let (done, flushed) = oneshot::channel();
        let emitting = async {
            let sent = self.outputs.send(Emitted::Flush(done)).await;
            sent.map_err(|_| Stopped)
        };
        self.until_stopped(emitting).await?;
        flushed.await.map_err(|_| Stopped)
    }

    async fn until_stopped(
        &self,
        emitting: impl Future<Output = Result<(), Stopped>>,
    ) -> Result<(), Stopped> {
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => Err(Stopped),
            emitted = emitting => emitted,
        }
    }

    /// Makes the task wait for somebody: return this as the handler's error. When the task is resumed
    /// the handler is called again, from its beginning, with [`Context::resume_data`].
    ///
    /// ```no_run
    /// # use sidestream::{Context, HandlerError};
    /// # async fn handler(context: Context) -> Result<(), HandlerError> {
    /// let Some(is_approved) = context.resume_data::<bool>()? else {
    ///     return Err(context.suspend(&"may I delete the table?"));
    /// };
    /// # Ok(())
    /// # }
    /// ```
    pub fn suspend<T: Serialize + ?Sized>(&self, payload: &T) -> HandlerError {
        match Json::from_value(payload) {
            Ok(payload) => HandlerError::suspended(payload),
            Err(error) => HandlerError::permanent(format!(
                "the suspend payload cannot be written as JSON: {error}"
            )),
        }
    }
}

/// An async function as a handler.
struct Typed<Call, Args> {
    call: Call,
    shape: std::marker::PhantomData<fn(Args)>,
}

impl<Args, Output, Call, Running> Handler for Typed<Call, Args>
where
    Args: DeserializeOwned + Send + 'static,
    Output: Serialize + Send + 'static,
    Call: Fn(Context, Args) -> Running + Send + Sync + 'static,
    Running: Future<Output = Result<Output, HandlerError>> + Send + 'static,
{
    fn call(&self, context: Context) -> BoxFuture<'static, Outcome> {
        let args = match read_args::<Args>(&context.task().args) {
            Ok(args) => args,
            Err(error) => {
                let outcome = HandlerError::permanent(format!("args do not fit: {error}"));
                return Box::pin(async move { outcome.into() });
            }
        };
        let running = (self.call)(context, args);
        Box::pin(async move {
            match running.await {
                Ok(output) => completed(&output),
                Err(error) => error.into(),
            }
        })
    }
}

/// A task dispatched without arguments has `{}`: what reads that from nothing, as `()` does, wants none.
fn read_args<Args: DeserializeOwned>(args: &Json) -> Result<Args, serde_json::Error> {
    args.parse().or_else(|error| match args.as_str() {
        "{}" => serde_json::from_str("null").map_err(|_| error),
        _ => Err(error),
    })
}

fn completed<T: Serialize>(output: &T) -> Outcome {
    match Json::from_value(output) {
        Ok(result) if result.as_str() == "null" => Outcome::Completed(None),
        Ok(result) => Outcome::Completed(Some(result)),
        Err(error) => {
            HandlerError::permanent(format!("the result cannot be written as JSON: {error}")).into()
        }
    }
}
