//! What a task is: what was asked for ([`NewTask`], checked into a [`Spec`]), and how it stands
//! ([`Task`]).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{
    AgentId, Attempt, ID_BYTES_MAX, Invalid, Namespace, ReportNumber, ResourceId, RunId, Seq,
    TaskId, ThreadId, ToolCallId, ToolName, WorkerId,
};
use crate::json::Json;
use crate::record::Record;
use crate::retry::RetryPolicy;
use crate::time::Timestamp;

/// The most that a task's arguments, result, suspend payload, resume data or one output may hold,
/// in bytes of JSON.
pub const PAYLOAD_BYTES_MAX: usize = 1_048_576;
/// The most that `metadata` may hold, in bytes of JSON.
pub const METADATA_BYTES_MAX: usize = 65_536;
/// The longest `description`, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 65_536;
/// The longest error message or stack that is kept, in bytes; what is longer is cut.
pub const ERROR_BYTES_MAX: usize = 65_536;
/// The longest timeout of an attempt: 30 days, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;
/// The timeout of an attempt where none is given: 5 minutes, in milliseconds.
pub const TIMEOUT_MS_DEFAULT: u64 = 300_000;
/// The most retries that may be asked for.
pub const MAX_RETRIES_MAX: u32 = 1_000;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for its time, or for a free slot.
    Pending,
    /// A worker holds it.
    Running,
    /// Its handler asked for something and waits to be resumed; holds no slot.
    Suspended,
    /// Ended with a result.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended because its last attempt took too long.
    TimedOut,
    /// Ended because someone said so.
    Cancelled,
}

impl Status {
    /// Every status, in the order of a task's life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Running,
        Self::Suspended,
        Self::Completed,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
    ];

    /// Has the task ended?
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::TimedOut | Self::Cancelled
        )
    }

    /// The word on the wire, such as `timed_out`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the word on the wire.
    ///
    /// # Errors
    /// When it is none of them; the message lists those that are.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| {
                let words: Vec<_> = Self::ALL.iter().map(|s| s.as_str()).collect();
                Invalid::new("status", format!("is none of {}", words.join(", ")))
            })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an attempt failed, as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError {
    /// What went wrong.
    pub message: Arc<str>,
    /// Where, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<Arc<str>>,
}

impl TaskError {
    /// An error without a stack. A message of more than [`ERROR_BYTES_MAX`] is cut.
    #[must_use]
    pub fn new(message: impl AsRef<str>) -> Self {
        Self {
            message: Arc::from(cut(message.as_ref())),
            stack: None,
        }
    }

    /// The same error, with where it came from.
    #[must_use]
    pub fn with_stack(mut self, stack: impl AsRef<str>) -> Self {
        self.stack = Some(Arc::from(cut(stack.as_ref())));
        self
    }
}

/// The longest start of a text that may be kept, ending between two characters.
fn cut(text: &str) -> &str {
    if text.len() <= ERROR_BYTES_MAX {
        return text;
    }
    let end = (0..=ERROR_BYTES_MAX)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0);
    &text[..end]
}

/// A worker's hold on a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it.
    pub worker: WorkerId,
    /// When it ends unless it is renewed.
    pub until: Timestamp,
}

/// The part of a task that never changes and that every event of it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskIdentity {
    /// The tenant's room.
    pub namespace: Namespace,
    /// Unique in the namespace.
    pub id: TaskId,
    /// What it runs.
    pub tool_name: ToolName,
    /// The model's name for this call of the tool.
    pub tool_call_id: Option<ToolCallId>,
    /// On whose behalf.
    pub agent_id: Option<AgentId>,
    /// In which call of the agent.
    pub run_id: Option<RunId>,
    /// In which conversation.
    pub thread_id: Option<ThreadId>,
    /// For which user or object.
    pub resource_id: Option<ResourceId>,
    /// What the tool is called with.
    pub args: Json,
}

/// What was asked for, checked and with its defaults filled in. Never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// What every event shows.
    pub identity: Arc<TaskIdentity>,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// What happens after a failure.
    pub retry: RetryPolicy,
    /// Higher goes first; 0 unless said otherwise.
    pub priority: i16,
    /// Not before this time.
    pub run_at: Option<Timestamp>,
    /// For people.
    pub description: Option<Arc<str>>,
    /// The kind of subagent that does the work, where one does.
    pub subagent_type: Option<Arc<str>>,
    /// Any object of the caller's.
    pub metadata: Option<Json>,
    /// Two dispatches with one key are one task.
    pub idempotency_key: Option<Arc<str>>,
}

impl Spec {
    /// The text under which a repetition of this dispatch is recognised (R5): the caller's key, else
    /// the tool call of the run, which an agent repeats after a crash, else none.
    #[must_use]
    pub fn repetition_key(&self) -> Option<String> {
        if let Some(key) = &self.idempotency_key {
            return Some(format!("key:{key}"));
        }
        let task = &self.identity;
        let (run, call) = (task.run_id.as_ref()?, task.tool_call_id.as_ref()?);
        let parts = (
            task.agent_id.as_ref().map(AgentId::as_str),
            run.as_str(),
            call.as_str(),
            task.tool_name.as_str(),
        );
        Some(format!(
            "call:{}",
            serde_json::to_string(&parts).expect("texts are JSON")
        ))
    }
}

