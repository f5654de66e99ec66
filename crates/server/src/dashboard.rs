//! The dashboard: the page at `/` on which people see and steer their tasks.
//!
//! It is a client like any other: what is served here are five files that hold no data and need no key
//! ([`files`]). All that the page shows it asks for at `/v1`, with the [`session`](crate::session) of whoever
//! looks at it. Its headers let it load and reach nothing but this server, and let nobody frame it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, VARY, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::App;
use crate::problem::Problem;

mod files;
mod preference;

use files::File;

/// What `/` says to those who do not ask for a page.
const WELCOME: &str = "\
This is Sidestream: background tasks for AI agents, durable and streamed.

  POST /v1/tasks          dispatch a task
  GET  /v1/tasks          list them
  GET  /v1/stream         watch them (server-sent events)
  GET  /openapi.json      all of it, described
  GET  /healthz /readyz   is it up, is it ready
  GET  /metrics           numbers for Prometheus
";

/// Where the page is, beside `/`: it finds out by the address what to show.
const PAGES: [&str; 5] = ["/task", "/waiting", "/runs", "/run", "/login"];

/// What the page may load and reach: its own files and this server. No script within the page, no form to
/// elsewhere, nobody's frame, and no text that becomes markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'";

/// What every answer of the dashboard bears. That it is what its type says (`nosniff`), the router adds to
/// every answer.
const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    // The address holds the filter, and so names of threads and tasks: none of another site's business.
    (REFERRER_POLICY, "no-referrer"),
    (X_FRAME_OPTIONS, "DENY"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), clipboard-read=(), clipboard-write=(self), display-capture=(), geolocation=(), \
         microphone=(), payment=(), usb=()",
    ),
];

/// The page and its files; without a dashboard, the welcome in words alone.
pub(crate) fn routes(is_shown: bool) -> Router<Arc<App>> {
    if !is_shown {
        return Router::new().route("/", get(async || WELCOME));
    }
    let router = Router::new()
        .route("/", get(welcome_or_page))
        .route("/assets/{name}", get(asset));
    PAGES
        .into_iter()
        .fold(router, |router, path| router.route(path, get(page)))
}

/// A browser asks for HTML by name; who does not gets what can be read in a terminal.
async fn welcome_or_page(headers: HeaderMap) -> Response {
    let mut response = if preference::accepts(&headers, &ACCEPT, "text/html") {
        page(headers).await
    } else {
        WELCOME.into_response()
    };
    let vary = HeaderValue::from_static("accept");
    response.headers_mut().append(VARY, vary);
    response
}

async fn page(headers: HeaderMap) -> Response {
    with_headers(files::page().answer(&headers))
}

async fn asset(
    State(_): State<Arc<App>>,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let file: Option<&File> = files::asset(&name);
    let file =
        file.ok_or_else(|| Problem::not_found(format!("there is no file {}", uri.path())))?;
    Ok(with_headers(file.answer(&headers)))
}

fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}
