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

use crate::App;
use crate::auth::Reads;
use crate::params::{OfTask, Params, short};
use crate::problem::Problem;
use crate::sse;

const SNAPSHOTS: [(&str, SnapshotKind); 3] = [
    ("running", SnapshotKind::Running),
    ("active", SnapshotKind::Active),
    ("none", SnapshotKind::None),
];

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

/// A task's whole story, closed after its end.
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
