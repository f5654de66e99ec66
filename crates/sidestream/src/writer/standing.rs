//! The claim that stands: it goes along with the next batch that may bring it work, so that a task is
//! dispatched and begun by one commit.
//!
//! It is made only when it goes, and asks for what the worker can take then.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use sidestream_core::{Command, ToolName};
use tokio::sync::oneshot;

use super::{Reply, Waiting};
use crate::error::Error;
use crate::store::Request;

/// Where the claim stands: there is one worker at most in a process that has the store.
#[derive(Debug, Default)]
pub(super) struct Place(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    standing: Option<Parked>,
    is_closed: bool,
}

/// A claim that has not gone yet.
pub(super) struct Parked {
    tools: Arc<[ToolName]>,
    make: Box<dyn FnOnce() -> Request + Send>,
    reply: oneshot::Sender<Reply>,
}

impl Parked {
    /// Makes the claim, to be committed.
    pub(super) fn go(self) -> Waiting {
        Waiting {
            request: (self.make)(),
            reply: self.reply,
            room: None,
        }
    }
}

impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parked")
            .field("tools", &self.tools)
            .finish_non_exhaustive()
    }
}

impl Place {
    /// Has a claim of these tools stand, which is made when it goes; and where its answer comes. Another
    /// that stands is answered as if the writer had shut down.
    pub(super) fn park(
        &self,
        tools: Arc<[ToolName]>,
        make: impl FnOnce() -> Request + Send + 'static,
    ) -> oneshot::Receiver<Reply> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.0.lock();
        if !state.is_closed {
            state.standing = Some(Parked {
                tools,
                make: Box::new(make),
                reply,
            });
        }
        answer
    }

    /// The claim, if it has not gone.
    pub(super) fn withdraw(&self) -> Option<Parked> {
        self.0.lock().standing.take()
    }

    /// The claim, if these requests may bring it work.
    pub(super) fn with<'r>(
        &self,
        mut requests: impl Iterator<Item = &'r Request>,
    ) -> Option<Parked> {
        let mut state = self.0.lock();
        let tools = &state.standing.as_ref()?.tools;
        let goes = requests.any(|request| may_bring_work(request, tools));
        goes.then(|| state.standing.take()).flatten()
    }

    /// Nothing will be committed any more.
    pub(super) fn close(&self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        state.standing = None;
    }
}

/// May there be a task to claim after this that was not there before: one that is new, or that waits no
/// longer, or for which a slot was freed? What happens otherwise is found by the bell.
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

/// The answer of a claim that stood.
pub(super) async fn answered(answer: &mut oneshot::Receiver<Reply>) -> Reply {
    answer.await.unwrap_or(Err(Error::ShutDown))
}
