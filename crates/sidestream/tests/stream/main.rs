//! The promises of a stream, S1 to S8, each by name; and what happens when its store cannot be read.
//!
//! Tasks are driven by hand here, through the writer, so that each event comes when the test says.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sidestream::core::{Attempt, Command, Epoch, ReportNumber};
use sidestream::store::{Answer, Claim, Limits, Prune, Request};
use sidestream::stream::RingLimits;
use sidestream::testing::{Faults, FaultyStore, SeededChance};
use sidestream::{
    AgentId, Chunk, ChunkStream, ChunkType, Config, Cursor, Filter, Json, MemoryStore, Namespace,
    NewTask, ResourceId, RunId, Seq, SnapshotKind, Start, Store, StoreErrorKind, StreamItem,
    StreamOptions, Task, TaskId, TaskManager, ThreadId, Timestamp, ToolName,
};
use tokio::time::{Instant, timeout};

use ChunkType::{
    Cancelled, Completed, Output, Queued, Resumed, Running, Started, StreamReset, Suspended,
};

mod failing_store;
mod filters;
mod keep_alive;
mod readers;
mod reset;
mod resume;
mod sinks;
mod snapshot;
mod story;
mod support;
