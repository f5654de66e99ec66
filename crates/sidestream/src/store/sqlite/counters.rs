//! How many tasks stand where, counted as they change, so that totals and limits cost the same at any
//! size.
//!
//! The writer gathers a transaction's changes here and writes each counter that changed once, at its
//! end. What it has read or written it remembers: nobody else writes. When a transaction is undone, it
//! forgets everything.

use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};
use rusqlite::{Connection, OptionalExtension, Row, params};
use sidestream_core::{AgentId, Namespace, Status, ToolName};

use super::failure::Result;
use super::prepare::prepare;
use crate::store::counts::{Counted, Counts, Scope};

/// The most counters, and the most groups of tasks, that are remembered between transactions.
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

/// Reads both counters of a scope: of the tasks that take slots, and of those whose owner is elsewhere.
pub(super) fn read_both(connection: &Connection, scope: &Scope) -> Result<[Counts; 2]> {
    Ok([
        read(connection, scope, false)?,
        read(connection, scope, true)?,
    ])
}

/// The counters as the writer knows them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    known: Vec<Known>,
    /// Where each counter is among those that are known.
    places: HashMap<Counter, usize>,
    /// Where those are that count a task.
    groups: HashMap<Group, Arc<[usize]>>,
    /// Where those are that the transaction has changed.
    changed: Vec<usize>,
}

/// A scope, and whether it is about the tasks whose owner is elsewhere.
type Counter = (Scope, bool);

#[derive(Debug)]
struct Known {
    counter: Counter,
    counts: Counts,
    is_changed: bool,
}

impl Counters {
    /// How many of the tasks that take slots stand where.
    pub(super) fn ours(&mut self, connection: &Connection, scope: Scope) -> Result<Counts> {
        let place = self.place(connection, (scope, false))?;
        Ok(self.known[place].counts)
    }

    /// Counts a task's change from one status to another, or its coming, or its going.
    pub(super) fn count(
        &mut self,
        connection: &Connection,
        task: Counted<'_>,
        before: Option<Status>,
        after: Option<Status>,
    ) -> Result<()> {
        if before == after {
            return Ok(());
        }
        for place in self.of_task(connection, task)?.iter() {
            let known = &mut self.known[*place];
            for (status, by) in [(before, -1), (after, 1)] {
                if let Some(status) = status {
                    known.counts.0[status as usize] += by;
                }
            }
            if !std::mem::replace(&mut known.is_changed, true) {
                self.changed.push(*place);
            }
        }
        Ok(())
    }

    /// Where those are that count a task.
    fn of_task(&mut self, connection: &Connection, task: Counted<'_>) -> Result<Arc<[usize]>> {
        if let Some(places) = self.groups.get(&task) {
            return Ok(Arc::clone(places));
        }
        let scopes = Scope::of(task.namespace, task.tool, task.agent);
        let places = scopes.map(|scope| self.place(connection, (scope, task.is_external)));
        let places: Arc<[usize]> = places.collect::<Result<_>>()?;
        self.groups.insert(Group::of(task), Arc::clone(&places));
        Ok(places)
    }

    /// Where a counter is; read, if it is not known yet.
    fn place(&mut self, connection: &Connection, counter: Counter) -> Result<usize> {
        if let Some(place) = self.places.get(&counter) {
            return Ok(*place);
        }
        let place = self.known.len();
        self.known.push(Known {
            counts: read(connection, &counter.0, counter.1)?,
            counter: counter.clone(),
            is_changed: false,
        });
        self.places.insert(counter, place);
        Ok(place)
    }

    /// Writes what has changed: the last step before the commit.
    pub(super) fn write(&mut self, connection: &Connection) -> Result<()> {
        for place in std::mem::take(&mut self.changed) {
            let known = &mut self.known[place];
            known.is_changed = false;
            save(connection, &known.counter, known.counts)?;
        }
        if self.known.len().max(self.groups.len()) > REMEMBERED_MAX {
            self.forget();
        }
        Ok(())
    }

    /// Forgets everything: the transaction was undone.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// What tasks that are counted alike have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Group {
    namespace: Namespace,
    tool: ToolName,
    agent: Option<AgentId>,
    is_external: bool,
}

impl Group {
    fn of(counted: Counted<'_>) -> Self {
        Self {
            namespace: counted.namespace.clone(),
            tool: counted.tool.clone(),
            agent: counted.agent.cloned(),
            is_external: counted.is_external,
        }
    }
}

impl Equivalent<Group> for Counted<'_> {
    fn equivalent(&self, group: &Group) -> bool {
        let Self {
            namespace,
            tool,
            agent,
            is_external,
        } = self;
        *tool == &group.tool
            && *agent == group.agent.as_ref()
            && *namespace == &group.namespace
            && *is_external == group.is_external
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

#[cfg(test)]
mod tests {
    use sidestream_core::{
        Event, EventKind, NewTask, ReportNumber, Seq, Task, TaskId, Timestamp, lifecycle,
    };
    use tempfile::TempDir;

    use super::*;
    use crate::store::sqlite::{SqliteOptions, SqliteStore, open};

    fn pending(agent: usize) -> Task {
        let new = NewTask::new("t").agent(format!("agent-{agent}"));
        let id = TaskId::new("task").expect("a plain id");
        let spec = new.into_spec(Namespace::default(), id, Default::default());
        let dispatched = Event {
            seq: Seq(1),
            at: Timestamp::from_ms(1),
            report: ReportNumber::NONE,
            kind: EventKind::Dispatched(Arc::new(spec.expect("it is complete"))),
        };
        let mut task = None;
        lifecycle::apply(&mut task, &Namespace::default(), &dispatched);
        task.expect("it is there")
    }

    fn of_agent(agent: usize) -> Scope {
        let agent = AgentId::new(format!("agent-{agent}")).expect("a plain id");
        Scope::NamespaceAgent(Namespace::default(), agent)
    }

    /// More agents have tasks than are remembered.
    #[test]
    fn counters_that_are_forgotten_are_read_again() -> Result<()> {
        let directory = TempDir::new().expect("a directory");
        drop(SqliteStore::open(directory.path(), SqliteOptions::default()).expect("it opens"));
        let file = open::file_in(directory.path());
        let connection = open::connect(&file, &SqliteOptions::default())?;
        connection.execute_batch("BEGIN")?;
        let mut counters = Counters::default();
        for agent in 0..=REMEMBERED_MAX {
            let task = pending(agent);
            counters.count(&connection, Counted::of(&task), None, Some(Status::Pending))?;
        }
        counters.write(&connection)?;
        // In another order than before.
        let begins = (Some(Status::Pending), Some(Status::Running));
        for agent in [REMEMBERED_MAX, 0, 7] {
            let task = pending(agent);
            counters.count(&connection, Counted::of(&task), begins.0, begins.1)?;
        }
        counters.write(&connection)?;
        let waiting = REMEMBERED_MAX as u64 + 1 - 3;
        for (scope, pending, running) in [
            (Scope::All, waiting, 3),
            (of_agent(0), 0, 1),
            (of_agent(REMEMBERED_MAX), 0, 1),
            (of_agent(1), 1, 0),
        ] {
            let saved = read(&connection, &scope, false)?;
            assert_eq!(
                counters.ours(&connection, scope.clone())?,
                saved,
                "{scope:?}"
            );
            let stand = (saved.of(Status::Pending), saved.of(Status::Running));
            assert_eq!(stand, (pending, running), "{scope:?}");
        }
        let is_bounded = |count: usize| count <= REMEMBERED_MAX;
        assert!(is_bounded(counters.known.len()) && is_bounded(counters.groups.len()));
        Ok(())
    }
}
