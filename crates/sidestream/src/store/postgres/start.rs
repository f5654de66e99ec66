//! The first journey of a transaction: everything that a batch names is locked and read at once.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use sidestream_core::{Epoch, Namespace, Seq, TaskId, Timestamp};
use tokio_postgres::Row;

use super::Value;
use super::cells::Cells;
use super::connection::{Connection, Ready, answer};
use super::counters;
use super::failure::{Failure, Result};
use super::quiet::Quiet;
use super::row::{self, SELECTED};
use super::spec::{self, Specs};
use super::time::Time;
use super::transaction::{Tasks, Transaction};
use crate::store::counts::{Scope, limits_on};
use crate::store::{Admission, Request, Told};

/// The key of the task whose hash of a name is `i.name`, if it has not been deleted.
const KEY_BY_NAME: &str = "CROSS JOIN LATERAL (
        SELECT s.key FROM @specs s WHERE s.name = i.name AND s.last_seq IS NULL LIMIT 1
    ) AS s";

/// Locks tasks by their names, in the order of their keys, and reads each as it is once it is locked.
static LOCK: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {SELECTED} FROM (
            SELECT s.key FROM unnest($1::bytea[]) AS i(name)
            {KEY_BY_NAME}
            ORDER BY s.key
        ) AS named
        CROSS JOIN LATERAL (SELECT t.* FROM @tasks t WHERE t.key = named.key FOR UPDATE) AS t"
    )
});

/// The same, and with them, in the same order, those whose ends are to be acknowledged, of which there may be any
/// number: so none is read.
static LOCK_TOLD: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT t.key FROM (
            SELECT s.key FROM unnest($1::bytea[]) AS i(name)
            {KEY_BY_NAME}
            UNION
            SELECT u.key FROM unnest($2::bytea[], $3::bigint[]) AS i(thread, seq)
            CROSS JOIN LATERAL (
                SELECT u.key FROM @tasks u
                WHERE u.is_untold AND u.thread = i.thread AND u.seq <= i.seq OFFSET 0
            ) AS u
            ORDER BY key
        ) AS named
        CROSS JOIN LATERAL (SELECT t.key FROM @tasks t WHERE t.key = named.key FOR UPDATE) AS t"
    )
});

static READ_BY_NAME: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {SELECTED} FROM unnest($1::bytea[]) AS i(name)
        {KEY_BY_NAME}
        CROSS JOIN LATERAL (SELECT t.* FROM @tasks t WHERE t.key = s.key LIMIT 1) AS t"
    )
});

static READ_BY_REPETITION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {SELECTED} FROM unnest($1::bytea[]) AS i(repetition)
        CROSS JOIN LATERAL (
            SELECT s.key FROM @specs s
            WHERE s.repetition = i.repetition AND s.last_seq IS NULL LIMIT 1
        ) AS s
        CROSS JOIN LATERAL (SELECT t.* FROM @tasks t WHERE t.key = s.key LIMIT 1) AS t"
    )
});

/// The head of the log, and what the database's clock shows. Read last: nothing that was read before is of later
/// than this head.
pub(super) const HEAD: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
    epoch, seq, floor, last_at_ms FROM @head WHERE single = 1";

/// The same, with `$1` fresh keys and, if `$2`, by what the server knows the transaction.
const BEGUN: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
    epoch, seq, floor, last_at_ms, ARRAY(SELECT nextval('@keys') FROM generate_series(1, $1)),
    CASE WHEN $2 THEN pg_current_xact_id()::text END FROM @head WHERE single = 1";

/// What a batch names.
#[derive(Debug, Default)]
struct Named {
    /// Tasks that may be changed.
    locked: BTreeSet<Vec<u8>>,
    /// Tasks that may have been dispatched before.
    read: BTreeSet<Vec<u8>>,
    repetitions: BTreeSet<Vec<u8>>,
    /// Threads whose ends are acknowledged up to a place.
    told: Vec<(Vec<u8>, i64)>,
    /// How many tasks may be new.
    new: i64,
    /// What must be counted before it can be decided.
    counted: Vec<Scope>,
    takes_turn: bool,
}

