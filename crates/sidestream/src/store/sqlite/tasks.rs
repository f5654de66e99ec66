//! The tasks that the writer knows without asking the database.
//!
//! Nobody else writes, so what it saved last is what is there, until a transaction is undone: then it
//! forgets everything. Only tasks that a command is likely to come for are kept: of ours, ready, running
//! or suspended. Whatever changes rows in bulk (finding delayed tasks due, acknowledging, cleaning up)
//! changes none of these.

use std::sync::Arc;

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

    /// A task by its id.
    pub(super) fn by_id(
        &mut self,
        connection: &Connection,
        namespace: &Namespace,
        id: &TaskId,
    ) -> Result<Option<Arc<Stored>>> {
        let name = (namespace.clone(), id.clone());
        let known = self.keys.get(&name).and_then(|key| self.tasks.get(&key));
        if known.is_some() {
            return Ok(known);
        }
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

    /// Knows how a task was saved last.
    pub(super) fn saved(&mut self, stored: Stored) {
        let task = &stored.task;
        let is_delayed = stored.queue == Some(Queue::Delayed);
        if task.is_external() || task.status.is_terminal() || is_delayed {
            self.tasks.remove(&stored.key);
            return;
        }
        let payloads = [&task.suspend_payload, &task.resume_data];
        let payloads = payloads.into_iter().flatten().map(Json::bytes);
        let bytes = TASK_BYTES + payloads.sum::<usize>();
        let identity = task.identity();
        let name = (identity.namespace.clone(), identity.id.clone());
        let key = stored.key;
        self.keys.keep(name, key, ID_BYTES);
        self.tasks.keep(key, Arc::new(stored), bytes);
    }

    /// Forgets everything: a transaction was undone.
    pub(super) fn forget(&mut self) {
        self.tasks.clear();
        self.keys.clear();
    }
}
