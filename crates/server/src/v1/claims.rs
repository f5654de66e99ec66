//! `POST /v1/claims`: gives tasks to a worker elsewhere, and waits for some where there are none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use parking_lot::Mutex;
use sidestream::core::wire::TaskRecord;
use sidestream::core::wire::worker::{ClaimAnswer, ClaimRequest};
use sidestream::core::{Invalid, WorkerId};
use sidestream::manager::{WorkerClaim, WorkerClaimed};
use sidestream::{Namespace, ToolName};
use tokio_util::sync::CancellationToken;

use crate::App;
use crate::auth::Works;
use crate::limits::JsonBody;
use crate::openapi::schema::worker::{ClaimAnswerSchema, ClaimSchema};
use crate::problem::Problem;

/// So many tools at most may a claim name.
const TOOLS_MAX: usize = 1_000;

/// The claims that wait, so that a worker that is about to leave can have its own answered.
#[derive(Debug, Default)]
pub(crate) struct WaitingClaims(Mutex<HashMap<(Namespace, WorkerId), Waiting>>);

/// The claims of one worker.
#[derive(Debug, Default)]
struct Waiting {
    leave: CancellationToken,
    count: usize,
}

/// A claim that waits, until this is dropped.
struct Wait<'a> {
    all: &'a WaitingClaims,
    key: (Namespace, WorkerId),
    leave: CancellationToken,
}

impl WaitingClaims {
    fn enter(&self, namespace: &Namespace, worker: &WorkerId) -> Wait<'_> {
        let key = (namespace.clone(), worker.clone());
        let mut all = self.0.lock();
        let waiting = all.entry(key.clone()).or_default();
        waiting.count += 1;
        let leave = waiting.leave.clone();
        drop(all);
        Wait {
            all: self,
            key,
            leave,
        }
    }

    /// Has the claims of a worker answered.
    fn end(&self, namespace: &Namespace, worker: &WorkerId) {
        let key = (namespace.clone(), worker.clone());
        if let Some(waiting) = self.0.lock().get_mut(&key) {
            // Those that come afterwards wait again.
            std::mem::take(&mut waiting.leave).cancel();
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        if let Some(waiting) = all.get_mut(&self.key) {
            waiting.count -= 1;
            if waiting.count == 0 {
                all.remove(&self.key);
            }
        }
    }
}

/// Claims tasks for a worker.
///
/// Each is given for the time of its lease, and must be renewed, or ended, before that is over. Where there
/// is no task it waits for one.
#[utoipa::path(
    post,
    path = "/v1/claims",
    tag = "workers",
    operation_id = "claim",
    request_body = ClaimSchema,
    responses((status = 200, description = "The tasks, if there are any", body = ClaimAnswerSchema)),
)]
pub(crate) async fn claim(
    State(app): State<Arc<App>>,
    caller: Works,
    JsonBody(asked): JsonBody<ClaimRequest>,
) -> Result<Json<ClaimAnswer>, Problem> {
    let asked = checked(asked, app.config.limits.wait)?;
    let manager = caller.manager()?;
    let namespace = &caller.namespace;
    if asked.limit == 0 {
        app.claims.end(namespace, &asked.worker);
        return Ok(Json(answer(&WorkerClaimed::default())));
    }
    let wait = app.claims.enter(namespace, &asked.worker);
    let enough = async {
        tokio::select! {
            () = wait.leave.cancelled() => {}
            () = caller.ends.cancelled() => {}
        }
    };
    let claimed = manager.claim(&asked, enough).await?;
    Ok(Json(answer(&claimed)))
}

fn answer(claimed: &WorkerClaimed) -> ClaimAnswer {
    let waited_ms = claimed.waited.as_millis();
    ClaimAnswer {
        tasks: claimed.tasks.iter().map(TaskRecord::claimed).collect(),
        waited_ms: u64::try_from(waited_ms).unwrap_or(u64::MAX),
    }
}

fn checked(asked: ClaimRequest, wait_max: Duration) -> Result<WorkerClaim, Invalid> {
    let wait = Duration::from_millis(asked.wait_ms.unwrap_or(0));
    if wait > wait_max {
        let (wait, max) = (wait.as_millis(), wait_max.as_millis());
        let problem = format!("is {wait}, more than the {max} allowed");
        return Err(Invalid::new("waitMs", problem));
    }
    let count = asked.tools.len();
    if count > TOOLS_MAX {
        let problem = format!("names {count} tools, more than the {TOOLS_MAX} allowed");
        return Err(Invalid::new("tools", problem));
    }
    let tools = asked.tools.into_iter().enumerate().map(|(n, name)| {
        ToolName::new(name).map_err(|e| Invalid::new(format!("tools[{n}]"), e.problem))
    });
    let worker = asked.worker.parse::<WorkerId>();
    Ok(WorkerClaim {
        worker: worker.map_err(|e| Invalid::new("worker", e.problem))?,
        tools: tools.collect::<Result<_, _>>()?,
        limit: asked.limit,
        lease_ms: asked.lease_ms,
        wait,
    })
}
