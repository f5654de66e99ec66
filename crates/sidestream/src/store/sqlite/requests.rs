//! What each request does, but for claims and upkeep.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};
use sidestream_core::{
    Command, Invalid, Namespace, Record, Rejection, Spec, Status, TaskId, ThreadId,
};

use super::failure::Result;
use super::prepare::prepare;
use super::transaction::{Decided, Transaction};
use crate::store::counts::{Counted, limits_on};
use crate::store::{Admission, Answer, ApiKey, Request, Told};

impl Transaction<'_> {
    pub(super) fn carry_out(&mut self, request: Request) -> Decided<Answer> {
        match request {
            Request::Dispatch { spec, admission } => self.dispatch(spec, &admission),
            Request::Command {
                namespace,
                id,
                command,
            } => self.command(&namespace, &id, &command),
            Request::Record { namespace, record } => self.record(&namespace, record),
            Request::Claim(claim) => self.claim(&claim).map(|done| Ok(Answer::Claimed(done))),
            Request::Rescue(rescue) => {
                let done = self.rescue(&rescue);
                done.map(|done| Ok(Answer::Rescued(done)))
            }
            Request::Delete { namespace, id } => self.delete(&namespace, &id),
            Request::Cleanup(cleanup) => {
                let done = self.cleanup(&cleanup);
                done.map(|gone| Ok(Answer::Removed(gone)))
            }
            Request::Prune(prune) => self.prune(&prune).map(|gone| Ok(Answer::Pruned(gone))),
            Request::Acknowledge {
                namespace,
                thread,
                told,
            } => {
                let newly = self.acknowledge(&namespace, &thread, &told);
                newly.map(|newly| Ok(Answer::Acknowledged(newly)))
            }
            Request::AddKey(key) => self.add_key(&key),
            Request::RevokeKey { id } => {
                let done = self.revoke_key(&id);
                done.map(|revoked| Ok(Answer::Removed(revoked)))
            }
        }
    }

    fn dispatch(&mut self, spec: Arc<Spec>, admission: &Admission) -> Decided<Answer> {
        let (namespace, id) = (&spec.identity.namespace, &spec.identity.id);
        if let Some(repetition) = spec.repetition_key()
            && let Some(met) = self.find_by_repetition(namespace, &repetition)?
        {
            let (task, is_new) = (met.task.clone(), false);
            return Ok(Ok(Answer::Dispatched { task, is_new }));
        }
        let stored = self.find(namespace, id)?;
        let is_new = stored.is_none();
        if is_new {
            match (self.admit(&spec, admission)?, admission) {
                (Ok(()), _) => {}
                (Err(_), Admission::FallbackToSync(_)) => return Ok(Ok(Answer::FallbackToSync)),
                (Err(full), _) => return Ok(Err(full)),
            }
        }
        let command = Command::Dispatch(Arc::clone(&spec));
        let task = self.change(stored, namespace, id, &command)?;
        Ok(task.map(|task| Answer::Dispatched { task, is_new }))
    }

    /// Is there a slot for a new task?
    fn admit(&mut self, spec: &Spec, admission: &Admission) -> Decided<()> {
        let (Admission::Reject(limits) | Admission::FallbackToSync(limits)) = admission else {
            return Ok(Ok(()));
        };
        for (scope, limit, name) in limits_on(spec, limits) {
            let counts = self.memory.counters.ours(self.connection, scope)?;
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
        let stored = self.find(namespace, id)?;
        let task = self.change(stored, namespace, id, command)?;
        Ok(task.map(Answer::Applied))
    }

    fn record(&mut self, namespace: &Namespace, record: Arc<Record>) -> Decided<Answer> {
        let id = record.id().clone();
        let stored = self.find(namespace, &id)?;
        let task = self.change(stored, namespace, &id, &Command::Record(record))?;
        Ok(task.map(Answer::Applied))
    }

    fn delete(&mut self, namespace: &Namespace, id: &TaskId) -> Decided<Answer> {
        self.flush()?;
        let Some(stored) = self.find(namespace, id)? else {
            return Ok(Err(Rejection::NotFound(id.clone())));
        };
        let (task, status) = (&stored.task, stored.task.status);
        if !task.is_external() && !status.is_terminal() {
            return Ok(Err(Rejection::NotEnded(status)));
        }
        self.remove(stored.key, Counted::of(task), status, task.seq)?;
        Ok(Ok(Answer::Removed(1)))
    }

    fn acknowledge(
        &mut self,
        namespace: &Namespace,
        thread: &ThreadId,
        told: &Told,
    ) -> Result<u64> {
        self.flush()?;
        let (namespace, thread) = (namespace.as_str(), thread.as_str());
        let newly = match told {
            Told::UpTo(seq) => prepare(
                self.connection,
                "UPDATE tasks INDEXED BY tasks_untold SET is_untold = 0
                        WHERE is_untold = 1 AND namespace = ? AND thread_id = ? AND seq <= ?",
            )?
            .execute(params![namespace, thread, signed(seq.0)])?,
            Told::These(ends) => {
                let mut tell = prepare(
 self.connection,
                    "UPDATE tasks INDEXED BY tasks_by_id SET is_untold = 0
                        WHERE is_untold = 1 AND namespace = ? AND thread_id = ? AND seq = ? AND id = ?",
                )?;
                let mut newly = 0;
                for (id, seq) in ends {
                    newly +=
                        tell.execute(params![namespace, thread, signed(seq.0), id.as_str()])?;
                }
                newly
            }
        };
        Ok(newly as u64)
    }

    fn add_key(&mut self, key: &ApiKey) -> Decided<Answer> {
        let known = prepare(self.connection, &format!("{SELECT_KEYS} WHERE id = ?"))?
            .query_row([&key.id], read_key)
            .optional()?;
        match known {
            Some(known) if known == *key => return Ok(Ok(Answer::KeyAdded)),
            Some(_) => return Ok(Err(Rejection::AlreadyExists)),
            None => {}
        }
        let sql = "INSERT INTO api_keys
            (id, name, hash, role, namespace, created_at_ms, revoked_at_ms)
            VALUES (?, ?, ?, ?, ?, ?, ?)";
        prepare(self.connection, sql)?.execute(params![
            key.id,
            key.name,
            key.hash,
            key.role,
            key.namespace.as_str(),
            key.created_at.ms(),
            key.revoked_at.map(sidestream_core::Timestamp::ms),
        ])?;
        Ok(Ok(Answer::KeyAdded))
    }

    fn revoke_key(&mut self, id: &str) -> Result<u64> {
        let sql = "UPDATE api_keys SET revoked_at_ms = ? WHERE id = ? AND revoked_at_ms IS NULL";
        let mut statement = prepare(self.connection, sql)?;
        Ok(statement.execute(params![self.now.ms(), id])? as u64)
    }
}

fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// What [`read_key`] reads.
pub(super) const SELECT_KEYS: &str =
    "SELECT id, name, hash, role, namespace, created_at_ms, revoked_at_ms FROM api_keys";

/// An API key from its row.
pub(super) fn read_key(row: &rusqlite::Row<'_>) -> rusqlite::Result<ApiKey> {
    let time = sidestream_core::Timestamp::from_ms;
    let namespace: String = row.get(4)?;
    Ok(ApiKey {
        id: row.get(0)?,
        name: row.get(1)?,
        hash: row.get(2)?,
        role: row.get(3)?,
        namespace: Namespace::new(namespace).map_err(|e| {
            rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Text, e.into())
        })?,
        created_at: time(row.get(5)?),
        revoked_at: row.get::<_, Option<i64>>(6)?.map(time),
    })
}
