//! Is the server up, and is it ready? Open to everyone: load balancers have no key.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use sidestream::store::Request;

use crate::App;
use crate::problem::{Kind, Problem};

/// How long the store may take to answer, to count as ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// The routes of this file.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
}

/// The process answers.
async fn healthy() -> &'static str {
    "ok\n"
}

/// The store can be read and written, and the server is not stopping.
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