/// How a task stands: the fold of its events, and its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// What was asked for.
    pub spec: Arc<Spec>,
    /// Where it stands.
    pub status: Status,
    /// The number of its latest attempt.
    pub attempt: Attempt,
    /// The last report of that attempt that was accepted, by its number.
    pub reported: ReportNumber,
    /// Retries so far, since it was dispatched or last retried by hand.
    pub retry_count: u32,
    /// When it was dispatched.
    pub created_at: Timestamp,
    /// When its last event happened.
    pub updated_at: Timestamp,
    /// While pending: not before this time.
    pub run_at: Option<Timestamp>,
    /// When its latest attempt began.
    pub started_at: Option<Timestamp>,
    /// While suspended: since when.
    pub suspended_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// What the tool returned.
    pub result: Option<Json>,
    /// Why its latest attempt failed.
    pub error: Option<TaskError>,
    /// While suspended: what it waits for.
    pub suspend_payload: Option<Json>,
    /// What it was last resumed with.
    pub resume_data: Option<Json>,
    /// Pending because it was resumed, and not claimed since.
    pub is_resuming: bool,
    /// Who holds, or last held, it.
    pub worker_id: Option<WorkerId>,
    /// The current hold. Not part of the fold (L3).
    pub lease: Option<Lease>,
    /// Its last event.
    pub seq: Seq,
    /// As its owner reported it, when that is not us: such a task is never claimed.
    pub record: Option<Arc<Record>>,
}

impl Task {
    /// What every event of the task shows.
    #[must_use]
    pub fn identity(&self) -> &Arc<TaskIdentity> {
        &self.spec.identity
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &TaskId {
        &self.spec.identity.id
    }

    /// When a pending task may be claimed; also its place in the queue.
    #[must_use]
    pub fn due_at(&self) -> Timestamp {
        self.run_at.unwrap_or(self.updated_at)
    }

    /// When the running attempt times out.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let started_at = self.started_at.filter(|_| self.status == Status::Running)?;
        Some(started_at.plus(Duration::from_millis(self.spec.timeout_ms)))
    }

    /// How large its payloads are together, in bytes: what it takes to show it, roughly.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        let spec = &self.spec;
        let json = [
            Some(&spec.identity.args),
            spec.metadata.as_ref(),
            self.result.as_ref(),
            self.suspend_payload.as_ref(),
            self.resume_data.as_ref(),
            self.record.as_ref().map(|record| record.document()),
        ];
        json.into_iter().flatten().map(Json::bytes).sum()
    }

    /// Is its state reported by an owner elsewhere (WIRE part 3)?
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.record.is_some()
    }
}

/// A task to dispatch, as callers give it: every field but the tool's name may be left out.
///
/// ```
/// use sidestream_core::NewTask;
///
/// let task = NewTask::new("research")
///     .args(serde_json::json!({"q": "x1"}))
///     .agent("agent-1")
///     .thread("thread-1");
/// assert_eq!(task.tool_name, "research");
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NewTask {
    /// The tool to run. Required.
    pub tool_name: String,
    /// The model's id of the call. With `run_id` it makes a repeated dispatch harmless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// What the tool is called with; `{}` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Json>,
    /// On whose behalf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// In which call of the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// In which conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// For which user or object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
    /// How long one attempt may take, in milliseconds: 1 to [`TIMEOUT_MS_MAX`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How many failures are followed by another attempt: at most [`MAX_RETRIES_MAX`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// Higher goes first; 0 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// Not before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// Not before so long after it is dispatched; only where `run_at` is left out. Not on the wire.
    #[serde(skip)]
    pub delay: Option<Duration>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The kind of subagent that does the work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subagent_type: Option<String>,
    /// Any object of the caller's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    /// Two dispatches with one key are one task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// What a dispatch gets where the caller says nothing: the tool's settings over the manager's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskDefaults {
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// What happens after a failure.
    pub retry: RetryPolicy,
}

impl Default for TaskDefaults {
    fn default() -> Self {
        Self {
            timeout_ms: TIMEOUT_MS_DEFAULT,
            retry: RetryPolicy::default(),
        }
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $setter:ident => $field:ident: $type:ty;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $setter(mut self, value: impl Into<$type>) -> Self {
            self.$field = Some(value.into());
            self
        })*
    };
}

impl NewTask {
    /// A call of a tool, with arguments `{}`.
    #[must_use]
    pub fn new(tool_name: impl Into<String>) -> Self {
        Self {
            tool_name: tool_name.into(),
            ..Self::default()
        }
    }

