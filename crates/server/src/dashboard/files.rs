//! The dashboard's files, part of the binary: built from `crates/server/dashboard/`, checked in as they are
//! served, so that neither cargo nor a server's machine needs anything to have them.
//!
//! Each is kept plain and compressed, made once, and tagged by what it holds. A browser asks every time
//! whether its copy still holds (`no-cache`), which on the way costs one small answer, and never shows the
//! page of another version than the server's.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::preference::accepts;

macro_rules! embedded {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/dashboard/dist/",
            $name
        ))
    };
}

static PAGE: LazyLock<File> =
    LazyLock::new(|| File::new("text/html; charset=utf-8", embedded!("index.html")));

/// By the names under which the page asks for them.
static ASSETS: LazyLock<[(&str, File); 4]> = LazyLock::new(|| {
    let script = File::new("text/javascript; charset=utf-8", embedded!("app.js"));
    let style = File::new("text/css; charset=utf-8", embedded!("app.css"));
    let icon = File::new("image/svg+xml", embedded!("icon.svg"));
    let licenses = File::new("text/plain; charset=utf-8", embedded!("licenses.txt"));
    [
        ("app.js", script),
        ("app.css", style),
        ("icon.svg", icon),
        ("licenses.txt", licenses),
    ]
});

/// The page itself.
pub(super) fn page() -> &'static File {
    &PAGE
}

/// A file that the page asks for.
pub(super) fn asset(name: &str) -> Option<&'static File> {
    let found = ASSETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, file)| file)
}

/// A file, in each way it can be sent.
#[derive(Debug)]
pub(super) struct File {
    content_type: HeaderValue,
    plain: Representation,
    compressed: Representation,
}

/// The bytes that are sent, and the tag that names exactly these (RFC 9110, 8.8.3: a strong one differs where
/// the encoding does).
#[derive(Debug)]
struct Representation {
    bytes: Bytes,
    tag: HeaderValue,
}

impl File {
    fn new(content_type: &'static str, bytes: &'static [u8]) -> Self {
        Self {
            content_type: HeaderValue::from_static(content_type),
            plain: Representation::of(Bytes::from_static(bytes)),
            compressed: Representation::of(compress(bytes)),
        }
    }

    /// The file, as the client wants it; or that its copy still holds.
    pub(super) fn answer(&self, request: &HeaderMap) -> Response {
        let is_compressed = accepts(request, &ACCEPT_ENCODING, "gzip");
        let chosen = if is_compressed {
            &self.compressed
        } else {
            &self.plain
        };
        let mut response = if chosen.is_known_by(request) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            chosen.bytes.clone().into_response()
        };
        let is_sent = response.status() == StatusCode::OK;
        let headers = response.headers_mut();
        if is_sent {
            headers.insert(CONTENT_TYPE, self.content_type.clone());
            if is_compressed {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        headers.insert(ETAG, chosen.tag.clone());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        response
    }
}

impl Representation {
    fn of(bytes: Bytes) -> Self {
        let hash = Sha256::digest(&bytes);
        let hex: String = hash[..16].iter().map(|b| format!("{b:02x}")).collect();
        let tag = HeaderValue::try_from(format!("\"{hex}\""));
        Self {
            bytes,
            tag: tag.expect("hexadecimal digits fit into a header"),
        }
    }

    /// Has the client this already? A weak tag counts too: a proxy may have made it one.
    fn is_known_by(&self, request: &HeaderMap) -> bool {
        let values = request.get_all(IF_NONE_MATCH).iter();
        let mut tags = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim);
        tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.tag)
    }
}

fn compress(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("memory can be written to").into()
}
