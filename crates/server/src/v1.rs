//! Our own routes (WIRE part 5). One file for each kind of thing that can be asked.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use serde::Serialize;
use sidestream::Task;
use sidestream::core::wire::TaskRecord;

use crate::App;

mod dispatch;
mod get;
pub(crate) mod list;

mod actions;
mod records;

mod completions;
pub(crate) mod stream;

mod keys;

/// A task, as every route answers with it.
#[derive(Debug, Serialize)]
pub(crate) struct OneTask {
    pub(crate) task: TaskRecord,
}

impl From<&Task> for OneTask {
    fn from(task: &Task) -> Self {
        Self { task: task.into() }
    }
}

/// The routes of this folder.
pub(crate) fn routes() -> Router<Arc<App>> {
    // Any text may be an id, but a client normalises `.` and `..` in a path, and the empty id has no
    // path: `/v1/task…?id=` carries those that `/v1/tasks/{id}…` cannot.
    let task = |path: &str| {
        let one = get(get::get).put(records::put).delete(actions::delete);
        Router::new()
            .route(path, one)
            .route(&format!("{path}/cancel"), post(actions::cancel))
            .route(&format!("{path}/resume"), post(actions::resume))
            .route(&format!("{path}/retry"), post(actions::retry))
            .route(&format!("{path}/stream"), get(stream::story))
    };
    let thread = |path: &str| {
        Router::new()
            .route(&format!("{path}/completions"), get(completions::list))
            .route(
                &format!("{path}/completions/ack"),
                post(completions::acknowledge),
            )
    };
    Router::new()
        .route("/v1/tasks", post(dispatch::dispatch).get(list::list))
        .merge(task("/v1/tasks/{id}"))
        .merge(task("/v1/task"))
        .route("/v1/stream", get(stream::stream))
        .merge(thread("/v1/threads/{id}"))
        .merge(thread("/v1/thread"))
        .route("/v1/keys", post(keys::add).get(keys::list))
        .route("/v1/keys/{id}", axum::routing::delete(keys::revoke))
}
