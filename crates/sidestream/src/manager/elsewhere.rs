//! Workers elsewhere: what a server needs to let them claim this manager's tasks, and report.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use sidestream_core::wire::worker::Report;
use sidestream_core::{Invalid, Task, TaskId, Timestamp, ToolName, WorkerId};
use tokio::time::Instant;

use super::alike::Nothing;
use super::config::DURATION_MS_MAX;
use super::{LOCAL_WORKER, TaskManager};
use crate::chance;
use crate::error::Error;
use crate::store::{Answer, Claim, Claimed, Request};

/// The shortest lease, in milliseconds.
const LEASE_MS_MIN: u64 = 100;
/// So many tasks at most are given at a time.
const LIMIT_MAX: u32 = 256;

/// A worker elsewhere asks for tasks of a manager's namespace.
#[derive(Debug, Clone)]
pub struct WorkerClaim {
    /// Its name, of no other process.
    pub worker: WorkerId,
    /// The tools that it can run.
    pub tools: Arc<[ToolName]>,
    /// At most so many tasks: up to 256.
    pub limit: u32,
    /// How long the leases last, in milliseconds: the manager's own, if `None`.
    pub lease_ms: Option<u64>,
    /// How long to wait for a task where there is none: no longer than half a lease.
    pub wait: Duration,
}

/// What a worker elsewhere got.
#[derive(Debug, Clone, Default)]
pub struct WorkerClaimed {
    /// The tasks, each running, with the lease of its new attempt.
    pub tasks: Vec<Task>,
    /// How long the claim waited: the leases began after that.
    pub waited: Duration,
}

impl TaskManager {
    /// Gives pending tasks of this namespace to a worker elsewhere, within the limits that hold for every
    /// worker (R4). Where there is none it waits for one, but no longer than until `enough`; nothing is
    /// polled.
    ///
    /// Dropping the future while it waits claims nothing. While a claim is under way it would lose what
    /// that brings until its lease has ended: so end it with `enough`.
    ///
    /// # Errors
    /// [`Error::Invalid`] names what cannot be accepted; else when the store could not do it.
    pub async fn claim(
        &self,
        asked: &WorkerClaim,
        enough: impl Future<Output = ()> + Send,
    ) -> Result<WorkerClaimed, Error> {
        let claim = self.checked(asked)?;
        let mut changes = self.inner.worker.running().work();
        let mut enough = pin!(enough);
        let came = Instant::now();
        // A worker that is cut off while its claim waits must not be given what it just lost: when its
        // leases have ended, the claim is over.
        let until = came + asked.wait.min(Duration::from_millis(claim.lease_ms / 2));
        let question = (self.namespace.clone(), Arc::clone(&claim.tools));
        let alike = self.inner.alike.join(question);
        let mut is_waiting = false;
        loop {
            let waited = came.elapsed();
            // Who comes asks at once; those that waited ask in turn.
            let turn = match is_waiting {
                true => Some(alike.group.turn.lock().await),
                false => None,
            };
            // Seen before the claim: what changes during it is seen again.
            let work = *changes.borrow_and_update();
            let next_due = match alike.group.nothing(work, self.store().now()) {
                Some(nothing) => nothing.next_due,
                None => {
                    let Claimed { tasks, next_due } = self.claim_now(claim.clone()).await?;
                    if !tasks.is_empty() {
                        return Ok(WorkerClaimed { tasks, waited });
                    }
                    alike.group.found_nothing(Nothing { work, next_due });
                    next_due
                }
            };
            drop(turn);
            is_waiting = true;
            let nothing = WorkerClaimed {
                tasks: Vec::new(),
                waited,
            };
            tokio::select! {
                biased;
                () = &mut enough => return Ok(nothing),
                () = tokio::time::sleep_until(until) => return Ok(nothing),
                () = self.due(next_due) => {}
                changed = changes.changed() => if changed.is_err() {
                    return Err(Error::ShutDown);
                }
            }
        }
    }

    /// What a worker elsewhere reports of an attempt. One that is repeated because its answer was lost is
    /// answered with the task as it stands.
    ///
    /// # Errors
    /// [`Error::Rejected`] when the attempt no longer holds the task, [`Error::Invalid`] when the report
    /// cannot be accepted.
    pub async fn report(&self, id: &TaskId, report: Report) -> Result<Task, Error> {
        if let Report::Renew(renewal) = &report {
            check_lease(renewal.lease_ms)?;
        }
        let inner = &self.inner;
        let jitter = chance::jitter(&*inner.chance);
        let command = report.into_command(inner.config.lease_ms, jitter)?;
        self.command(id, command).await
    }

    fn checked(&self, asked: &WorkerClaim) -> Result<Claim, Error> {
        check_lease(asked.lease_ms)?;
        if asked.limit > LIMIT_MAX {
            let problem = format!("is {}, more than the {LIMIT_MAX} allowed", asked.limit);
            return Err(Invalid::new("limit", problem).into());
        }
        if asked.tools.is_empty() {
            return Err(Invalid::new("tools", "is empty: name the tools to run").into());
        }
        if asked.worker.as_str().starts_with(LOCAL_WORKER) {
            let problem = format!("begins with {LOCAL_WORKER:?}, as the server's own workers do");
            return Err(Invalid::new("worker", problem).into());
        }
        let inner = &self.inner;
        Ok(Claim {
            worker: asked.worker.clone(),
            tools: Arc::clone(&asked.tools),
            namespace: Some(self.namespace.clone()),
            limit: asked.limit,
            lease_ms: asked.lease_ms.unwrap_or(inner.config.lease_ms),
            limits: Arc::clone(&inner.limits),
        })
    }

    async fn claim_now(&self, claim: Claim) -> Result<Claimed, Error> {
        match self.inner.writer.submit(Request::Claim(claim)).await? {
            Answer::Claimed(claimed) => Ok(claimed),
            other => unreachable!("a claim is answered as one: {other:?}"),
        }
    }

    /// Waits until then; for ever, if there is no such time.
    async fn due(&self, at: Option<Timestamp>) {
        match at {
            Some(at) => {
                let wait = at.since(self.store().now());
                tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
            }
            None => std::future::pending().await,
        }
    }
}

fn check_lease(lease_ms: Option<u64>) -> Result<(), Invalid> {
    match lease_ms {
        Some(ms) if !(LEASE_MS_MIN..=DURATION_MS_MAX).contains(&ms) => {
            let problem = format!("is {ms}, not between {LEASE_MS_MIN} and {DURATION_MS_MAX}");
            Err(Invalid::new("leaseMs", problem))
        }
        _ => Ok(()),
    }
}
