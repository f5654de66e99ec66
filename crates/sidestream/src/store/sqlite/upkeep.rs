//! What is done when time passes: lost attempts are ended, old tasks removed, old events forgotten.

use std::sync::Arc;

use rusqlite::params;
use sidestream_core::{AgentId, Namespace, Seq, Status, Timestamp, ToolName};

use super::failure::Result;
use super::prepare::prepare;
use super::spec::{required, text};
use super::transaction::Transaction;
use crate::store::counts::Counted;
use crate::store::{Cleanup, Gone, Prune, Rescue, Rescued};

/// An ended task, as far as its removal needs it.
#[derive(Debug)]
struct Old {
    key: i64,
    namespace: Namespace,
    tool: ToolName,
    agent: Option<AgentId>,
    last: Seq,
}

impl Transaction<'_> {
    pub(super) fn rescue(&mut self, rescue: &Rescue) -> Result<Rescued> {
        self.flush()?;
        let overtime_ms = i64::try_from(rescue.overtime_ms).unwrap_or(i64::MAX);
        let keys = match &rescue.gone {
            Some(gone) => self.held_by(gone, rescue.looks_at_most() as usize)?,
            None => self.overdue(overtime_ms, rescue.looks_at_most())?,
        };
        let ended = self.end(rescue, keys)?;
        self.flush()?;
        let next = self.next_to_rescue(overtime_ms)?;
        Ok(Rescued { ended, next })
    }

    /// Those whose lease has ended, and those that are over their time by more than is granted.
    fn overdue(&self, overtime_ms: i64, limit: u32) -> Result<Vec<i64>> {
        let sql = "SELECT key FROM tasks INDEXED BY tasks_held
            WHERE lease_until_ms IS NOT NULL AND min(lease_until_ms, deadline_ms) <= ?1
                AND (lease_until_ms <= ?1 OR deadline_ms <= ?2)
            ORDER BY key LIMIT ?3";
        let now = self.now.ms();
        self.keys(sql, params![now, now.saturating_sub(overtime_ms), limit])
    }

    /// Those that workers hold who are known to be gone. (A bound that all are above lets SQLite search the index;
    /// without one it scans.)
    fn held_by(&self, gone: &Gone, limit: usize) -> Result<Vec<i64>> {
        let sql = "SELECT key, worker_id FROM tasks INDEXED BY tasks_held
            WHERE lease_until_ms IS NOT NULL AND min(lease_until_ms, deadline_ms) >= ?";
        let mut statement = prepare(self.connection, sql)?;
        let mut rows = statement.query([i64::MIN])?;
        let mut keys: Vec<i64> = Vec::new();
        while let Some(row) = rows.next()? {
            let worker = required(row, 1)?;
            if worker.starts_with(&gone.prefix) && !worker.starts_with(&gone.except) {
                keys.push(row.get(0)?);
            }
        }
        keys.sort_unstable();
        keys.truncate(limit);
        Ok(keys)
    }

    fn keys(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<i64>> {
        let mut statement = prepare(self.connection, sql)?;
        let keys = statement.query_map(params, |row| row.get(0))?;
        Ok(keys.collect::<rusqlite::Result<_>>()?)
    }

    /// Ends attempts, by the rule their retries say. Returns how many.
    fn end(&mut self, rescue: &Rescue, keys: Vec<i64>) -> Result<u64> {
        let (mut ended, mut nth) = (0, 0);
        for key in keys {
            let Some(stored) = self.find_by_key(key)? else {
                continue;
            };
            if rescue.spares(&stored.task) {
                continue;
            }
            if nth == u64::from(rescue.limit) {
                break;
            }
            let command = rescue.command_for(&stored.task, nth, self.now);
            let identity = Arc::clone(stored.task.identity());
            let done = self.change(Some(stored), &identity.namespace, &identity.id, &command)?;
            ended += u64::from(done.is_ok());
            nth += 1;
        }
        Ok(ended)
    }

    /// When the first lease ends, or the time that the first is granted beyond its own.
    fn next_to_rescue(&self, overtime_ms: i64) -> Result<Option<Timestamp>> {
        let sql = "SELECT lease_until_ms, deadline_ms FROM tasks INDEXED BY tasks_held
            WHERE lease_until_ms IS NOT NULL AND min(lease_until_ms, deadline_ms) >= ?
            ORDER BY min(lease_until_ms, deadline_ms)";
        let mut statement = prepare(self.connection, sql)?;
        let mut rows = statement.query([i64::MIN])?;
        let mut next: Option<i64> = None;
        while let Some(row) = rows.next()? {
            let (lease, deadline): (i64, i64) = (row.get(0)?, row.get(1)?);
            // Those behind it come no sooner.
            if next.is_some_and(|next| next <= lease.min(deadline)) {
                break;
            }
            let ends = lease.min(deadline.saturating_add(overtime_ms));
            next = Some(next.map_or(ends, |next| next.min(ends)));
        }
        Ok(next.map(Timestamp::from_ms))
    }

    pub(super) fn cleanup(&mut self, cleanup: &Cleanup) -> Result<u64> {
        self.flush()?;
        let ends = [
            (Status::Completed, cleanup.completed_before),
            (Status::Failed, cleanup.failed_before),
            (Status::TimedOut, cleanup.failed_before),
            (Status::Cancelled, cleanup.failed_before),
        ];
        let mut removed = 0;
        for (status, before) in ends {
            for (is_untold, before) in [(false, before), (true, before.min(cleanup.untold_before))]
            {
                let left = u64::from(cleanup.limit).saturating_sub(removed);
                for old in self.old(status, is_untold, before, left)? {
                    let counted = Counted {
                        namespace: &old.namespace,
                        tool: &old.tool,
                        agent: old.agent.as_ref(),
                        is_external: false,
                    };
                    self.remove(old.key, counted, status, old.last)?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    /// Tasks that ended so before a time, those that ended first.
    fn old(
        &self,
        status: Status,
        is_untold: bool,
        before: Timestamp,
        limit: u64,
    ) -> Result<Vec<Old>> {
        let sql = "SELECT key, namespace, tool_name, agent_id, seq
            FROM tasks INDEXED BY tasks_to_clean
            WHERE completed_at_ms IS NOT NULL AND is_external = 0
                AND status = ? AND is_untold = ? AND completed_at_ms < ?
            ORDER BY completed_at_ms, key LIMIT ?";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut statement = prepare(self.connection, sql)?;
        let mut rows = statement.query(params![status.as_str(), is_untold, before.ms(), limit])?;
        let mut old = Vec::new();
        while let Some(row) = rows.next()? {
            old.push(Old {
                key: row.get(0)?,
                namespace: Namespace::new(required(row, 1)?)?,
                tool: ToolName::new(required(row, 2)?)?,
                agent: text(row, 3)?.map(AgentId::new).transpose()?,
                last: Seq(row.get::<_, i64>(4)?.cast_unsigned()),
            });
        }
        Ok(old)
    }

    /// Removes a task. Its spec stays as long as an event of it does.
    pub(super) fn remove(
        &mut self,
        key: i64,
        counted: Counted<'_>,
        status: Status,
        last: Seq,
    ) -> Result<()> {
        let connection = self.connection;
        prepare(connection, "DELETE FROM tasks WHERE key = ?")?.execute([key])?;
        if last <= self.floor {
            prepare(connection, "DELETE FROM specs WHERE key = ?")?.execute([key])?;
        } else {
            prepare(connection, "UPDATE specs SET last_seq = ? WHERE key = ?")?
                .execute([last.0.cast_signed(), key])?;
        }
        let counters = &mut self.memory.counters;
        counters.count(connection, counted, Some(status), None)
    }

    pub(super) fn prune(&mut self, prune: &Prune) -> Result<u64> {
        self.flush()?;
        let floor = self.prunable(prune)?;
        let pruned = floor.0 - self.floor.0;
        if pruned == 0 {
            return Ok(0);
        }
        self.floor = floor;
        let floor = floor.0.cast_signed();
        prepare(self.connection, "DELETE FROM events WHERE seq <= ?")?.execute([floor])?;
        prepare(
            self.connection,
            "DELETE FROM specs INDEXED BY specs_to_prune
                    WHERE last_seq IS NOT NULL AND last_seq <= ?",
        )?
        .execute([floor])?;
        Ok(pruned)
    }

    /// The last event that may go: of those that are too many or too old, at most as many as asked.
    fn prunable(&self, prune: &Prune) -> Result<Seq> {
        let too_many = self.seq.0.saturating_sub(prune.events_max);
        let sql = "SELECT seq, at_ms FROM events WHERE seq > ? ORDER BY seq LIMIT ?";
        let mut statement = prepare(self.connection, sql)?;
        let mut rows = statement.query([self.floor.0.cast_signed(), prune.limit.into()])?;
        let mut floor = self.floor;
        while let Some(row) = rows.next()? {
            let seq = row.get::<_, i64>(0)?.cast_unsigned();
            let at = Timestamp::from_ms(row.get(1)?);
            if seq > too_many && at >= prune.before {
                break;
            }
            floor = Seq(seq);
        }
        Ok(floor)
    }
}
