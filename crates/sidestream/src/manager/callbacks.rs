//! Calls the application back when a task ends.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use sidestream_core::{EventKind, LogEntry, Task};

use crate::store::Store;
use crate::stream::tail::Observer;
use crate::worker::Spawner;

/// How a task ended, as callbacks tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Completed,
    Failed,
    Cancelled,
}

impl Ended {
    fn of(kind: &EventKind) -> Option<Self> {
        match kind {
            EventKind::Completed { .. } => Some(Self::Completed),
            EventKind::Failed { .. } | EventKind::TimedOut { .. } => Some(Self::Failed),
            EventKind::Cancelled => Some(Self::Cancelled),
            _ => None,
        }
    }
}

type Callback = Arc<dyn Fn(Task) -> BoxFuture<'static, ()> + Send + Sync>;

/// What the application wants to be told.
#[derive(Clone, Default)]
pub(super) struct Callbacks(Vec<(Ended, Callback)>);

impl Callbacks {
    pub(super) fn add<F>(&mut self, ended: Ended, call: impl Fn(Task) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let call: Callback = Arc::new(move |task| Box::pin(call(task)));
        self.0.push((ended, call));
    }

    pub(super) fn into_observer(
        self,
        store: Arc<dyn Store>,
        spawner: Spawner,
    ) -> Arc<dyn Observer> {
        Arc::new(Caller {
            callbacks: self.0,
            store,
            spawner,
        })
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} callbacks", self.0.len())
    }
}

struct Caller {
    callbacks: Vec<(Ended, Callback)>,
    store: Arc<dyn Store>,
    spawner: Spawner,
}

impl Observer for Caller {
    fn observe(&self, entries: &[LogEntry], is_ours: bool) {
        if !is_ours || self.callbacks.is_empty() {
            return;
        }
        for entry in entries {
            let Some(ended) = Ended::of(&entry.event.kind) else {
                continue;
            };
            for (_, call) in self.callbacks.iter().filter(|(on, _)| *on == ended) {
                self.call(entry, Arc::clone(call));
            }
        }
    }

    /// Callbacks are for this process's own commits.
    fn missed(&self) {}
}

impl Caller {
    /// On its own, so that a slow or panicking callback holds up nobody.
    fn call(&self, entry: &LogEntry, call: Callback) {
        let (store, task) = (Arc::clone(&self.store), Arc::clone(&entry.task));
        self.spawner.spawn(async move {
            match store.get(&task.namespace, &task.id).await {
                Ok(Some(task)) => call(task).await,
                Ok(None) => {}
                Err(error) => tracing::warn!(task = %task.id, %error, "callback not called"),
            }
        });
    }
}
