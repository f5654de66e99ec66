//! `GET /v1/stream` and `GET /v1/tasks/{id}/stream`: what happens, as it happens, from any place of the log.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use sidestream::core::{EventKind, Invalid};
use sidestream::store::LogQuery;
use sidestream::{
    ChunkType, Cursor, Filter, Seq, SnapshotKind, Start, StreamOptions, Task, TaskManager,
};

use utoipa::{IntoParams, ToSchema};

use crate::App;
use crate::auth::Reads;
use crate::openapi::schema::{ChunkSchema, ChunkTypeSchema};
use crate::params::{OfTask, Params, short};
use crate::problem::Problem;
use crate::sse;

const SNAPSHOTS: [(&str, SnapshotKind); 3] = [
    ("running", SnapshotKind::Running),
    ("active", SnapshotKind::Active),
    ("none", SnapshotKind::None),
];

/// What can be asked for; it is read by [`stream`].
#[derive(IntoParams)]
#[expect(dead_code, reason = "it only describes the parameters")]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(crate) struct StreamParams {
    /// Of this agent.
    #[param(nullable = false)]
    agent_id: Option<String>,
    /// Of this call of an agent.
    #[param(nullable = false)]
    run_id: Option<String>,
    /// Of this conversation.
    #[param(nullable = false)]
    thread_id: Option<String>,
    /// For this user or object.
    #[param(nullable = false)]
    resource_id: Option<String>,
    /// This task.
    #[param(nullable = false)]
    task_id: Option<String>,
    /// Of this tool.
    #[param(nullable = false)]
    tool_name: Option<String>,
    /// Only chunks of this type: of any of these, when given more than once. Without it those that existing
    /// clients know: all but `started`, `retrying` and `queued`.
    #[param(nullable = false)]
    r#type: Option<Vec<ChunkTypeSchema>>,
    /// Which tasks the snapshot shows: the running ones, all that have not ended, or none.
    #[param(nullable = false, inline, default = "running")]
    snapshot: Option<SnapshotSchema>,
    /// Goes on after this place instead of beginning with a snapshot: an `id` of the stream, or a bare
    /// number; 0 is the beginning of the log.
    #[param(nullable = false)]
    after: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes a parameter")]
#[schema(rename_all = "camelCase")]
enum SnapshotSchema {
    Running,
    Active,
    None,
}

/// Watches tasks.
///
/// Server-sent events: first a snapshot, then every event that matches, in order, without a gap. Each `data`
/// is one chunk; each `id` is the place to resume from, with `Last-Event-ID` or `after`. A cursor that can no
/// longer be honoured gets the chunk `stream-reset` and a fresh snapshot.
#[utoipa::path(
    get,
    path = "/v1/stream",
    tag = "streams",
    operation_id = "stream",
    params(
        StreamParams,
        ("Last-Event-ID" = Option<String>, Header, description = "The last `id` seen; it goes before `after`"),
    ),
    responses((status = 200, description = "The stream", body = ChunkSchema, content_type = "text/event-stream")),
)]
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    caller: Reads,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut params = Params::of(&uri);
    let mut filter = filter(&mut params)?;
    filter.tool_name = params.parsed("toolName")?;
    for word in params.all("type") {
        let chunk_type = ChunkType::parse(&word).map_err(|e| {
            let problem = format!("{:?} {}", short(&word), e.problem);
            Invalid::new("type", problem)
        })?;
        filter.types.push(chunk_type);
    }
    let snapshot = params.word("snapshot", &SNAPSHOTS)?;
    let start = sse::start(&headers, &mut params)?;
    params.finish()?;
    let options = StreamOptions {
        filter,
        start: start.map_or(Start::Now, Start::After),
        snapshot: snapshot.unwrap_or_default(),
        ..StreamOptions::default()
    };
    sse::respond(&app, &caller, options).await
}

/// The filters that both this route and the compatible one know.
pub(crate) fn filter(params: &mut Params) -> Result<Filter, Invalid> {
    Ok(Filter {
        agent_id: params.parsed("agentId")?,
        run_id: params.parsed("runId")?,
        thread_id: params.parsed("threadId")?,
        resource_id: params.parsed("resourceId")?,
        task_id: params.parsed("taskId")?,
        ..Filter::default()
    })
}

/// Watches one task: its whole story, closed after its end.
///
/// From the start, or from `after` on, with chunks of every type.
#[utoipa::path(
    get,
    path = "/v1/tasks/{id}/stream",
    tag = "streams",
    operation_id = "story",
    params(
        ("id" = String, Path, description = "The task's id"),
        ("after" = Option<String>, Query, description = "Goes on after this place: an `id` of the stream, or a \
                                                         bare number"),
        ("Last-Event-ID" = Option<String>, Header, description = "The last `id` seen; it goes before `after`"),
    ),
    responses(
        (status = 200, description = "The stream", body = ChunkSchema, content_type = "text/event-stream"),
        (status = 204, description = "The task has ended, and all of its story has been seen"),
    ),
)]
pub(crate) async fn story(
    State(app): State<Arc<App>>,
    caller: Reads,
    OfTask(id): OfTask,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut params = Params::of(&uri);
    params.maybe_empty("id")?;
    let seen = sse::start(&headers, &mut params)?;
    params.finish()?;
    let not_found = || Problem::not_found(format!("task {id} does not exist"));
    let manager = caller.manager.as_ref().ok_or_else(not_found)?;
    let task = manager.get(&id).await?.ok_or_else(not_found)?;
    let start = match seen {
        Some(cursor) if has_seen_all(manager, &task, &cursor).await? => {
            // The only answer after which a browser's EventSource does not come again.
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        Some(cursor) => cursor,
        None => beginning(manager, &task).await?,
    };
    let options = StreamOptions {
        filter: Filter::default().task(id).types(ChunkType::ALL),
        start: Start::After(start),
        snapshot: SnapshotKind::Active,
        ends_with_task: true,
        ..StreamOptions::default()
    };
    sse::respond(&app, &caller, options).await
}

async fn has_seen_all(
    manager: &TaskManager,
    task: &Task,
    cursor: &Cursor,
) -> Result<bool, Problem> {
    if !task.status.is_terminal() || cursor.seq < task.seq {
        return Ok(false);
    }
    let head = manager.head().await?;
    let is_same_log = cursor
        .epoch
        .as_ref()
        .is_none_or(|epoch| *epoch == head.epoch);
    Ok(is_same_log && cursor.seq <= head.seq)
}

/// The place before a task's first event. When that event is pruned it is the beginning of the log, which
/// is pruned too, so that the client is told (S3).
async fn beginning(manager: &TaskManager, task: &Task) -> Result<Cursor, Problem> {
    let head = manager.head().await?;
    let query = LogQuery {
        after: head.floor,
        limit: 1,
        bytes_max: LogQuery::BYTES_MAX,
        task: Some((manager.namespace().clone(), task.id().clone())),
    };
    let page = manager.store().log(&query).await?;
    let first = page.entries.first().map(|entry| &entry.event.kind);
    let is_whole = matches!(
        first,
        Some(EventKind::Dispatched(_) | EventKind::Recorded(_))
    );
    Ok(Cursor {
        epoch: None,
        seq: if is_whole { head.floor } else { Seq(0) },
    })
}
