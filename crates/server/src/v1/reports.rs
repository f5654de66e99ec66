//! What a worker elsewhere reports of an attempt that it holds.
//!
//! All of it goes one way: a report becomes a command, and the lifecycle decides. What a worker must know
//! of the answer is in its status: 200, it was heard; 409, the attempt no longer holds the task.

use axum::Json;
use sidestream::TaskId;
use sidestream::core::wire::worker::{
    Completion, Failure, Outputs, Renewal, Report, Standing, Suspension,
};

use crate::auth::Works;
use crate::limits::JsonBody;
use crate::openapi::schema::worker::{
    CompletionSchema, FailureSchema, OutputsSchema, RenewalSchema, StandingSchema, SuspensionSchema,
};
use crate::params::OfTask;
use crate::problem::Problem;

/// Renews the lease of an attempt.
///
/// Do so before a third of it is over; who cannot must stop before it ends. Of a task that was cancelled the
/// problem says so.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/renew",
    tag = "workers",
    operation_id = "renew",
    params(("id" = String, Path, description = "The task's id")),
    request_body = RenewalSchema,
    responses(
        (status = 200, description = "It was heard: how the task stands now", body = StandingSchema),
        (status = 409, description = "The attempt no longer holds the task: the problem says how it stands"),
    ),
)]
pub(crate) async fn renew(
    caller: Works,
    OfTask(id): OfTask,
    JsonBody(said): JsonBody<Renewal>,
) -> Result<Json<Standing>, Problem> {
    heard(&caller, &id, Report::Renew(said)).await
}

/// Tells what an attempt emitted.
///
/// Send what has gathered at once, and the next when that is answered.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/output",
    tag = "workers",
    operation_id = "output",
    params(("id" = String, Path, description = "The task's id")),
    request_body = OutputsSchema,
    responses(
        (status = 200, description = "It was heard: how the task stands now", body = StandingSchema),
        (status = 409, description = "The attempt no longer holds the task: the problem says how it stands"),
    ),
)]
pub(crate) async fn output(
    caller: Works,
    OfTask(id): OfTask,
    JsonBody(said): JsonBody<Outputs>,
) -> Result<Json<Standing>, Problem> {
    heard(&caller, &id, Report::Output(said)).await
}

/// Ends a task with the result of its attempt.
///
/// One that is repeated because its answer was lost is heard once.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/complete",
    tag = "workers",
    operation_id = "complete",
    params(("id" = String, Path, description = "The task's id")),
    request_body = CompletionSchema,
    responses(
        (status = 200, description = "It was heard: how the task stands now", body = StandingSchema),
        (status = 409, description = "The attempt no longer holds the task: the problem says how it stands"),
    ),
)]
pub(crate) async fn complete(
    caller: Works,
    OfTask(id): OfTask,
    JsonBody(said): JsonBody<Completion>,
) -> Result<Json<Standing>, Problem> {
    heard(&caller, &id, Report::Complete(said)).await
}

/// Ends an attempt that failed, or whose time was up.
///
/// Another follows if it can help and one is left; else the task has failed, or timed out.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/fail",
    tag = "workers",
    operation_id = "fail",
    params(("id" = String, Path, description = "The task's id")),
    request_body = FailureSchema,
    responses(
        (status = 200, description = "It was heard: how the task stands now", body = StandingSchema),
        (status = 409, description = "The attempt no longer holds the task: the problem says how it stands"),
    ),
)]
pub(crate) async fn fail(
    caller: Works,
    OfTask(id): OfTask,
    JsonBody(said): JsonBody<Failure>,
) -> Result<Json<Standing>, Problem> {
    heard(&caller, &id, Report::Fail(said)).await
}

/// Has a task wait for somebody.
///
/// It holds no slot meanwhile. When it is resumed it is given out again, with `resumeData`.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/suspend",
    tag = "workers",
    operation_id = "suspend",
    params(("id" = String, Path, description = "The task's id")),
    request_body = SuspensionSchema,
    responses(
        (status = 200, description = "It was heard: how the task stands now", body = StandingSchema),
        (status = 409, description = "The attempt no longer holds the task: the problem says how it stands"),
    ),
)]
pub(crate) async fn suspend(
    caller: Works,
    OfTask(id): OfTask,
    JsonBody(said): JsonBody<Suspension>,
) -> Result<Json<Standing>, Problem> {
    heard(&caller, &id, Report::Suspend(said)).await
}

async fn heard(caller: &Works, id: &TaskId, report: Report) -> Result<Json<Standing>, Problem> {
    let task = caller.manager()?.report(id, report).await?;
    Ok(Json(Standing::from(&task)))
}
