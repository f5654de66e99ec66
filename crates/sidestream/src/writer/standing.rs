//! The claims of the process's own worker: one goes along with every batch that may bring it work, so that
//! a task is dispatched and begun by one commit.
//!
//! Each is made only when its batch is complete, and asks for what the worker can take then.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use sidestream_core::{Command, ToolName};
use tokio::sync::{Notify, oneshot};

use super::Reply;
use crate::store::Request;

/// A worker that claims.
pub(crate) trait Claimant: Send + Sync {
    /// What it can run.
    fn tools(&self) -> &[ToolName];

    /// A claim; `None` while the worker has no slot free.
    fn claim(&self) -> Option<StandingClaim>;
}

/// A claim that goes along with a batch.
pub(crate) struct StandingClaim {
    pub(crate) request: Request,
    /// Where its answer goes.
    pub(crate) reply: oneshot::Sender<Reply>,
    /// Told at once how many tasks it has brought, before the next batch is taken: so that the claim that goes along
    /// with that one can ask for what this one did not need.
    pub(crate) brought: Brought,
}

pub(crate) type Brought = Box<dyn FnOnce(usize) + Send + Sync>;

/// Where the worker stands: there is one at most in a process that has the store.
#[derive(Default)]
pub(super) struct Place {
    state: Mutex<State>,
    called: Notify,
}

#[derive(Default)]
struct State {
    claimant: Option<Arc<dyn Claimant>>,
    is_called: bool,
}

impl Place {
    /// From now on it claims.
    pub(super) fn stand(&self, claimant: Arc<dyn Claimant>) {
        self.state.lock().claimant = Some(claimant);
    }

    /// From now on it does not. A claim that was made before is answered.
    pub(super) fn leave(&self) {
        *self.state.lock() = State::default();
    }

    /// The next batch takes a claim along, whatever else it has; it is begun at once.
    pub(super) fn call(&self) {
        self.state.lock().is_called = true;
        self.called.notify_one();
    }

    /// Waits for that.
    pub(super) async fn called(&self) {
        while !self.state.lock().is_called {
            self.called.notified().await;
        }
    }

    /// The claim that goes along with these requests, if any does.
    pub(super) fn claim<'r>(
        &self,
        mut requests: impl Iterator<Item = &'r Request>,
    ) -> Option<StandingClaim> {
        let mut state = self.state.lock();
        let is_called = std::mem::take(&mut state.is_called);
        let claimant = state.claimant.as_ref()?;
        let tools = claimant.tools();
        let goes = is_called || requests.any(|request| may_bring_work(request, tools));
        goes.then(|| claimant.claim()).flatten()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Place")
            .field("is_taken", &state.claimant.is_some())
            .field("is_called", &state.is_called)
            .finish_non_exhaustive()
    }
}

/// May there be a task to claim after this that was not there before: one that is new, or that waits no
/// longer, or for which a slot was freed? What else may bring work rings a bell.
fn may_bring_work(request: &Request, tools: &[ToolName]) -> bool {
    match request {
        Request::Dispatch { spec, .. } => {
            spec.run_at.is_none() && tools.contains(&spec.identity.tool_name)
        }
        Request::Command { command, .. } => {
            !matches!(command, Command::Output { .. } | Command::Renew { .. })
        }
        _ => false,
    }
}