    setters! {
        /// What the tool is called with.
        args => args: Json;
        /// The model's id of the call.
        tool_call => tool_call_id: String;
        /// On whose behalf.
        agent => agent_id: String;
        /// In which call of the agent.
        run => run_id: String;
        /// In which conversation.
        thread => thread_id: String;
        /// For which user or object.
        resource => resource_id: String;
        /// How many failures are followed by another attempt.
        max_retries => max_retries: u32;
        /// Higher goes first.
        priority => priority: i16;
        /// Not before this time.
        run_at => run_at: Timestamp;
        /// Not before so long after it is dispatched.
        delay => delay: Duration;
        /// For people.
        description => description: String;
        /// The kind of subagent that does the work.
        subagent_type => subagent_type: String;
        /// Any object of the caller's.
        metadata => metadata: Json;
        /// Two dispatches with one key are one task.
        idempotency_key => idempotency_key: String;
    }

    /// How long one attempt may take; kept to the millisecond.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// The same task, with its delay, if it has one, counted from now.
    #[must_use]
    pub fn dispatched_at(mut self, now: Timestamp) -> Self {
        let delay = self.delay.take();
        self.run_at = self.run_at.or(delay.map(|delay| now.plus(delay)));
        self
    }

    /// Checks everything and fills in the defaults. A delay must have been counted already: see
    /// [`NewTask::dispatched_at`].
    ///
    /// # Errors
    /// Names the first field that cannot be accepted, and the limit it breaks.
    pub fn into_spec(
        self,
        namespace: Namespace,
        id: TaskId,
        defaults: TaskDefaults,
    ) -> Result<Spec, Invalid> {
        let timeout_ms = self.timeout_ms.unwrap_or(defaults.timeout_ms);
        if timeout_ms == 0 || timeout_ms > TIMEOUT_MS_MAX {
            let problem = format!("is {timeout_ms}, not between 1 and {TIMEOUT_MS_MAX}");
            return Err(Invalid::new("timeoutMs", problem));
        }
        let max_retries = self.max_retries.unwrap_or(defaults.retry.max_retries);
        if max_retries > MAX_RETRIES_MAX {
            let problem = format!("is {max_retries}, more than the {MAX_RETRIES_MAX} allowed");
            return Err(Invalid::new("maxRetries", problem));
        }
        let args = self.args.unwrap_or_else(Json::empty_object);
        check_payload("args", &args)?;
        if let Some(metadata) = &self.metadata {
            check_metadata(metadata)?;
        }
        let identity = TaskIdentity {
            namespace,
            id,
            tool_name: ToolName::new(self.tool_name)?,
            tool_call_id: self.tool_call_id.map(ToolCallId::new).transpose()?,
            agent_id: self.agent_id.map(AgentId::new).transpose()?,
            run_id: self.run_id.map(RunId::new).transpose()?,
            thread_id: self.thread_id.map(ThreadId::new).transpose()?,
            resource_id: self.resource_id.map(ResourceId::new).transpose()?,
            args,
        };
        Ok(Spec {
            identity: Arc::new(identity),
            timeout_ms,
            retry: RetryPolicy {
                max_retries,
                ..defaults.retry
            },
            priority: self.priority.unwrap_or(0),
            run_at: self.run_at,
            description: text("description", self.description, DESCRIPTION_BYTES_MAX)?,
            subagent_type: text("subagentType", self.subagent_type, ID_BYTES_MAX)?,
            metadata: self.metadata,
            idempotency_key: idempotency_key(self.idempotency_key)?,
        })
    }
}

/// Checks that a payload is not larger than [`PAYLOAD_BYTES_MAX`].
///
/// # Errors
/// Names the field and both sizes.
pub fn check_payload(field: &str, payload: &Json) -> Result<(), Invalid> {
    match payload.bytes() {
        bytes if bytes > PAYLOAD_BYTES_MAX => {
            Err(Invalid::too_long(field, bytes, PAYLOAD_BYTES_MAX))
        }
        _ => Ok(()),
    }
}

fn check_metadata(metadata: &Json) -> Result<(), Invalid> {
    if !metadata.is_object() {
        return Err(Invalid::new("metadata", "is not an object"));
    }
    match metadata.bytes() {
        bytes if bytes > METADATA_BYTES_MAX => {
            Err(Invalid::too_long("metadata", bytes, METADATA_BYTES_MAX))
        }
        _ => Ok(()),
    }
}

fn text(field: &str, text: Option<String>, bytes_max: usize) -> Result<Option<Arc<str>>, Invalid> {
    match text {
        Some(text) if text.len() > bytes_max => {
            Err(Invalid::too_long(field, text.len(), bytes_max))
        }
        text => Ok(text.map(Arc::from)),
    }
}

/// The empty text is no key: all tasks of those who send it as one would be the same task.
fn idempotency_key(key: Option<String>) -> Result<Option<Arc<str>>, Invalid> {
    const FIELD: &str = "idempotencyKey";
    match key {
        Some(key) if key.is_empty() => Err(Invalid::new(FIELD, "is empty")),
        key => text(FIELD, key, ID_BYTES_MAX),
    }
}
