//! `PUT /v1/tasks/{id}`: keeps a task whose owner runs it elsewhere and reports how it stands (WIRE part 3).

use std::sync::Arc;

use axum::Json;
use serde_json::{Map, Value};
use sidestream::core::{Invalid, Record, record};
use sidestream::store::{Answer, Request};
use sidestream::{Json as RawJson, TaskId, Timestamp};

use super::OneTask;
use crate::auth::Reports;
use crate::limits::{JsonBody, parse};
use crate::openapi::schema::RecordSchema;
use crate::params::OfTask;
use crate::problem::Problem;

/// Keeps a task for an owner elsewhere.
///
/// Its owner runs it, and reports how it stands: the document replaces the one before, whole. It is listed
/// and watched like any task.
#[utoipa::path(
    put,
    path = "/v1/tasks/{id}",
    tag = "tasks",
    operation_id = "record",
    params(("id" = String, Path, description = "The owner's own id of the task")),
    request_body = RecordSchema,
    responses(
        (status = 200, description = "The task as it is kept", body = OneTask),
        (status = 409, description = "The task was dispatched here, so nobody else reports its state"),
    ),
)]
pub(crate) async fn put(
    caller: Reports,
    OfTask(id): OfTask,
    JsonBody(document): JsonBody<RawJson>,
) -> Result<Json<OneTask>, Problem> {
    let manager = caller.manager()?;
    let document = completed(document, &id, manager.store().now())?;
    let request = Request::Record {
        namespace: caller.namespace.clone(),
        record: Arc::new(Record::from_document(document)?),
    };
    match manager.writer().submit(request).await? {
        Answer::Applied(task) => Ok(Json(OneTask::from(&task))),
        other => unreachable!("a record is answered by its task: {other:?}"),
    }
}

/// The document as it came, to the letter; but what a new one may leave out filled in: the id of the URL,
/// the status `pending`, and both times now.
fn completed(document: RawJson, id: &TaskId, now: Timestamp) -> Result<RawJson, Problem> {
    const MAY_BE_LEFT_OUT: [&str; 4] = ["id", "status", "createdAt", "updatedAt"];
    let mut fields: Map<String, Value> = parse(document.as_str().as_bytes())?;
    match fields.get("id") {
        None => {}
        Some(Value::String(own)) if own == id.as_str() => {}
        Some(_) => return Err(Invalid::new("id", "is not the id in the URL").into()),
    }
    if MAY_BE_LEFT_OUT
        .iter()
        .all(|field| fields.contains_key(*field))
    {
        return Ok(document);
    }
    fields.entry("id").or_insert_with(|| id.as_str().into());
    let updated_at = fields.get("updatedAt").cloned();
    let mut fields = record::create(fields, now);
    if let Some(updated_at) = updated_at {
        fields.insert("updatedAt".into(), updated_at);
    }
    Ok(RawJson::from(Value::Object(fields)))
}
