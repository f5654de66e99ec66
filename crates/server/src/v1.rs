//! Our own routes (WIRE part 5). One file for each kind of thing that can be asked.

use std::sync::Arc;

use serde::Serialize;
use sidestream::Task;
use sidestream::core::wire::TaskRecord;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::openapi::schema::TaskSchema;
use crate::openapi::with_id_in_query;

mod dispatch;
mod get;
pub(crate) mod list;

mod actions;
mod records;

pub(crate) mod claims;
mod reports;

mod completions;
pub(crate) mod stream;

mod keys;
pub(crate) mod session;

/// A task, as every route answers with it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OneTask {
    #[schema(value_type = TaskSchema)]
    pub(crate) task: TaskRecord,
}

impl From<&Task> for OneTask {
    fn from(task: &Task) -> Self {
        Self { task: task.into() }
    }
}

/// The routes of this folder, and their description.
pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    let of_one_task_or_thread = [
        routes!(get::get, records::put, actions::delete),
        routes!(actions::cancel),
        routes!(actions::resume),
        routes!(actions::retry),
        routes!(reports::renew),
        routes!(reports::output),
        routes!(reports::complete),
        routes!(reports::fail),
        routes!(reports::suspend),
        routes!(stream::story),
        routes!(completions::list),
        routes!(completions::acknowledge),
    ];
    let router = OpenApiRouter::default()
        .routes(routes!(dispatch::dispatch, list::list))
        .routes(routes!(claims::claim))
        .routes(routes!(stream::stream))
        .routes(routes!(keys::add, keys::list))
        .routes(routes!(keys::revoke));
    of_one_task_or_thread
        .into_iter()
        .fold(router, with_id_in_query)
}