impl Named {
    fn by(batch: &[Request]) -> Self {
        let mut named = Self::default();
        for request in batch {
            named.add(request);
        }
        if batch.iter().any(has_slots_for_agents) {
            named.count_agents(batch);
        }
        named.counted.sort();
        named.counted.dedup();
        named
    }

    fn add(&mut self, request: &Request) {
        match request {
            Request::Dispatch { spec, admission } => {
                let task = &spec.identity;
                self.read.insert(spec::name(&task.namespace, &task.id));
                self.repetitions.extend(spec::repetition(spec));
                self.new += 1;
                if let Admission::Reject(limits) | Admission::FallbackToSync(limits) = admission {
                    let scopes = limits_on(spec, limits).into_iter();
                    self.counted.extend(scopes.map(|(scope, ..)| scope));
                    self.takes_turn = true;
                }
            }
            Request::Command { namespace, id, .. } | Request::Delete { namespace, id } => {
                self.lock(namespace, id);
            }
            Request::Record { namespace, record } => {
                self.lock(namespace, record.id());
                self.new += 1;
            }
            Request::Acknowledge {
                namespace,
                thread,
                told,
            } => match told {
                Told::UpTo(seq) => {
                    let seq = i64::try_from(seq.0).unwrap_or(i64::MAX);
                    let thread = spec::hash(namespace, thread.as_str());
                    self.told.push((thread, seq));
                }
                Told::These(ends) => {
                    for (id, _) in ends {
                        self.lock(namespace, id);
                    }
                }
            },
            Request::Claim(claim) => {
                let limited = claim.tools.iter();
                let limited = limited.filter(|tool| claim.limits.per_tool.contains_key(*tool));
                self.counted.extend(limited.cloned().map(Scope::Tool));
                self.takes_turn = true;
            }
            Request::Rescue(_)
            | Request::Cleanup(_)
            | Request::Prune(_)
            | Request::AddKey(_)
            | Request::RevokeKey { .. } => {}
        }
    }

    /// What is dispatched may be claimed at once: so the slots of its agents are counted.
    fn count_agents(&mut self, batch: &[Request]) {
        for request in batch {
            if let Request::Dispatch { spec, .. } = request
                && let Some(agent) = &spec.identity.agent_id
            {
                let namespace = spec.identity.namespace.clone();
                let scope = Scope::NamespaceAgent(namespace, agent.clone());
                self.counted.push(scope);
            }
        }
    }

    fn lock(&mut self, namespace: &Namespace, id: &TaskId) {
        self.locked.insert(spec::name(namespace, id));
    }
}

fn has_slots_for_agents(request: &Request) -> bool {
    matches!(request, Request::Claim(claim) if claim.limits.per_agent.is_some())
}

fn hashes<'h>(hashes: impl IntoIterator<Item = &'h Vec<u8>>) -> Value<'h> {
    Value::byte_strings(hashes.into_iter().map(Vec::as_slice))
}

/// What the statements of the first journey are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Lock,
    LockTold,
    ReadByName,
    ReadByRepetition,
    Count,
    Begun,
}

