//! How many tasks stand where, counted as they change, so that totals and limits cost the same at any
//! size.
//!
//! The writer gathers a transaction's changes here and writes each counter that changed once, at its
//! end. What it has read or written it remembers: nobody else writes. When a transaction is undone, it
//! forgets everything.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, params};
use sidestream_core::{Status, Task};

use super::failure::Result;
use super::prepare::prepare;
use crate::store::counts::{Counts, Scope};

/// The most counters that are remembered between transactions.
const REMEMBERED_MAX: usize = 10_000;

/// Reads one counter: of the tasks whose owner is elsewhere, or of the others.
pub(super) fn read(connection: &Connection, scope: &Scope, is_external: bool) -> Result<Counts> {
    let sql = "SELECT pending, running, suspended, completed, failed, timed_out, cancelled
        FROM counters WHERE scope = ?1 AND namespace = ?2 AND value = ?3 AND is_external = ?4";
    let mut statement = prepare(connection, sql)?;
    let [kind, namespace, value] = scope.columns();
    let counts = statement.query_row(params![kind, namespace, value, is_external], read_counts);
    Ok(counts.optional()?.unwrap_or_default())
}

fn read_counts(row: &Row<'_>) -> rusqlite::Result<Counts> {
    let mut counts = Counts::default();
    for (i, count) in counts.0.iter_mut().enumerate() {
        *count = row.get(i)?;
    }
    Ok(counts)
}

/// Reads both counters of a scope; only one, where it is said which.
pub(super) fn read_both(
    connection: &Connection,
    scope: &Scope,
    is_external: Option<bool>,
) -> Result<Counts> {
    match is_external {
        Some(is_external) => read(connection, scope, is_external),
        None => Ok(read(connection, scope, false)?.plus(read(connection, scope, true)?)),
    }
}

/// The counters as the writer knows them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    known: HashMap<Counter, Known>,
    /// Those of them that the transaction has changed.
    changed: Vec<Counter>,
}

/// A scope, and whether it is about the tasks whose owner is elsewhere.
type Counter = (Scope, bool);

#[derive(Debug)]
struct Known {
    counts: Counts,
    is_changed: bool,
}

impl Counters {
    /// How many of the tasks that take slots stand where.
    pub(super) fn ours(&mut self, connection: &Connection, scope: Scope) -> Result<Counts> {
        Ok(self.known(connection, &(scope, false))?.counts)
    }

    /// Counts a task's change from one status to another, or its coming, or its going.
    pub(super) fn count(
        &mut self,
        connection: &Connection,
        task: &Task,
        before: Option<Status>,
        after: Option<Status>,
    ) -> Result<()> {
        if before == after {
            return Ok(());
        }
        let identity = task.identity();
        let agent = identity.agent_id.as_ref();
        for scope in Scope::of(&identity.namespace, &identity.tool_name, agent) {
            let counter = (scope, task.is_external());
            let known = self.known(connection, &counter)?;
            for (status, by) in [(before, -1), (after, 1)] {
                if let Some(status) = status {
                    known.counts.0[status as usize] += by;
                }
            }
            if !std::mem::replace(&mut known.is_changed, true) {
                self.changed.push(counter);
            }
        }
        Ok(())
    }

    fn known(&mut self, connection: &Connection, counter: &Counter) -> Result<&mut Known> {
        if !self.known.contains_key(counter) {
            let known = Known {
                counts: read(connection, &counter.0, counter.1)?,
                is_changed: false,
            };
            self.known.insert(counter.clone(), known);
        }
        Ok(self
            .known
            .get_mut(counter)
            .expect("it has just been put there"))
    }

    /// Writes what has changed: the last step before the commit.
    pub(super) fn write(&mut self, connection: &Connection) -> Result<()> {
        for counter in std::mem::take(&mut self.changed) {
            let known = self
                .known
                .get_mut(&counter)
                .expect("what was changed is known");
            known.is_changed = false;
            save(connection, &counter, known.counts)?;
        }
        if self.known.len() > REMEMBERED_MAX {
            self.known.clear();
        }
        Ok(())
    }

    /// Forgets everything: the transaction was undone.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.changed.clear();
    }
}

fn save(connection: &Connection, (scope, is_external): &Counter, counts: Counts) -> Result<()> {
    let [kind, namespace, value] = scope.columns();
    if counts == Counts::default() {
        let sql = "DELETE FROM counters WHERE scope = ? AND namespace = ? AND value = ?
            AND is_external = ?";
        prepare(connection, sql)?.execute(params![kind, namespace, value, is_external])?;
        return Ok(());
    }
    let sql = "INSERT OR REPLACE INTO counters (scope, namespace, value, is_external,
            pending, running, suspended, completed, failed, timed_out, cancelled)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let [a, b, c, d, e, f, g] = counts.0;
    let row = params![kind, namespace, value, is_external, a, b, c, d, e, f, g];
    prepare(connection, sql)?.execute(row)?;
    Ok(())
}
