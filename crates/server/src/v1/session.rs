//! `/v1/session`: who looks, and a browser's login and logout.
//!
//! Not among the routes that are authenticated first: who logs in has nothing to show yet, and who logs out
//! may hold a key that is no longer valid.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sidestream::Namespace;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::auth;
use crate::limits::JsonBody;
use crate::problem::{Kind, Problem};
use crate::session;

/// A login.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    /// The API key.
    key: String,
}

/// Who looks.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Session)]
pub(crate) struct ShownSession {
    /// What is allowed: `read`, `write`, `worker` or `admin`.
    role: &'static str,
    /// Where it is allowed.
    #[schema(value_type = String)]
    namespace: Namespace,
    /// The key's public name; absent where no key is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    key_id: Option<Arc<str>>,
    /// Is it so by the cookie of a login? Else by a key that the request itself shows, or because none is
    /// needed.
    logged_in: bool,
}

/// The routes of this file, and their description.
pub(crate) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default().routes(routes!(show, begin, end))
}

/// Says who looks.
#[utoipa::path(
    get,
    path = "/v1/session",
    tag = "session",
    operation_id = "session",
    responses((status = 200, description = "Whoever the request speaks for", body = ShownSession)),
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Problem> {
    let caller = auth::caller(&app, &request)?;
    Ok(answer(ShownSession {
        role: caller.role.as_str(),
        namespace: caller.namespace,
        key_id: caller.key_id,
        logged_in: caller.is_logged_in,
    }))
}

/// Logs a browser in.
///
/// The key is kept in a cookie, out of reach of scripts, which requests from this server's own pages show as
/// others show `Authorization`. It ends with the browser's session, or with the key.
#[utoipa::path(
    post,
    path = "/v1/session",
    tag = "session",
    operation_id = "log_in",
    request_body = Login,
    responses((
        status = 200,
        description = "Logged in",
        body = ShownSession,
        headers(("Set-Cookie" = String, description = "The session")),
    )),
    security(()),
)]
pub(crate) async fn begin(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    JsonBody(login): JsonBody<Login>,
) -> Result<Response, Problem> {
    let grant = app.keys.grant(&login.key).ok_or_else(|| {
        tracing::info!("a login with a key that is not valid");
        Problem::new(Kind::Unauthorized, auth::NOT_VALID)
    })?;
    let mut response = answer(ShownSession {
        role: grant.role.as_str(),
        namespace: grant.namespace.unwrap_or_default(),
        key_id: grant.key_id,
        logged_in: true,
    });
    let cookie = session::begun(&login.key, &headers);
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// Logs a browser out.
#[utoipa::path(
    delete,
    path = "/v1/session",
    tag = "session",
    operation_id = "log_out",
    responses((status = 204, description = "The cookie has ended, if there was one")),
    security(()),
)]
pub(crate) async fn end(headers: HeaderMap) -> Response {
    let ended = [(SET_COOKIE, session::ended(&headers))];
    (StatusCode::NO_CONTENT, ended).into_response()
}

/// Never kept by a cache: it says who looks now.
fn answer(session: ShownSession) -> Response {
    let mut response = Json(session).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