fn steps(named: &Named) -> Vec<(Step, &'static str, Vec<Value<'_>>)> {
    let mut steps = Vec::new();
    let mut add = |step, sql: &'static str, values| steps.push((step, sql, values));
    if named.told.is_empty() {
        if !named.locked.is_empty() {
            add(Step::Lock, &LOCK, vec![hashes(&named.locked)]);
        }
        let unlocked: Vec<_> = named.read.difference(&named.locked).collect();
        if !unlocked.is_empty() {
            add(Step::ReadByName, &READ_BY_NAME, vec![hashes(unlocked)]);
        }
    } else {
        let threads = named.told.iter().map(|(thread, _)| thread.as_slice());
        let places = named.told.iter().map(|(_, seq)| *seq);
        let values = vec![
            hashes(&named.locked),
            Value::byte_strings(threads),
            Value::integers(places),
        ];
        add(Step::LockTold, &LOCK_TOLD, values);
        let all: Vec<_> = named.read.union(&named.locked).collect();
        if !all.is_empty() {
            add(Step::ReadByName, &READ_BY_NAME, vec![hashes(all)]);
        }
    }
    if !named.repetitions.is_empty() {
        let values = vec![hashes(&named.repetitions)];
        add(Step::ReadByRepetition, &READ_BY_REPETITION, values);
    }
    if !named.counted.is_empty() {
        let (sql, values) = counters::select(&named.counted);
        add(Step::Count, sql, values);
    }
    let names_tasks = !named.locked.is_empty() || !named.read.is_empty();
    add(
        Step::Begun,
        BEGUN,
        vec![named.new.into(), names_tasks.into()],
    );
    steps
}

/// Begins a transaction for a batch.
pub(super) async fn start<'c>(
    connection: &'c Connection,
    (specs, quiet, time): (&'c Specs, &'c Quiet, &Time),
    turn: i64,
    batch: &[Request],
) -> Result<Transaction<'c>> {
    let named = Named::by(batch);
    let steps = steps(&named);
    let mut ready: Vec<Ready> = Vec::new();
    for (_, sql, values) in &steps {
        ready.push(connection.prepare(sql, values).await?);
    }
    let begin = connection.beginning_to_write(named.takes_turn.then_some(turn));
    let begin = connection.send_plain(&begin);
    let mut sent = Vec::new();
    for ((step, _, values), ready) in steps.iter().zip(&ready) {
        sent.push((*step, connection.send(ready, values)));
    }
    answer(begin).await?;
    let mut rows: HashMap<Step, Vec<Row>> = HashMap::new();
    for (step, sent) in sent {
        rows.insert(step, answer(sent).await?);
    }
    let mut rows_of = |step| rows.remove(&step).unwrap_or_default();
    let begun = rows_of(Step::Begun);
    let head = Read::of(&begun)?;
    specs.of_log(&head.epoch);
    let mut transaction = Transaction {
        connection,
        specs,
        now: time.read(head.shown_ms, head.last_at),
        begun_at: head.seq,
        seq: head.seq,
        floor: head.floor,
        has_pruned: false,
        xid: None,
        happened: Vec::new(),
        counters: counters::Counters::default(),
        empty_counters: Vec::new(),
        has_written: false,
        tasks: Tasks::default(),
        nobody_waits: quiet.take_at(&head.epoch, head.seq),
        epoch: head.epoch,
        quiet,
    };
    for step in [Step::Lock, Step::ReadByRepetition, Step::ReadByName] {
        let found = row::read_all(connection, specs, &rows_of(step)).await?;
        for stored in found {
            transaction.tasks.know(stored);
        }
    }
    if let Some(row) = begun.first() {
        let (keys, xid): (Vec<i64>, _) = (row.try_get(5)?, row.try_get(6)?);
        (transaction.tasks.fresh, transaction.xid) = (keys.into(), xid);
    }
    let counted = rows_of(Step::Count);
    transaction.counters.know(&named.counted, &counted)?;
    Ok(transaction)
}

/// The head of the log, as it was read.
#[derive(Debug)]
pub(super) struct Read {
    /// What the database's clock showed.
    pub(super) shown_ms: i64,
    pub(super) epoch: Epoch,
    pub(super) seq: Seq,
    pub(super) floor: Seq,
    pub(super) last_at: Timestamp,
}

impl Read {
    pub(super) fn of(rows: &[Row]) -> Result<Self> {
        let row = rows.first();
        let row = row.ok_or_else(|| Failure::Unreadable("the log has no head".into()))?;
        let mut cells = Cells::of(row);
        Ok(Self {
            shown_ms: cells.next()?,
            epoch: Epoch::new(cells.text()?)?,
            seq: Seq(cells.unsigned()?),
            floor: Seq(cells.unsigned()?),
            last_at: cells.moment()?,
        })
    }
}
