//! How a server behaves: where it listens, whom it lets in, and its limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How a server behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where it listens: `127.0.0.1:7600`. Any address but loopback needs an API key.
    pub listen: SocketAddr,
    /// Names beside `localhost` and the loopback addresses under which requests without a key may come
    /// in, such as that of a proxy on the same machine. Without a port.
    pub allowed_hosts: Vec<String>,
    /// Web pages of these origins, such as `https://app.example.com`, may use the server.
    pub allowed_origins: Vec<String>,
    /// Does it show the dashboard, to browsers at `/`: `true`. Without it `/` says in words what is here.
    pub dashboard: bool,
    /// What it bears.
    pub limits: ServerLimits,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7600)),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            dashboard: true,
            limits: ServerLimits::default(),
        }
    }
}

/// What a server bears (R7). Every limit has its default; none is unbounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLimits {
    /// So many connections at once: 10,000. A further one waits to be accepted.
    pub connections: usize,
    /// So many bytes of a request's head, its URL included: 64 KiB.
    pub head_bytes: usize,
    /// So many bytes of a request's body: 2 MiB.
    pub body_bytes: usize,
    /// How long a request may take to be answered: 30 seconds. Streams and `Prefer: wait` have their
    /// own time.
    pub request: Duration,
    /// The longest `Prefer: wait`, and the longest that a claim may wait: 60 seconds.
    pub wait: Duration,
    /// How long a client may read nothing while there is something for it: 30 seconds. Then its
    /// connection is closed; a stream resumes where it was. As long, a stream bears that the store cannot be
    /// read.
    pub write: Duration,
    /// How often a quiet stream shows that it is alive: every 15 seconds.
    pub keep_alive: Duration,
    /// How long requests under way have to end when the server stops: 5 seconds.
    pub grace: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            head_bytes: 64 << 10,
            body_bytes: 2 << 20,
            request: Duration::from_secs(30),
            wait: Duration::from_secs(60),
            write: Duration::from_secs(30),
            keep_alive: Duration::from_secs(15),
            grace: Duration::from_secs(5),
        }
    }
}
