//! The last journey of a transaction: the rows are written, then, with the head's lock, the log; and all
//! of it is committed.
//!
//! Only the last statement takes the head's lock, and the commit is sent along with it: no client can
//! hold the lock while it is slow, stopped or gone. The lock is held until the commit is seen by all; so
//! whoever gets the next places of the log got the lock after these could be read (L2).

use std::sync::LazyLock;

use sidestream_core::{LogEntry, Rejection, Seq};

use super::Value;
use super::connection::{Connections, Ready, answer};
use super::counters;
use super::failure::{Failure, Result};
use super::outcome::Pending;
use super::row;
use super::transaction::{SPEC_BY_KEY, Transaction, Write};
use super::value::{Column, Kind, arrays, unnest};
use crate::store::{Answer, Committed};

/// An event on its way into the log: its place is counted from the head.
const EVENT: [Column; 6] = [
    ("place", Kind::Integer),
    ("task_key", Kind::Integer),
    ("code", Kind::Integer),
    ("attempt", Kind::Integer),
    ("report", Kind::Integer),
    ("body", Kind::Text),
];

/// Places of a task that were foretold, and may have to be put right: of its last event, and of its first
/// if that is one of these.
const TASK: [Column; 3] = [
    ("key", Kind::Integer),
    ("place", Kind::Integer),
    ("first", Kind::Integer),
];

/// The same, of one that was deleted.
const DELETED: [Column; 2] = [("key", Kind::Integer), ("place", Kind::Integer)];

/// How far a clock may have been wrong: see `steady`.
const WRONG_BY_MS: i64 = 60_000;

/// If the commit does not follow its statement for so long, in milliseconds, the server undoes the
/// transaction: this process was stopped, or its network broke, between two messages.
const HELD_MS_MAX: i64 = 1_000;

/// `$1` is how many events there are, `$2` how far the log is pruned, `$3` the time, `$4` the head as it
/// was foretold, `$5` the channel on which others listen.
///
/// Everything is read from `h`, so that nothing happens before the head is locked.
static APPEND: LazyLock<String> = LazyLock::new(|| {
    let events = unnest(&EVENT, 6);
    let tasks = unnest(&TASK, 12);
    let specs = unnest(&DELETED, 15);
    let counters = counters::adding(17);
    let (by_key, spec_by_key) = (row::BY_KEY, SPEC_BY_KEY);
    format!(
        "WITH h AS (
            UPDATE @head SET seq = seq + $1, floor = greatest(floor, $2),
                last_at_ms = CASE WHEN $3 > last_at_ms OR $3 < last_at_ms - {WRONG_BY_MS}
                    THEN $3 ELSE last_at_ms END
            WHERE single = 1 RETURNING seq - $1 AS base, seq
        ), e AS (
            INSERT INTO @events (seq, task_key, at_ms, code, attempt, report, body)
            SELECT h.base + i.place, i.task_key, $3, i.code, i.attempt, i.report, i.body FROM h, {events}
        ), t AS (
            UPDATE @tasks AS t SET seq = h.base + i.place,
                first_seq = coalesce(h.base + i.first, t.first_seq) FROM h, {tasks}
            {by_key} WHERE h.base <> $4 AND t.ctid = at.ctid
        ), s AS (
            UPDATE @specs AS s SET last_seq = h.base + i.place FROM h, {specs}
            {spec_by_key} WHERE h.base <> $4 AND s.ctid = at.ctid
        ), c AS ({counters})
        SELECT base, CASE WHEN $1 > 0 THEN pg_notify($5, seq::text) END,
            set_config('idle_in_transaction_session_timeout', '{HELD_MS_MAX}', true) FROM h"
    )
});

type Answers = Vec<std::result::Result<Answer, Rejection>>;

