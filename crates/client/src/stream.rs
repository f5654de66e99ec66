//! A live feed that outlives its connections: each event once, in order, however often they break.
//!
//! The server names each place in a stream by a cursor. We keep the last one, and when the connection is
//! lost we wait a little, connect again and give it back; the server goes on right after it. A block
//! that was cut off was never told, so it comes again, whole.
//!
//! Two things cannot be resumed: a snapshot that was cut off in the middle, and a place that the server
//! no longer knows. Both are told as a `stream-reset`: what was known is void, and a fresh snapshot
//! follows.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use sidestream_core::wire::TaskRecord;
use sidestream_core::{ChunkType, Filter, TaskId};
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::chunk::Chunk;
use crate::client::Client;
use crate::error::Error;
use crate::http::{Http, root_cause};
use crate::sse::{Parsed, Parser};

/// A connection on which nothing is heard for so long is dead: the server says something every 15
/// seconds, if only that it is there.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// What to watch, and from where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamRequest {
    /// Which tasks and chunks.
    pub filter: Filter,
    /// Which tasks the snapshot at the beginning shows.
    pub snapshot: SnapshotKind,
    /// Begins with what followed this place instead of a snapshot: a cursor of an earlier stream, or
    /// `0` for the beginning.
    pub after: Option<String>,
    /// One task's whole story, which ends when the task has.
    story_of: Option<TaskId>,
}

/// Which tasks a snapshot shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SnapshotKind {
    /// The running ones.
    #[default]
    Running,
    /// The pending, running and suspended ones.
    Active,
    /// None: only news.
    None,
}

impl StreamRequest {
    /// How the tasks that match stand now, then what happens. Never ends by itself.
    #[must_use]
    pub fn watch(filter: Filter) -> Self {
        Self {
            filter,
            ..Self::default()
        }
    }

    /// All that happened to a task from its beginning, then what happens, until it has ended: every type
    /// of chunk.
    #[must_use]
    pub fn story(id: TaskId) -> Self {
        Self {
            story_of: Some(id),
            ..Self::default()
        }
    }

    /// Only these types of chunk.
    #[must_use]
    pub fn types(mut self, types: impl IntoIterator<Item = ChunkType>) -> Self {
        self.filter = self.filter.types(types);
        self
    }

    /// Sets what the snapshot shows.
    #[must_use]
    pub fn snapshot(mut self, snapshot: SnapshotKind) -> Self {
        self.snapshot = snapshot;
        self
    }

    /// Begins after this place.
    #[must_use]
    pub fn after(mut self, cursor: impl Into<String>) -> Self {
        self.after = Some(cursor.into());
        self
    }

    fn query(&self) -> Vec<(&'static str, &str)> {
        let filter = &self.filter;
        let optional = [
            ("agentId", filter.agent_id.as_ref().map(AsRef::as_ref)),
            ("runId", filter.run_id.as_ref().map(AsRef::as_ref)),
            ("threadId", filter.thread_id.as_ref().map(AsRef::as_ref)),
            ("resourceId", filter.resource_id.as_ref().map(AsRef::as_ref)),
            ("taskId", filter.task_id.as_ref().map(AsRef::as_ref)),
            ("toolName", filter.tool_name.as_ref().map(AsRef::as_ref)),
            ("snapshot", self.snapshot.word()),
        ];
        let given = |(name, value): (_, Option<_>)| Some((name, value?));
        let types = filter.types.iter().map(|ty| ("type", ty.as_str()));
        optional
            .into_iter()
            .filter_map(given)
            .chain(types)
            .collect()
    }
}

impl SnapshotKind {
    /// The word on the wire, where it is not what the server does anyway.
    fn word(self) -> Option<&'static str> {
        match self {
            Self::Running => None,
            Self::Active => Some("active"),
            Self::None => Some("none"),
        }
    }
}

/// How long a stream waits before it connects again: between half of a bound and the bound, which
/// doubles with each failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first bound. A server may ask for another.
    pub first: Duration,
    /// What the bound never exceeds.
    pub max: Duration,
}

