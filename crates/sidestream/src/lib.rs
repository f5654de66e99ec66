//! Background tasks for AI agents: durable, streamed, embeddable.

pub mod manager;

pub mod maintenance;
pub mod stream;
pub mod worker;

pub mod writer;

pub mod store;

pub mod chance;
pub mod clock;
pub mod error;

pub use sidestream_core as core;
pub use sidestream_core::{
    AgentId, Chunk, ChunkType, Cursor, Filter, Json, Namespace, NewTask, ResourceId, RunId, Seq,
    Status, Task, TaskError, TaskId, ThreadId, Timestamp, ToolName,
};

pub use error::{Error, StoreError, StoreErrorKind};
pub use maintenance::pruner::{Cleaned, Retention};
pub use manager::{Backpressure, Builder, Config, Dispatched, Stats, TaskManager};
pub use store::{ListQuery, MemoryStore, Page, Store};
#[cfg(feature = "sqlite")]
pub use store::{SqliteOptions, SqliteStore};
pub use stream::{ChunkStream, SnapshotKind, Start, StreamItem, StreamOptions};
pub use worker::handler::{Context, Handler, HandlerError, Outcome, Tool, ToolSettings};
