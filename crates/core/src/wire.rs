//! How events and tasks look to a client: chunks (WIRE part 1) and records (WIRE part 2).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::{Event, EventKind, LogEntry};
use crate::id::{Attempt, Invalid, Namespace, Seq, TaskId, WorkerId};
use crate::json::Json;
use crate::record::RecordStatus;
use crate::task::{Status, Task, TaskError, TaskIdentity};
use crate::time::Timestamp;

pub mod worker;

/// The type of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChunkType {
    /// An attempt began; also the snapshot's chunk.
    Running,
    /// The handler emitted something.
    Output,
    /// Ended with a result.
    Completed,
    /// Ended with an error, or timed out.
    Failed,
    /// Ended because somebody said so.
    Cancelled,
    /// Waits for somebody.
    Suspended,
    /// An attempt began with what was waited for.
    Resumed,
    /// Ours: dispatched, pending.
    Started,
    /// Ours: an attempt failed, or somebody asked for a new one; pending.
    Retrying,
    /// Ours: resumed, and pending until a slot is free.
    Queued,
    /// Ours: the cursor can no longer be honoured, and a fresh snapshot follows. Sent to everyone.
    StreamReset,
}

impl ChunkType {
    /// Every type.
    pub const ALL: [Self; 11] = [
        Self::Running,
        Self::Output,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Suspended,
        Self::Resumed,
        Self::Started,
        Self::Retrying,
        Self::Queued,
        Self::StreamReset,
    ];

    /// Is it one of the seven that a stream shows unless asked otherwise?
    #[must_use]
    pub fn is_default(self) -> bool {
        !matches!(self, Self::Started | Self::Retrying | Self::Queued)
    }

    /// Does it say that the task has ended?
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The word on the wire, such as `background-task-running`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "background-task-running",
            Self::Output => "background-task-output",
            Self::Completed => "background-task-completed",
            Self::Failed => "background-task-failed",
            Self::Cancelled => "background-task-cancelled",
            Self::Suspended => "background-task-suspended",
            Self::Resumed => "background-task-resumed",
            Self::Started => "background-task-started",
            Self::Retrying => "background-task-retrying",
            Self::Queued => "background-task-queued",
            Self::StreamReset => "stream-reset",
        }
    }

    /// Reads the word on the wire, with or without its prefix `background-task-`.
    ///
    /// # Errors
    /// When it is none of them; the message lists those that are.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let is = |ty: &Self| {
            ty.as_str() == text || ty.as_str().strip_prefix("background-task-") == Some(text)
        };
        Self::ALL.into_iter().find(is).ok_or_else(|| {
            let words: Vec<_> = Self::ALL.iter().map(|ty| ty.as_str()).collect();
            Invalid::new("type", format!("is none of {}", words.join(", ")))
        })
    }

    /// The type of chunk that shows an event.
    #[must_use]
    pub fn of(kind: &EventKind) -> Self {
        match kind {
            EventKind::Dispatched(_) => Self::Started,
            EventKind::Started {
                is_resumed: false, ..
            } => Self::Running,
            EventKind::Started {
                is_resumed: true, ..
            } => Self::Resumed,
            EventKind::Output { .. } => Self::Output,
            EventKind::Suspended { .. } => Self::Suspended,
            EventKind::Resumed { .. } => Self::Queued,
            EventKind::Completed { .. } => Self::Completed,
            EventKind::Retrying { .. } | EventKind::Retried => Self::Retrying,
            EventKind::Failed { .. } | EventKind::TimedOut { .. } => Self::Failed,
            EventKind::Cancelled => Self::Cancelled,
            EventKind::Recorded(record) => match record.status() {
                RecordStatus::Pending => Self::Started,
                RecordStatus::Running => Self::Running,
                RecordStatus::Completed => Self::Completed,
                RecordStatus::Failed => Self::Failed,
                RecordStatus::Killed => Self::Cancelled,
            },
        }
    }
}

