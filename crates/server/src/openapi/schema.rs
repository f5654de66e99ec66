//! How the types of the core look on the wire. The core knows nothing of OpenAPI, so they are described
//! here; a test compares them with what is really sent.
#![expect(dead_code, reason = "these types only describe others")]

use serde_json::Value;
use utoipa::ToSchema;

pub(crate) mod worker;

/// Where a task stands.
#[derive(ToSchema)]
#[schema(as = Status, rename_all = "snake_case")]
pub(crate) enum StatusSchema {
    Pending,
    Running,
    Suspended,
    Completed,
    Failed,
    TimedOut,
    Cancelled,
}

/// Why an attempt failed.
#[derive(ToSchema)]
#[schema(as = TaskError)]
pub(crate) struct TaskErrorSchema {
    /// What went wrong.
    message: String,
    /// Where, if that is known.
    #[schema(nullable = false)]
    stack: Option<String>,
}

/// A task. What is absent is left out; nothing is ever `null`.
#[derive(ToSchema)]
#[schema(as = Task, rename_all = "camelCase")]
pub(crate) struct TaskSchema {
    /// Unique in the namespace.
    id: String,
    /// Where it stands.
    status: StatusSchema,
    /// What it runs.
    tool_name: String,
    /// The model's name for this call of the tool.
    #[schema(nullable = false)]
    tool_call_id: Option<String>,
    /// What the tool is called with.
    args: Value,
    /// On whose behalf.
    #[schema(nullable = false)]
    agent_id: Option<String>,
    /// In which call of the agent.
    #[schema(nullable = false)]
    run_id: Option<String>,
    /// In which conversation.
    #[schema(nullable = false)]
    thread_id: Option<String>,
    /// For which user or object.
    #[schema(nullable = false)]
    resource_id: Option<String>,
    /// What it ended with.
    #[schema(required = false)]
    result: Value,
    /// Why it, or its latest attempt, failed.
    #[schema(nullable = false)]
    error: Option<TaskErrorSchema>,
    /// When it was dispatched.
    #[schema(format = DateTime)]
    created_at: String,
    /// When its latest attempt began.
    #[schema(format = DateTime, nullable = false)]
    started_at: Option<String>,
    /// While suspended: since when.
    #[schema(format = DateTime, nullable = false)]
    suspended_at: Option<String>,
    /// When it ended.
    #[schema(format = DateTime, nullable = false)]
    completed_at: Option<String>,
    /// Retries so far.
    retry_count: u32,
    /// How many there may be.
    max_retries: u32,
    /// How long one attempt may take, in milliseconds.
    timeout_ms: u64,
    /// While suspended: what it waits for.
    #[schema(required = false)]
    suspend_payload: Value,
    /// When its last event happened.
    #[schema(format = DateTime)]
    updated_at: String,
    /// For people.
    #[schema(nullable = false)]
    description: Option<String>,
    /// The kind of subagent that does the work.
    #[schema(nullable = false)]
    subagent_type: Option<String>,
    /// Any object of the caller's.
    #[schema(value_type = Object, required = false)]
    metadata: Value,
    /// The tenant's room.
    namespace: String,
    /// Higher goes first.
    priority: i16,
    /// While pending: not before this time.
    #[schema(format = DateTime, nullable = false)]
    run_at: Option<String>,
    /// The number of its latest attempt; 0 before the first.
    attempt: u32,
    /// Who holds, or last held, it.
    #[schema(nullable = false)]
    worker_id: Option<String>,
    /// The key under which it was dispatched.
    #[schema(nullable = false)]
    idempotency_key: Option<String>,
    /// Its last event.
    seq: u64,
    /// To its worker alone: what it was last resumed with.
    #[schema(required = false)]
    resume_data: Value,
    /// Of a task kept for an owner elsewhere: its document, as the owner gave it.
    #[schema(required = false)]
    record: RecordSchema,
}

