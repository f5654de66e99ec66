//! A stream of chunks as server-sent events.
//!
//! Written by hand, because a chunk is serialised once for all who watch: a frame is nothing but their
//! texts, put together. Everything that is ready goes out in one frame, and nothing is read ahead of the
//! client: while its socket is full, the stream is not asked.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use futures::stream::unfold;
use sidestream::core::{Epoch, Invalid};
use sidestream::stream::Sink;
use sidestream::{Chunk, ChunkStream, Cursor, Seq, Start, StoreError, StreamOptions};
use tokio::time::Instant;

use crate::App;
use crate::auth::Caller;
use crate::params::Params;
use crate::problem::Problem;

/// A frame that has reached this size is sent before it grows further.
const FRAME_BYTES: usize = 64 << 10;
/// What comes first: how soon to reconnect, in milliseconds, and a comment. A body that stays mute until
/// the first event makes `fetch` and `EventSource` hang.
const PREAMBLE: &str = "retry: 1000\n\n: open\n\n";
/// How long to wait when the store cannot be read.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Says only that the stream is alive.
const COMMENT: &str = ": keep-alive\n\n";

/// Where a client wants to go on: what it saw last, or else what its URL says. The header wins, because
/// a browser that reconnects sends it with the URL of long ago.
pub(crate) fn start(headers: &HeaderMap, params: &mut Params) -> Result<Option<Cursor>, Invalid> {
    let after = params.parsed::<Cursor>("after")?;
    let Some(value) = headers.get("last-event-id").filter(|v| !v.is_empty()) else {
        return Ok(after);
    };
    let cursor = value.to_str().ok().and_then(|text| text.parse().ok());
    let problem = "is neither EPOCH-SEQ nor a number";
    let cursor = cursor.ok_or_else(|| Invalid::new("Last-Event-ID", problem))?;
    Ok(Some(cursor))
}

/// Opens a stream and answers with it.
pub(crate) async fn respond(
    app: &Arc<App>,
    caller: &Caller,
    options: StreamOptions,
) -> Result<Response, Problem> {
    let ends = caller.ends.child_token();
    let Some(manager) = &caller.manager else {
        return Ok(response(Body::from_stream(silence(Arc::clone(app), ends))));
    };
    let seen = match &options.start {
        Start::After(cursor) => Some(cursor.clone()),
        Start::Now => None,
    };
    let options = StreamOptions {
        cancel: Some(ends),
        keep_alive: Some(app.config.limits.keep_alive),
        ..options
    };
    let writer = Writer {
        stream: manager.stream(options).await?,
        seen,
        usual_bytes: 0,
        failing_since: None,
        patience: app.config.limits.write,
        open: app.metrics.stream_opened(),
        has_begun: false,
    };
    Ok(response(Body::from_stream(writer.frames())))
}

fn response(body: Body) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    (headers, body).into_response()
}

/// What there is to watch where background tasks are disabled.
fn silence(
    app: Arc<App>,
    ends: tokio_util::sync::CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let open = app.metrics.stream_opened();
    unfold((PREAMBLE, open), move |(text, open)| {
        let (ends, pause) = (ends.clone(), app.config.limits.keep_alive);
        async move {
            if text == COMMENT {
                let pause = tokio::time::sleep(pause);
                ends.run_until_cancelled(pause).await?;
            }
            Some((Ok(Bytes::from_static(text.as_bytes())), (COMMENT, open)))
        }
    })
}

/// Writes one client's stream.
struct Writer {
    stream: ChunkStream,
    /// The client's cursor.
    seen: Option<Cursor>,
    /// How large the last frame was: the next is likely to be no larger by much.
    usual_bytes: usize,
    /// Since when the store cannot be read.
    failing_since: Option<Instant>,
    /// How long that is borne.
    patience: Duration,
    open: crate::metrics::OpenStream,
    has_begun: bool,
}

