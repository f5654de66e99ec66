//! What is done when time passes: lost attempts are ended, old tasks removed, old events forgotten.

use std::sync::{Arc, LazyLock};

use sidestream_core::{AgentId, Namespace, Seq, Status, Timestamp, ToolName};
use tokio_postgres::Row;

use super::Value;
use super::cells::Cells;
use super::counters;
use super::failure::Result;
use super::row::{self, SELECTED};
use super::transaction::Transaction;
use crate::store::counts::Counted;
use crate::store::{Cleanup, Gone, Prune, Rescue, Rescued};

/// So many empty counters at most are removed with one cleanup.
const EMPTY_COUNTERS_MAX: i64 = 1_000;

/// Attempts whose lease has ended, and those that are over their time. One that somebody is just
/// reporting about is left to them.
static OVERDUE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {SELECTED} FROM (
            SELECT key FROM @tasks WHERE lease_until_ms <= $1
            UNION SELECT key FROM @tasks WHERE deadline_ms <= $2 ORDER BY key
        ) AS late CROSS JOIN LATERAL (
            SELECT k.* FROM @tasks k WHERE k.key = late.key
                AND (k.lease_until_ms <= $1 OR k.deadline_ms <= $2) FOR UPDATE SKIP LOCKED
        ) AS t LIMIT $3"
    )
});

/// Attempts that workers hold who are known to be gone.
static HELD: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {SELECTED} FROM (
            SELECT key FROM @tasks WHERE lease_until_ms IS NOT NULL ORDER BY key
        ) AS held CROSS JOIN LATERAL (
            SELECT k.* FROM @tasks k WHERE k.key = held.key AND k.status = 'running'
                AND starts_with(k.worker_id, $1) AND NOT starts_with(k.worker_id, $2) FOR UPDATE SKIP LOCKED
        ) AS t LIMIT $3"
    )
});

const NEXT_LEASE: &str = "SELECT least(
    (SELECT min(lease_until_ms) FROM @tasks WHERE lease_until_ms IS NOT NULL),
    (SELECT CASE WHEN min(deadline_ms) > 9223372036854775807 - $1 THEN 9223372036854775807
        ELSE min(deadline_ms) + $1 END FROM @tasks WHERE deadline_ms IS NOT NULL))";

const OLD: &str = "SELECT old.key, old.namespace, old.tool_name, old.agent_id, old.status, old.seq
    FROM unnest($1::text[], $2::boolean[], $3::bigint[])
        WITH ORDINALITY AS i(status, is_untold, before, turn)
    CROSS JOIN LATERAL (
        SELECT t.* FROM @tasks t
        WHERE t.completed_at_ms IS NOT NULL AND NOT t.is_external AND t.status = i.status
            AND t.is_untold = i.is_untold AND t.completed_at_ms < i.before
        ORDER BY t.completed_at_ms, t.key LIMIT $4 FOR UPDATE SKIP LOCKED
    ) AS old ORDER BY i.turn LIMIT $4";

const OLDEST_EVENTS: &str = "SELECT seq, at_ms FROM @events WHERE seq > $1 ORDER BY seq LIMIT $2";
/// What another is forgetting just now is waited for, and then not counted twice.
const FORGET_EVENTS: &str = "WITH gone AS (
        DELETE FROM @events WHERE seq > $1 AND seq <= $2 RETURNING 1
    ) SELECT count(*) FROM gone";
const FORGET_SPECS: &str = "DELETE FROM @specs WHERE last_seq IS NOT NULL AND last_seq <= $1";

