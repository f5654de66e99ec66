//! Ends the attempts that nobody else will: their worker is gone, or does not keep to its time (R2).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sidestream_core::{Attempt, Namespace, TaskId};

use crate::chance::{self, Chance};
use crate::error::Error;
use crate::store::{Answer, Gone, Request, Rescue, Rescued, Store};
use crate::writer::Writer;

/// However far away the next lease's end seems, it is looked at so often, or thrice in a lease.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// So many attempts at most are ended in one transaction.
const LIMIT: u32 = 256;

/// Says which attempts a process runs now.
pub(crate) type Held = Box<dyn Fn() -> HashSet<(Namespace, TaskId, Attempt)> + Send + Sync>;

/// Looks for lost attempts.
pub(crate) struct Rescuer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) writer: Writer,
    pub(crate) chance: Arc<dyn Chance>,
    pub(crate) grace: Duration,
    pub(crate) lease_ms: u64,
    /// Says what this process runs itself.
    pub(crate) held: Held,
}

impl Rescuer {
    /// Ends what former processes of an exclusive store left running: their workers are gone.
    pub(crate) async fn end_former(&self, gone: Gone) -> Result<u64, Error> {
        let mut ended = 0;
        loop {
            let rescued = self.rescue(Some(gone.clone())).await?;
            ended += rescued.ended;
            if rescued.ended < u64::from(LIMIT) {
                return Ok(ended);
            }
        }
    }

    /// Looks whenever a lease may have ended, until dropped.
    pub(crate) async fn run(self) {
        let shortest = Duration::from_millis(100);
        let look_every = Duration::from_millis(self.lease_ms / 3).clamp(shortest, LOOK_EVERY);
        loop {
            let wait = match self.rescue(None).await {
                Ok(rescued) if rescued.ended >= u64::from(LIMIT) => continue,
                Ok(Rescued { next, ended }) => {
                    if ended > 0 {
                        tracing::info!(ended, "attempts of lost workers ended");
                    }
                    let next = next.map(|at| at.since(self.store.now()));
                    // Not the moment itself, so that a renewal on its way is not outrun.
                    next.map_or(look_every, |wait| wait + Duration::from_millis(10))
                }
                Err(Error::ShutDown) => return,
                Err(error) => {
                    tracing::warn!(%error, "lost attempts were not looked for");
                    look_every
                }
            };
            tokio::time::sleep(wait.clamp(shortest, look_every)).await;
        }
    }

    async fn rescue(&self, gone: Option<Gone>) -> Result<Rescued, Error> {
        let overtime_ms = u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX);
        let rescue = Rescue {
            limit: LIMIT,
            // The worker itself stops the handler within the grace; then its report may be on its way.
            overtime_ms: overtime_ms.saturating_mul(2).saturating_add(1_000),
            jitter: chance::jitter(&*self.chance),
            gone,
            spared: Arc::new((self.held)()),
        };
        match self.writer.submit(Request::Rescue(rescue)).await? {
            Answer::Rescued(rescued) => Ok(rescued),
            other => unreachable!("a rescue is answered as one: {other:?}"),
        }
    }
}
