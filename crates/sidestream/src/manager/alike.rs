//! Claims that are alike look one after the other: what one did not find, the others need not look for.
//!
//! A hundred idle workers wait for the same tools. Each event that may mean work wakes them all; without
//! this each would ask the store, and the idle would slow down the busy.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sidestream_core::{Namespace, Timestamp, ToolName};

use crate::worker::running::Work;

/// What is asked for: in which room, of which tools.
type Question = (Namespace, Arc<[ToolName]>);

/// The questions that claims wait with.
#[derive(Debug, Default)]
pub(super) struct Alike(Mutex<HashMap<Question, Arc<Group>>>);

/// The claims that wait with the same question.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Whose turn it is to look.
    pub(super) turn: tokio::sync::Mutex<()>,
    nothing: Mutex<Option<Nothing>>,
}

/// There was nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nothing {
    /// After so much that may have brought some.
    pub(super) work: Work,
    /// When the next task of the tools, whose time has not come yet, is due.
    pub(super) next_due: Option<Timestamp>,
}

/// A claim's place among those that are alike, until it is dropped.
#[derive(Debug)]
pub(super) struct Member<'a> {
    all: &'a Alike,
    question: Question,
    pub(super) group: Arc<Group>,
}

impl Alike {
    pub(super) fn join(&self, question: Question) -> Member<'_> {
        let group = Arc::clone(self.0.lock().entry(question.clone()).or_default());
        Member {
            all: self,
            question,
            group,
        }
    }
}

impl Group {
    /// What one of them found lately, if that still holds: nothing has happened since, and no task came
    /// due.
    pub(super) fn nothing(&self, work: Work, now: Timestamp) -> Option<Nothing> {
        self.nothing
            .lock()
            .filter(|nothing| nothing.work == work && nothing.next_due.is_none_or(|due| due > now))
    }

    pub(super) fn found_nothing(&self, nothing: Nothing) {
        *self.nothing.lock() = Some(nothing);
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        let mut groups = self.all.0.lock();
        // The map's and ours: nobody else waits with this question.
        if Arc::strong_count(&self.group) <= 2 {
            groups.remove(&self.question);
        }
    }
}

#[cfg(test)]
mod tests {
    use sidestream_core::Seq;

    use super::*;

    #[test]
    fn a_group_is_forgotten_with_its_last_member() {
        let (all, tools) = (Alike::default(), Arc::<[ToolName]>::from([]));
        let question = || (Namespace::default(), Arc::clone(&tools));
        let (one, other) = (all.join(question()), all.join(question()));
        assert!(Arc::ptr_eq(&one.group, &other.group));
        drop(one);
        assert_eq!(all.0.lock().len(), 1);
        drop(other);
        assert!(all.0.lock().is_empty());
    }

    #[test]
    fn nothing_holds_until_a_bell_rings_or_a_task_comes_due() {
        let group = Group::default();
        let at = Timestamp::from_ms;
        let next_due = Some(at(10));
        let work = |theirs, ours| Work {
            theirs,
            ours: Seq(ours),
        };
        let (then, theirs, ours) = (work(3, 7), work(4, 7), work(3, 8));
        group.found_nothing(Nothing {
            work: then,
            next_due,
        });
        assert!(group.nothing(then, at(9)).is_some());
        assert!(group.nothing(theirs, at(9)).is_none());
        assert!(group.nothing(ours, at(9)).is_none());
        assert!(group.nothing(then, at(10)).is_none());
    }
}
