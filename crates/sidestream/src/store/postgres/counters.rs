//! How many tasks stand where, counted as they change, so that totals and limits cost the same at any
//! size.
//!
//! A transaction gathers its changes here; they are added to the counters by its last statement, while it
//! holds the head's lock. So nobody ever waits for a counter, and two transactions cannot wait for each
//! other's.

use std::collections::HashMap;
use std::sync::LazyLock;

use sidestream_core::{AgentId, Namespace, Status};
use tokio_postgres::Row;

use super::Value;
use super::cells::Cells;
use super::connection::Connection;
use super::failure::{Failure, Result};
use super::value::{Column, Kind, arrays, names, unnest};
use crate::store::counts::{Counted, Counts, Scope};

/// A scope, and whether it is about the tasks whose owner is elsewhere.
type Counter = (Scope, bool);

/// The columns of a counter.
const COLUMNS: [Column; 11] = [
    ("scope", Kind::Text),
    ("namespace", Kind::Text),
    ("value", Kind::Text),
    ("is_external", Kind::Boolean),
    ("pending", Kind::Integer),
    ("running", Kind::Integer),
    ("suspended", Kind::Integer),
    ("completed", Kind::Integer),
    ("failed", Kind::Integer),
    ("timed_out", Kind::Integer),
    ("cancelled", Kind::Integer),
];

/// Reads both counters of each scope.
static SELECT: LazyLock<String> = LazyLock::new(|| {
    let columns = names(&COLUMNS, "c.");
    format!(
        "SELECT i.number, {columns}
        FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[])
            AS i(number, scope, namespace, value)
CROSS JOIN LATERAL (
            SELECT k.* FROM @counters k
            WHERE k.scope = i.scope AND k.namespace = i.namespace AND k.value = i.value LIMIT 2
        ) AS c"
    )
});

/// What the last statement of a transaction adds to the counters, as a part of it that reads the head
/// as `h`. The parameters are counted from `first`.
pub(super) fn adding(first: usize) -> String {
    let columns = names(&COLUMNS, "");
    let rows = unnest(&COLUMNS, first);
    let statuses = COLUMNS.iter().skip(4).map(|(name, _)| name);
    let set = statuses.map(|name| format!("{name} = c.{name} + excluded.{name}"));
    let set = set.collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO @counters AS c ({columns}) SELECT {} FROM h, {rows}
        ON CONFLICT (scope, namespace, value, is_external) DO UPDATE SET {set}",
        names(&COLUMNS, "i.")
    )
}

/// Counters that are all zero: found without a lock, so what is found may have changed since.
pub(super) const EMPTY: &str = "SELECT scope, namespace, value, is_external FROM @counters
    WHERE pending = 0 AND running = 0 AND suspended = 0 AND completed = 0 AND failed = 0
        AND timed_out = 0 AND cancelled = 0 LIMIT $1";

/// Removes those of some counters that are all zero: while the head's lock is held.
pub(super) const REMOVE_EMPTY: &str = "DELETE FROM @counters c
    USING unnest($1::text[], $2::text[], $3::text[], $4::boolean[])
        AS i(scope, namespace, value, is_external)
    CROSS JOIN LATERAL (
        SELECT k.ctid FROM @counters k WHERE k.scope = i.scope AND k.namespace = i.namespace
            AND k.value = i.value AND k.is_external = i.is_external LIMIT 1
    ) AS at
    WHERE c.ctid = at.ctid AND c.pending = 0 AND c.running = 0 AND c.suspended = 0 AND c.completed = 0
        AND c.failed = 0 AND c.timed_out = 0 AND c.cancelled = 0";

/// The statement that reads counters, and its values.
pub(super) fn select(scopes: &[Scope]) -> (&'static str, Vec<Value<'_>>) {
    let columns = |at: usize| Value::texts(scopes.iter().map(move |scope| scope.columns()[at]));
    let numbers = Value::integers((0..).take(scopes.len()));
    (&SELECT, vec![numbers, columns(0), columns(1), columns(2)])
}