impl Default for Backoff {
    /// 1 second, doubling, at most 15 seconds.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            max: Duration::from_secs(15),
        }
    }
}

impl Backoff {
    pub(crate) fn wait(self, failures: u32) -> Duration {
        let bound = self.first.saturating_mul(1 << failures.min(20));
        let bound = bound.min(self.max);
        bound / 2 + (bound / 2).mul_f64(f64::from(random()) / f64::from(u32::MAX))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "only spreads reconnecting clients over time; no run of ours is replayed with it"
)]
fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

/// One thing that a stream brings.
#[derive(Debug)]
#[non_exhaustive]
pub enum Item {
    /// What happened, or how a task stands.
    Chunk(Chunk),
    /// Nothing happened that matches, but the cursor moved: the snapshot is complete, or it was quiet.
    Moved,
    /// A connection stands.
    Connected,
    /// No connection stands; another will be tried by itself.
    Lost {
        /// Why.
        error: Error,
        /// After how long.
        again_in: Duration,
    },
}

/// A live feed of chunks that connects again by itself.
///
/// An error that it brings is final: the server refuses what is asked for. Dropping it closes the
/// connection.
#[must_use = "a stream does nothing unless it is polled"]
pub struct Stream {
    client: Client,
    request: StreamRequest,
    cursor: Option<String>,
    ready: VecDeque<(Item, Option<String>)>,
    state: State,
    backoff: Backoff,
    failures: u32,
    /// A snapshot has begun to be shown, and is not complete.
    is_within_snapshot: bool,
    /// The last event of a story, if it says that the task has ended.
    last_end: Option<Chunk>,
    /// This connection has brought a chunk.
    has_brought: bool,
    /// So many connections in a row ended without bringing a chunk.
    empty_endings: u32,
    ended_task: Option<TaskRecord>,
}

enum State {
    Connecting(BoxFuture<'static, Result<BoxStream<'static, reqwest::Result<Bytes>>, Error>>),
    Open(Box<Connection>),
    /// A story's connection has ended: has the task?
    Asking(BoxFuture<'static, Result<Option<TaskRecord>, Error>>),
    Waiting(Pin<Box<Sleep>>),
    Ended,
}

struct Connection {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    parser: Parser,
    silence: Pin<Box<Sleep>>,
}

impl Stream {
    pub(crate) fn new(client: Client, request: StreamRequest) -> Self {
        let mut stream = Self {
            backoff: client.backoff,
            cursor: request.after.clone(),
            client,
            request,
            ready: VecDeque::new(),
            state: State::Ended,
            failures: 0,
            is_within_snapshot: false,
            last_end: None,
            has_brought: false,
            empty_endings: 0,
            ended_task: None,
        };
        stream.connect();
        stream
    }

