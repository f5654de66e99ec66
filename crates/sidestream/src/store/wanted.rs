//! What a list or a snapshot asks of a task.

use sidestream_core::{
    AgentId, Filter, Namespace, ResourceId, RunId, Status, TaskId, ThreadId, Timestamp, ToolCallId,
    ToolName,
};

use super::counts::Scope;
use super::{ListQuery, TimeField};

/// What is asked of a task. `None` and empty ask nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) namespace: Namespace,
    pub(super) statuses: Vec<Status>,
    pub(super) task_id: Option<TaskId>,
    pub(super) agent_id: Option<AgentId>,
    pub(super) run_id: Option<RunId>,
    pub(super) thread_id: Option<ThreadId>,
    pub(super) resource_id: Option<ResourceId>,
    pub(super) tool_name: Option<ToolName>,
    pub(super) tool_call_id: Option<ToolCallId>,
    pub(super) is_external: Option<bool>,
    pub(super) date: Option<(TimeField, Option<Timestamp>, Option<Timestamp>)>,
}

impl Wanted {
    pub(super) fn by_list(query: &ListQuery) -> Self {
        let has_date = query.from.is_some() || query.to.is_some();
        Self {
            namespace: query.namespace.clone(),
            statuses: each_once(&query.statuses),
            task_id: None,
            agent_id: query.agent_id.clone(),
            run_id: query.run_id.clone(),
            thread_id: query.thread_id.clone(),
            resource_id: query.resource_id.clone(),
            tool_name: query.tool_name.clone(),
            tool_call_id: query.tool_call_id.clone(),
            is_external: query.is_external,
            date: has_date.then_some((query.date_field, query.from, query.to)),
        }
    }

    pub(super) fn by_filter(namespace: &Namespace, filter: &Filter, statuses: &[Status]) -> Self {
        Self {
            namespace: namespace.clone(),
            statuses: each_once(statuses),
            task_id: filter.task_id.clone(),
            agent_id: filter.agent_id.clone(),
            run_id: filter.run_id.clone(),
            thread_id: filter.thread_id.clone(),
            resource_id: filter.resource_id.clone(),
            tool_name: filter.tool_name.clone(),
            tool_call_id: None,
            is_external: None,
            date: None,
        }
    }

    /// What the counters know of those that are wanted: the namespace first; then the agent and the tool, each for
    /// itself.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let namespace = || self.namespace.clone();
        let agent = self.agent_id.clone();
        let agent = agent.map(|agent| Scope::NamespaceAgent(namespace(), agent));
        let tool = self.tool_name.clone();
        let tool = tool.map(|tool| Scope::NamespaceTool(namespace(), tool));
        let everybody = Scope::Namespace(namespace());
        [everybody].into_iter().chain(agent).chain(tool).collect()
    }

    /// The statuses that may match.
    pub(super) fn statuses(&self) -> Vec<Status> {
        let asked = |status: &Status| self.statuses.is_empty() || self.statuses.contains(status);
        let has_date = |status: &Status| {
            self.date
                .is_none_or(|(field, ..)| field.is_had_while(*status) != Some(false))
        };
        let statuses = Status::ALL.into_iter();
        statuses.filter(asked).filter(has_date).collect()
    }

    /// Do tasks match that have a time? `false` where it is known that none does.
    pub(super) fn may_have(&self, time: TimeField) -> bool {
        let has_none = |status: Status| time.is_had_while(status) == Some(false);
        !self.statuses().into_iter().all(has_none)
    }
}

fn each_once(statuses: &[Status]) -> Vec<Status> {
    let asked = |status: &Status| statuses.contains(status);
    Status::ALL.into_iter().filter(asked).collect()
}

/// The column of a time.
pub(super) fn column(field: TimeField) -> &'static str {
    match field {
        TimeField::CreatedAt => "created_at_ms",
        TimeField::StartedAt => "started_at_ms",
        TimeField::SuspendedAt => "suspended_at_ms",
        TimeField::CompletedAt => "completed_at_ms",
    }
}
