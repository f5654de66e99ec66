//! What a list asks for, in which order it comes, and where its pages begin.

use sidestream_core::{
    AgentId, Namespace, ResourceId, RunId, Status, Task, ThreadId, Timestamp, ToolCallId, ToolName,
};

/// Which tasks to list, in which order.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// The tenant's room.
    pub namespace: Namespace,
    /// Any of these; any at all, if empty.
    pub statuses: Vec<Status>,
    /// Of this agent.
    pub agent_id: Option<AgentId>,
    /// Of this call of an agent.
    pub run_id: Option<RunId>,
    /// Of this conversation.
    pub thread_id: Option<ThreadId>,
    /// For this user or object.
    pub resource_id: Option<ResourceId>,
    /// Of this tool.
    pub tool_name: Option<ToolName>,
    /// This call of a tool.
    pub tool_call_id: Option<ToolCallId>,
    /// Only those kept for an owner elsewhere (`true`), or only those dispatched here (`false`).
    pub is_external: Option<bool>,
    /// Whose time [`ListQuery::date_field`] is at or after this.
    pub from: Option<Timestamp>,
    /// Whose time [`ListQuery::date_field`] is before this.
    pub to: Option<Timestamp>,
    /// Which time `from` and `to` are about. A task without it does not match either.
    pub date_field: TimeField,
    /// By which time they are ordered; where that is the same, by creation, then by the order of dispatch. A
    /// task without it comes first (ascending), or last (descending).
    pub order_by: TimeField,
    /// Latest first?
    pub is_descending: bool,
    /// Where the page begins.
    pub start: PageStart,
    /// At most so many; 0 gives none, and the total.
    pub limit: usize,
    /// The page ends with the task that brings it to so many bytes, and says where the next begins; not one
    /// that begins after a number of tasks, whose like are asked for by number.
    pub bytes_max: usize,
}

impl ListQuery {
    /// All tasks of a namespace, oldest first, at most `limit` of them.
    #[must_use]
    pub fn new(namespace: Namespace, limit: usize) -> Self {
        Self {
            namespace,
            statuses: Vec::new(),
            agent_id: None,
            run_id: None,
            thread_id: None,
            resource_id: None,
            tool_name: None,
            tool_call_id: None,
            is_external: None,
            from: None,
            to: None,
            date_field: TimeField::CreatedAt,
            order_by: TimeField::CreatedAt,
            is_descending: false,
            start: PageStart::Beginning,
            limit,
            bytes_max: usize::MAX,
        }
    }

    /// How many bytes this page may have.
    pub(super) fn page_bytes_max(&self) -> usize {
        match self.start {
            PageStart::Offset(_) => usize::MAX,
            _ => self.bytes_max,
        }
    }
}

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageStart {
    /// With the first task.
    Beginning,
    /// After so many tasks: costs the skipping of them.
    Offset(usize),
    /// After the last task of another page: costs the same at any depth.
    After(PageKey),
}

/// A task's place in a list, as the last of a page and so where the next begins. Ordered as an ascending list
/// is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageKey {
    /// Its time, by [`ListQuery::order_by`].
    pub time: Option<Timestamp>,
    /// When it was dispatched, or made by its owner.
    pub created_at: Timestamp,
    /// The store's own number of it.
    pub key: i64,
}

/// One of a task's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeField {
    /// When it was dispatched.
    #[default]
    CreatedAt,
    /// When its latest attempt began.
    StartedAt,
    /// Since when it is suspended.
    SuspendedAt,
    /// When it ended.
    CompletedAt,
}

impl TimeField {
    /// That time of a task.
    #[must_use]
    pub fn of(self, task: &Task) -> Option<Timestamp> {
        match self {
            Self::CreatedAt => Some(task.created_at),
            Self::StartedAt => task.started_at,
            Self::SuspendedAt => task.suspended_at,
            Self::CompletedAt => task.completed_at,
        }
    }

    /// Have the tasks that stand so that time? `None`: some have.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn is_had_while(self, status: Status) -> Option<bool> {
        match self {
            Self::CreatedAt => Some(true),
            Self::StartedAt => None,
            Self::SuspendedAt => Some(status == Status::Suspended),
            Self::CompletedAt => Some(status.is_terminal()),
        }
    }
}

/// A page of tasks.
#[derive(Debug, Clone)]
pub struct Page {
    /// In the order asked for.
    pub tasks: Vec<Task>,
    /// How many match in all, exactly, when the page was read.
    pub total: u64,
    /// Where the next page begins; `None` when there is none.
    pub next: Option<PageKey>,
}
