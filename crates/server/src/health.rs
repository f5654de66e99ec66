//! Is the server up, and is it ready? Open to everyone: load balancers have no key.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use sidestream::store::Request;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::problem::{Kind, Problem};

/// How long the store may take to answer, to count as ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// The routes of this file.
pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(healthy))
        .routes(routes!(ready))
}

/// Is the server up?
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operation",
    operation_id = "healthz",
    responses((status = 200, description = "It answers")),
)]
async fn healthy() -> &'static str {
    "ok\n"
}

/// Is the server ready: can the store be read and written, and is it not stopping?
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operation",
    operation_id = "readyz",
    responses(
        (status = 200, description = "It is ready"),
        (status = 503, description = "It is not"),
    ),
)]
async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    if app.stopping.is_cancelled() {
        let detail = "the server is shutting down";
        return Err(Problem::new(Kind::Unavailable, detail));
    }
    let check = tokio::time::timeout(PATIENCE, check_store(&app)).await;
    check.unwrap_or_else(|_| {
        let detail = format!("the store did not answer within {} s", PATIENCE.as_secs());
        Err(Problem::new(Kind::Unavailable, detail))
    })?;
    Ok("ready\n")
}

async fn check_store(app: &App) -> Result<(), Problem> {
    app.store.head().await?;
    if let Some(manager) = &app.manager {
        // The smallest write there is: it goes the way of every other, and changes nothing.
        let nobody = Request::RevokeKey { id: String::new() };
        manager.writer().submit(nobody).await?;
    }
    Ok(())
}
