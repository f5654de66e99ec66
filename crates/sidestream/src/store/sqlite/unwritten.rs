//! What a transaction has changed and not written yet.
//!
//! A task that changes several times in one transaction, as when it is dispatched and claimed, is written
//! once: as it is in the end. Whatever asks the database itself has it written first (`flush`); claims know
//! of what is here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sidestream_core::Namespace;

use super::failure::Result;
use super::transaction::Transaction;
use super::{events, row, spec};
use crate::store::stored::{Queue, Stored};

/// The tasks that are not as the database has them.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    tasks: BTreeMap<i64, Changed>,
    /// New ones, by what a repetition of their dispatch is recognised by.
    repetitions: HashMap<(Namespace, String), i64>,
}

#[derive(Debug)]
struct Changed {
    /// As the database has it.
    saved: Option<Arc<Stored>>,
    /// As it is now.
    now: Arc<Stored>,
}

impl Unwritten {
    /// Takes note of a task as it is now.
    pub(super) fn change(&mut self, before: Option<Arc<Stored>>, now: &Arc<Stored>) {
        let changed = self.tasks.entry(now.key).or_insert_with(|| Changed {
            saved: before,
            now: Arc::clone(now),
        });
        changed.now = Arc::clone(now);
    }

    /// Takes note of what a repetition of a new task's dispatch is recognised by.
    pub(super) fn recognise(&mut self, namespace: &Namespace, repetition: String, key: i64) {
        self.repetitions
            .insert((namespace.clone(), repetition), key);
    }

    pub(super) fn by_key(&self, key: i64) -> Option<Arc<Stored>> {
        self.tasks.get(&key).map(|changed| Arc::clone(&changed.now))
    }

    pub(super) fn by_repetition(
        &self,
        namespace: &Namespace,
        repetition: &str,
    ) -> Option<Arc<Stored>> {
        if self.repetitions.is_empty() {
            return None;
        }
        let name = (namespace.clone(), repetition.to_owned());
        self.by_key(*self.repetitions.get(&name)?)
    }

    /// Does the queue, as the database has it, show what is no longer so?
    pub(super) fn belies_queue(&self) -> bool {
        self.tasks.values().any(|changed| {
            let saved = changed.saved.as_ref();
            saved.is_some_and(|saved| saved.queue.is_some())
        })
    }

    /// Those that wait in this queue.
    pub(super) fn waiting(&self, queue: Queue) -> impl Iterator<Item = &Stored> {
        let all = self.tasks.values().map(|changed| &*changed.now);
        all.filter(move |stored| stored.queue == Some(queue))
    }
}

impl Transaction<'_> {
    /// Writes what has been decided, so that the database can be asked.
    pub(super) fn flush(&mut self) -> Result<()> {
        let Unwritten { tasks, .. } = std::mem::take(&mut self.unwritten);
        let is_new = |changed: &&Changed| changed.saved.is_none();
        let new = tasks.values().filter(is_new).map(|changed| &*changed.now);
        let new: Vec<&Stored> = new.collect();
        if !new.is_empty() {
            spec::insert(self.connection, &new)?;
            row::insert(self.connection, &new)?;
        }
        for changed in tasks.values() {
            if let Some(saved) = &changed.saved {
                let updates = &mut self.memory.updates;
                updates.save(self.connection, saved, &changed.now)?;
            }
        }
        events::insert(self.connection, &self.entries, &mut self.unwritten_events)?;
        let written = tasks.into_values().map(|changed| changed.now);
        written.for_each(|stored| self.memory.tasks.written(&stored));
        Ok(())
    }
}
