//! What goes between a worker and a server.

use serde_json::Value;
use utoipa::ToSchema;

use super::{StatusSchema, TaskErrorSchema, TaskSchema};

/// A worker asks for tasks.
#[derive(ToSchema)]
#[schema(as = Claim, rename_all = "camelCase")]
pub(crate) struct ClaimSchema {
    /// The worker's name, of no other process. Not one that begins with `local-`.
    #[schema(min_length = 1, max_length = 1024)]
    worker: String,
    /// The tools that it can run: at most 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    tools: Vec<String>,
    /// At most so many tasks. With 0 nothing is claimed, and the worker's claims that wait are answered at
    /// once.
    #[schema(nullable = false, maximum = 256, default = 1)]
    limit: Option<u32>,
    /// How long the leases last unless they are renewed, in milliseconds; as `manager.lease_ms`, if left out.
    #[schema(nullable = false, minimum = 100, maximum = 86400000_u64)]
    lease_ms: Option<u64>,
    /// How long to wait for a task where there is none, in milliseconds: at most `server.wait_ms_max`.
    /// It is never longer than half of the lease.
    #[schema(nullable = false, default = 0)]
    wait_ms: Option<u64>,
}

/// What a worker gets.
#[derive(ToSchema)]
#[schema(as = Claimed, rename_all = "camelCase")]
pub(crate) struct ClaimAnswerSchema {
    /// The tasks, each running, at its new attempt; of one that was resumed with its `resumeData`.
    tasks: Vec<TaskSchema>,
    /// How long the claim waited, in milliseconds: the leases began at least so long after it was sent.
    waited_ms: u64,
}

/// How a task stands after a report.
#[derive(ToSchema)]
#[schema(as = Standing, rename_all = "camelCase")]
pub(crate) struct StandingSchema {
    /// Where it stands.
    status: StatusSchema,
    /// The number of its latest attempt.
    attempt: u32,
    /// Its last event.
    seq: u64,
}

/// The attempt goes on.
#[derive(ToSchema)]
#[schema(as = Renewal, rename_all = "camelCase")]
pub(crate) struct RenewalSchema {
    /// The attempt.
    #[schema(minimum = 1)]
    attempt: u32,
    /// How long the lease lasts from now on, in milliseconds; as `manager.lease_ms`, if left out.
    #[schema(nullable = false, minimum = 100, maximum = 86400000_u64)]
    lease_ms: Option<u64>,
}

/// The attempt emitted these, in this order.
#[derive(ToSchema)]
#[schema(as = Outputs, rename_all = "camelCase")]
pub(crate) struct OutputsSchema {
    /// The attempt.
    #[schema(minimum = 1)]
    attempt: u32,
    /// Which of the attempt's reports this is: 1, 2, 3, … One that is repeated with its number is heard once.
    #[schema(nullable = false, default = 0)]
    report: Option<u32>,
    /// Each becomes an event; any JSON, at most 1 MiB each.
    #[schema(min_items = 1)]
    outputs: Vec<Value>,
}

/// The attempt is done.
#[derive(ToSchema)]
#[schema(as = Completion, rename_all = "camelCase")]
pub(crate) struct CompletionSchema {
    /// The attempt.
    #[schema(minimum = 1)]
    attempt: u32,
    /// Which of the attempt's reports this is: 1, 2, 3, … One that is repeated with its number is heard once.
    #[schema(nullable = false, default = 0)]
    report: Option<u32>,
    /// What the tool returned, at most 1 MiB of JSON; left out when it returned nothing.
    #[schema(required = false)]
    result: Value,
}

/// The attempt failed.
#[derive(ToSchema)]
#[schema(as = Failure, rename_all = "camelCase")]
pub(crate) struct FailureSchema {
    /// The attempt.
    #[schema(minimum = 1)]
    attempt: u32,
    /// Which of the attempt's reports this is: 1, 2, 3, … One that is repeated with its number is heard once.
    #[schema(nullable = false, default = 0)]
    report: Option<u32>,
    /// Why. Left out with `timedOut`.
    #[schema(nullable = false)]
    error: Option<TaskErrorSchema>,
    /// Can another attempt help? Then one follows, if retries are left.
    #[schema(nullable = false, default = true)]
    retryable: Option<bool>,
    /// Was its time (`timeoutMs`) up?
    #[schema(nullable = false, default = false)]
    timed_out: Option<bool>,
}

/// The attempt waits for somebody.
#[derive(ToSchema)]
#[schema(as = Suspension, rename_all = "camelCase")]
pub(crate) struct SuspensionSchema {
    /// The attempt.
    #[schema(minimum = 1)]
    attempt: u32,
    /// Which of the attempt's reports this is: 1, 2, 3, … One that is repeated with its number is heard once.
    #[schema(nullable = false, default = 0)]
    report: Option<u32>,
    /// For what: any JSON, at most 1 MiB.
    suspend_payload: Value,
}
