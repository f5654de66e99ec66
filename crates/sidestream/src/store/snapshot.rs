//! Which tasks stood how at one moment of the log: small pins, handed on as they are found.

use std::fmt;
use std::future::Future;

use sidestream_core::{Attempt, Filter, Namespace, Seq, Status, Timestamp};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Head, Result};
use crate::error::{StoreError, StoreErrorKind};

/// What a snapshot is of.
#[derive(Debug, Clone)]
pub struct SnapshotQuery {
    /// The tenant's room.
    pub namespace: Namespace,
    /// Which tasks.
    pub filter: Filter,
    /// Standing so: any of pending, running, suspended.
    pub statuses: Vec<Status>,
}

/// Which tasks matched at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The moment: the state exactly after [`Head::seq`].
    pub head: Head,
    /// The tasks, the oldest first.
    pub pins: Pins,
}

/// A task at a snapshot's moment: enough to show it later as it stood then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// The store's own number of the task.
    pub key: i64,
    /// Where it stood.
    pub status: Status,
    /// Its attempt.
    pub attempt: Attempt,
    /// Since when it stood so.
    pub since: Timestamp,
    /// Its last event then.
    pub seq: Seq,
}

/// The tasks of a snapshot, by when they were created: all that the store has found, and those that it is
/// still finding.
///
/// The store goes on by itself, all at the snapshot's moment, as fast as it can, and never waits for its
/// reader. Once this is dropped the search ends: at the latest with the next part that it finds.
pub struct Pins {
    found: Vec<Pin>,
    /// How many of those have been taken.
    taken: usize,
    more: More,
}

/// Are there more than have been found?
enum More {
    No,
    Perhaps(Search),
    /// Nobody can say any more.
    Lost,
}

/// What is told by a search, which ends when this is dropped.
struct Search {
    told: mpsc::UnboundedReceiver<Told>,
    _searching: JoinSet<()>,
}

/// What a search tells.
enum Told {
    /// More are found, in order.
    Found(Vec<Pin>),
    /// There are no more.
    End,
    Failed(StoreError),
}

/// Tells what a search finds.
#[derive(Debug, Clone)]
pub(crate) struct Finder(mpsc::UnboundedSender<Told>);

impl Finder {
    /// More are found, in order. Does anybody still want to know?
    pub(super) fn found(&self, part: Vec<Pin>) -> bool {
        self.0.send(Told::Found(part)).is_ok()
    }
}

impl Pins {
    /// The first that are found, and what a search will find behind them until it ends.
    pub(crate) fn found_by<S>(first: Vec<Pin>, search: impl FnOnce(Finder) -> S) -> Self
    where
        S: Future<Output = Result<()>> + Send + 'static,
    {
        let (teller, told) = mpsc::unbounded_channel();
        let search = search(Finder(teller.clone()));
        let mut searching = JoinSet::new();
        searching.spawn(async move {
            let last = match search.await {
                Ok(()) => Told::End,
                Err(error) => Told::Failed(error),
            };
            // Who has gone needs no answer.
            let _ = teller.send(last);
        });
        let search = Search {
            told,
            _searching: searching,
        };
        Self {
            found: first,
            taken: 0,
            more: More::Perhaps(search),
        }
    }

    /// The next ones, at most so many: none, when all have been taken. They are not taken yet.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the store could not find the rest. Nobody can find it any more, since its moment has passed: so
    /// it fails from then on.
    pub async fn next(&mut self, limit: usize) -> Result<&[Pin]> {
        while self.found.len() - self.taken < limit {
            let told = match &mut self.more {
                More::No => break,
                More::Perhaps(search) => search.told.recv().await,
                More::Lost => return Err(lost()),
            };
            match told {
                Some(Told::Found(mut part)) => {
                    self.found.drain(..self.taken);
                    self.taken = 0;
                    self.found.append(&mut part);
                }
                Some(Told::End) => self.more = More::No,
                Some(Told::Failed(error)) => {
                    self.more = More::Lost;
                    return Err(error);
                }
                // The search is gone, and has not said that it was over.
                None => self.more = More::Lost,
            }
        }
        let left = &self.found[self.taken..];
        Ok(&left[..left.len().min(limit)])
    }

    /// Takes the next ones: at most as many as [`Pins::next`] has shown.
    pub fn take(&mut self, count: usize) {
        self.taken = self.found.len().min(self.taken + count);
    }

    /// Are all found and taken? Perhaps they are where this says no: the store may have yet to say that there
    /// are no more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self.more, More::No) && self.taken == self.found.len()
    }

    /// All that are left, once they are found.
    ///
    /// # Errors
    /// As [`Pins::next`].
    pub async fn all(mut self) -> Result<Vec<Pin>> {
        self.next(usize::MAX).await?;
        self.found.drain(..self.taken);
        Ok(self.found)
    }
}

fn lost() -> StoreError {
    let message = "the rest of a snapshot could not be read, and its moment has passed";
    StoreError::new(StoreErrorKind::Unavailable, message)
}

impl From<Vec<Pin>> for Pins {
    fn from(found: Vec<Pin>) -> Self {
        Self {
            found,
            taken: 0,
            more: More::No,
        }
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pins")
            .field("found", &(self.found.len() - self.taken))
            .field("are_all", &matches!(self.more, More::No))
            .finish_non_exhaustive()
    }
}
