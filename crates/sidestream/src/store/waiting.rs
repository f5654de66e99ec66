//! Tools whose tasks wait while none of them runs: for an examination of a store.
//!
//! A store does not know who would run what: it sees only who asks, and who asks in vain leaves no trace. What
//! can be seen is that a task's time has come, that nobody has taken it for a while, and that no other
//! of its tool is running, for whose end it might wait.

use std::time::Duration;

use sidestream_core::Timestamp;

use super::finding::{Finding, time_in_words};

/// A task that could have begun so long ago would have, if somebody ran its tool, in milliseconds.
pub(super) const WAITED_MS_MIN: i64 = 60_000;
/// So many tools are named.
pub(super) const NAMED_MAX: usize = 5;

/// Tasks of a tool of which none runs.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) tool: String,
    /// How many could begin.
    pub(super) tasks: u64,
    /// Since when the first of them could.
    pub(super) since: Timestamp,
}

/// What an examination says of them: `waiting` holds those that have waited for [`WAITED_MS_MIN`], first the
/// one that has waited longest.
pub(super) fn finding(waiting: &[Waiting], now: Timestamp) -> Finding {
    if waiting.is_empty() {
        let seen = "no task waits for a tool of which none runs";
        return Finding::good("tools", seen);
    }
    let mut seen: Vec<String> = waiting.iter().map(|tool| tool.told(now)).collect();
    if seen.len() > NAMED_MAX {
        seen.truncate(NAMED_MAX);
        seen.push(format!("{} more tools", waiting.len() - NAMED_MAX));
    }
    Finding::doubtful(
        "tools",
        seen.join("; "),
        "nobody has such a tool, or all who do are busy: is a server up whose file has it; if it is remote = true \
         there, is a worker up that runs it; what was dispatched under a wrong name `sidestream cancel` ends",
    )
}

impl Waiting {
    fn told(&self, now: Timestamp) -> String {
        let Self { tool, tasks, since } = self;
        let ms = u64::try_from(now.ms() - since.ms()).unwrap_or(0);
        let waited = time_in_words(Duration::from_millis(ms));
        match tasks {
            1 => format!("a task of {tool} has waited for {waited}, and none of it runs"),
            _ => format!(
                "{tasks} tasks of {tool} have waited for up to {waited}, and none of it runs"
            ),
        }
    }
}
