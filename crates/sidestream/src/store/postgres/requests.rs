//! What each request does, but for claims and upkeep.

use std::sync::Arc;

use sidestream_core::{
    Command, Invalid, Namespace, Record, Rejection, Spec, Status, TaskId, ThreadId, Timestamp,
};
use tokio_postgres::Row;

use super::Value;
use super::cells::Cells;
use super::failure::{Failure, Result};
use super::spec;
use super::transaction::{Decided, Transaction};
use crate::store::counts::Counted;
use crate::store::counts::limits_on;
use crate::store::{Admission, Answer, ApiKey, Request, Told};

impl Transaction<'_> {
    pub(super) async fn carry_out(&mut self, request: &Request) -> Decided<Answer> {
        let done = match request {
            Request::Dispatch { spec, admission } => return self.dispatch(spec, admission),
            Request::Command {
                namespace,
                id,
                command,
            } => return self.command(namespace, id, command),
            Request::Record { namespace, record } => return self.record(namespace, record),
            Request::Delete { namespace, id } => return Ok(self.delete(namespace, id)),
            Request::AddKey(key) => return self.add_key(key).await,
            Request::Claim(claim) => Answer::Claimed(self.claim(claim).await?),
            Request::Rescue(rescue) => Answer::Rescued(self.rescue(rescue).await?),
            Request::Cleanup(cleanup) => Answer::Removed(self.cleanup(cleanup).await?),
            Request::Prune(prune) => Answer::Pruned(self.prune(prune).await?),
            Request::Acknowledge {
                namespace,
                thread,
                told,
            } => Answer::Acknowledged(self.acknowledge(namespace, thread, told).await?),
            Request::RevokeKey { id } => Answer::Removed(self.revoke_key(id).await?),
        };
        Ok(Ok(done))
    }

    fn dispatch(&mut self, spec: &Arc<Spec>, admission: &Admission) -> Decided<Answer> {
        let (namespace, id) = (&spec.identity.namespace, &spec.identity.id);
        if let Some(repetition) = spec::repetition(spec)
            && let Some(met) = self.tasks.by_repetition(namespace, repetition)
        {
            let (task, is_new) = (met.task.clone(), false);
            return Ok(Ok(Answer::Dispatched { task, is_new }));
        }
        let stored = self.tasks.by_id(namespace, id);
        let is_new = stored.is_none();
        if is_new {
            match (self.admit(spec, admission)?, admission) {
                (Ok(()), _) => {}
                (Err(_), Admission::FallbackToSync(_)) => return Ok(Ok(Answer::FallbackToSync)),
                (Err(full), _) => return Ok(Err(full)),
            }
        }
        let command = Command::Dispatch(Arc::clone(spec));
        let task = self.change(stored, namespace, id, &command)?;
        Ok(task.map(|task| Answer::Dispatched { task, is_new }))
    }

    /// Is there a slot for a new task?
    fn admit(&self, spec: &Spec, admission: &Admission) -> Decided<()> {
        let (Admission::Reject(limits) | Admission::FallbackToSync(limits)) = admission else {
            return Ok(Ok(()));
        };
        for (scope, limit, name) in limits_on(spec, limits) {
            let counts = self.counters.ours(scope)?;
            let running = counts.of(Status::Running) + counts.of(Status::Pending);
            let limit = u64::from(limit);
            if running >= limit {
                return Ok(Err(Rejection::AtCapacity {
                    scope: name,
                    running,
                    limit,
                }));
            }
        }
        Ok(Ok(()))
    }

    fn command(
        &mut self,
        namespace: &Namespace,
        id: &TaskId,
        command: &Command,
    ) -> Decided<Answer> {
        let has_its_own = matches!(
            command,
            Command::Dispatch(_) | Command::Claim { .. } | Command::Record(_)
        );
        if has_its_own {
            let problem = "is asked for by a request of its own";
            return Ok(Err(Invalid::new("command", problem).into()));
        }
        let stored = self.tasks.by_id(namespace, id);
        let task = self.change(stored, namespace, id, command)?;
        Ok(task.map(Answer::Applied))
    }

    fn record(&mut self, namespace: &Namespace, record: &Arc<Record>) -> Decided<Answer> {
        let id = record.id();
        let stored = self.tasks.by_id(namespace, id);
        let command = Command::Record(Arc::clone(record));
        let task = self.change(stored, namespace, id, &command)?;
        Ok(task.map(Answer::Applied))
    }

    fn delete(
        &mut self,
        namespace: &Namespace,
        id: &TaskId,
    ) -> std::result::Result<Answer, Rejection> {
        let stored = self.tasks.by_id(namespace, id);
        let stored = stored.ok_or_else(|| Rejection::NotFound(id.clone()))?;
        let task = &stored.task;
        if !task.is_external() && !task.status.is_terminal() {
            return Err(Rejection::NotEnded(task.status));
        }
        self.remove(stored.key, Counted::of(task), task.status, task.seq);
        Ok(Answer::Removed(1))
    }

    /// The rows were locked when the transaction began, in the order of their keys.
    async fn acknowledge(
        &mut self,
        namespace: &Namespace,
        thread: &ThreadId,
        told: &Told,
    ) -> Result<u64> {
        self.flush().await?;
        let thread = spec::hash(namespace, thread.as_str());
        let mut values = vec![Value::from(thread)];
        let rows = match told {
            Told::UpTo(seq) => {
                values.push(signed(seq.0).into());
                self.connection.query(TELL_UP_TO, &values).await?
            }
            Told::These(ends) => {
                let names = ends
                    .iter()
                    .map(|(id, _)| Some(spec::name(namespace, id).into()));
                values.push(Value::ByteStrings(names.collect()));

                values.push(Value::integers(ends.iter().map(|(_, seq)| signed(seq.0))));
                self.connection.query(TELL_THESE, &values).await?
            }
        };
        let keys: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        self.has_written |= !keys.is_empty();
        self.tasks.told(&keys);
        Ok(keys.len() as u64)
    }

    async fn add_key(&mut self, key: &ApiKey) -> Decided<Answer> {
        let values = [
            Value::from(key.id.as_bytes()),
            Value::from(key.name.as_bytes()),
            Value::from(key.hash.as_slice()),
            Value::from(key.role.as_bytes()),
            Value::from(key.namespace.as_str()),
            Value::from(key.created_at.ms()),
            Value::from(key.revoked_at.map(Timestamp::ms)),
        ];
        // Another who adds the same at the same time is waited for, then met.
        let added = self.connection.query(ADD_KEY, &values).await?;
        if !added.is_empty() {
            self.has_written = true;
            return Ok(Ok(Answer::KeyAdded));
        }
        let sql = format!("{SELECT_KEYS} WHERE id = $1");
        let rows = self.connection.query(&sql, &values[..1]).await?;
        let row = rows.first();
        let row = row.ok_or_else(|| Failure::Bug("an API key is there and is not".into()))?;
        Ok(match read_key(row)? == *key {
            true => Ok(Answer::KeyAdded),
            false => Err(Rejection::AlreadyExists),
        })
    }

    async fn revoke_key(&mut self, id: &str) -> Result<u64> {
        let sql = "UPDATE @api_keys SET revoked_at_ms = $1
            WHERE id = $2 AND revoked_at_ms IS NULL RETURNING position";
        let values = [self.now.ms().into(), Value::from(id.as_bytes())];
        let revoked = self.connection.query(sql, &values).await?.len();
        self.has_written |= revoked > 0;
        Ok(revoked as u64)
    }
}

