//! The queue as its indexes have it: a line for each tool, and in it a lane for each agent.

use std::cmp::Reverse;
use std::sync::LazyLock;

use sidestream_core::{AgentId, Namespace, Timestamp, ToolName};
use tokio_postgres::Row;

use super::Value;
use super::cells::Cells;
use super::connection::Connection;
use super::failure::Result;
use super::row::{SELECTED, lane, namespace_of_lanes};
use crate::store::Claim;
use crate::store::stored::Stored;

/// A task's place in the queue; the least is the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    priority: Reverse<i64>,
    due_at_ms: i64,
    pub(super) key: i64,
}

/// A task that is ready.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) place: Place,
    pub(super) tool: ToolName,
    pub(super) namespace: Namespace,
    pub(super) agent: Option<AgentId>,
    /// How many of the agent's tasks run, as the counters say; `None` if they were asked before.
    pub(super) agent_running: Option<i64>,
    /// Has it not been written yet? Then no index has it.
    pub(super) is_unwritten: bool,
}

impl Waiting {
    /// One that is ready, and has not been written.
    pub(super) fn unwritten(stored: &Stored) -> Self {
        let task = stored.task.identity();
        Self {
            place: Place {
                priority: Reverse(stored.task.spec.priority.into()),
                due_at_ms: stored.task.due_at().ms(),
                key: stored.key,
            },
            tool: task.tool_name.clone(),
            namespace: task.namespace.clone(),
            agent: task.agent_id.clone(),
            agent_running: None,
            is_unwritten: true,
        }
    }
}

/// More than any agent has running.
const NO_LIMIT: i64 = 1 << 40;

/// Moves the tasks whose time has come from the delayed to the ready.
pub(super) const FIND_DUE: &str = "WITH due AS (
        SELECT d.place FROM unnest($1::text[]) AS i(tool)
        CROSS JOIN LATERAL (
            SELECT t.ctid AS place FROM @tasks t
            WHERE t.queue = 'delayed' AND t.tool_name = i.tool AND t.due_at_ms <= $2
            ORDER BY t.due_at_ms LIMIT $3 FOR UPDATE SKIP LOCKED
        ) AS d
    ), moved AS (
        UPDATE @tasks AS t SET queue = 'ready' FROM due WHERE t.ctid = due.place RETURNING 1
    ) SELECT count(*) FROM moved";

/// What is read of a waiting task, beside how many of its agent's tasks run.
const WAITING: &str = "w.priority, w.due_at_ms, w.key, w.tool_name, w.namespace, w.agent_id";

/// How many of the tasks of the agent of `w` run.
const RUNNING: &str = "coalesce((
        SELECT c.running FROM @counters c
        WHERE c.scope = 'namespace_agent' AND c.namespace = w.namespace AND c.value = w.agent_id
            AND NOT c.is_external
    ), 0)";

/// The next tasks of each tool's line.
pub(super) static LINES: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {WAITING}, {RUNNING} FROM unnest($1::text[]) AS i(tool)
        CROSS JOIN LATERAL (
            SELECT t.* FROM @tasks t WHERE t.queue = 'ready' AND t.tool_name = i.tool
            ORDER BY t.priority DESC, t.due_at_ms, t.key LIMIT $2
        ) AS w"
    )
});

/// The next tasks of each tool's lanes that are open: whose agent has fewer running than `$3` tasks. From
/// each lane as many as the agent has slots, of all at most `$2`. The lanes are those whose names are from
/// `$4` to before `$5`; `$6` and `$7` say how much this transaction has changed what the counters say.
///
/// The names of the lanes are found one after the other, each by one look into the index.
pub(super) static LANES: LazyLock<String> = LazyLock::new(|| {
    let next = |from: &str| {
        format!(
            "SELECT t.lane FROM @tasks t WHERE t.queue = 'ready' AND t.tool_name = {from} AND t.lane < $5
            ORDER BY t.lane LIMIT 1"
        )
    };
    let first = next("i.tool AND t.lane >= $4");
    let following = next("l.tool AND t.lane > l.lane");
    format!(
        "WITH RECURSIVE l(tool, lane) AS (
            SELECT i.tool, ({first}) FROM unnest($1::text[]) AS i(tool)
            UNION ALL
            SELECT l.tool, ({following}) FROM l WHERE l.lane IS NOT NULL
        )
        SELECT {WAITING}, a.counted FROM l
        CROSS JOIN LATERAL (
            SELECT w.agent_id, {RUNNING} AS counted, coalesce((
                SELECT sum(d.by) FROM unnest($6::bytea[], $7::bigint[]) AS d(lane, by)
                WHERE d.lane = l.lane
            ), 0)::bigint AS changed
            FROM (
                SELECT t.namespace, t.agent_id FROM @tasks t
                WHERE t.queue = 'ready' AND t.tool_name = l.tool AND t.lane = l.lane
                ORDER BY t.priority DESC, t.due_at_ms, t.key LIMIT 1
            ) AS w
        ) AS a
        CROSS JOIN LATERAL (
            SELECT t.* FROM @tasks t
            WHERE t.queue = 'ready' AND t.tool_name = l.tool AND t.lane = l.lane
            ORDER BY t.priority DESC, t.due_at_ms, t.key
            LIMIT CASE WHEN a.agent_id IS NULL THEN $2
                ELSE greatest(0, least($2, $3 - a.counted - a.changed)) END
        ) AS w
        WHERE l.lane IS NOT NULL
        ORDER BY w.priority DESC, w.due_at_ms, w.key LIMIT $2"
    )
});