/// The counters that [`select`] found: of our own tasks, and of those kept for others.
pub(super) fn found(scopes: &[Scope], rows: &[Row]) -> Result<HashMap<Scope, [Counts; 2]>> {
    let mut counts: HashMap<Scope, [Counts; 2]> = HashMap::new();
    for row in rows {
        let mut cells = Cells::of(row);
        let number: usize = cells.small()?;
        for _ in 0..3 {
            cells.text()?;
        }
        let is_external: bool = cells.next()?;
        let mut found = Counts::default();
        for count in &mut found.0 {
            *count = cells.next()?;
        }
        let scope = scopes.get(number);
        let scope = scope.ok_or_else(|| Failure::Bug("a counter that was not asked for".into()))?;
        counts.entry(scope.clone()).or_default()[usize::from(is_external)] = found;
    }
    Ok(counts)
}

/// Reads counters.
pub(super) async fn read(
    connection: &Connection,
    scopes: &[Scope],
) -> Result<HashMap<Scope, [Counts; 2]>> {
    let (sql, values) = select(scopes);
    found(scopes, &connection.query(sql, &values).await?)
}

/// The counters as a transaction sees them: those that it has read, and what it adds to them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    read: HashMap<Scope, Counts>,
    added: HashMap<Counter, Counts>,
}

impl Counters {
    /// Takes note of counters as they are in the database.
    pub(super) fn know(&mut self, scopes: &[Scope], rows: &[Row]) -> Result<()> {
        let mut found = found(scopes, rows)?;
        for scope in scopes {
            let [ours, _] = found.remove(scope).unwrap_or_default();
            self.read.insert(scope.clone(), ours);
        }
        Ok(())
    }

    /// Takes note of how many of an agent's tasks run, as it is in the database.
    pub(super) fn know_running(&mut self, scope: Scope, running: i64) {
        let mut counts = Counts::default();
        counts.0[Status::Running as usize] = running;
        self.read.insert(scope, counts);
    }

    /// Has this counter been read?
    pub(super) fn knows(&self, scope: &Scope) -> bool {
        self.read.contains_key(scope)
    }

    /// How many of the tasks that take slots stand where.
    pub(super) fn ours(&self, scope: Scope) -> Result<Counts> {
        let read = self.read.get(&scope);
        let read = read.ok_or_else(|| Failure::Bug(format!("{scope:?} was not read")))?;
        let added = self.added.get(&(scope, false)).copied();
        Ok(read.plus(added.unwrap_or_default()))
    }

    /// Counts a task's change from one status to another, or its coming, or its going.
    pub(super) fn count(
        &mut self,
        task: Counted<'_>,
        before: Option<Status>,
        after: Option<Status>,
    ) {
        if before == after {
            return;
        }
        for scope in Scope::of(task.namespace, task.tool, task.agent) {
            let counts = self.added.entry((scope, task.is_external)).or_default();
            for (status, by) in [(before, -1), (after, 1)] {
                if let Some(status) = status {
                    counts.0[status as usize] += by;
                }
            }
        }
    }

    /// By how much the transaction has changed how many tasks of an agent run.
    pub(super) fn running_of_agents(&self) -> Vec<(&Namespace, &AgentId, i64)> {
        let added = self.added.iter().filter_map(|(counter, counts)| {
            let by = counts.0[Status::Running as usize];
            match counter {
                (Scope::NamespaceAgent(namespace, agent), false) if by != 0 => {
                    Some((namespace, agent, by))
                }
                _ => None,
            }
        });
        added.collect()
    }

    /// What is to be added, as values for [`adding`]; always in one order.
    pub(super) fn added(&self) -> Vec<Value<'_>> {
        let mut added: Vec<_> = self.added.iter().collect();
        added.retain(|(_, counts)| **counts != Counts::default());
        added.sort_by_key(|((scope, is_external), _)| (scope.columns(), *is_external));
        let rows = added.into_iter().map(|((scope, is_external), counts)| {
            let [kind, namespace, value] = scope.columns();
            let [a, b, c, d, e, f, g] = counts.0.map(Value::from);
            let (kind, namespace, value) = (kind.into(), namespace.into(), value.into());
            [
                kind,
                namespace,
                value,
                (*is_external).into(),
                a,
                b,
                c,
                d,
                e,
                f,
                g,
            ]
        });
        arrays(&COLUMNS, rows)
    }

    pub(super) fn is_unchanged(&self) -> bool {
        self.added
            .values()
            .all(|counts| *counts == Counts::default())
    }
}
