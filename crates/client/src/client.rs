//! One request per call: dispatch, get, list, and what else is asked of tasks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use sidestream_core::wire::TaskRecord;
use sidestream_core::{ChunkType, Filter, Json, NewTask, Status, TaskId, ThreadId, Timestamp};

use crate::error::{Error, Problem};
use crate::http::{Http, base_url};
use crate::stream::{Backoff, Item, SnapshotKind, Stream, StreamRequest};

/// How long a request may take unless the builder says otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Speaks to one server. Cloning shares its connections.
#[derive(Clone)]
pub struct Client {
    pub(crate) http: Arc<Http>,
    pub(crate) backoff: Backoff,
}

/// Makes a [`Client`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    base: String,
    api_key: Option<String>,
    namespace: Option<String>,
    request_timeout: Duration,
    backoff: Backoff,
}

impl Builder {
    /// Sends this API key with every request.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// Speaks for this namespace. A key has one of its own; only who needs no key may choose.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// How long a request may take: 30 seconds. Streams, and [`Client::wait`], have no end.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long a stream waits before it connects again.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Makes the client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Configuration`] when the address is no `http://` or `https://` URL, or the key cannot
    /// be sent in a header.
    pub fn build(self) -> Result<Client, Error> {
        let base = base_url(&self.base)?;
        let mut headers = HeaderMap::new();
        if let Some(key) = &self.api_key {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
                Error::Configuration("the API key contains a character that no key has".into())
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if let Some(namespace) = &self.namespace {
            let value = HeaderValue::from_str(namespace).map_err(|_| {
                Error::Configuration(format!("the namespace {namespace:?} cannot be sent"))
            })?;
            headers.insert("sidestream-namespace", value);
        }
        let http = Http::new(base, headers, self.request_timeout)?;
        Ok(Client {
            http: Arc::new(http),
            backoff: self.backoff,
        })
    }
}

/// What a dispatch came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dispatched {
    /// A new task.
    New(TaskRecord),
    /// The task that an earlier dispatch of the same key, or of the same tool call, created.
    Known(TaskRecord),
    /// No task: the caller should run the tool itself, now.
    FallbackToSync,
}

impl Dispatched {
    /// The task, if there is one.
    #[must_use]
    pub fn task(&self) -> Option<&TaskRecord> {
        match self {
            Self::New(task) | Self::Known(task) => Some(task),
            Self::FallbackToSync => None,
        }
    }

    /// The task's id, if there is one.
    #[must_use]
    pub fn id(&self) -> Option<&TaskId> {
        self.task().map(|task| &task.id)
    }
}

/// Which tasks to list. Every field given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Any of these; any at all, if empty.
    pub statuses: Vec<Status>,
    /// Of this agent.
    pub agent_id: Option<String>,
    /// Of this call of an agent.
    pub run_id: Option<String>,
    /// Of this conversation.
    pub thread_id: Option<String>,
    /// For this user or object.
    pub resource_id: Option<String>,
    /// Of this tool.
    pub tool_name: Option<String>,
    /// This call of a tool.
    pub tool_call_id: Option<String>,
    /// Latest dispatch first?
    pub is_descending: bool,
    /// Where the page begins: [`Page::next_cursor`] of the one before.
    pub cursor: Option<String>,
    /// At most so many; the server's own number, if `None`.
    pub limit: Option<usize>,
}

/// A page of tasks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// In the order asked for.
    pub tasks: Vec<TaskRecord>,
    /// How many match in all.
    pub total: u64,
    /// Where the next page begins; `None` when there is none.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// The ended tasks of a thread that nobody has acknowledged, oldest end first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Completions {
    /// The tasks, as they ended.
    pub tasks: Vec<TaskRecord>,
}

/// Whom a client speaks for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Session {
    /// What is allowed: `read`, `write`, `worker` or `admin`.
    pub role: String,
    /// Where it is allowed.
    pub namespace: String,
    /// The public name of the key; `None` where none is needed.
    pub key_id: Option<String>,
}

/// An API key, as a server shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// The key itself: only in the answer that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its public name, by which it is revoked.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it allows: `read`, `write`, `worker` or `admin`.
    pub role: String,
    /// Where it allows that.
    pub namespace: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

impl fmt::Debug for ApiKey {
    /// Without the key itself: a secret has no place in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("id", &self.id)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DispatchAnswer {
    task: Option<TaskRecord>,
    #[serde(default)]
    fallback_to_sync: bool,
}

#[derive(Deserialize)]
struct AcknowledgeAnswer {
    acknowledged: u64,
}

