//! The tasks that the writer knows without asking the database.
//!
//! Nobody else writes, so what it saved last is what is there, until a transaction is undone: then it
//! forgets everything. Once they are written, only tasks that a command is likely to come for are kept: of
//! ours, ready, running or suspended. Whatever changes rows in bulk (finding delayed tasks due,
//! acknowledging, cleaning up) changes none of these.

use std::sync::Arc;

use hashbrown::Equivalent;
use rusqlite::Connection;
use sidestream_core::{Json, Namespace, TaskId};

use super::failure::Result;
use super::row;
use super::spec::Specs;
use crate::store::recent::Recent;
use crate::store::stored::{Queue, Stored};

/// What a task takes beside its payloads, in bytes: roughly.
const TASK_BYTES: usize = 1_000;
/// What an id takes, in bytes: roughly.
const ID_BYTES: usize = 200;

/// What a task is found by.
#[derive(Hash)]
struct Name<'n>(&'n Namespace, &'n TaskId);

impl Equivalent<(Namespace, TaskId)> for Name<'_> {
    fn equivalent(&self, (namespace, id): &(Namespace, TaskId)) -> bool {
        id == self.1 && namespace == self.0
    }
}

/// The tasks that the writer knows.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    tasks: Recent<i64, Arc<Stored>>,
    keys: Recent<(Namespace, TaskId), i64>,
    pub(super) specs: Arc<Specs>,
}

impl Tasks {
    pub(super) fn new(specs: Arc<Specs>) -> Self {
        Self {
            specs,
            ..Self::default()
        }
    }

    /// A task by its id, if it is known.
    pub(super) fn known(&mut self, namespace: &Namespace, id: &TaskId) -> Option<Arc<Stored>> {
        let name = Name(namespace, id);
        self.keys.get(&name).and_then(|key| self.tasks.get(&key))
    }

    /// How often what was known longest has been forgotten, to make room.
    pub(super) fn turns(&self) -> u64 {
        self.tasks.turns() + self.keys.turns()
    }

    /// A task by its id, as the database has it.
    pub(super) fn by_id(
        &self,
        connection: &Connection,
        namespace: &Namespace,
        id: &TaskId,
    ) -> Result<Option<Arc<Stored>>> {
        Ok(row::by_id(connection, &self.specs, namespace, id)?.map(Arc::new))
    }

    /// A task by its key.
    pub(super) fn by_key(
        &mut self,
        connection: &Connection,
        key: i64,
    ) -> Result<Option<Arc<Stored>>> {
        let known = self.tasks.get(&key);
        if known.is_some() {
            return Ok(known);
        }
        Ok(row::by_key(connection, &self.specs, key)?.map(Arc::new))
    }

    /// Knows how a task is now, whether or not it is written yet.
    pub(super) fn changed(&mut self, stored: &Arc<Stored>) {
        let task = &stored.task;
        let payloads = [&task.suspend_payload, &task.resume_data];
        let payloads = payloads.into_iter().flatten().map(Json::bytes);
        let bytes = TASK_BYTES + payloads.sum::<usize>();
        if !self.tasks.keep(stored.key, Arc::clone(stored), bytes) {
            let identity = task.identity();
            let name = (identity.namespace.clone(), identity.id.clone());
            self.keys.keep(name, stored.key, ID_BYTES);
        }
    }

    /// Knows that a task is written as it is now.
    pub(super) fn written(&mut self, stored: &Stored) {
        let task = &stored.task;
        let is_delayed = stored.queue == Some(Queue::Delayed);
        if task.is_external() || task.status.is_terminal() || is_delayed {
            self.tasks.remove(&stored.key);
        }
    }

    /// Forgets everything: a transaction was undone.
    pub(super) fn forget(&mut self) {
        self.tasks.clear();
        self.keys.clear();
    }
}
