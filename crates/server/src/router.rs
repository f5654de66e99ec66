//! Which route leads where, and what every request passes on its way.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::problem::{Kind, Problem};
use crate::{App, auth, compat, dashboard, health, limits, metrics, openapi, origin, v1};

/// Every route, and every layer around it. Read the layers from the bottom: the last is the outermost.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let (v1, compatible, health) = (v1::routes(), compat::routes(), health::routes());
    let session = v1::session::routes();
    let metrics = OpenApiRouter::default().routes(routes!(metrics::show));
    let mut api = OpenApi::default();
    for part in [&v1, &session, &compatible, &health, &metrics] {
        api.merge(part.get_openapi().clone());
    }
    let document: Arc<str> = openapi::document(api).into();

    let guarded = Router::from(v1)
        .merge(metrics)
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(Arc::clone(app), limits::bound_time))
        .layer(from_fn_with_state(Arc::clone(app), auth::authenticate));
    let compatible = Router::from(compatible)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(Arc::clone(app), limits::bound_time))
        .layer(from_fn_with_state(Arc::clone(app), auth::authenticate));
    let session = Router::from(session)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(Arc::clone(app), limits::bound_time));
    let open = dashboard::routes(app.config.dashboard)
        .merge(health)
        .route("/openapi.json", get(async move || as_json(&document)))
        .method_not_allowed_fallback(no_such_method);
    guarded
        .merge(compatible)
        .merge(session)
        .merge(open)
        .with_state(Arc::clone(app))
        .layer(from_fn_with_state(Arc::clone(app), origin::check_origin))
        .layer(from_fn(compat::in_its_own_words))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(app), observe))
}

fn as_json(document: &str) -> Response {
    ([(CONTENT_TYPE, "application/json")], document.to_owned()).into_response()
}

async fn no_such_route(uri: Uri) -> Problem {
    Problem::not_found(format!("there is no route {}", uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} cannot be asked with {method}", uri.path());
    Problem::new(Kind::MethodNotAllowed, detail)
}

fn panicked(cause: Box<dyn std::any::Any + Send>) -> Response {
    let text = cause.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
    tracing::error!(
        panic = text.unwrap_or_default(),
        "a request's handler panicked"
    );
    Problem::new(Kind::Bug, "the server made a mistake while it answered").into_response()
}

/// Counts, measures and logs each request. The query is not logged: a key may be in it.
async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        path = request.uri().path(),
        namespace = tracing::field::Empty,
        key = tracing::field::Empty,
    );
    let timer = app.metrics.request_began(&request);
    let mut response = next.run(request).instrument(span.clone()).await;
    // What tasks hold is anybody's text: a browser must not take it for a page.
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let status = response.status();
    timer.answered(status);
    span.in_scope(|| match status {
        StatusCode::INTERNAL_SERVER_ERROR => tracing::error!(status = 500, "answered"),
        status => tracing::debug!(status = status.as_u16(), "answered"),
    });
    response
}
