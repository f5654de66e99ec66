//! A chunk as it came over the wire (`docs/protocol.md`).

use std::sync::Arc;

use serde::Deserialize;
use sidestream_core::{ChunkType, Json, TaskError, TaskId, Timestamp};

/// One object of a stream, `{"type": …, "payload": {…}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// What it says; `None` for a type that this version does not know.
    pub chunk_type: Option<ChunkType>,
    /// What it says about it.
    pub payload: Arc<Payload>,
    json: Arc<str>,
}

/// What a chunk says, beside its type. Which fields are there depends on the type; those unknown to
/// this version are in [`Chunk::json`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Payload {
    /// Whom it is about; `None` in a `stream-reset`.
    pub task_id: Option<TaskId>,
    /// What the task runs.
    pub tool_name: Option<Arc<str>>,
    /// The model's name for this call of the tool.
    pub tool_call_id: Option<Arc<str>>,
    /// On whose behalf.
    pub agent_id: Option<Arc<str>>,
    /// In which call of the agent.
    pub run_id: Option<Arc<str>>,
    /// In which conversation.
    pub thread_id: Option<Arc<str>>,
    /// For which user or object.
    pub resource_id: Option<Arc<str>>,
    /// When the attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Since when it is suspended.
    pub suspended_at: Option<Timestamp>,
    /// What the tool was called with.
    pub args: Option<Json>,
    /// What the tool emitted.
    pub payload: Option<Json>,
    /// What it ended with.
    pub result: Option<Json>,
    /// Why it, or an attempt, failed.
    pub error: Option<TaskError>,
    /// What it waits for.
    pub suspend_payload: Option<Json>,
    /// When the next attempt may start.
    pub next_attempt_at: Option<Timestamp>,
    /// The attempt that the chunk is of.
    pub attempt: Option<u32>,
    /// The event's place in the log.
    pub seq: Option<u64>,
    /// Why a stream was reset.
    pub reason: Option<Arc<str>>,
    /// From where on the log can still be read, after a reset.
    pub oldest_cursor: Option<Arc<str>>,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    type_name: String,
    #[serde(default)]
    payload: Payload,
}

impl Chunk {
    /// Reads a chunk.
    ///
    /// # Errors
    /// When the text is no JSON object with a `type`, or a known field of its payload is of another
    /// type than it should be.
    pub fn from_json(text: impl Into<Arc<str>>) -> Result<Self, serde_json::Error> {
        let json = text.into();
        let envelope: Envelope = serde_json::from_str(&json)?;
        Ok(Self {
            chunk_type: ChunkType::parse(&envelope.type_name).ok(),
            payload: Arc::new(envelope.payload),
            json,
        })
    }

    /// The whole object, as it came.
    #[must_use]
    pub fn json(&self) -> &Arc<str> {
        &self.json
    }

    /// Does it say that the task has ended?
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.chunk_type.is_some_and(ChunkType::is_terminal)
    }
}