impl fmt::Display for ChunkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ChunkType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ChunkType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// One object of a stream, `{"type": …, "payload": {…}}`, written once and shared by all who read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// What it says.
    pub chunk_type: ChunkType,
    /// Whom it is about; `None` in a `stream-reset`.
    pub task: Option<Arc<TaskIdentity>>,
    /// The event it shows; `None` in a snapshot.
    pub seq: Option<Seq>,
    json: Arc<str>,
}

impl Chunk {
    /// How an event looks.
    #[must_use]
    pub fn of_entry(entry: &LogEntry) -> Self {
        let chunk_type = ChunkType::of(&entry.event.kind);
        Self {
            chunk_type,
            task: Some(Arc::clone(&entry.task)),
            seq: Some(entry.event.seq),
            json: render_event(chunk_type, &entry.task, &entry.event),
        }
    }

    /// How a task stands, as a snapshot shows it: `None` for one that has ended.
    #[must_use]
    pub fn of_snapshot(task: &SnapshotTask) -> Option<Self> {
        let (chunk_type, time) = match task.status {
            Status::Pending => (ChunkType::Started, "at"),
            Status::Running => (ChunkType::Running, "startedAt"),
            Status::Suspended => (ChunkType::Suspended, "suspendedAt"),
            _ => return None,
        };
        let mut object = Object::chunk(chunk_type, &task.identity);
        if let Some(payload) = &task.suspend_payload {
            object.json("suspendPayload", payload);
        }
        object.text(time, &task.since.to_string());
        if task.status != Status::Pending {
            object.json("args", &task.identity.args);
        }
        if task.attempt > Attempt(0) {
            object.number("attempt", u64::from(task.attempt.0));
        }
        Some(Self {
            chunk_type,
            task: Some(Arc::clone(&task.identity)),
            seq: None,
            json: object.end_chunk(),
        })
    }

    /// Says that a cursor can no longer be honoured, and from where the log can still be read.
    #[must_use]
    pub fn stream_reset(reason: &str, oldest_cursor: &str) -> Self {
        let mut object = Object(format!(
            "{{\"type\":\"{}\",\"payload\":{{",
            ChunkType::StreamReset
        ));
        object.text("reason", reason);
        object.text("oldestCursor", oldest_cursor);
        Self {
            chunk_type: ChunkType::StreamReset,
            task: None,
            seq: None,
            json: object.end_chunk(),
        }
    }

    /// The whole object, as JSON on one line.
    #[must_use]
    pub fn json(&self) -> &Arc<str> {
        &self.json
    }

    /// The id of the task it is about.
    #[must_use]
    pub fn task_id(&self) -> Option<&TaskId> {
        self.task.as_ref().map(|task| &task.id)
    }

    /// What the payload says, as a value: for those who look at a few chunks, not at a stream of
    /// thousands a second.
    ///
    /// # Errors
    /// When what a caller or a tool gave is JSON that a value cannot hold: a number like `1e999`, half of a
    /// pair of surrogates, more than 127 levels. [`Chunk::json`] has it as it came.
    pub fn payload(&self) -> Result<serde_json::Value, serde_json::Error> {
        let mut chunk: serde_json::Value = serde_json::from_str(&self.json)?;
        Ok(chunk["payload"].take())
    }
}

/// A task that has not ended, as a snapshot shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotTask {
    /// Whom it is about.
    pub identity: Arc<TaskIdentity>,
    /// Pending, running or suspended.
    pub status: Status,
    /// Its latest attempt.
    pub attempt: Attempt,
    /// Since when it stands so.
    pub since: Timestamp,
    /// While suspended: what it waits for.
    pub suspend_payload: Option<Json>,
}

