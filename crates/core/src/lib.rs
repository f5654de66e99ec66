//! The words and the state machine of Sidestream, and nothing else.
//!
//! This crate is pure: it reads no clock, draws no random number, and knows no runtime, database or
//! network; its `Cargo.toml` proves it. Time and chance come in as arguments, what happened goes
//! out as values. So every rule about a task can be read, and tested, here.
//!
//! Read it in this order: [`task`] (what a task is), [`command`] (what is asked of it), [`event`]
//! (what happened to it), [`lifecycle`] (which command leads to which event: *the* state machine),
//! [`wire`] (how an event looks to a client), [`filter`] (who wants to see it).

pub mod id;
pub mod json;
pub mod time;

pub mod task;

pub mod command;
pub mod event;
pub mod lifecycle;
pub mod retry;

pub mod filter;
pub mod record;
pub mod wire;

pub use command::{Command, Rejection};
pub use event::{Event, EventKind, LogEntry};
pub use filter::Filter;
pub use id::{
    AgentId, Attempt, Cursor, Epoch, Invalid, Namespace, ReportNumber, ResourceId, RunId, Seq,
    TaskId, ThreadId, ToolCallId, ToolName, WorkerId,
};
pub use json::Json;
pub use record::Record;
pub use retry::{Jitter, RetryPolicy};
pub use task::{Lease, NewTask, Spec, Status, Task, TaskError, TaskIdentity};
pub use time::Timestamp;
pub use wire::{Chunk, ChunkType};
