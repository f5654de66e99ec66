//! `PUT /v1/tasks/{id}`: keeps a task whose owner runs it elsewhere and reports how it stands (WIRE part 3).

use std::sync::Arc;

use axum::Json;
use serde_json::{Map, Value};
use sidestream::TaskId;
use sidestream::core::{Invalid, Record, record};
use sidestream::store::{Answer, Request};

use super::OneTask;
use crate::auth::{Caller, Reads};
use crate::keys::Role;
use crate::limits::JsonBody;
use crate::openapi::schema::RecordSchema;
use crate::params::OfTask;
use crate::problem::{Kind, Problem};

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
    Reads(caller): Reads,
    OfTask(id): OfTask,
    JsonBody(document): JsonBody<Map<String, Value>>,
) -> Result<Json<OneTask>, Problem> {
    check_role(&caller)?;
    let manager = caller.manager()?;
    let document = completed(document, &id, manager.store().now())?;
    let request = Request::Record {
        namespace: caller.namespace.clone(),
        record: Arc::new(Record::from_map(document)?),
    };
    match manager.writer().submit(request).await? {
        Answer::Applied(task) => Ok(Json(OneTask::from(&task))),
        other => unreachable!("a record is answered by its task: {other:?}"),
    }
}

/// Who writes may report, and so may who works.
fn check_role(caller: &Caller) -> Result<(), Problem> {
    if caller.role == Role::Read {
        let detail = "the key has the role read; this needs write, worker or admin";
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    Ok(())
}

/// The document as it came, but what a new one may leave out filled in: the id of the URL, the status
/// `pending`, and both times now.
fn completed(
    mut document: Map<String, Value>,
    id: &TaskId,
    now: sidestream::Timestamp,
) -> Result<Map<String, Value>, Invalid> {
    match document.get("id") {
        None => {
            document.insert("id".into(), id.as_str().into());
        }
        Some(Value::String(own)) if own == id.as_str() => {}
        Some(_) => return Err(Invalid::new("id", "is not the id in the URL")),
    }
    let has_updated_at = document.contains_key("updatedAt");
    let updated_at = document.get("updatedAt").cloned();
    let mut document = record::create(document, now);
    if let Some(updated_at) = updated_at.filter(|_| has_updated_at) {
        document.insert("updatedAt".into(), updated_at);
    }
    Ok(document)
}