fn render_event(chunk_type: ChunkType, task: &TaskIdentity, event: &Event) -> Arc<str> {
    let mut object = Object::chunk(chunk_type, task);
    let at = || event.at.to_string();
    match &event.kind {
        EventKind::Dispatched(_) | EventKind::Retried | EventKind::Resumed { .. } => {
            object.text("at", &at());
        }
        EventKind::Started { .. } => {
            object.text("startedAt", &at());
            object.json("args", &task.args);
        }
        EventKind::Output { payload, .. } => object.json("payload", payload),
        EventKind::Suspended { payload, .. } => {
            object.json("suspendPayload", payload);
            object.text("suspendedAt", &at());
            object.json("args", &task.args);
        }
        EventKind::Completed { result, .. } => {
            object.text("completedAt", &at());
            if let Some(result) = result {
                object.json("result", result);
            }
        }
        EventKind::Retrying {
            error,
            next_attempt_at,
            ..
        } => {
            object.error(error);
            object.text("nextAttemptAt", &next_attempt_at.to_string());
            object.text("at", &at());
        }
        EventKind::Failed { error, .. } | EventKind::TimedOut { error, .. } => {
            object.text("completedAt", &at());
            object.error(error);
        }
        EventKind::Cancelled => object.text("completedAt", &at()),
        EventKind::Recorded(record) => {
            let updated_at = record.updated_at().unwrap_or(event.at);
            let ended_at = record.completed_at().unwrap_or(updated_at).to_string();
            match record.status() {
                RecordStatus::Pending => object.text("at", &updated_at.to_string()),
                RecordStatus::Running => {
                    object.text("startedAt", &updated_at.to_string());
                    object.json("args", &task.args);
                }
                RecordStatus::Killed => object.text("completedAt", &ended_at),
                RecordStatus::Completed => {
                    object.text("completedAt", &ended_at);
                    if let Some(result) = record.result() {
                        object.json("result", result);
                    }
                }
                RecordStatus::Failed => {
                    object.text("completedAt", &ended_at);
                    object.error(&TaskError::new(record.error().unwrap_or("failed")));
                }
            }
        }
    }
    object.number("seq", event.seq.0);
    if let Some(attempt) = event.kind.attempt() {
        object.number("attempt", u64::from(attempt.0));
    }
    object.end_chunk()
}

/// A JSON object being written, text first: a chunk is written once for each event, and building a
/// tree for it would cost more than the rest of the event's way.
struct Object(String);

impl Object {
    /// Begins a chunk with what every payload of a task says.
    fn chunk(chunk_type: ChunkType, task: &TaskIdentity) -> Self {
        let mut object = Self(String::with_capacity(512));
        object.0.push_str("{\"type\":\"");
        object.0.push_str(chunk_type.as_str());
        object.0.push_str("\",\"payload\":{");
        object.text("taskId", task.id.as_str());
        object.text("toolName", task.tool_name.as_str());
        let optional = [
            ("toolCallId", task.tool_call_id.as_ref().map(AsRef::as_ref)),
            ("agentId", task.agent_id.as_ref().map(AsRef::as_ref)),
            ("runId", task.run_id.as_ref().map(AsRef::as_ref)),
            ("threadId", task.thread_id.as_ref().map(AsRef::as_ref)),
            ("resourceId", task.resource_id.as_ref().map(AsRef::as_ref)),
        ];
        for (field, text) in optional {
            if let Some(text) = text {
                object.text(field, text);
            }
        }
        object
    }

