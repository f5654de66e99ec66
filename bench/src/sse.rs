//! Clients of server-sent events, thousands of them, in a process of their own: so that what they cost is not taken
//! for the server's, and so that both together stay within the files that one process may have open.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::found::Found;

pub(crate) mod clients;
mod reading;

/// What the clients are to do. It is the only argument of their process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Watching {
    pub(crate) address: SocketAddr,
    pub(crate) clients: usize,
    /// What each asks for; `{n}` becomes its number.
    pub(crate) path: String,
    /// So many outputs does each of them wait for.
    pub(crate) outputs: u64,
    pub(crate) ids: Ids,
    /// Latencies count from this output of each client on: what comes before warms up.
    pub(crate) counted_from: u64,
}

/// The numbers at the end of the events' ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ids {
    /// Every event is theirs: the numbers follow each other.
    #[default]
    Dense,
    /// Some events are others': they rise.
    Rising,
    /// There are none: only how many outputs came can be said.
    None,
}

/// What they saw. Whoever misses an output, or sees one twice or out of order, has no report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) deliveries: u64,
    pub(crate) bytes: u64,
    pub(crate) reads: u64,
    /// From the first output's birth to the last delivery.
    pub(crate) seconds: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) worst_ms: f64,
    /// Of a processor, while the outputs came.
    pub(crate) cpu_seconds: f64,
}

impl Seen {
    /// Into what was found, beside the processors that the server took; `per_second` is what deliveries are called.
    pub(crate) fn told(&self, found: Found, per_second: &str, server_cpu_seconds: f64) -> Found {
        let deliveries = self.deliveries as f64;
        found
            .value(per_second, deliveries / self.seconds)
            .value("p50_ms", self.p50_ms)
            .value("p99_ms", self.p99_ms)
            .value("worst_ms", self.worst_ms)
            .value("bytes_per_delivery", self.bytes as f64 / deliveries)
            .value("deliveries_per_read", deliveries / self.reads as f64)
            .value("server_cores", server_cpu_seconds / self.seconds)
            .value("client_cores", self.cpu_seconds / self.seconds)
    }
}

/// The process with the clients.
pub(crate) struct Clients {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Clients {
    /// Starts them; all are connected when this returns.
    pub(crate) async fn connect(watching: &Watching) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["sse-clients", &serde_json::to_string(watching)?])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("it is piped")?;
        let mut clients = Self {
            child,
            lines: BufReader::new(stdout).lines(),
        };
        let line = clients.line().await?;
        anyhow::ensure!(line == "connected", "the clients said: {line}");
        Ok(clients)
    }

    /// What they saw, when they have seen all.
    pub(crate) async fn seen(mut self) -> anyhow::Result<Seen> {
        let line = self.line().await?;
        let status = self.child.wait().await?;
        anyhow::ensure!(status.success(), "the clients ended with {status}");
        Ok(serde_json::from_str(&line)?)
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let line = self.lines.next_line().await?;
        line.context("the clients ended early, and said why on stderr")
    }
}
