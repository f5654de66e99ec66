//! What is asked of a task that is there: cancel, resume, retry, delete.

use axum::Json;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer};
use sidestream::Json as RawJson;
use sidestream::core::Invalid;
use utoipa::ToSchema;

use super::OneTask;
use crate::auth::Writes;
use crate::limits::JsonBody;
use crate::params::OfTask;
use crate::problem::Problem;

/// What a suspended task waits for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Resume {
    /// What the handler is called with next: any JSON.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = serde_json::Value, required = true)]
    resume_data: Option<RawJson>,
}

/// A value that is there, be it `null`.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RawJson>, D::Error> {
    RawJson::deserialize(deserializer).map(Some)
}

/// Cancels a task that has not ended.
///
/// It is cancelled at once for everyone who looks; its handler is told, and after a grace stopped. One that
/// is cancelled already stays so.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/cancel",
    tag = "tasks",
    operation_id = "cancel",
    params(("id" = String, Path, description = "The task's id")),
    responses(
        (status = 200, description = "The task as it stands now", body = OneTask),
        (status = 409, description = "It has ended otherwise"),
    ),
)]
pub(crate) async fn cancel(caller: Writes, OfTask(id): OfTask) -> Result<Json<OneTask>, Problem> {
    let task = caller.manager()?.cancel(&id).await?;
    Ok(Json(OneTask::from(&task)))
}

/// Resumes a suspended task.
///
/// It runs again as soon as a slot is free.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/resume",
    tag = "tasks",
    operation_id = "resume",
    params(("id" = String, Path, description = "The task's id")),
    request_body = Resume,
    responses(
        (status = 200, description = "The task as it stands now", body = OneTask),
        (status = 409, description = "It is not suspended"),
    ),
)]
pub(crate) async fn resume(
    caller: Writes,
    OfTask(id): OfTask,
    JsonBody(resume): JsonBody<Resume>,
) -> Result<Json<OneTask>, Problem> {
    let data = resume.resume_data;
    let data = data.ok_or_else(|| Invalid::new("resumeData", "is missing"))?;
    let task = caller.manager()?.resume(&id, data).await?;
    Ok(Json(OneTask::from(&task)))
}

/// Tries a failed, timed-out or cancelled task again.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/retry",
    tag = "tasks",
    operation_id = "retry",
    params(("id" = String, Path, description = "The task's id")),
    responses(
        (status = 200, description = "The task as it stands now", body = OneTask),
        (status = 409, description = "It has not ended so"),
    ),
)]
pub(crate) async fn retry(caller: Writes, OfTask(id): OfTask) -> Result<Json<OneTask>, Problem> {
    let task = caller.manager()?.retry(&id).await?;
    Ok(Json(OneTask::from(&task)))
}

/// Deletes an ended task.
///
/// Its events stay in the log until they are pruned. A task kept for an owner elsewhere can be deleted at any
/// time.
#[utoipa::path(
    delete,
    path = "/v1/tasks/{id}",
    tag = "tasks",
    operation_id = "delete",
    params(("id" = String, Path, description = "The task's id")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, description = "It has not ended"),
    ),
)]
pub(crate) async fn delete(caller: Writes, OfTask(id): OfTask) -> Result<StatusCode, Problem> {
    caller.manager()?.delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