/// A task to dispatch: every field but the tool's name may be left out.
#[derive(ToSchema)]
#[schema(as = NewTask, rename_all = "camelCase")]
pub(crate) struct NewTaskSchema {
    /// The tool to run.
    #[schema(min_length = 1, max_length = 1024)]
    tool_name: String,
    /// The model's id of the call. With `runId` it makes a repeated dispatch harmless.
    #[schema(min_length = 1, max_length = 1024)]
    tool_call_id: Option<String>,
    /// What the tool is called with, at most 1 MiB of JSON; `{}` if left out.
    #[schema(required = false)]
    args: Value,
    /// On whose behalf.
    #[schema(min_length = 1, max_length = 1024)]
    agent_id: Option<String>,
    /// In which call of the agent.
    #[schema(min_length = 1, max_length = 1024)]
    run_id: Option<String>,
    /// In which conversation.
    #[schema(min_length = 1, max_length = 1024)]
    thread_id: Option<String>,
    /// For which user or object.
    #[schema(min_length = 1, max_length = 1024)]
    resource_id: Option<String>,
    /// How long one attempt may take, in milliseconds: at most 30 days.
    #[schema(minimum = 1, maximum = 2592000000_u64)]
    timeout_ms: Option<u64>,
    /// How many failures are followed by another attempt.
    #[schema(maximum = 1000)]
    max_retries: Option<u32>,
    /// Higher goes first; 0 if left out.
    #[schema(minimum = -32768, maximum = 32767)]
    priority: Option<i16>,
    /// Not before this time.
    #[schema(format = DateTime)]
    run_at: Option<String>,
    /// For people, at most 64 KiB.
    description: Option<String>,
    /// The kind of subagent that does the work.
    #[schema(max_length = 1024)]
    subagent_type: Option<String>,
    /// Any object of the caller's, at most 64 KiB of JSON.
    #[schema(value_type = Object, required = false)]
    metadata: Value,
    /// Two dispatches with one key are one task.
    #[schema(max_length = 1024)]
    idempotency_key: Option<String>,
}

/// The statuses of a record.
#[derive(ToSchema)]
#[schema(as = RecordStatus, rename_all = "snake_case")]
pub(crate) enum RecordStatusSchema {
    Pending,
    Running,
    Completed,
    Failed,
    Killed,
}

/// A task whose owner runs it elsewhere: a document that is kept as it comes, further fields included.
#[derive(ToSchema)]
#[schema(as = Record, rename_all = "camelCase")]
pub(crate) struct RecordSchema {
    /// The owner's own id: that of the URL, where left out.
    id: Option<String>,
    /// Which kind of subagent does the work.
    subagent_type: String,
    /// For people.
    description: String,
    /// Where it stands: `pending`, where left out.
    status: Option<RecordStatusSchema>,
    /// When it was made: now, where left out.
    created_at: Option<String>,
    /// When its owner last changed it: now, where left out.
    updated_at: Option<String>,
    /// When it ended.
    completed_at: Option<String>,
    /// What it ended with.
    result: Option<String>,
    /// Why it failed.
    error: Option<String>,
    /// Any object of its owner's.
    #[schema(value_type = Object, required = false)]
    metadata: Value,
}

/// The type of a chunk; the prefix `background-task-` may be left out when one is asked for.
#[derive(ToSchema)]
#[schema(as = ChunkType)]
pub(crate) enum ChunkTypeSchema {
    #[schema(rename = "background-task-running")]
    Running,
    #[schema(rename = "background-task-output")]
    Output,
    #[schema(rename = "background-task-completed")]
    Completed,
    #[schema(rename = "background-task-failed")]
    Failed,
    #[schema(rename = "background-task-cancelled")]
    Cancelled,
    #[schema(rename = "background-task-suspended")]
    Suspended,
    #[schema(rename = "background-task-resumed")]
    Resumed,
    #[schema(rename = "background-task-started")]
    Started,
    #[schema(rename = "background-task-retrying")]
    Retrying,
    #[schema(rename = "background-task-queued")]
    Queued,
    #[schema(rename = "stream-reset")]
    StreamReset,
}

/// What the data of one event of a stream holds.
#[derive(ToSchema)]
#[schema(as = Chunk)]
pub(crate) struct ChunkSchema {
    /// What it says.
    r#type: ChunkTypeSchema,
    /// Whom it is about (`taskId`, `toolName`, and what else the task has of `toolCallId`, `agentId`,
    /// `runId`, `threadId`, `resourceId`), `seq`, `attempt`, and the type's own fields.
    #[schema(value_type = Object)]
    payload: Value,
}