/// Locks tasks that are still ready, and reads them.
///
/// The condition is put so that no index of the ready ones can be taken for it: see `row`.
pub(super) static TAKE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {SELECTED}, pg_current_xact_id()::text
        FROM (SELECT u.key FROM unnest($1::bigint[]) AS u(key) ORDER BY u.key) AS i
        CROSS JOIN LATERAL (
            SELECT k.* FROM @tasks k WHERE k.key = i.key AND k.queue IS NOT DISTINCT FROM 'ready'
            FOR UPDATE SKIP LOCKED
        ) AS t"
    )
});

/// When the next of the delayed tasks of all tools is due; or was, if they have not been moved.
pub(super) fn next_due(claim: &Claim) -> (&'static str, Option<Value<'_>>) {
    match &claim.namespace {
        None => (
            "SELECT min(d.due_at_ms) FROM unnest($1::text[]) AS i(tool) CROSS JOIN LATERAL (
                SELECT t.due_at_ms FROM @tasks t
                WHERE t.queue = 'delayed' AND t.tool_name = i.tool
                ORDER BY t.due_at_ms LIMIT 1) AS d",
            None,
        ),
        Some(namespace) => (
            "SELECT min(d.due_at_ms) FROM unnest($1::text[]) AS i(tool) CROSS JOIN LATERAL (
                SELECT t.due_at_ms FROM @tasks t
                WHERE t.queue = 'delayed' AND t.tool_name = i.tool AND t.namespace = $2
                ORDER BY t.due_at_ms LIMIT 1) AS d",
            Some(namespace.as_str().into()),
        ),
    }
}

/// The values of [`LINES`]: from each line at most so many.
pub(super) fn of_lines<'v>(tools: &[&'v str], max: i64) -> [Value<'v>; 2] {
    [Value::texts(tools.iter().copied()), max.into()]
}

/// The next tasks of the lanes that are open, of all at most so many.
pub(super) async fn of_lanes(
    connection: &Connection,
    claim: &Claim,
    tools: &[&str],
    max: i64,
    changed: &[(&Namespace, &AgentId, i64)],
) -> Result<Vec<Waiting>> {
    let per_agent = claim.limits.per_agent.map_or(NO_LIMIT, i64::from);
    let (from, to) = match &claim.namespace {
        None => (Vec::new(), vec![0xff; 25]),
        Some(namespace) => {
            let first = namespace_of_lanes(namespace);
            let mut beyond = first.clone();
            beyond.extend([0xff; 17]);
            (first, beyond)
        }
    };
    let changed_lanes = changed.iter();
    let changed_lanes = changed_lanes.map(|(room, agent, _)| Some(lane(room, Some(agent)).into()));
    let values = [
        Value::texts(tools.iter().copied()),
        max.into(),
        per_agent.into(),
        from.into(),
        to.into(),
        Value::ByteStrings(changed_lanes.collect()),
        Value::integers(changed.iter().map(|(.., by)| *by)),
    ];
    read(&connection.query(&LANES, &values).await?)
}

/// The tasks that were read, in order.
pub(super) fn read(rows: &[Row]) -> Result<Vec<Waiting>> {
    let waiting = rows.iter().map(|row| {
        let mut cells = Cells::of(row);
        Ok(Waiting {
            place: Place {
                priority: Reverse(cells.next()?),
                due_at_ms: cells.next()?,
                key: cells.next()?,
            },
            tool: ToolName::new(cells.text()?)?,
            namespace: Namespace::new(cells.text()?)?,
            agent: cells.made(AgentId::new)?,
            agent_running: Some(cells.next()?),
            is_unwritten: false,
        })
    });
    let mut waiting = waiting.collect::<Result<Vec<_>>>()?;
    waiting.sort_by_key(|waiting| waiting.place);
    Ok(waiting)
}

/// When something is due, as it was read.
pub(super) fn due(rows: &[Row]) -> Result<Option<Timestamp>> {
    match rows.first() {
        Some(row) => Cells::of(row).time(),
        None => Ok(None),
    }
}
