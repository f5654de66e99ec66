//! Which tasks and chunks a watcher wants (S6): the same test for the snapshot and the news.

use serde::{Deserialize, Serialize};

use crate::id::{AgentId, ResourceId, RunId, TaskId, ThreadId, ToolName};
use crate::task::TaskIdentity;
use crate::wire::ChunkType;

/// What a watcher wants to see: every field given must match. The empty filter matches all that an
/// existing client of the stream expects, which is the seven types of [`ChunkType::is_default`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// Of this agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Of this call of an agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Of this conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<ThreadId>,
    /// For this user or object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<ResourceId>,
    /// This task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// Of this tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_name: Option<ToolName>,
    /// Only these types of chunk; empty means the seven defaults.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub types: Vec<ChunkType>,
}

impl Filter {
    /// Does a task match, whatever the type of chunk?
    #[must_use]
    pub fn matches_task(&self, task: &TaskIdentity) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        is(self.task_id.as_ref(), Some(&task.id))
            && is(self.thread_id.as_ref(), task.thread_id.as_ref())
            && is(self.run_id.as_ref(), task.run_id.as_ref())
            && is(self.agent_id.as_ref(), task.agent_id.as_ref())
            && is(self.resource_id.as_ref(), task.resource_id.as_ref())
            && is(self.tool_name.as_ref(), Some(&task.tool_name))
    }

    /// Is a type of chunk wanted?
    #[must_use]
    pub fn matches_type(&self, chunk_type: ChunkType) -> bool {
        match self.types.as_slice() {
            [] => chunk_type.is_default(),
            types => types.contains(&chunk_type),
        }
    }

    /// Sets the agent.
    #[must_use]
    pub fn agent(mut self, id: AgentId) -> Self {
        self.agent_id = Some(id);
        self
    }

    /// Sets the agent's run.
    #[must_use]
    pub fn run(mut self, id: RunId) -> Self {
        self.run_id = Some(id);
        self
    }

    /// Sets the conversation.
    #[must_use]
    pub fn thread(mut self, id: ThreadId) -> Self {
        self.thread_id = Some(id);
        self
    }

    /// Sets the user or object.
    #[must_use]
    pub fn resource(mut self, id: ResourceId) -> Self {
        self.resource_id = Some(id);
        self
    }

    /// Sets the task.
    #[must_use]
    pub fn task(mut self, id: TaskId) -> Self {
        self.task_id = Some(id);
        self
    }

    /// Sets the tool.
    #[must_use]
    pub fn tool(mut self, name: ToolName) -> Self {
        self.tool_name = Some(name);
        self
    }

    /// Sets the types of chunk.
    #[must_use]
    pub fn types(mut self, types: impl IntoIterator<Item = ChunkType>) -> Self {
        self.types = types.into_iter().collect();
        self
    }
}
