//! The routes that existing clients call (WIRE part 4), in their words and shapes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sidestream::core::wire::TaskRecord;
use sidestream::{Start, StreamOptions, TaskId};

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::auth::Reads;
use crate::openapi::schema::{ChunkSchema, TaskSchema};
use crate::params::Params;
use crate::problem::{Kind, Problem};
use crate::sse;
use crate::v1::list::{Faults, PAGE_MAX, TaskPage, filters, numbered, status};
use crate::v1::stream::filter;

const PREFIX: &str = "/api/";

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(stream))
        .routes(routes!(one))
}

/// Turns problem details into the shapes that clients of these routes know.
pub(crate) async fn in_its_own_words(request: Request, next: Next) -> Response {
    let is_ours = request.uri().path().starts_with(PREFIX);
    let response = next.run(request).await;
    match response.extensions().get::<Problem>() {
        Some(problem) if is_ours => {
            let body = Refusal::of(problem);
            let mut worded = (response.status(), Json(body)).into_response();
            for (name, value) in response.headers() {
                // The type and the length are those of the new body.
                worded.headers_mut().entry(name).or_insert(value.clone());
            }
            worded
        }
        _ => response,
    }
}

#[derive(Serialize)]
struct Refusal {
    error: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    issues: Vec<Issue>,
}

#[derive(Serialize)]
struct Issue {
    field: String,
    message: String,
}

impl Refusal {
    fn of(problem: &Problem) -> Self {
        let issues = problem.invalid.iter().map(|invalid| Issue {
            field: invalid.field.clone(),
            message: invalid.problem.clone(),
        });
        let error = match problem.kind {
            Kind::Invalid => "Invalid query parameters".to_owned(),
            _ => problem.detail.clone(),
        };
        Self {
            error,
            issues: issues.collect(),
        }
    }
}

/// Lists tasks, for existing clients.
///
/// The filters of `/v1/tasks`, but one `status`, and numbered pages only. Unknown parameters are ignored. At
/// most 1,000 tasks: a larger `perPage` counts as 1,000.
#[utoipa::path(
    get,
    path = "/api/background-tasks",
    tag = "compatible",
    operation_id = "list_background_tasks",
    responses((status = 200, description = "Tasks, and how many match in all", body = TaskPage)),
)]
async fn list(caller: Reads, uri: Uri) -> Result<Json<TaskPage>, Problem> {
    let mut params = Params::of(&uri);
    let mut faults = Faults::default();
    let mut query = filters(&mut params, &mut faults);
    let word = faults.note(params.one("status")).flatten();
    let found = word.and_then(|word| faults.note(status(&word)));
    query.statuses = found.into_iter().collect();
    match faults.note(numbered(&mut params, u64::MAX)).flatten() {
        Some((start, limit)) => (query.start, query.limit) = (start, limit),
        None => query.limit = PAGE_MAX,
    }
    if !faults.0.is_empty() {
        return Err(Problem::invalid(faults.0));
    }
    let (tasks, total) = match &caller.manager {
        None => (Vec::new(), 0),
        Some(manager) => {
            let page = manager.list(query).await?;
            (
                page.tasks.iter().map(TaskRecord::from).collect(),
                page.total,
            )
        }
    };
    Ok(Json(TaskPage {
        tasks,
        total,
        next_cursor: None,
    }))
}

/// Gets a task, for existing clients.
#[utoipa::path(
    get,
    path = "/api/background-tasks/{id}",
    tag = "compatible",
    operation_id = "get_background_task",
    params(("id" = String, Path, description = "The task's id")),
    responses((status = 200, description = "The task", body = TaskSchema)),
)]
async fn one(caller: Reads, Path(id): Path<String>) -> Result<Json<TaskRecord>, Problem> {
    // What cannot be an id is the id of no task.
    let found = match (&caller.manager, TaskId::new(id)) {
        (Some(manager), Ok(id)) => manager.get(&id).await?,
        _ => None,
    };
    let task = found.ok_or_else(|| Problem::not_found("Background task not found"))?;
    Ok(Json(TaskRecord::from(&task)))
}

/// Watches tasks, for existing clients.
///
/// The body is that of `/v1/stream`.
#[utoipa::path(
    get,
    path = "/api/background-tasks/stream",
    tag = "compatible",
    operation_id = "stream_background_tasks",
    responses((status = 200, description = "The stream", body = ChunkSchema, content_type = "text/event-stream")),
)]
async fn stream(
    State(app): State<Arc<App>>,
    caller: Reads,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut params = Params::of(&uri);
    let options = StreamOptions {
        filter: filter(&mut params)?,
        start: sse::start(&headers, &mut params)?.map_or(Start::Now, Start::After),
        ..StreamOptions::default()
    };
    sse::respond(&app, &caller, options).await
}
