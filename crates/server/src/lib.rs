//! Sidestream over HTTP: tasks, their streams, and the routes that existing clients call.
//!
//! The server adds nothing to what a [`TaskManager`] does; it only lets others ask for it. A request
//! passes, in this order: `connection` (sockets and their time limits), `origin` (may a web page
//! ask this?), `auth` (who asks, and in which namespace), then a handler of `v1` or `compat`.
//! Whatever goes wrong becomes a `problem::Problem`. Without a key come only the files of the
//! `dashboard`, a login, and questions about the server's health.
//!
//! ```
//! use sidestream::{MemoryStore, TaskManager};
//! use sidestream_server::{Server, ServerConfig};
//! use tokio_util::sync::CancellationToken;
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let manager = TaskManager::builder(MemoryStore::new()).start().await?;
//! let store = manager.store().clone();
//! let config = ServerConfig { listen: "127.0.0.1:0".parse()?, ..ServerConfig::default() };
//! let server = Server::bind(config, Some(manager), store).await?;
//! let address = server.local_addr();
//!
//! let shutdown = CancellationToken::new();
//! # shutdown.cancel();
//! server.run(shutdown).await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use sidestream::{Store, TaskManager};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

mod config;
mod connection;
mod router;

mod auth;
mod keys;
mod limits;
mod origin;
mod session;

mod compat;
mod health;
mod v1;

mod dashboard;

mod metrics;
mod openapi;
mod params;
mod problem;
mod sse;

pub use config::{ServerConfig, ServerLimits};
pub use keys::{NewKey, Role};

use keys::KeyRing;
use metrics::Metrics;
use v1::claims::WaitingClaims;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Anyone who reaches the address could drive the server.
    #[error(
        "{listen} can be reached from other machines, and no API key protects it: make one with \
         `sidestream keys add`, or listen on 127.0.0.1"
    )]
    NoKeys {
        /// The address.
        listen: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The keys cannot be read.
    #[error("the API keys cannot be read: {0}")]
    Keys(#[from] sidestream::StoreError),
}

/// What all requests share.
#[derive(Debug)]
struct App {
    config: ServerConfig,
    /// `None`: background tasks are disabled.
    manager: Option<TaskManager>,
    store: Arc<dyn Store>,
    keys: KeyRing,
    metrics: Metrics,
    claims: WaitingClaims,
    /// Cancelled when the server begins to stop: streams end, and it is no longer ready.
    stopping: CancellationToken,
}

/// A server that has its address and is about to serve.
#[derive(Debug)]
#[must_use = "nothing is served until it is run"]
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    app: Arc<App>,
}

/// An address that a server has taken, before anything runs behind it.
#[derive(Debug)]
#[must_use = "nothing is served yet"]
pub struct Reserved {
    listener: TcpListener,
    local_addr: SocketAddr,
    config: ServerConfig,
    store: Arc<dyn Store>,
    keys: KeyRing,
    stopping: CancellationToken,
}

impl Reserved {
    /// The server at this address. Without a manager background tasks are disabled: nothing is listed,
    /// and streams stay empty.
    pub fn with(self, manager: Option<TaskManager>) -> Server {
        let app = App {
            config: self.config,
            manager,
            store: self.store,
            keys: self.keys,
            metrics: Metrics::default(),
            claims: WaitingClaims::default(),
            stopping: self.stopping,
        };
        Server {
            listener: self.listener,
            local_addr: self.local_addr,
            app: Arc::new(app),
        }
    }
}

impl Server {
    /// Takes the address, and serves this manager there: [`Server::reserve`], then [`Reserved::with`].
    ///
    /// # Errors
    /// As [`Server::reserve`].
    pub async fn bind(
        config: ServerConfig,
        manager: Option<TaskManager>,
        store: Arc<dyn Store>,
    ) -> Result<Self, BindError> {
        Ok(Self::reserve(config, store).await?.with(manager))
    }

    /// Takes the address. For those who start a manager, which runs tasks at once, only when nothing can
    /// keep the server from starting. The store is where the API keys are. Who connects meanwhile waits.
    ///
    /// # Errors
    /// When the address cannot be taken, or is no loopback address while there is no API key.
    pub async fn reserve(
        config: ServerConfig,
        store: Arc<dyn Store>,
    ) -> Result<Reserved, BindError> {
        let listen = config.listen;
        let stopping = CancellationToken::new();
        let is_loopback = listen.ip().is_loopback();
        let keys = KeyRing::open(store.as_ref(), is_loopback, stopping.clone()).await?;
        if !is_loopback && !keys.has_active() {
            return Err(BindError::NoKeys { listen });
        }
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|source| BindError::Listen { listen, source })?;
        let local_addr = listener.local_addr();
        let local_addr = local_addr.map_err(|source| BindError::Listen { listen, source })?;
        Ok(Reserved {
            listener,
            local_addr,
            config,
            store,
            keys,
            stopping,
        })
    }

    /// The address it was given: with the port that the system chose, where it was asked to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown`, then ends well: streams end, requests under way are answered, and what
    /// is not done after the grace is cut off. The manager goes on; shut it down afterwards.
    ///
    /// Dropping the future closes every connection at once.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listener, app, .. } = self;
        let serving = connection::serve(listener, Arc::clone(&app), shutdown);
        tokio::select! {
            () = serving => {}
            () = app.keys.follow(app.store.as_ref()) => {}
        }
    }
}
