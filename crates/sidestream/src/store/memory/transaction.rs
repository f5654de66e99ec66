//! One batch, carried out at one time.

use std::collections::BTreeSet;
use std::sync::Arc;

use sidestream_core::lifecycle::{self, LeaseChange};
use sidestream_core::{
    Command, Event, Invalid, LogEntry, Namespace, Record, Rejection, Seq, Spec, Task, TaskId,
    ThreadId, Timestamp,
};

use super::{State, remove_from};
use crate::store::{
    Admission, Answer, ApiKey, Claim, Claimed, Cleanup, Gone, Request, Rescue, Rescued, Told,
};

/// A batch being carried out, at one time.
pub(super) struct Transaction<'a> {
    pub(super) now: Timestamp,
    pub(super) state: &'a mut State,
    pub(super) entries: Vec<LogEntry>,
}

type Outcome = std::result::Result<Answer, Rejection>;

impl Transaction<'_> {
    pub(super) fn carry_out(&mut self, request: Request) -> Outcome {
        match request {
            Request::Dispatch { spec, admission } => self.dispatch(spec, &admission),
            Request::Command {
                namespace,
                id,
                command,
            } => self.command(&namespace, &id, &command),
            Request::Record { namespace, record } => self.record(&namespace, record),
            Request::Claim(claim) => Ok(Answer::Claimed(self.claim(&claim))),
            Request::Rescue(rescue) => Ok(Answer::Rescued(self.rescue(&rescue))),
            Request::Delete { namespace, id } => self.delete(&namespace, &id),
            Request::Cleanup(cleanup) => Ok(Answer::Removed(self.cleanup(&cleanup))),
            Request::Prune(prune) => Ok(Answer::Pruned(self.state.log.prune(&prune))),
            Request::Acknowledge {
                namespace,
                thread,
                told,
            } => Ok(Answer::Acknowledged(
                self.acknowledge(namespace, thread, told),
            )),
            Request::AddKey(key) => self.add_key(key),
            Request::RevokeKey { id } => Ok(Answer::Removed(self.revoke_key(&id))),
        }
    }

    /// Decides, applies, and saves: the only way to change a task.
    fn change(
        &mut self,
        key: Option<i64>,
        namespace: &Namespace,
        id: &TaskId,
        command: &Command,
    ) -> std::result::Result<Task, Rejection> {
        let mut task = key.map(|key| self.state.tasks[&key].clone());
        let change = lifecycle::decide(id, task.as_ref(), command, self.now)?;
        if change.is_none() {
            return Ok(task.expect("what makes a task is a change"));
        }
        let key = key.unwrap_or_else(|| self.state.new_key());
        for kind in change.events {
            let event = Event {
                seq: self.state.log.head().next(),
                at: self.now,
                report: change.report,
                kind,
            };
            lifecycle::apply(&mut task, namespace, &event);
            let identity = task.as_ref().map(Task::identity);
            let entry = LogEntry {
                task: Arc::clone(identity.expect("an event leaves a task")),
                event,
            };
            self.state.log.append(key, entry.clone());
            self.entries.push(entry);
        }
        let mut task = task.expect("a change leaves a task");
        match change.lease {
            LeaseChange::Keep => {}
            LeaseChange::Hold(lease) => task.lease = Some(lease),
            LeaseChange::Release => task.lease = None,
        }
        self.state.save(key, Some(task.clone()));
        Ok(task)
    }

    fn dispatch(&mut self, spec: Arc<Spec>, admission: &Admission) -> Outcome {
        let (namespace, id) = (&spec.identity.namespace, &spec.identity.id);
        if let Some(key) = self.met_again(&spec) {
            let task = self.state.tasks[&key].clone();
            return Ok(Answer::Dispatched {
                task,
                is_new: false,
            });
        }
        let key = self.state.key_of(namespace, id);
        if key.is_none() {
            match admission {
                Admission::Queue => {}
                Admission::Reject(limits) => self.state.queue.admit(&spec, limits)?,
                Admission::FallbackToSync(limits) => {
                    if self.state.queue.admit(&spec, limits).is_err() {
                        return Ok(Answer::FallbackToSync);
                    }
                }
            }
        }
        let command = Command::Dispatch(Arc::clone(&spec));
        let task = self.change(key, namespace, id, &command)?;
        let is_new = key.is_none();
        Ok(Answer::Dispatched { task, is_new })
    }

    fn met_again(&self, spec: &Spec) -> Option<i64> {
        let repetition = (spec.identity.namespace.clone(), spec.repetition_key()?);
        self.state.by_repetition.get(&repetition).copied()
    }

    fn command(&mut self, namespace: &Namespace, id: &TaskId, command: &Command) -> Outcome {
        let has_its_own = matches!(
            command,
            Command::Dispatch(_) | Command::Claim { .. } | Command::Record(_)
        );
        if has_its_own {
            let problem = "is asked for by a request of its own";
            return Err(Invalid::new("command", problem).into());
        }
        let key = self.state.key_of(namespace, id);
        let task = self.change(key, namespace, id, command)?;
        Ok(Answer::Applied(task))
    }

    fn record(&mut self, namespace: &Namespace, record: Arc<Record>) -> Outcome {
        let id = record.id().clone();
        let key = self.state.key_of(namespace, &id);
        let task = self.change(key, namespace, &id, &Command::Record(record))?;
        Ok(Answer::Applied(task))
    }

    fn claim(&mut self, claim: &Claim) -> Claimed {
        let command = Command::Claim {
            worker: claim.worker.clone(),
            lease_ms: claim.lease_ms,
        };
        let mut tasks = Vec::new();
        let mut walk = self.state.queue.walk(claim, self.now);
        while tasks.len() < claim.limit as usize {
            let Some(key) = self.state.queue.next(claim, &mut walk) else {
                break;
            };
            tasks.extend(self.change_known(key, &command).ok());
        }
        let next_due = self.state.queue.next_due(claim);
        Claimed { tasks, next_due }
    }

    fn change_known(
        &mut self,
        key: i64,
        command: &Command,
    ) -> std::result::Result<Task, Rejection> {
        let identity = Arc::clone(self.state.tasks[&key].identity());
        self.change(Some(key), &identity.namespace, &identity.id, command)
    }

    fn rescue(&mut self, rescue: &Rescue) -> Rescued {
        let overtime_ms = i64::try_from(rescue.overtime_ms).unwrap_or(i64::MAX);
        let keys = match &rescue.gone {
            Some(gone) => self.held_by(gone),
            None => self.overdue(overtime_ms),
        };
        let mut ended = 0;
        let lost = |key: &i64| !rescue.spares(&self.state.tasks[key]);
        let keys: Vec<i64> = keys.into_iter().filter(lost).collect();
        for (nth, key) in keys.into_iter().take(rescue.limit as usize).enumerate() {
            let task = &self.state.tasks[&key];
            let command = rescue.command_for(task, nth as u64, self.now);
            ended += u64::from(self.change_known(key, &command).is_ok());
        }
        let lease_end = self.state.by_lease_end.first().map(|(at, _)| *at);
        let deadline = self.state.by_deadline.first();
        let overtime_end = deadline.map(|(at, _)| at.plus_ms(overtime_ms));
        Rescued {
            ended,
            next: lease_end.into_iter().chain(overtime_end).min(),
        }
    }

    fn held_by(&self, gone: &Gone) -> BTreeSet<i64> {
        let running = self.state.by_lease_end.iter().map(|(_, key)| *key);
        let is_gone = |key: &i64| {
            let lease = self.state.tasks[key].lease.as_ref();
            lease.is_some_and(|lease| gone.names(&lease.worker))
        };
        running.filter(is_gone).collect()
    }

    /// Those whose lease has ended, and those that are over their time.
    fn overdue(&self, overtime_ms: i64) -> BTreeSet<i64> {
        let now = self.now;
        let leases = self.state.by_lease_end.iter();
        let lost = leases.take_while(|(until, _)| *until <= now);
        let deadlines = self.state.by_deadline.iter();
        let late = deadlines.take_while(|(deadline, _)| deadline.plus_ms(overtime_ms) <= now);
        lost.chain(late).map(|(_, key)| *key).collect()
    }

    fn delete(&mut self, namespace: &Namespace, id: &TaskId) -> Outcome {
        let key = self.state.key_of(namespace, id);
        let key = key.ok_or_else(|| Rejection::NotFound(id.clone()))?;
        let task = &self.state.tasks[&key];
        if !task.is_external() && !task.status.is_terminal() {
            return Err(Rejection::NotEnded(task.status));
        }
        self.state.save(key, None);
        Ok(Answer::Removed(1))
    }

    fn cleanup(&mut self, cleanup: &Cleanup) -> u64 {
        let old = |is_completed: bool, before: Timestamp| {
            let alike = self.state.by_end.get(&is_completed).into_iter().flatten();
            alike
                .take_while(move |(ended_at, _)| *ended_at < before)
                .filter(|(ended_at, key)| {
                    *ended_at < cleanup.untold_before || !self.state.is_untold(*key)
                })
        };
        let keys: Vec<i64> = old(true, cleanup.completed_before)
            .chain(old(false, cleanup.failed_before))
            .take(cleanup.limit as usize)
            .map(|(_, key)| *key)
            .collect();
        for key in &keys {
            self.state.save(*key, None);
        }
        keys.len() as u64
    }

    fn acknowledge(&mut self, namespace: Namespace, thread: ThreadId, told: Told) -> u64 {
        let told: BTreeSet<(Seq, i64)> = match told {
            Told::UpTo(seq) => {
                let thread = (namespace.clone(), thread.clone());
                let untold = self.state.untold.get(&thread).into_iter().flatten();
                untold.take_while(|(end, _)| *end <= seq).copied().collect()
            }
            Told::These(ends) => {
                let known = ends.into_iter().filter_map(|(id, seq)| {
                    let key = self.state.key_of(&namespace, &id)?;
                    Some((seq, key))
                });
                known.collect()
            }
        };
        let thread = (namespace, thread);
        let newly = told
            .iter()
            .filter(|end| remove_from(&mut self.state.untold, &thread, end));
        newly.count() as u64
    }

    fn add_key(&mut self, key: ApiKey) -> Outcome {
        match self.state.api_keys.iter().find(|known| known.id == key.id) {
            Some(known) if *known == key => Ok(Answer::KeyAdded),
            Some(_) => Err(Rejection::AlreadyExists),
            None => {
                self.state.api_keys.push(key);
                Ok(Answer::KeyAdded)
            }
        }
    }

    fn revoke_key(&mut self, id: &str) -> u64 {
        let keys = self.state.api_keys.iter_mut();
        let valid = keys.filter(|key| key.id == id && key.revoked_at.is_none());
        valid.map(|key| key.revoked_at = Some(self.now)).count() as u64
    }
}
