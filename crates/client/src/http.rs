//! Requests and answers: what every call of a [`Client`](crate::Client) has in common.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sidestream_core::wire::TaskRecord;
use sidestream_core::{TaskId, ThreadId};

use crate::error::{Error, Problem};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes: a full page of tasks with large payloads.
const ANSWER_BYTES_MAX: usize = 256 * 1_048_576;

/// The connections to one server.
pub(crate) struct Http {
    http: reqwest::Client,
    base: Url,
    request_timeout: Duration,
}

#[derive(Deserialize)]
struct TaskAnswer {
    task: TaskRecord,
}

impl Http {
    pub(crate) fn new(
        base: Url,
        headers: HeaderMap,
        request_timeout: Duration,
    ) -> Result<Self, Error> {
        let mut http = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("sidestream-client/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            // The API never redirects; who does is not the server, and shall not see the key.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&base) {
            // A proxy on another machine cannot reach a server on this one.
            http = http.no_proxy();
        }
        let http = http.build();
        let http = http.map_err(|error| Error::Configuration(root_cause(&error)))?;
        Ok(Self {
            http,
            base,
            request_timeout,
        })
    }

    pub(crate) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    pub(crate) async fn is_healthy(&self) -> bool {
        let Ok(url) = self.base.join("healthz") else {
            return false;
        };
        self.send(self.http.get(url)).await.is_ok()
    }

    /// A request of `/v1/…`, each part escaped.
    pub(crate) fn request(&self, method: Method, parts: &[&str]) -> Result<RequestBuilder, Error> {
        if parts.iter().any(|part| is_lost_in_paths(part)) {
            let detail = format!("{parts:?} cannot be sent in a path");
            return Err(self.protocol(&detail));
        }
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("an HTTP URL has a path")
            .pop_if_empty()
            .push("v1")
            .extend(parts);
        Ok(self.http.request(method, url))
    }

    /// A request about one thing of many: `/v1/tasks/ID/…`, or `/v1/task/…?id=ID` for an id that no path
    /// can carry.
    fn one_request(
        &self,
        method: Method,
        (many, one): (&str, &str),
        id: &str,
        rest: &[&str],
    ) -> Result<RequestBuilder, Error> {
        if is_lost_in_paths(id) {
            let request = self.request(method, &[&[one], rest].concat())?;
            return Ok(request.query(&[("id", id)]));
        }
        self.request(method, &[&[many, id], rest].concat())
    }

    pub(crate) fn task_request(
        &self,
        method: Method,
        id: &TaskId,
        rest: &[&str],
    ) -> Result<RequestBuilder, Error> {
        self.one_request(method, ("tasks", "task"), id.as_str(), rest)
    }

    pub(crate) fn thread_request(
        &self,
        method: Method,
        thread: &ThreadId,
        rest: &[&str],
    ) -> Result<RequestBuilder, Error> {
        self.one_request(method, ("threads", "thread"), thread.as_str(), rest)
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        self.send_within(request, self.request_timeout).await
    }

    /// As [`Http::send`], with a bound of its own.
    pub(crate) async fn send_within(
        &self,
        request: RequestBuilder,
        bound: Duration,
    ) -> Result<Response, Error> {
        let request = request.header(ACCEPT, "application/json").timeout(bound);
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        self.accepted(response).await
    }

    /// The answer, if it says yes; else the error it says.
    pub(crate) async fn accepted(&self, response: Response) -> Result<Response, Error> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.is_redirection() || status.is_informational() {
            return Err(self.protocol(&format!("status {status}")));
        }
        let body = self.body(response).await.unwrap_or_default();
        Err(Problem::read(status.as_u16(), &body).into_error())
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, Error> {
        let is_json = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with("application/json"));
        if !is_json {
            return Err(self.protocol("the answer is not JSON"));
        }
        let body = self.body(response).await?;
        serde_json::from_slice(&body).map_err(|error| self.protocol(&error.to_string()))
    }

    pub(crate) async fn read_task(&self, response: Response) -> Result<TaskRecord, Error> {
        let answer: TaskAnswer = self.read(response).await?;
        Ok(answer.task)
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(|e| self.unreachable(&e))? {
            if body.len() + bytes.len() > ANSWER_BYTES_MAX {
                return Err(self.protocol("the answer is too long"));
            }
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }

    pub(crate) fn unreachable(&self, error: &reqwest::Error) -> Error {
        Error::Unreachable {
            server: self.base().to_owned(),
            cause: root_cause(error),
        }
    }

    pub(crate) fn silent(&self) -> Error {
        Error::Unreachable {
            server: self.base().to_owned(),
            cause: "it did not answer in time".into(),
        }
    }

    pub(crate) fn lost(&self, cause: &str) -> Error {
        Error::Lost {
            server: self.base().to_owned(),
            cause: cause.to_owned(),
        }
    }

    pub(crate) fn protocol(&self, problem: &str) -> Error {
        Error::Protocol {
            server: self.base().to_owned(),
            problem: problem.to_owned(),
        }
    }
}

/// A URL loses a path's part that is one of these, however it is escaped.
fn is_lost_in_paths(part: &str) -> bool {
    matches!(part, "" | "." | "..")
}

pub(crate) fn base_url(text: &str) -> Result<Url, Error> {
    let wrong = |why: &str| Error::Configuration(format!("{text:?} is no server's address: {why}"));
    let url = Url::parse(text).map_err(|_| wrong("write it as http://HOST:PORT"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(wrong("write it as http://HOST:PORT or https://HOST"));
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err(wrong("it must end with the host, the port or a path"));
    }
    let mut url = url;
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str().unwrap_or_default() {
        "localhost" => true,
        host => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
    }
}

/// What is at the bottom of it: "error sending request" helps nobody.
pub(crate) fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".into();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string().to_lowercase()
}
