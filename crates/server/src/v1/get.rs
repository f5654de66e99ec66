//! `GET /v1/tasks/{id}`: one task.

use axum::Json;

use super::OneTask;
use crate::auth::Reads;
use crate::params::OfTask;
use crate::problem::Problem;

/// Gets a task.
#[utoipa::path(
    get,
    path = "/v1/tasks/{id}",
    tag = "tasks",
    operation_id = "get",
    params(("id" = String, Path, description = "The task's id")),
    responses((status = 200, description = "The task", body = OneTask)),
)]
pub(crate) async fn get(caller: Reads, OfTask(id): OfTask) -> Result<Json<OneTask>, Problem> {
    let task = match &caller.manager {
        Some(manager) => manager.get(&id).await?,
        None => None,
    };
    let task = task.ok_or_else(|| Problem::not_found(format!("task {id} does not exist")))?;
    Ok(Json(OneTask::from(&task)))
}
