//! Background tasks for AI agents: durable, streamed, embeddable.
//!
//! An agent *dispatches* slow work as a task, goes on talking, and hears of the result. A
//! [`TaskManager`] runs tasks on the tools it is given; a [`Store`] keeps them, and the log of what
//! happened to them; a [`ChunkStream`] lets anyone watch.
//!
//! ```
//! use sidestream::{Context, HandlerError, MemoryStore, NewTask, Status, TaskManager, Tool};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let shout = Tool::new("shout", |context: Context, word: String| async move {
//!     context.output("thinking").await?;
//!     Ok::<_, HandlerError>(word.to_uppercase())
//! });
//! let manager = TaskManager::builder(MemoryStore::new()).tool(shout).start().await?;
//!
//! let task = NewTask::new("shout").args(serde_json::json!("hello")).thread("thread-1");
//! let dispatched = manager.dispatch(task).await?;
//!
//! let task = manager.wait(dispatched.id().expect("queued")).await?;
//! assert_eq!(task.status, Status::Completed);
//! assert_eq!(task.result.expect("a result").as_str(), r#""HELLO""#);
//! # Ok(())
//! # }
//! ```
//!
//! # Tour
//!
//! - [`Tool`], [`Context`]: what a tool is, and what its handler may do: emit outputs, wait for
//!   somebody, say that no retry can help. `Tool::command` runs a program.
//! - [`TaskManager`]: dispatch, get, list, cancel, resume, retry, wait, stream, shut down.
//! - [`StreamOptions`], [`Filter`]: what to watch, and from where.
//! - [`TaskManager::completions`]: what an agent has not been told yet.
//! - [`MemoryStore`] for tests, [`SqliteStore`] for everything else.
//! - [`Config`]: limits, retries, retention, with the defaults that users of such systems know.
//!
//! Where background tasks are disabled there is no manager: keep an `Option<TaskManager>`.

pub mod testing;

pub mod manager;

pub mod maintenance;
pub mod stream;
pub mod worker;

pub mod records;

pub mod writer;

pub mod store;

pub mod chance;
pub mod clock;
pub mod error;

pub use sidestream_core as core;
pub use sidestream_core::{
    AgentId, Attempt, Chunk, ChunkType, Cursor, Filter, Invalid, Json, Namespace, NewTask, Record,
    Rejection, ResourceId, RetryPolicy, RunId, Seq, Status, Task, TaskError, TaskId, ThreadId,
    Timestamp, ToolName, task::TaskDefaults,
};

pub use error::{Error, StoreError, StoreErrorKind};
pub use maintenance::pruner::{Cleaned, Retention};
pub use manager::{Backpressure, Builder, Config, Dispatched, Stats, TaskManager};
pub use records::Records;
pub use store::{ListQuery, MemoryStore, Page, Store, Told};
#[cfg(feature = "postgres")]
pub use store::{PostgresOptions, PostgresStore};
#[cfg(feature = "sqlite")]
pub use store::{SqliteOptions, SqliteStore};
pub use stream::{ChunkStream, RingLimits, SnapshotKind, Start, StreamItem, StreamOptions};
pub use worker::handler::{
    Context, Handler, HandlerError, Outcome, OutputError, Stopped, Tool, ToolSettings,
};
#[cfg(unix)]
pub use worker::process::Program;

/// The examples of the README, which must run.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
