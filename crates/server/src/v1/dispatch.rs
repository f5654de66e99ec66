//! `POST /v1/tasks`: creates a task, and waits for its end if asked to.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sidestream::core::Invalid;
use sidestream::{Dispatched, NewTask, Task, TaskManager};
use utoipa::ToSchema;

use super::OneTask;
use crate::App;
use crate::auth::Writes;
use crate::limits::{JsonBody, preferred_wait};
use crate::openapi::schema::NewTaskSchema;
use crate::problem::Problem;

/// The answer where no task was created: the caller should run the tool itself, now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FallbackToSync {
    /// Always `true`.
    fallback_to_sync: bool,
}

/// What is answered with status 200.
#[derive(Serialize, ToSchema)]
#[expect(
    dead_code,
    clippy::large_enum_variant,
    reason = "it only describes the two"
)]
#[serde(untagged)]
pub(crate) enum KnownOrFallback {
    Known(OneTask),
    Fallback(FallbackToSync),
}

/// Dispatches a task.
///
/// Once this is answered the task is durable, and will run.
#[utoipa::path(
    post,
    path = "/v1/tasks",
    tag = "tasks",
    operation_id = "dispatch",
    params(
        ("Idempotency-Key" = Option<String>, Header,
            description = "Two dispatches with one key are one task; the same as the field `idempotencyKey`"),
        ("Prefer" = Option<String>, Header, example = "wait=10",
            description = "`wait=SECONDS` answers with the ended task, or with the unfinished one when the \
                           time is over: at most 60 (RFC 7240)"),
    ),
    request_body = NewTaskSchema,
    responses(
        (status = 201, description = "The new task", body = OneTask, headers(
            ("Location" = String, description = "Where the task is"),
            ("Preference-Applied" = String, description = "The wait, as it was heeded"),
        )),
        (status = 200, description = "The task that the same key, or the same tool call of the run, \
                                      created before; or: run the tool yourself, now", body = KnownOrFallback),
        (status = 429, description = "No slot is free, and the policy is to refuse"),
    ),
)]
pub(crate) async fn dispatch(
    State(app): State<Arc<App>>,
    caller: Writes,
    headers: HeaderMap,
    JsonBody(mut task): JsonBody<NewTask>,
) -> Result<Response, Problem> {
    let manager = caller.manager()?;
    take_key(&mut task, &headers)?;
    let (status, mut task) = match manager.dispatch(task).await? {
        Dispatched::New(task) => (StatusCode::CREATED, task),
        Dispatched::Known(task) => (StatusCode::OK, task),
        Dispatched::FallbackToSync => {
            let answer = FallbackToSync {
                fallback_to_sync: true,
            };
            return Ok(Json(answer).into_response());
        }
    };
    let wait = preferred_wait(&headers, app.config.limits.wait);
    if let Some(wait) = wait {
        task = wait_for_end(&app, manager, task, wait).await?;
    }
    let location = location(&task);
    let mut response = (status, Json(OneTask::from(&task))).into_response();
    response.headers_mut().insert(LOCATION, location);
    if let Some(wait) = wait {
        let applied = format!("wait={}", wait.as_secs());
        let applied = HeaderValue::from_str(&applied).expect("a word and a number");
        response.headers_mut().insert("preference-applied", applied);
    }
    Ok(response)
}

/// The idempotency key may be in the header or in the body.
fn take_key(task: &mut NewTask, headers: &HeaderMap) -> Result<(), Invalid> {
    const HEADER: &str = "Idempotency-Key";
    let mut keys = headers.get_all(HEADER).iter();
    let Some(value) = keys.next() else {
        return Ok(());
    };
    if keys.next().is_some() {
        return Err(Invalid::new(HEADER, "is given more than once"));
    }
    let key = std::str::from_utf8(value.as_bytes());
    let key = key.map_err(|_| Invalid::new(HEADER, "is not UTF-8"))?;
    if key.is_empty() {
        return Err(Invalid::new(HEADER, "is empty"));
    }
    match &task.idempotency_key {
        Some(other) if other != key => {
            Err(Invalid::new(HEADER, "is not the body's idempotencyKey"))
        }
        _ => {
            task.idempotency_key = Some(key.to_owned());
            Ok(())
        }
    }
}

/// The task as it ended; or as it stands when the time is over, or when the server stops.
async fn wait_for_end(
    app: &App,
    manager: &TaskManager,
    task: Task,
    wait: Duration,
) -> Result<Task, Problem> {
    let id = task.id();
    let end = tokio::time::timeout(wait, manager.wait(id));
    match app.stopping.run_until_cancelled(end).await {
        Some(Ok(Ok(ended))) => Ok(ended),
        Some(Ok(Err(error))) => {
            // The task is there, whatever became of the waiting: its creation must be told.
            tracing::warn!(task = %id, %error, "a dispatch stopped waiting");
            Ok(task)
        }
        Some(Err(_)) | None => Ok(manager.get(id).await?.unwrap_or(task)),
    }
}

fn location(task: &Task) -> HeaderValue {
    // Ids made here are UUIDs: nothing in them needs to be escaped.
    HeaderValue::from_str(&format!("/v1/tasks/{}", task.id()))
        .expect("an id made here is plain text")
}