    /// The next item; `None` when a story has ended, or after an error.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the server refuses for good: the key, a filter, a task that does not exist.
    pub async fn next(&mut self) -> Option<Result<Item, Error>> {
        std::future::poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Where to resume: everything up to here has been handed out. `None` until a snapshot at the
    /// beginning is complete.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// After a story: the task, as it ended; `None` if it no longer exists.
    #[must_use]
    pub fn ended_task(&self) -> Option<&TaskRecord> {
        self.ended_task.as_ref()
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Item, Error>>> {
        loop {
            if let Some((item, cursor)) = self.ready.pop_front() {
                self.note(&item, cursor);
                return Poll::Ready(Some(Ok(item)));
            }
            let stepped = match &mut self.state {
                State::Ended => return Poll::Ready(None),
                State::Waiting(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    self.connect();
                    Ok(())
                }
                State::Connecting(connecting) => {
                    let connected = ready!(connecting.as_mut().poll(cx));
                    connected.map(|body| self.open(body))
                }
                State::Asking(asking) => {
                    let answer = ready!(asking.as_mut().poll(cx));
                    answer.map(|task| self.judge(task))
                }
                State::Open(connection) => {
                    let read = ready!(connection.poll_read(cx));
                    self.take(read)
                }
            };
            if let Err(error) = stepped {
                if !error.is_transient() {
                    self.state = State::Ended;
                    return Poll::Ready(Some(Err(error)));
                }
                self.lose(error);
            }
        }
    }

    /// What is handed out is what the cursor says; not what has only been read.
    fn note(&mut self, item: &Item, cursor: Option<String>) {
        match item {
            Item::Chunk(chunk) if chunk.chunk_type == Some(ChunkType::StreamReset) => {
                self.cursor = None;
                self.is_within_snapshot = true;
                self.last_end = None;
            }
            Item::Chunk(chunk) => {
                self.is_within_snapshot |= self.cursor.is_none() && cursor.is_none();
                self.last_end = chunk.is_terminal().then(|| chunk.clone());
            }
            Item::Moved | Item::Connected | Item::Lost { .. } => {}
        }
        if cursor.is_some() {
            self.cursor = cursor;
            self.is_within_snapshot = false;
        }
    }

    fn connect(&mut self) {
        let (http, request) = (Arc::clone(&self.client.http), self.request.clone());
        let cursor = self.cursor.clone();
        self.state = State::Connecting(Box::pin(async move {
            connect(&http, &request, cursor.as_deref()).await
        }));
    }

    fn open(&mut self, body: BoxStream<'static, reqwest::Result<Bytes>>) {
        self.has_brought = false;
        self.ready.push_back((Item::Connected, None));
        self.state = State::Open(Box::new(Connection {
            body,
            parser: Parser::new(),
            silence: Box::pin(sleep(SILENCE_MAX)),
        }));
    }

    /// Takes what was read from the connection.
    fn take(&mut self, read: Read) -> Result<(), Error> {
        match read {
            Read::Parsed(parsed) => {
                self.failures = 0;
                for parsed in parsed {
                    self.take_parsed(parsed)?;
                }
                Ok(())
            }
            Read::End => match &self.request.story_of {
                None => Err(self.client.http.lost("the server ended it")),
                Some(id) => {
                    let (client, id) = (self.client.clone(), id.clone());
                    self.state = State::Asking(Box::pin(async move { client.get(&id).await }));
                    Ok(())
                }
            },
            Read::Broken(error) => Err(self.client.http.lost(&root_cause(&error))),
            Read::Silent => Err(self
                .client
                .http
                .lost("nothing was heard from it for a while")),
            Read::Nonsense(problem) => Err(self.client.http.protocol(&problem)),
        }
    }

    fn take_parsed(&mut self, parsed: Parsed) -> Result<(), Error> {
        match parsed {
            Parsed::Comment => {}
            Parsed::RetryMs(ms) => self.backoff.first = Duration::from_millis(ms),
            Parsed::Moved(id) => {
                self.ready.push_back((Item::Moved, Some(id)));
            }
            Parsed::Event(event) => {
                let chunk = Chunk::from_json(event.data).map_err(|e| {
                    self.client
                        .http
                        .protocol(&format!("a chunk is not one: {e}"))
                })?;
                self.has_brought |= chunk.chunk_type != Some(ChunkType::StreamReset);
                self.ready.push_back((Item::Chunk(chunk), event.id));
            }
        }
        Ok(())
    }

    /// A story's connection has ended. So has the story if the task has, and the end was told, or there
    /// is nothing left to tell. Else it was only the server that stopped.
    fn judge(&mut self, task: Option<TaskRecord>) {
        let Some(task) = task else {
            self.state = State::Ended;
            return;
        };
        self.empty_endings = match self.has_brought {
            true => 0,
            false => self.empty_endings + 1,
        };
        let is_told = self.last_end.as_ref().is_some_and(|end| {
            let seq = end.payload.seq;
            seq.is_none_or(|seq| seq == task.seq.0)
        });
        // A log that has been pruned no longer tells how a task ended.
        if task.status.is_terminal() && (is_told || self.empty_endings > 1) {
            self.ended_task = Some(task);
            self.state = State::Ended;
        } else {
            let error = self.client.http.lost("the server ended it");
            self.lose(error);
        }
    }

    fn lose(&mut self, error: Error) {
        if self.is_within_snapshot {
            // What it showed cannot be told from what the next one will.
            let reset = r#"{"type":"stream-reset","payload":{"reason":"the connection was lost within the snapshot"}}"#;
            let reset = Chunk::from_json(reset).expect("it is a chunk");
            self.ready.push_back((Item::Chunk(reset), None));
        }
        let again_in = self.backoff.wait(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.ready.push_back((Item::Lost { error, again_in }, None));
        self.state = State::Waiting(Box::pin(sleep(again_in)));
    }
}

impl futures::Stream for Stream {
    type Item = Result<Item, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("request", &self.request)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

/// What came of reading a connection.
enum Read {
    Parsed(Vec<Parsed>),
    End,
    Broken(reqwest::Error),
    Silent,
    Nonsense(String),
}

impl Connection {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        let bytes = match self.body.as_mut().poll_next(cx) {
            Poll::Pending => {
                ready!(self.silence.as_mut().poll(cx));
                return Poll::Ready(Read::Silent);
            }
            Poll::Ready(None) => return Poll::Ready(Read::End),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Read::Broken(error)),
            Poll::Ready(Some(Ok(bytes))) => bytes,
        };
        self.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
        match self.parser.push(&bytes) {
            Ok(()) => Poll::Ready(Read::Parsed(self.parser.by_ref().collect())),
            Err(error) => Poll::Ready(Read::Nonsense(error.to_string())),
        }
    }
}

async fn connect(
    http: &Http,
    request: &StreamRequest,
    cursor: Option<&str>,
) -> Result<BoxStream<'static, reqwest::Result<Bytes>>, Error> {
    let mut asked = match &request.story_of {
        Some(id) => http.task_request(Method::GET, id, &["stream"])?,
        None => http
            .request(Method::GET, &["stream"])?
            .query(&request.query()),
    };
    if let Some(cursor) = cursor {
        asked = asked.query(&[("after", cursor)]);
    }
    let asked = asked.header(ACCEPT, "text/event-stream");
    // Only the head of the answer is bounded: the body goes on for as long as anybody watches.
    let response = match timeout(http.request_timeout(), asked.send()).await {
        Ok(sent) => sent.map_err(|e| http.unreachable(&e))?,
        Err(_) => return Err(http.silent()),
    };
    let response = http.accepted(response).await?;
    if response.status() == StatusCode::NO_CONTENT {
        // All of the story has been seen.
        return Ok(Box::pin(futures::stream::empty()));
    }
    let content_type = response.headers().get(CONTENT_TYPE);
    let is_stream = content_type
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("text/event-stream"));
    if !is_stream {
        return Err(http.protocol("the stream is no event stream"));
    }
    Ok(Box::pin(response.bytes_stream()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_is_heard_is_given_up() {
        let mut connection = Connection {
            body: Box::pin(futures::stream::pending()),
            parser: Parser::new(),
            silence: Box::pin(sleep(SILENCE_MAX)),
        };
        let started = Instant::now();
        let read = std::future::poll_fn(|cx| connection.poll_read(cx)).await;
        assert!(matches!(read, Read::Silent));
        assert_eq!(started.elapsed(), SILENCE_MAX);
    }

    #[test]
    fn the_wait_doubles_up_to_its_bound_and_is_never_less_than_half_of_it() {
        let backoff = Backoff::default();
        for (failures, bound) in [(0, 1), (1, 2), (3, 8), (4, 15), (u32::MAX, 15)] {
            let bound = Duration::from_secs(bound);
            let wait = backoff.wait(failures);
            assert!(wait >= bound / 2 && wait <= bound, "{failures}: {wait:?}");
        }
    }
}