impl Transaction<'_> {
    pub(super) async fn rescue(&mut self, rescue: &Rescue) -> Result<Rescued> {
        self.flush().await?;
        let overtime_ms = i64::try_from(rescue.overtime_ms).unwrap_or(i64::MAX);
        let rows = match &rescue.gone {
            Some(gone) => self.held_by(gone, rescue.looks_at_most()).await?,
            None => self.overdue(overtime_ms, rescue.looks_at_most()).await?,
        };
        let ended = self.end(rescue, &rows).await?;
        self.flush().await?;
        let next = self
            .connection
            .query(NEXT_LEASE, &[overtime_ms.into()])
            .await?;
        let next: Option<i64> = match next.first() {
            Some(row) => row.try_get(0)?,
            None => None,
        };
        let next = next.map(Timestamp::from_ms);
        Ok(Rescued { ended, next })
    }

    async fn overdue(&self, overtime_ms: i64, limit: u32) -> Result<Vec<Row>> {
        let now = self.now.ms();
        let late = now.saturating_sub(overtime_ms);
        let values = [now.into(), late.into(), i64::from(limit).into()];
        self.connection.query(&OVERDUE, &values).await
    }

    async fn held_by(&self, gone: &Gone, limit: u32) -> Result<Vec<Row>> {
        let values = [
            Value::from(gone.prefix.as_str()),
            Value::from(gone.except.as_str()),
            Value::from(i64::from(limit)),
        ];
        self.connection.query(&HELD, &values).await
    }

    /// Ends attempts, by the rule their retries say. Returns how many.
    async fn end(&mut self, rescue: &Rescue, rows: &[Row]) -> Result<u64> {
        let mut ended = 0;
        let found = row::read_all(self.connection, self.specs, rows).await?;
        let lost = found
            .into_iter()
            .filter(|stored| !rescue.spares(&stored.task));
        for (stored, nth) in lost.take(rescue.limit as usize).zip(0..) {
            let stored = self.tasks.know(stored);
            let command = rescue.command_for(&stored.task, nth, self.now);
            let identity = Arc::clone(stored.task.identity());
            let done = self.change(Some(stored), &identity.namespace, &identity.id, &command)?;
            ended += u64::from(done.is_ok());
        }
        Ok(ended)
    }

    pub(super) async fn cleanup(&mut self, cleanup: &Cleanup) -> Result<u64> {
        self.flush().await?;
        let ends = [
            (Status::Completed, cleanup.completed_before),
            (Status::Failed, cleanup.failed_before),
            (Status::TimedOut, cleanup.failed_before),
            (Status::Cancelled, cleanup.failed_before),
        ];
        let each = ends.iter().flat_map(|(status, before)| {
            let untold = cleanup.untold_before.min(*before);
            [(*status, false, *before), (*status, true, untold)]
        });
        let untold = each.clone().map(|(_, is_untold, _)| Some(is_untold));
        let values = [
            Value::texts(each.clone().map(|(status, ..)| status.as_str())),
            Value::Booleans(untold.collect()),
            Value::integers(each.map(|(.., before)| before.ms())),
            Value::from(i64::from(cleanup.limit)),
        ];
        let rows = self.connection.query(OLD, &values).await?;
        for row in &rows {
            let mut cells = Cells::of(row);
            let key = cells.next()?;
            let namespace = Namespace::new(cells.text()?)?;
            let tool = ToolName::new(cells.text()?)?;
            let agent = cells.made(AgentId::new)?;
            let status = Status::parse(cells.text()?)?;
            let counted = Counted {
                namespace: &namespace,
                tool: &tool,
                agent: agent.as_ref(),
                is_external: false,
            };
            self.remove(key, counted, status, Seq(cells.unsigned()?));
        }
        self.flush().await?;
        self.find_empty_counters().await?;
        Ok(rows.len() as u64)
    }

    /// Counters that are all zero, to be removed with the head's lock.
    async fn find_empty_counters(&mut self) -> Result<()> {
        let limit = [EMPTY_COUNTERS_MAX.into()];
        let rows = self.connection.query(counters::EMPTY, &limit).await?;
        let texts = |column: usize| {
            let texts = rows
                .iter()
                .map(|row| Some(row.get::<_, String>(column).into()));
            Value::Texts(texts.collect())
        };
        if !rows.is_empty() {
            let external = rows.iter().map(|row| Some(row.get(3)));
            let external = Value::Booleans(external.collect());
            self.empty_counters = vec![texts(0), texts(1), texts(2), external];
            // It must hold the head's lock to remove them.
            self.has_pruned = true;
        }
        Ok(())
    }

    pub(super) async fn prune(&mut self, prune: &Prune) -> Result<u64> {
        let floor = self.prunable(prune).await?;
        if floor == self.floor {
            return Ok(0);
        }
        self.flush().await?;
        let bounds = [self.floor, floor].map(|seq| Value::from(seq.0.cast_signed()));
        let gone = self.connection.query(FORGET_EVENTS, &bounds).await?;
        let pruned = match gone.first() {
            Some(row) => Cells::of(row).unsigned()?,
            None => 0,
        };
        self.connection.query(FORGET_SPECS, &bounds[1..]).await?;
        (self.floor, self.has_pruned, self.has_written) = (floor, true, true);
        Ok(pruned)
    }

    /// The last event that may go: of those that are too many or too old, at most as many as asked.
    async fn prunable(&self, prune: &Prune) -> Result<Seq> {
        let too_many = self.seq.0.saturating_sub(prune.events_max);
        let values = [
            Value::from(self.floor.0.cast_signed()),
            Value::from(i64::from(prune.limit)),
        ];
        let mut floor = self.floor;
        for row in &self.connection.query(OLDEST_EVENTS, &values).await? {
            let mut cells = Cells::of(row);
            let seq = cells.unsigned()?;
            if seq > too_many && cells.moment()? >= prune.before {
                break;
            }
            floor = Seq(seq);
        }
        Ok(floor)
    }
}