impl Writer {
    fn frames(self) -> impl Stream<Item = io::Result<Bytes>> {
        unfold(Some(self), |writer| async move {
            let mut writer = writer?;
            match writer.frame().await? {
                Ok(frame) => Some((Ok(frame), Some(writer))),
                // The body breaks off, so that the client does not take it for the end.
                Err(error) => Some((Err(io::Error::other(error)), None)),
            }
        })
    }

    /// All that is ready, up to a frame's size; `None` at the end.
    async fn frame(&mut self) -> Option<Result<Bytes, StoreError>> {
        if !self.has_begun {
            self.has_begun = true;
            return Some(Ok(Bytes::from_static(PREAMBLE.as_bytes())));
        }
        let mut frame = Frame {
            text: String::new(),
            usual_bytes: self.usual_bytes,
            chunks: 0,
            has_place: false,
            seen: &mut self.seen,
        };
        let given = self.stream.next_into(&mut frame).await?;
        let Frame {
            text,
            chunks,
            has_place,
            ..
        } = frame;
        if let Err(error) = given {
            return Some(self.bear(error).await);
        }
        // A part of a snapshot is no progress: its rest may fail again and again.
        if has_place {
            self.failing_since = None;
        }
        self.usual_bytes = text.len();
        self.open.sent(chunks, text.len());
        Some(Ok(text.into()))
    }

    /// A short outage is waited for: the stream goes on where it was. A browser that had to come again
    /// meanwhile would be refused, and then stay away.
    async fn bear(&mut self, error: StoreError) -> Result<Bytes, StoreError> {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.patience {
            tracing::warn!(%error, "a stream breaks off: the store cannot be read");
            return Err(error);
        }
        tokio::time::sleep(RETRY_AFTER.min(self.patience)).await;
        Ok(Bytes::from_static(COMMENT.as_bytes()))
    }
}

/// What goes out next.
struct Frame<'w> {
    text: String,
    usual_bytes: usize,
    chunks: u64,
    /// Does it bring the client to a place in the log?
    has_place: bool,
    /// The client's cursor.
    seen: &'w mut Option<Cursor>,
}

impl Frame<'_> {
    /// Sets the client's cursor; says whether that moved it.
    fn move_to(&mut self, epoch: &Epoch, seq: Seq) -> bool {
        self.has_place = true;
        match &mut *self.seen {
            Some(seen) if seen.epoch.as_ref() == Some(epoch) => {
                std::mem::replace(&mut seen.seq, seq) != seq
            }
            seen => {
                *seen = Some(Cursor::new(epoch.clone(), seq));
                true
            }
        }
    }

    /// A line `id: EPOCH-SEQ`.
    fn id(&mut self, epoch: &Epoch, seq: Seq) {
        self.text.push_str("id: ");
        self.text.push_str(epoch.as_str());
        self.text.push('-');
        // Of each chunk and for each client: formatting it would cost more than the rest of the line.
        self.text.push_str(itoa::Buffer::new().format(seq.0));
        self.text.push('\n');
    }
}

impl Sink for Frame<'_> {
    fn chunk(&mut self, chunk: &Arc<Chunk>, place: Option<(&Epoch, Seq)>) {
        /// What a chunk has around its JSON, roughly.
        const AROUND_BYTES: usize = 64;
        if self.text.is_empty() {
            let bytes = self.usual_bytes.max(chunk.json().len() + AROUND_BYTES);
            self.text.reserve(bytes);
        }
        if let Some((epoch, seq)) = place {
            self.move_to(epoch, seq);
            self.id(epoch, seq);
        }
        self.text.push_str("data: ");
        self.text.push_str(chunk.json());
        self.text.push_str("\n\n");
        self.chunks += 1;
    }

    fn place(&mut self, epoch: &Epoch, seq: Seq) {
        if self.move_to(epoch, seq) {
            self.id(epoch, seq);
            self.text.push('\n');
        } else {
            self.text.push_str(COMMENT);
        }
    }

    fn is_full(&self) -> bool {
        self.text.len() >= FRAME_BYTES
    }
}
