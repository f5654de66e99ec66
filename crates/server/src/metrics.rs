//! Numbers for those who operate a server, in Prometheus' text form. One registry for each server: several
//! may live in one process.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use sidestream::Status;
use tokio::time::Instant;

use crate::App;
use crate::auth::Reads;
use crate::problem::{Kind, Problem};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

/// What one server counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    seconds: Histogram,
    connections: Gauge,
    streams: Gauge,
    chunks: Counter,
    bytes: Counter,
    tasks: Family<StatusLabel, Gauge>,
    manager: Manager,
}

/// What the manager counts, copied when it is asked for.
#[derive(Debug, Default)]
struct Manager {
    events: Family<EventLabel, Counter>,
    running: Gauge,
    writes_waiting: Gauge,
    log_head: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabel {
    event: EventName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "these are the words of the labels")]
enum EventName {
    dispatched,
    started,
    output,
    suspended,
    retried,
    completed,
    failed,
    timed_out,
    cancelled,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::default(),
            requests: Family::default(),
            // 0.1 ms to 26 s.
            seconds: Histogram::new(exponential_buckets(0.0001, 4.0, 10)),
            connections: Gauge::default(),
            streams: Gauge::default(),
            chunks: Counter::default(),
            bytes: Counter::default(),
            tasks: Family::default(),
            manager: Manager::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let mut registry = self.registry.lock();
        let registry = registry.sub_registry_with_prefix("sidestream");
        let manager = &self.manager;
        registry.register("http_requests", "Requests answered", self.requests.clone());
        registry.register(
            "http_request_seconds",
            "Time until a request is answered; a stream's until it is open",
            self.seconds.clone(),
        );
        registry.register(
            "connections",
            "Connections open now",
            self.connections.clone(),
        );
        registry.register("streams", "Streams open now", self.streams.clone());
        registry.register(
            "stream_chunks",
            "Chunks sent to streams",
            self.chunks.clone(),
        );
        registry.register("stream_bytes", "Bytes sent to streams", self.bytes.clone());
        registry.register("tasks", "Tasks kept, by status", self.tasks.clone());
        registry.register(
            "events",
            "Events seen since the start, by kind",
            manager.events.clone(),
        );
        registry.register(
            "tasks_running_here",
            "Attempts that run in this process now",
            manager.running.clone(),
        );
        registry.register(
            "writes_waiting",
            "Requests that wait for their commit now",
            manager.writes_waiting.clone(),
        );
        registry.register(
            "log_head",
            "The last event of the log",
            manager.log_head.clone(),
        );
    }

    /// A connection is open until what this returns is dropped.
    pub(crate) fn connection_opened(&self) -> Open {
        Open::count(&self.connections)
    }

    /// A stream is open until what this returns is dropped.
    pub(crate) fn stream_opened(&self) -> OpenStream {
        OpenStream {
            _open: Open::count(&self.streams),
            chunks: self.chunks.clone(),
            bytes: self.bytes.clone(),
        }
    }

    /// Begins to measure a request.
    pub(crate) fn request_began(self: &Metrics, request: &Request) -> RequestTimer {
        let route = request.extensions().get::<MatchedPath>();
        // Whatever is asked for, the number of labels stays small.
        let method = match *request.method() {
            Method::GET | Method::POST | Method::PUT | Method::DELETE | Method::HEAD => {
                request.method().to_string()
            }
            _ => "other".to_owned(),
        };
        RequestTimer {
            requests: self.requests.clone(),
            seconds: self.seconds.clone(),
            method,
            route: route.map_or("none", MatchedPath::as_str).to_owned(),
            began_at: Instant::now(),
        }
    }
}

/// Something that counts as long as it exists.
#[derive(Debug)]
pub(crate) struct Open(Gauge);

impl Open {
    fn count(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A stream that counts as long as it exists, and what it sends.
#[derive(Debug)]
pub(crate) struct OpenStream {
    _open: Open,
    chunks: Counter,
    bytes: Counter,
}

impl OpenStream {
    pub(crate) fn sent(&self, chunks: u64, bytes: usize) {
        self.chunks.inc_by(chunks);
        self.bytes.inc_by(bytes as u64);
    }
}

/// Measures one request.
#[derive(Debug)]
pub(crate) struct RequestTimer {
    requests: Family<RequestLabels, Counter>,
    seconds: Histogram,
    method: String,
    route: String,
    began_at: Instant,
}

impl RequestTimer {
    pub(crate) fn answered(self, status: StatusCode) {
        self.seconds.observe(self.began_at.elapsed().as_secs_f64());
        let labels = RequestLabels {
            method: self.method,
            route: self.route,
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
    }
}

/// Shows the server's numbers, for Prometheus.
///
/// To operators only, because they are of all namespaces: an admin key of the namespace `default`, unless no
/// key is needed.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operation",
    operation_id = "metrics",
    responses((status = 200, description = "OpenMetrics text", content_type = "application/openmetrics-text")),
)]
pub(crate) async fn show(State(app): State<Arc<App>>, caller: Reads) -> Result<Response, Problem> {
    if !caller.is_operator() {
        let detail = "the metrics are of all namespaces: an admin key of the namespace default may \
                      see them";
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    let metrics = &app.metrics;
    let counts = app.store.counts().await?;
    for status in Status::ALL {
        let count = counts.get(&status).copied().unwrap_or_default();
        let label = StatusLabel {
            status: status.as_str(),
        };
        metrics.tasks.get_or_create(&label).set(as_gauge(count));
    }
    if let Some(manager) = &app.manager {
        metrics.manager.copy(manager.stats());
    }
    let mut text = String::new();
    encode(&mut text, &metrics.registry.lock()).expect("a text grows without error");
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, content_type)], text).into_response())
}

impl Manager {
    fn copy(&self, stats: sidestream::Stats) {
        let events = [
            (EventName::dispatched, stats.dispatched),
            (EventName::started, stats.started),
            (EventName::output, stats.outputs),
            (EventName::suspended, stats.suspended),
            (EventName::retried, stats.retried),
            (EventName::completed, stats.completed),
            (EventName::failed, stats.failed),
            (EventName::timed_out, stats.timed_out),
            (EventName::cancelled, stats.cancelled),
        ];
        for (event, count) in events {
            let counter = self.events.get_or_create(&EventLabel { event });
            let inner: &AtomicU64 = counter.inner();
            inner.store(count, std::sync::atomic::Ordering::Relaxed);
        }
        self.running.set(as_gauge(stats.running as u64));
        self.writes_waiting
            .set(as_gauge(stats.writes_waiting as u64));
        self.log_head.set(as_gauge(stats.head.0));
    }
}

fn as_gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
