//! What an agent has not yet been told: the ended tasks of a thread, until they are acknowledged (R6).

use axum::Json;
use axum::http::Uri;
use serde::{Deserialize, Serialize};
use sidestream::core::Invalid;
use sidestream::core::wire::TaskRecord;
use sidestream::store::Told;
use sidestream::{Seq, TaskId};
use utoipa::ToSchema;

use super::list::PAGE_MAX;
use crate::auth::{Reads, Writes};
use crate::limits::JsonBody;
use crate::openapi::schema::TaskSchema;
use crate::params::{OfThread, Params};
use crate::problem::Problem;

/// So many ends at a time, where the request does not say.
const LIMIT_DEFAULT: u64 = 100;

/// Ends to be told, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Completions {
    #[schema(value_type = Vec<TaskSchema>)]
    tasks: Vec<TaskRecord>,
}

/// Lists the ends that an agent has not yet been told.
///
/// The oldest first. They stay here until they are acknowledged, so nothing is lost if the agent dies before
/// it has used them.
#[utoipa::path(
    get,
    path = "/v1/threads/{id}/completions",
    tag = "threads",
    operation_id = "completions",
    params(
        ("id" = String, Path, description = "The thread's id"),
        ("limit" = Option<u64>, Query, description = "At most so many: 100, where not given", maximum = 1000),
    ),
    responses((status = 200, description = "The ended tasks", body = Completions)),
)]
pub(crate) async fn list(
    caller: Reads,
    OfThread(thread): OfThread,
    uri: Uri,
) -> Result<Json<Completions>, Problem> {
    let mut params = Params::of(&uri);
    params.maybe_empty("id")?;
    let limit = params.number("limit", PAGE_MAX as u64)?;
    params.finish()?;
    let limit = limit.unwrap_or(LIMIT_DEFAULT) as usize;
    let tasks = match &caller.manager {
        Some(manager) => manager.completions(&thread, limit).await?,
        None => Vec::new(),
    };
    let tasks = tasks.iter().map(TaskRecord::from).collect();
    Ok(Json(Completions { tasks }))
}

/// What was told: all up to an event, or these tasks, each with the `seq` that was told.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acknowledge {
    /// All that ended at or before this event.
    #[schema(value_type = Option<u64>, nullable = false)]
    seq: Option<Seq>,
    /// These, each with the event that was told: one that has ended anew since will be told again.
    #[schema(nullable = false)]
    tasks: Option<Vec<ToldTask>>,
}

/// One end that was told.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToldTask {
    /// The task.
    #[schema(value_type = String)]
    id: TaskId,
    /// The task's `seq`, as it was told.
    #[schema(value_type = u64)]
    seq: Seq,
}

/// How many ends were newly acknowledged.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Acknowledged {
    acknowledged: u64,
}

/// Acknowledges ends: they were told, and need not be again.
#[utoipa::path(
    post,
    path = "/v1/threads/{id}/completions/ack",
    tag = "threads",
    operation_id = "acknowledge",
    params(("id" = String, Path, description = "The thread's id")),
    request_body = Acknowledge,
    responses((status = 200, description = "How many that newly are", body = Acknowledged)),
)]
pub(crate) async fn acknowledge(
    caller: Writes,
    OfThread(thread): OfThread,
    JsonBody(body): JsonBody<Acknowledge>,
) -> Result<Json<Acknowledged>, Problem> {
    let told = match (body.seq, body.tasks) {
        (Some(seq), None) => Told::UpTo(seq),
        (None, Some(tasks)) => Told::These(tasks.into_iter().map(|t| (t.id, t.seq)).collect()),
        _ => return Err(Invalid::new("seq", "or tasks must be given, and not both").into()),
    };
    let acknowledged = caller.manager()?.acknowledge(&thread, told).await?;
    Ok(Json(Acknowledged { acknowledged }))
}