const TELL_UP_TO: &str = "UPDATE @tasks SET is_untold = false
    WHERE is_untold AND thread = $1 AND seq <= $2 RETURNING key";

const TELL_THESE: &str = "UPDATE @tasks AS t SET is_untold = false
    FROM unnest($2::bytea[], $3::bigint[]) AS i(name, seq)
    CROSS JOIN LATERAL (
        SELECT s.key FROM @specs s WHERE s.name = i.name AND s.last_seq IS NULL LIMIT 1
    ) AS s
    CROSS JOIN LATERAL (SELECT k.ctid FROM @tasks k WHERE k.key = s.key LIMIT 1) AS at
    WHERE t.ctid = at.ctid AND t.is_untold::int = 1 AND t.thread IS NOT DISTINCT FROM $1
        AND t.seq = i.seq RETURNING t.key";

const ADD_KEY: &str = "INSERT INTO @api_keys
    (id, name, hash, role, namespace, created_at_ms, revoked_at_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING RETURNING position";

fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// What [`read_key`] reads.
pub(super) const SELECT_KEYS: &str =
    "SELECT id, name, hash, role, namespace, created_at_ms, revoked_at_ms FROM @api_keys";

/// An API key from its row.
pub(super) fn read_key(row: &Row) -> Result<ApiKey> {
    let mut cells = Cells::of(row);
    let missing = || Failure::Unreadable("a column of an API key is null".into());
    let text = |cells: &mut Cells<'_>| -> Result<String> {
        Ok(cells.bytes_text()?.ok_or_else(missing)?.to_owned())
    };
    let (id, name) = (text(&mut cells)?, text(&mut cells)?);
    let hash: &[u8] = cells.next()?;
    let hash = hash.try_into();
    Ok(ApiKey {
        id,
        name,
        hash: hash.map_err(|_| Failure::Unreadable("an API key's hash is cut".into()))?,
        role: text(&mut cells)?,
        namespace: Namespace::new(cells.text()?)?,
        created_at: cells.moment()?,
        revoked_at: cells.time()?,
    })
}
