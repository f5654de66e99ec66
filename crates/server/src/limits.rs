//! What a request may take: bytes and time.

use std::sync::Arc;
use std::time::Duration;

use axum::body::BodyDataStream;
use axum::extract::{FromRequest, Request, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use sidestream::core::Invalid;

use crate::App;
use crate::problem::{Kind, Problem};

/// The longest query of a URL, in bytes.
const QUERY_BYTES_MAX: usize = 32 << 10;
/// So much of a body that is too large is still read, so that the client gets to the answer.
const DRAIN_BYTES_MAX: usize = 32 << 20;

/// Ends a request that is not answered in time. A stream is answered once it is open, so this does not
/// end it.
pub(crate) async fn bound_time(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let query_bytes = request.uri().query().map_or(0, str::len);
    if query_bytes > QUERY_BYTES_MAX {
        let detail = Invalid::too_long("the query", query_bytes, QUERY_BYTES_MAX);
        return Problem::new(Kind::UriTooLong, detail.to_string()).into_response();
    }
    let wait_max = app.config.limits.wait;
    let wait = match request.uri().path() {
        // How long a claim waits is said in its body.
        "/v1/claims" => Some(wait_max),
        _ => preferred_wait(request.headers(), wait_max),
    };
    let limit = app.config.limits.request + wait.unwrap_or_default();
    let answer = tokio::time::timeout(limit, next.run(request)).await;
    answer.unwrap_or_else(|_| {
        let limit = limit.as_secs_f64();
        let detail = format!("the request was not answered within {limit} s");
        Problem::new(Kind::Unavailable, detail).into_response()
    })
}

/// How long the client is ready to wait for a task's end: `Prefer: wait=SECONDS`, RFC 7240. At most
/// `max`. A preference that cannot be read is ignored, as that document says.
pub(crate) fn preferred_wait(headers: &HeaderMap, max: Duration) -> Option<Duration> {
    let values = headers.get_all("prefer").iter();
    let preferences = values
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','));
    let seconds = preferences.filter_map(|preference| {
        // Parameters of a preference come after a semicolon.
        let preference = preference.split(';').next()?;
        let (name, value) = preference.split_once('=')?;
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        let value = value.trim().trim_matches('"');
        value.parse::<u64>().ok().filter(|_| is_wait)
    });
    seconds
        .map(Duration::from_secs)
        .next()
        .map(|wait| wait.min(max))
}

/// A body of JSON, read within the limits of size and time; what is wrong with it is named.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let bytes = json_bytes(request, app).await?;
        parse(&bytes).map(Self)
    }
}

/// The bytes of a body that says it is JSON.
pub(crate) async fn json_bytes(request: Request, app: &App) -> Result<Bytes, Problem> {
    check_content_type(request.headers())?;
    let limits = &app.config.limits;
    // Half of the request's time, so that who is slow to send is told so.
    let time = limits.request / 2;
    let read = tokio::time::timeout(time, read(request, limits.body_bytes)).await;
    read.unwrap_or_else(|_| {
        let detail = format!("the body did not arrive within {} s", time.as_secs_f64());
        Err(Problem::new(Kind::RequestTimeout, detail))
    })
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let found = headers.get(CONTENT_TYPE);
    let found = found.map(|value| value.to_str().unwrap_or("unreadable"));
    let essence = found.and_then(|value| value.split(';').next());
    let essence = essence.unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || essence.ends_with("+json") {
        return Ok(());
    }
    let found = found.unwrap_or("missing");
    let detail = format!("the Content-Type is {found}; send the body as application/json");
    Err(Problem::new(Kind::UnsupportedMediaType, detail))
}

async fn read(request: Request, bytes_max: usize) -> Result<Bytes, Problem> {
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let mut body = request.into_body().into_data_stream();
    if length.is_some_and(|length| length > bytes_max) {
        drain(body).await;
        return Err(too_large(bytes_max));
    }
    let mut bytes = BytesMut::with_capacity(length.unwrap_or_default());
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| {
            Problem::new(Kind::Invalid, format!("the body cannot be read: {error}"))
        })?;
        if bytes.len() + piece.len() > bytes_max {
            drain(body).await;
            return Err(too_large(bytes_max));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// A client that is still sending when the answer comes may never read it: the rest is taken first.
async fn drain(mut body: BodyDataStream) {
    let mut drained = 0;
    while drained < DRAIN_BYTES_MAX
        && let Some(Ok(piece)) = body.next().await
    {
        drained += piece.len();
    }
}

fn too_large(bytes_max: usize) -> Problem {
    let limit = Invalid::too_long("the body", bytes_max + 1, bytes_max).problem;
    // The size itself may not be known: only that it is beyond the limit.
    let limit = limit.split_once("more than").map_or("", |(_, limit)| limit);
    Problem::new(Kind::TooLarge, format!("the body is more than{limit}"))
}

/// Reads JSON, and says which field is wrong and where.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        // Where it is no JSON at all, there is no field yet.
        let is_whole = path == "." || !error.is_data();
        let field = if is_whole { "body".into() } else { path };
        Invalid::new(field, format!("cannot be read: {error}"))
    })?;
    let end = json.end();
    end.map_err(|error| Invalid::new("body", format!("cannot be read: {error}")))?;
    // A list of values without their names would be taken for an object's.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Invalid::new("body", "is not a JSON object").into());
    }
    Ok(value)
}
