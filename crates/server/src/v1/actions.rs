//! What is asked of a task that is there: cancel, resume, retry, delete.

use axum::Json;
use axum::http::StatusCode;
use serde::Deserialize;
use sidestream::Json as RawJson;
use sidestream::core::Invalid;

use super::OneTask;
use crate::auth::Writes;
use crate::limits::JsonBody;
use crate::params::OfTask;
use crate::problem::Problem;

/// What a suspended task waits for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Resume {
    #[serde(default)]
    resume_data: Option<Box<serde_json::value::RawValue>>,
}

pub(crate) async fn cancel(caller: Writes, OfTask(id): OfTask) -> Result<Json<OneTask>, Problem> {
    let task = caller.manager()?.cancel(&id).await?;
    Ok(Json(OneTask::from(&task)))
}

pub(crate) async fn resume(
    caller: Writes,
    OfTask(id): OfTask,
    JsonBody(resume): JsonBody<Resume>,
) -> Result<Json<OneTask>, Problem> {
    let data = resume.resume_data;
    let data = data.ok_or_else(|| Invalid::new("resumeData", "is missing"))?;
    let data = RawJson::from_text(data.get()).expect("it was read as JSON");
    let task = caller.manager()?.resume(&id, data).await?;
    Ok(Json(OneTask::from(&task)))
}

pub(crate) async fn retry(caller: Writes, OfTask(id): OfTask) -> Result<Json<OneTask>, Problem> {
    let task = caller.manager()?.retry(&id).await?;
    Ok(Json(OneTask::from(&task)))
}

pub(crate) async fn delete(caller: Writes, OfTask(id): OfTask) -> Result<StatusCode, Problem> {
    caller.manager()?.delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
