//! Sidestream over HTTP: dispatches tasks to a server and watches them.
//!
//! [`Client`] makes one request per call. [`Client::stream`] gives a [`Stream`] that connects again by
//! itself and goes on where it was, so that whoever reads it sees each event once.
//!
//! ```no_run
//! use sidestream_client::{Client, Item, NewTask, StreamRequest};
//!
//! # async fn example() -> Result<(), sidestream_client::Error> {
//! let client = Client::new("http://127.0.0.1:7600")?;
//! let args = serde_json::json!({"q": "tides"});
//! let dispatched = client.dispatch(&NewTask::new("research").args(args)).await?;
//! let id = dispatched.id().expect("the server queues").clone();
//!
//! let mut story = client.stream(StreamRequest::story(id));
//! while let Some(item) = story.next().await {
//!     if let Item::Chunk(chunk) = item? {
//!         println!("{}", chunk.json());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! No SQL. With the feature `worker` it can run a server's tasks, too: see [`worker`].

pub mod client;

pub mod chunk;
pub mod stream;

#[cfg(feature = "worker")]
pub mod worker;

pub mod sse;

mod http;

pub mod error;

pub use sidestream_core as core;
pub use sidestream_core::{ChunkType, Cursor, Filter, Json, NewTask, Status, TaskId, ThreadId};

pub use chunk::{Chunk, Payload};
pub use client::{ApiKey, Builder, Client, Completions, Dispatched, ListRequest, Page, Session};
pub use error::{Error, Problem};
pub use stream::{Backoff, Item, SnapshotKind, Stream, StreamRequest};
