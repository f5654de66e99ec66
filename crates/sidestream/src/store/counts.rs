//! How many tasks stand where: what is counted apart, for totals and for limits.

use sidestream_core::{AgentId, Namespace, Spec, Status, Task, ToolName};

use super::Limits;

/// Whose tasks are counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Scope {
    /// All tasks of all namespaces.
    All,
    /// A tool's, over all namespaces.
    Tool(ToolName),
    /// A namespace's.
    Namespace(Namespace),
    /// A tool's in a namespace.
    NamespaceTool(Namespace, ToolName),
    /// An agent's in a namespace.
    NamespaceAgent(Namespace, AgentId),
}

impl Scope {
    /// The columns `scope`, `namespace` and `value`.
    pub(super) fn columns(&self) -> [&str; 3] {
        match self {
            Self::All => ["all", "", ""],
            Self::Tool(tool) => ["tool", "", tool.as_str()],
            Self::Namespace(namespace) => ["namespace", namespace.as_str(), ""],
            Self::NamespaceTool(namespace, tool) => {
                ["namespace_tool", namespace.as_str(), tool.as_str()]
            }
            Self::NamespaceAgent(namespace, agent) => {
                ["namespace_agent", namespace.as_str(), agent.as_str()]
            }
        }
    }

    /// Those that count a task.
    pub(super) fn of(
        namespace: &Namespace,
        tool: &ToolName,
        agent: Option<&AgentId>,
    ) -> impl Iterator<Item = Self> {
        let agent = agent.map(|agent| Self::NamespaceAgent(namespace.clone(), agent.clone()));
        [
            Self::All,
            Self::Tool(tool.clone()),
            Self::Namespace(namespace.clone()),
            Self::NamespaceTool(namespace.clone(), tool.clone()),
        ]
        .into_iter()
        .chain(agent)
    }
}

/// What is counted of a task.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) struct Counted<'t> {
    pub(super) namespace: &'t Namespace,
    pub(super) tool: &'t ToolName,
    pub(super) agent: Option<&'t AgentId>,
    pub(super) is_external: bool,
}

impl<'t> Counted<'t> {
    pub(super) fn of(task: &'t Task) -> Self {
        let identity = task.identity();
        Self {
            namespace: &identity.namespace,
            tool: &identity.tool_name,
            agent: identity.agent_id.as_ref(),
            is_external: task.is_external(),
        }
    }
}

/// How many tasks stand in each status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts(pub(super) [i64; Status::ALL.len()]);

impl Counts {
    /// How many stand so.
    pub(super) fn of(&self, status: Status) -> u64 {
        u64::try_from(self.0[status as usize]).unwrap_or(0)
    }

    /// How many stand in any of these, each named once; in any at all, if none is named.
    pub(super) fn of_any(&self, statuses: &[Status]) -> u64 {
        let is_asked = |status: &Status| statuses.is_empty() || statuses.contains(status);
        let statuses = Status::ALL.into_iter().filter(is_asked);
        statuses.map(|status| self.of(status)).sum()
    }

    pub(super) fn plus(mut self, other: Self) -> Self {
        for (mine, more) in self.0.iter_mut().zip(other.0) {
            *mine += more;
        }
        self
    }
}

/// The limits that a new task meets, each with what it counts and its name for people.
pub(super) fn limits_on(spec: &Spec, limits: &Limits) -> Vec<(Scope, u32, String)> {
    let task = &spec.identity;
    let total = limits
        .total
        .map(|limit| (Scope::All, limit, "tasks".into()));
    let agent = task.agent_id.clone().zip(limits.per_agent);
    let agent = agent.map(|(agent, limit)| {
        let name = format!("tasks of agent {agent}");
        let scope = Scope::NamespaceAgent(task.namespace.clone(), agent);
        (scope, limit, name)
    });
    let tool = limits.per_tool.get(&task.tool_name).map(|limit| {
        let name = format!("tasks of tool {}", task.tool_name);
        (Scope::Tool(task.tool_name.clone()), *limit, name)
    });
    total.into_iter().chain(agent).chain(tool).collect()
}