    fn field(&mut self, field: &str) {
        if !self.0.ends_with('{') {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.push_str(field);
        self.0.push_str("\":");
    }

    fn text(&mut self, field: &str, text: &str) {
        let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        self.field(field);
        // Ids and names have nothing to escape, and are most of what is written.
        if text.bytes().all(is_plain) {
            self.0.push('"');
            self.0.push_str(text);
            self.0.push('"');
        } else {
            let escaped = serde_json::to_string(text).expect("a text is JSON");
            self.0.push_str(&escaped);
        }
    }

    fn number(&mut self, field: &str, number: u64) {
        self.field(field);
        self.0.push_str(&number.to_string());
    }

    /// A value as it came; its line breaks, which only white space can hold, become spaces, because a
    /// chunk is one line of an event stream.
    fn json(&mut self, field: &str, json: &Json) {
        self.field(field);
        if json.as_str().contains(['\n', '\r']) {
            self.0.push_str(&json.as_str().replace(['\n', '\r'], " "));
        } else {
            self.0.push_str(json.as_str());
        }
    }

    fn error(&mut self, error: &TaskError) {
        let error = Json::from_value(error).expect("texts are JSON");
        self.json("error", &error);
    }

    fn end_chunk(mut self) -> Arc<str> {
        self.0.push_str("}}");
        Arc::from(self.0)
    }
}

/// A task as clients see it (WIRE part 2). What is absent is left out; nothing is ever `null`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskRecord {
    /// Unique in the namespace.
    pub id: TaskId,
    /// Where it stands.
    pub status: Status,
    /// What it runs.
    pub tool_name: Arc<str>,
    /// The model's name for this call of the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<Arc<str>>,
    /// What the tool is called with.
    pub args: Json,
    /// On whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Arc<str>>,
    /// In which call of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Arc<str>>,
    /// In which conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<Arc<str>>,
    /// For which user or object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<Arc<str>>,
    /// What it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Json>,
    /// Why it, or its latest attempt, failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
    /// When it was dispatched.
    pub created_at: Timestamp,
    /// When its latest attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// While suspended: since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// Retries so far.
    pub retry_count: u32,
    /// How many there may be.
    pub max_retries: u32,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// While suspended: what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend_payload: Option<Json>,
    /// When its last event happened.
    pub updated_at: Timestamp,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Arc<str>>,
    /// The kind of subagent that does the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subagent_type: Option<Arc<str>>,
    /// Any object of the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    /// The tenant's room.
    pub namespace: Namespace,
    /// Higher goes first.
    pub priority: i16,
    /// While pending: not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// The number of its latest attempt; 0 before the first.
    pub attempt: Attempt,
    /// Who holds, or last held, it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<WorkerId>,
    /// The key under which it was dispatched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<Arc<str>>,
    /// Its last event.
    pub seq: Seq,
    /// To its worker alone: what it was last resumed with.
    #[serde(
        default,
        deserialize_with = "worker::given",
        skip_serializing_if = "Option::is_none"
    )]
    pub resume_data: Option<Json>,
    /// Of a task kept for an owner elsewhere: its document, as the owner gave it (WIRE part 3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Json>,
}

impl From<&Task> for TaskRecord {
    fn from(task: &Task) -> Self {
        fn text<T: AsRef<str>>(id: &Option<T>) -> Option<Arc<str>> {
            id.as_ref().map(|id| Arc::from(id.as_ref()))
        }
        let (spec, identity) = (&task.spec, &task.spec.identity);
        Self {
            id: identity.id.clone(),
            status: task.status,
            tool_name: Arc::from(identity.tool_name.as_str()),
            tool_call_id: text(&identity.tool_call_id),
            args: identity.args.clone(),
            agent_id: text(&identity.agent_id),
            run_id: text(&identity.run_id),
            thread_id: text(&identity.thread_id),
            resource_id: text(&identity.resource_id),
            result: task.result.clone(),
            error: task.error.clone(),
            created_at: task.created_at,
            started_at: task.started_at,
            suspended_at: task.suspended_at,
            completed_at: task.completed_at,
            retry_count: task.retry_count,
            max_retries: spec.retry.max_retries,
            timeout_ms: spec.timeout_ms,
            suspend_payload: task.suspend_payload.clone(),
            updated_at: task.updated_at,
            description: spec.description.clone(),
            subagent_type: spec.subagent_type.clone(),
            metadata: spec.metadata.clone(),
            namespace: identity.namespace.clone(),
            priority: spec.priority,
            run_at: task.run_at,
            attempt: task.attempt,
            worker_id: task.worker_id.clone(),
            idempotency_key: spec.idempotency_key.clone(),
            seq: task.seq,
            resume_data: None,
            record: task.record.as_ref().map(|kept| kept.document().clone()),
        }
    }
}
