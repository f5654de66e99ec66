//! What an agent has not yet been told: the ended tasks of a thread, until they are acknowledged (R6).

use axum::Json;
use axum::http::Uri;
use serde::{Deserialize, Serialize};
use sidestream::core::Invalid;
use sidestream::core::wire::TaskRecord;
use sidestream::store::Told;
use sidestream::{Seq, TaskId};

use super::list::PAGE_MAX;
use crate::auth::{Reads, Writes};
use crate::limits::JsonBody;
use crate::params::{OfThread, Params};
use crate::problem::Problem;

/// So many ends at a time, where the request does not say.
const LIMIT_DEFAULT: u64 = 100;

/// Ends to be told, oldest first.
#[derive(Debug, Serialize)]
pub(crate) struct Completions {
    tasks: Vec<TaskRecord>,
}

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
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acknowledge {
    seq: Option<Seq>,
    tasks: Option<Vec<ToldTask>>,
}

/// One end that was told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToldTask {
    id: TaskId,
    seq: Seq,
}

/// How many ends were newly acknowledged.
#[derive(Debug, Serialize)]
pub(crate) struct Acknowledged {
    acknowledged: u64,
}

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