impl Transaction<'_> {
    /// Commits. What others committed since this transaction began comes before it in the log.
    ///
    /// Says where the log ended then, if this added to it.
    pub(super) async fn finish(
        mut self,
        answers: Answers,
        channel: &str,
        connections: &Connections,
    ) -> Result<(Committed, Option<Seq>)> {
        let mut writes = self.writes();
        let is_log_changed = !self.happened.is_empty() || self.has_pruned;
        let is_appending = is_log_changed || !self.counters.is_unchanged();
        if writes.is_empty() && !is_appending && !self.has_written {
            self.keep_quiet(self.begun_at);
            let entries = Vec::new();
            return Ok((Committed { answers, entries }, None));
        }
        let append_at = writes.len();
        if is_appending {
            writes.push((APPEND.as_str().into(), self.append_values(channel)));
        }
        if !self.empty_counters.is_empty() {
            writes.push((counters::REMOVE_EMPTY.into(), self.empty_counters.clone()));
        }
        let xid = match &self.xid {
            Some(xid) => xid.clone(),
            None => self.ask_xid().await?,
        };
        let base = match self.send_all(&writes, append_at, xid).await {
            Ok(base) => base.filter(|_| is_appending).unwrap_or(self.begun_at),
            Err(Failure::Committing(pending)) => pending.settle(connections).await?,
            Err(failure) => return Err(failure),
        };
        drop(writes);
        self.keep_quiet(base);
        for (key, spec) in self.tasks.specs() {
            self.specs.keep(key, spec);
        }
        let by = base.0.cast_signed() - self.begun_at.0.cast_signed();
        let moved = Moved {
            after: self.begun_at,
            by,
        };
        let entries = std::mem::take(&mut self.happened).into_iter();
        let entries: Vec<LogEntry> = entries.map(|(_, entry)| moved.entry(entry)).collect();
        let answers = answers.into_iter().map(|it| it.map(|it| moved.answer(it)));
        let head = entries.last().map(|entry| entry.event.seq);
        let answers = answers.collect();
        Ok((Committed { answers, entries }, head))
    }

    /// Hands on what is known of the queue, if nobody else has added to the log before this did.
    fn keep_quiet(&mut self, base: Seq) {
        let known = self.nobody_waits.take();
        if let Some(known) = known.filter(|_| base == self.begun_at) {
            self.quiet.keep(known, &self.tasks, self.seq);
        }
    }

    async fn ask_xid(&self) -> Result<String> {
        let sql = "SELECT pg_current_xact_id()::text";
        let rows = self.connection.query(sql, &[]).await?;
        let row = rows.first();
        let row = row.ok_or_else(|| Failure::Bug("a transaction has no number".into()))?;
        Ok(row.try_get(0)?)
    }

    /// Sends everything that is left, with the commit behind it, then waits for the answers.
    async fn send_all(
        &self,
        writes: &[Write<'_>],
        append_at: usize,
        xid: String,
    ) -> Result<Option<Seq>> {
        let connection = self.connection;
        let mut ready: Vec<Ready> = Vec::new();
        for (sql, values) in writes {
            ready.push(connection.prepare(sql, values).await?);
        }
        let mut sent = Vec::new();
        for (ready, (_, values)) in ready.iter().zip(writes) {
            sent.push(connection.send(ready, values));
        }
        let commit = connection.send_plain("COMMIT");
        // From here on, whoever loses the connection does not know what became of it.
        let pending = |cause: Failure| {
            Failure::Committing(Box::new(Pending {
                cause,
                xid: xid.clone(),
                begun_at: self.begun_at,
                events: self.happened.iter().map(|(key, _)| *key).collect(),
            }))
        };
        // What the server says before the commit's turn, it says instead of committing.
        let lost = |cause: Failure| match cause.is_loss() && cause.said().is_none() {
            true => pending(cause),
            false => cause,
        };
        let mut base = None;
        for (at, sent) in sent.into_iter().enumerate() {
            let rows = answer(sent).await.map_err(lost)?;
            if let Some(row) = rows.first().filter(|_| at == append_at) {
                base = Some(Seq(row.try_get::<_, i64>(0)?.cast_unsigned()));
            }
        }
        answer(commit)
            .await
            .map_err(|cause| match cause.is_loss() {
                true => pending(cause),
                false => cause,
            })?;
        connection.ended();
        Ok(base)
    }

    fn append_values<'t>(&'t self, channel: &'t str) -> Vec<Value<'t>> {
        let begun_at = self.begun_at;
        let place = |seq: Seq| Value::from((seq.0 - begun_at.0).cast_signed());
        let count = i64::try_from(self.happened.len()).unwrap_or(i64::MAX);
        let mut values = vec![
            Value::from(count),
            Value::from(self.floor.0.cast_signed()),
            Value::from(self.now.ms()),
            Value::from(begun_at.0.cast_signed()),
            Value::from(channel),
        ];
        let events = self.happened.iter().map(|(key, entry)| {
            let stored = entry.event.kind.to_stored();
            let body = stored.body.map(|body| body.as_str().to_owned());
            [
                place(entry.event.seq),
                Value::from(*key),
                Value::from(i64::from(stored.code)),
                Value::from(i64::from(stored.attempt.0)),
                Value::from(i64::from(entry.event.report.0)),
                Value::Text(body.map(std::borrow::Cow::Owned)),
            ]
        });
        values.extend(arrays(&EVENT, events));
        let changed = self.tasks.changed_after(begun_at);
        let changed = changed.map(|(key, last, first)| {
            let first = first.map_or(Value::Integer(None), place);
            [Value::from(key), place(last), first]
        });
        values.extend(arrays(&TASK, changed));
        let removed = self.removed_here();
        let removed = removed.map(|(key, seq)| [Value::from(key), place(seq)]);
        values.extend(arrays(&DELETED, removed));
        values.extend(self.counters.added());
        values
    }
}

/// How far others' commits have moved the places that were foretold.
#[derive(Debug, Clone, Copy)]
struct Moved {
    /// Only places after this were foretold.
    after: Seq,
    by: i64,
}

impl Moved {
    fn seq(self, seq: &mut Seq) {
        if *seq > self.after {
            seq.0 = seq.0.saturating_add_signed(self.by);
        }
    }

    fn entry(self, mut entry: LogEntry) -> LogEntry {
        self.seq(&mut entry.event.seq);
        entry
    }

    fn answer(self, mut answer: Answer) -> Answer {
        match &mut answer {
            Answer::Dispatched { task, .. } | Answer::Applied(task) => self.seq(&mut task.seq),
            Answer::Claimed(claimed) => {
                for task in &mut claimed.tasks {
                    self.seq(&mut task.seq);
                }
            }
            _ => {}
        }
        answer
    }
}
