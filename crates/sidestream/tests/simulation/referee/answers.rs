//! What a batch answered, and what the rows say, beside what the events say.

use std::collections::BTreeMap;
use std::time::Duration;

use sidestream::core::{Command, Rejection};
use sidestream::store::{Answer, Claimed, Cleanup, Request, Told};
use sidestream::{Namespace, Seq, Status, Task, TaskId, ThreadId, Timestamp};

use super::{Referee, Rules, State, Verdict, need, short};

impl Referee {
    /// L3: the rows are the fold of the log; nothing is missing, nothing is left over.
    pub(crate) fn compare_rows(&self, namespace: &Namespace, rows: &[Task]) {
        let verdict = self.state.lock().compare_rows(namespace, rows);
        self.judge(verdict);
    }

    /// R6: who asks what an agent was not told gets just that, oldest end first.
    pub(crate) fn compare_completions(
        &self,
        namespace: &Namespace,
        thread: &ThreadId,
        ended: &[Task],
    ) {
        let state = self.state.lock();
        let thread_of = (namespace.clone(), thread.clone());
        let untold = state.untold.get(&thread_of).into_iter().flatten();
        let expected: Vec<_> = untold
            .map(|(seq, task)| (*seq, state.tasks[*task].identity.id.clone()))
            .collect();
        let found: Vec<_> = ended.iter().map(|t| (t.seq, t.id().clone())).collect();
        drop(state);
        self.judge(need(expected == found, || {
            format!("R6: {thread} should be told {expected:?}, and is told {found:?}")
        }));
    }
}

impl State {
    /// What was answered is what has become of the task.
    pub(super) fn answer(
        &mut self,
        request: &Request,
        answer: &Result<Answer, Rejection>,
        now: Timestamp,
        rules: &Rules,
    ) -> Verdict {
        let Ok(answer) = answer else {
            return Ok(());
        };
        match (request, answer) {
            (Request::Dispatch { spec, .. }, Answer::Dispatched { task, is_new }) => {
                let index = self.index_of(task)?;
                let is_same = spec.repetition_key() == self.tasks[index].spec.repetition_key();
                let is_it = task.id() == &spec.identity.id;
                need(
                    is_it || (!is_new && is_same && spec.repetition_key().is_some()),
                    || {
                        format!(
                            "R5: a dispatch is answered by another task, {}",
                            short(task.id())
                        )
                    },
                )?;
                self.check_row(index, task)
            }
            (Request::Command { command, .. }, Answer::Applied(task)) => {
                let index = self.index_of(task)?;
                if let Command::Renew { lease_ms, .. } = command {
                    let until = now.plus(Duration::from_millis(*lease_ms));
                    self.tasks[index].lease_until = until;
                }
                self.check_row(index, task)
            }
            (Request::Claim(claim), Answer::Claimed(Claimed { tasks, .. })) => {
                need(tasks.len() <= claim.limit as usize, || {
                    "R4: more than was asked for".into()
                })?;
                for task in tasks {
                    let index = self.index_of(task)?;
                    let lease = task.lease.as_ref();
                    need(
                        lease.is_some_and(|lease| lease.worker == claim.worker),
                        || format!("R1: {} is claimed without a lease", short(task.id())),
                    )?;
                    self.check_row(index, task)?;
                }
                Ok(())
            }
            (Request::Delete { namespace, id }, Answer::Removed(1)) => {
                let key = (namespace.clone(), id.clone());
                let index = *self.by_id.get(&key).ok_or("deleted what does not exist")?;
                let status = self.tasks[index].status;
                need(status.is_terminal(), || format!("deleted while {status}"))?;
                self.remove(index);
                Ok(())
            }
            (Request::Cleanup(cleanup), Answer::Removed(removed)) => self.clean(cleanup, *removed),
            (Request::Prune(prune), Answer::Pruned(pruned)) => {
                self.floor = Seq(self.floor.0 + pruned);
                let left = self.chunks.len() as u64 - self.floor.0;
                need(
                    left <= prune.events_max || *pruned == u64::from(prune.limit),
                    || format!("R7: {left} events are left"),
                )
            }
            (
                Request::Acknowledge {
                    namespace,
                    thread,
                    told,
                },
                Answer::Acknowledged(count),
            ) => self.acknowledged(namespace, thread, told, *count),
            (Request::Rescue(_), Answer::Rescued(_)) => Ok(()),
            _ => Err(format!(
                "{request:?} is answered by {answer:?} under {rules:?}"
            )),
        }
    }

    fn index_of(&self, task: &Task) -> Result<usize, String> {
        let key = (task.identity().namespace.clone(), task.id().clone());
        let index = self.by_id.get(&key).copied();
        index.ok_or_else(|| format!("{} is answered, and does not exist", short(task.id())))
    }

    fn check_row(&self, index: usize, task: &Task) -> Verdict {
        let row = &self.tasks[index].row;
        let task = without_lease(task);
        need(*row == task, || {
            let (id, differences) = (short(task.id()), differences(&task, row));
            format!("L3: the row of {id} is not the fold of its events: {differences}")
        })
    }