impl Client {
    /// A client of the server at this address, without an API key.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new(base: impl Into<String>) -> Result<Self, Error> {
        Self::builder(base).build()
    }

    /// Begins a client of the server at this address, such as `http://127.0.0.1:7600`.
    pub fn builder(base: impl Into<String>) -> Builder {
        Builder {
            base: base.into(),
            api_key: None,
            namespace: None,
            request_timeout: REQUEST_TIMEOUT,
            backoff: Backoff::default(),
        }
    }

    /// The server's address.
    #[must_use]
    pub fn base(&self) -> &str {
        self.http.base()
    }

    /// Creates a task; once this returns it is durable, and will run.
    ///
    /// When the answer is lost ([`Error::Unreachable`]) the task may have been created: repeat the call
    /// with an idempotency key, or a run and tool call, and there will be one.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field: also `delay`, which cannot be sent, where there is no `run_at`;
    /// [`Error::AtCapacity`] says that no slot is free.
    pub async fn dispatch(&self, task: &NewTask) -> Result<Dispatched, Error> {
        if task.delay.is_some() && task.run_at.is_none() {
            // Left out silently, the task would begin at once.
            let detail = "delay cannot be sent to a server: give runAt, the time itself";
            return Err(Error::Invalid(Problem {
                status: 400,
                detail: Some(detail.to_owned()),
                field: Some("delay".to_owned()),
                ..Problem::default()
            }));
        }
        let request = self.http.request(Method::POST, &["tasks"])?.json(task);
        let response = self.http.send(request).await?;
        let is_new = response.status() == StatusCode::CREATED;
        match self.http.read::<DispatchAnswer>(response).await? {
            DispatchAnswer {
                fallback_to_sync: true,
                ..
            } => Ok(Dispatched::FallbackToSync),
            DispatchAnswer {
                task: Some(task), ..
            } if is_new => Ok(Dispatched::New(task)),
            DispatchAnswer {
                task: Some(task), ..
            } => Ok(Dispatched::Known(task)),
            DispatchAnswer { task: None, .. } => {
                Err(self.http.protocol("a dispatch without a task"))
            }
        }
    }

    /// One task; `None` when there is none of that id.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    pub async fn get(&self, id: &TaskId) -> Result<Option<TaskRecord>, Error> {
        let request = self.http.task_request(Method::GET, id, &[])?;
        match self.http.send(request).await {
            Ok(response) => Ok(Some(self.http.read_task(response).await?)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A page of tasks.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    pub async fn list(&self, list: &ListRequest) -> Result<Page, Error> {
        let request = self
            .http
            .request(Method::GET, &["tasks"])?
            .query(&list.query());
        let response = self.http.send(request).await?;
        self.http.read(response).await
    }

    /// Ends a task that has not ended. One that is cancelled already stays so.
    ///
    /// # Errors
    /// [`Error::Rejected`] when it ended otherwise, [`Error::NotFound`] when it does not exist.
    pub async fn cancel(&self, id: &TaskId) -> Result<TaskRecord, Error> {
        let request = self.http.task_request(Method::POST, id, &["cancel"])?;
        let response = self.http.send(request).await?;
        self.http.read_task(response).await
    }

    /// Gives a suspended task what it waits for.
    ///
    /// # Errors
    /// [`Error::Rejected`] when it is not suspended, [`Error::NotFound`] when it does not exist.
    pub async fn resume(&self, id: &TaskId, data: &Json) -> Result<TaskRecord, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            resume_data: &'a Json,
        }
        let request = self.http.task_request(Method::POST, id, &["resume"])?;
        let request = request.json(&Body { resume_data: data });
        let response = self.http.send(request).await?;
        self.http.read_task(response).await
    }

    /// Tries a failed, timed-out or cancelled task again, with all its retries.
    ///
    /// # Errors
    /// [`Error::Rejected`] when it has not ended so, [`Error::NotFound`] when it does not exist.
    pub async fn retry(&self, id: &TaskId) -> Result<TaskRecord, Error> {
        let request = self.http.task_request(Method::POST, id, &["retry"])?;
        let response = self.http.send(request).await?;
        self.http.read_task(response).await
    }

    /// Removes an ended task.
    ///
    /// # Errors
    /// [`Error::Rejected`] when it has not ended, [`Error::NotFound`] when it does not exist.
    pub async fn delete(&self, id: &TaskId) -> Result<(), Error> {
        let request = self.http.task_request(Method::DELETE, id, &[])?;
        self.http.send(request).await.map(drop)
    }

    /// Keeps a record that its owner reports: inserts it, or replaces the one of its id
    /// (`docs/protocol.md`, "Records"). `document` is the record, with its `id`.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field; [`Error::Rejected`] when a task that was dispatched has that
    /// id.
    pub async fn record(&self, id: &TaskId, document: &Json) -> Result<TaskRecord, Error> {
        let request = self.http.task_request(Method::PUT, id, &[])?.json(document);
        let response = self.http.send(request).await?;
        self.http.read_task(response).await
    }

    /// Waits until a task has ended, and gives it as it ended. Nothing is polled: the task's stream
    /// says when, and is resumed when the connection is lost.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it does not exist, or no longer; the server's other refusals. A server
    /// that cannot be reached is waited for; bound the wait with a timeout if need be.
    pub async fn wait(&self, id: &TaskId) -> Result<TaskRecord, Error> {
        let ends = ChunkType::ALL.into_iter().filter(|ty| ty.is_terminal());
        let filter = Filter::default().task(id.clone()).types(ends);
        let request = StreamRequest::watch(filter).snapshot(SnapshotKind::None);
        let mut ends = self.stream(request);
        loop {
            let item = ends.next().await.expect("it ends only with an error")?;
            // Once connected, an end that is not seen now will be told.
            if matches!(item, Item::Moved | Item::Lost { .. }) {
                continue;
            }
            match self.get(id).await {
                Ok(Some(task)) if task.status.is_terminal() => return Ok(task),
                Ok(Some(_)) => {}
                Ok(None) => {
                    let problem = Problem {
                        status: 404,
                        detail: Some(format!("task {id} does not exist")),
                        ..Problem::default()
                    };
                    return Err(Error::NotFound(problem));
                }
                // The stream will find out, and connect again.
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Watches. Connects when first read, and again by itself whenever the connection is lost.
    pub fn stream(&self, request: StreamRequest) -> Stream {
        Stream::new(self.clone(), request)
    }

    /// What an agent has not yet been told of a thread's tasks. They stay until they are acknowledged.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    pub async fn completions(&self, thread: &ThreadId) -> Result<Completions, Error> {
        let request = self
            .http
            .thread_request(Method::GET, thread, &["completions"])?;
        let response = self.http.send(request).await?;
        self.http.read(response).await
    }

    /// Says that the ends of these tasks were told, and need not be again; returns how many that newly
    /// are. Give the tasks as they came: one that has ended anew since will be told again.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    pub async fn acknowledge(&self, thread: &ThreadId, told: &[TaskRecord]) -> Result<u64, Error> {
        #[derive(Serialize)]
        struct Told<'a> {
            id: &'a TaskId,
            seq: u64,
        }
        #[derive(Serialize)]
        struct Body<'a> {
            tasks: Vec<Told<'a>>,
        }
        let tasks = told.iter().map(|task| Told {
            id: &task.id,
            seq: task.seq.0,
        });
        let body = Body {
            tasks: tasks.collect(),
        };
        let request = self
            .http
            .thread_request(Method::POST, thread, &["completions", "ack"])?;
        let response = self.http.send(request.json(&body)).await?;
        let answer: AcknowledgeAnswer = self.http.read(response).await?;
        Ok(answer.acknowledged)
    }

    /// Makes an API key; only this answer holds the key itself. Without a namespace it is for that of
    /// who asks.
    ///
    /// # Errors
    /// [`Error::Denied`] unless the client's own key is an admin's.
    pub async fn add_key(
        &self,
        name: &str,
        role: &str,
        namespace: Option<&str>,
    ) -> Result<ApiKey, Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            name: &'a str,
            role: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            namespace: Option<&'a str>,
        }
        let request = self.http.request(Method::POST, &["keys"])?;
        let body = Body {
            name,
            role,
            namespace,
        };
        let response = self.http.send(request.json(&body)).await?;
        self.http.read(response).await
    }

    /// The API keys that the client may manage, revoked ones included.
    ///
    /// # Errors
    /// [`Error::Denied`] unless the client's own key is an admin's.
    pub async fn keys(&self) -> Result<Vec<ApiKey>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            keys: Vec<ApiKey>,
        }
        let request = self.http.request(Method::GET, &["keys"])?;
        let answer: Answer = self.http.read(self.http.send(request).await?).await?;
        Ok(answer.keys)
    }

    /// Makes an API key worthless from now on.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of that id; [`Error::Denied`] unless the client's own key
    /// is an admin's.
    pub async fn revoke_key(&self, id: &str) -> Result<(), Error> {
        let request = self.http.request(Method::DELETE, &["keys", id])?;
        self.http.send(request).await.map(drop)
    }

    /// Whom the client speaks for.
    ///
    /// # Errors
    /// [`Error::Denied`] when a key is needed; [`Error::NotFound`] by a server that is older than the question.
    pub async fn session(&self) -> Result<Session, Error> {
        let request = self.http.request(Method::GET, &["session"])?;
        self.http.read(self.http.send(request).await?).await
    }

    /// Does a server answer there?
    pub async fn is_healthy(&self) -> bool {
        self.http.is_healthy().await
    }
}

impl Session {
    /// May tasks be dispatched, cancelled, resumed and retried?
    #[must_use]
    pub fn may_command(&self) -> bool {
        matches!(self.role.as_str(), "write" | "admin")
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base())
            .finish_non_exhaustive()
    }
}

impl ListRequest {
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query: Vec<_> = self
            .statuses
            .iter()
            .map(|status| ("status", status.to_string()))
            .collect();
        let optional = [
            ("agentId", &self.agent_id),
            ("runId", &self.run_id),
            ("threadId", &self.thread_id),
            ("resourceId", &self.resource_id),
            ("toolName", &self.tool_name),
            ("toolCallId", &self.tool_call_id),
            ("cursor", &self.cursor),
        ];
        let given = |(name, value): (_, &Option<String>)| Some((name, value.clone()?));
        query.extend(optional.into_iter().filter_map(given));
        if self.is_descending {
            query.push(("orderDirection", "desc".into()));
        }
        query.extend(self.limit.map(|limit| ("limit", limit.to_string())));
        query
    }
}
