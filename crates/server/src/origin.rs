//! Keeps web pages from driving the server behind their visitor's back.
//!
//! A page of any site can make its visitor's browser send requests to this machine. Two checks stop it.
//! `Origin`: a browser names the page's site, and a foreign one is refused unless it was allowed.
//! `Host`: a site that points its own name at 127.0.0.1 (DNS rebinding) is same-origin with us, but cannot
//! hide that name; who needs no key must have come in by a name of this machine's own.
//!
//! A session's cookie is shown by the browser unasked, also to a page of another port or of a neighbouring
//! name, which are the same *site*. So it counts only where the browser says that a page of this very server
//! asks (`Sec-Fetch-Site`; in browsers and contexts without it, `Origin`).

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST,
    ORIGIN, VARY,
};
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::App;
use crate::config::ServerConfig;
use crate::problem::{Kind, Problem};

/// What a page of an allowed origin may send.
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, last-event-id, prefer, sidestream-namespace",
);
/// What it may use.
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE");
/// What it may see of an answer, beside the body.
const EXPOSED_HEADERS: HeaderValue =
    HeaderValue::from_static("location, preference-applied, retry-after");
/// How long a browser may remember that, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Where a browser says whether a page of the same origin asks.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses foreign origins, answers preflights, and marks what allowed origins may read.
pub(crate) async fn check_origin(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let origin = match foreign_origin(&request) {
        None => return next.run(request).await,
        Some(origin) => origin,
    };
    let is_allowed = |text: &str| app.config.allowed_origins.iter().any(|o| o == text);
    if !origin.to_str().is_ok_and(is_allowed) {
        let detail = "the request comes from a web page of another origin, which is not among \
                      the server's allowed origins";
        return Problem::new(Kind::Forbidden, detail).into_response();
    }
    let is_preflight = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight {
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        response
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
    headers.append(VARY, HeaderValue::from_static("origin"));
    response
}

/// Refuses a request that shows a session's cookie, unless a page of this server sent it, or the browser's
/// user by the address bar. What changes something must say where it comes from.
pub(crate) fn check_same_origin(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_same = match headers.get(FETCH_SITE).map(HeaderValue::as_bytes) {
        // No script can say so. The name in `Host` need not agree: a proxy may have put its own there.
        Some(b"same-origin") => true,
        Some(b"none") => is_safe,
        Some(_) => false,
        // Only to HTTPS and to this machine do browsers send it.
        None => foreign_origin(request).is_none() && (is_safe || headers.contains_key(ORIGIN)),
    };
    if is_same {
        return Ok(());
    }
    let detail = "a session's cookie counts only in requests of this server's own pages: others show \
                  the key itself, Authorization: Bearer KEY";
    Err(Problem::new(Kind::Forbidden, detail))
}

/// The origin of the page that asks, when it is not one of our own.
fn foreign_origin(request: &Request) -> Option<HeaderValue> {
    let origin = request.headers().get(ORIGIN)?;
    let site = origin.to_str().ok().and_then(|text| {
        let site = text.split_once("://").map(|(_, site)| site);
        site.and_then(|site| site.parse::<Authority>().ok())
    });
    let is_ours = site.is_some() && site == authority(request);
    (!is_ours).then(|| origin.clone())
}

/// The name and port by which the server was addressed.
fn authority(request: &Request) -> Option<Authority> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.clone());
    }
    let host = request.headers().get(HOST)?;
    host.to_str().ok()?.parse().ok()
}

/// Refuses a request that did not come in by a name of this machine's own.
pub(crate) fn check_host(config: &ServerConfig, request: &Request) -> Result<(), Problem> {
    let authority = authority(request);
    let host = authority.as_ref().map(|authority| {
        let host = authority.host();
        host.trim_start_matches('[').trim_end_matches(']')
    });
    let is_loopback = |host: &str| {
        host.eq_ignore_ascii_case("localhost")
            || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    };
    let is_configured = |host: &str| {
        let mut names = config.allowed_hosts.iter();
        names.any(|name| name.eq_ignore_ascii_case(host))
    };
    if host.is_some_and(|host| is_loopback(host) || is_configured(host)) {
        return Ok(());
    }
    let detail = "without an API key the server answers to localhost, 127.0.0.1, [::1] and its \
                  allowed hosts only, and the Host header names another";
    Err(Problem::new(Kind::Forbidden, detail))
}