    fn remove(&mut self, index: usize) {
        self.forget_end(index);
        let story = &mut self.tasks[index];
        story.is_gone = true;
        let namespace = story.identity.namespace.clone();
        let key = story.spec.repetition_key();
        let id = story.identity.id.clone();
        self.by_id.remove(&(namespace.clone(), id));
        if let Some(key) = key {
            self.by_key.remove(&(namespace, key));
        }
    }

    fn clean(&mut self, cleanup: &Cleanup, removed: u64) -> Verdict {
        let is_untold = |index: usize, seq: Seq| {
            let identity = &self.tasks[index].identity;
            let thread = identity.thread_id.clone();
            let thread = thread.map(|thread| (identity.namespace.clone(), thread));
            let untold = thread.and_then(|thread| self.untold.get(&thread));
            untold.is_some_and(|untold| untold.contains(&(seq, index)))
        };
        let is_old = |index: &usize| {
            let story = &self.tasks[*index];
            let Some((seq, at)) = story.ended.filter(|_| !story.is_gone) else {
                return false;
            };
            let before = match story.status {
                Status::Completed => cleanup.completed_before,
                _ => cleanup.failed_before,
            };
            at < before && (at < cleanup.untold_before || !is_untold(*index, seq))
        };
        let old: Vec<usize> = (0..self.tasks.len()).filter(is_old).collect();
        need(old.len() as u64 == removed, || {
            format!(
                "R7: {removed} tasks were cleaned up, {} are old enough",
                old.len()
            )
        })?;
        for index in old {
            self.remove(index);
        }
        Ok(())
    }

    fn acknowledged(
        &mut self,
        namespace: &Namespace,
        thread: &ThreadId,
        told: &Told,
        count: u64,
    ) -> Verdict {
        let thread = (namespace.clone(), thread.clone());
        let ends: Vec<(Seq, usize)> = match told {
            Told::UpTo(seq) => {
                let untold = self.untold.get(&thread).into_iter().flatten();
                untold.copied().filter(|(end, _)| end <= seq).collect()
            }
            Told::These(ends) => {
                let known = ends.iter().filter_map(|(id, seq)| {
                    let key = (namespace.clone(), id.clone());
                    Some((*seq, *self.by_id.get(&key)?))
                });
                known.collect()
            }
        };
        let untold = self.untold.entry(thread).or_default();
        let newly = ends.iter().filter(|end| untold.remove(end)).count() as u64;
        need(newly == count, || {
            format!("R6: {count} ends were newly told, not {newly}")
        })
    }

    pub(super) fn forget_end(&mut self, index: usize) -> bool {
        let story = &mut self.tasks[index];
        let Some((seq, _)) = story.ended.take() else {
            return false;
        };
        self.tell(index, seq)
    }

    /// The end is no longer untold. Was it?
    fn tell(&mut self, index: usize, seq: Seq) -> bool {
        let identity = &self.tasks[index].identity;
        let Some(thread) = &identity.thread_id else {
            return false;
        };
        let thread = (identity.namespace.clone(), thread.clone());
        let untold = self.untold.get_mut(&thread);
        untold.is_some_and(|untold| untold.remove(&(seq, index)))
    }

    fn compare_rows(&self, namespace: &Namespace, rows: &[Task]) -> Verdict {
        let expected = self.by_id.iter().filter(|((of, _), _)| of == namespace);
        let mut expected: BTreeMap<&TaskId, usize> =
            expected.map(|((_, id), index)| (id, *index)).collect();
        for row in rows {
            let index = expected.remove(row.id());
            let index =
                index.ok_or_else(|| format!("L3: {} is a row too many", short(row.id())))?;
            self.check_row(index, row)?;
            let is_held = row.lease.is_some();
            need(is_held == (row.status == Status::Running), || {
                format!(
                    "R1: {} is {} and has lease {:?}",
                    short(row.id()),
                    row.status,
                    row.lease
                )
            })?;
            let until = row.lease.as_ref().map(|lease| lease.until);
            let known = self.tasks[index].lease_until;
            need(until.is_none_or(|until| until == known), || {
                format!(
                    "R1: the lease of {} ends at {until:?}, not at {known}",
                    short(row.id())
                )
            })?;
        }
        match expected.into_keys().next() {
            None => Ok(()),
            Some(id) => Err(format!("L3: the row of {} is missing", short(id))),
        }
    }
}

fn without_lease(task: &Task) -> Task {
    Task {
        lease: None,
        ..task.clone()
    }
}

/// What a row says otherwise than the fold.
fn differences(row: &Task, fold: &Task) -> String {
    let (row, fold) = (format!("{row:#?}"), format!("{fold:#?}"));
    let lines = row
        .lines()
        .zip(fold.lines())
        .filter(|(row, fold)| row != fold);
    let lines: Vec<_> = lines
        .map(|(row, fold)| format!("{} ({})", row.trim(), fold.trim()))
        .collect();
    lines.join("; ")
}
