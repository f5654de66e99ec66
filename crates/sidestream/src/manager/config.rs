//! How a manager works.

use std::collections::BTreeMap;
use std::time::Duration;

use sidestream_core::task::TaskDefaults;
use sidestream_core::{Invalid, ToolName};

use crate::maintenance::pruner::Retention;
use crate::store::Limits;
use crate::stream::ring::RingLimits;
use crate::worker::handler::Tool;

/// The longest grace and lease, in milliseconds: a day.
pub(super) const DURATION_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// How a manager works. [`Config::default`] is what existing users expect (WIRE part 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// At most so many tasks run at once in this process: 10.
    pub concurrency: u32,
    /// At most so many tasks of one agent run at once, over all workers of the database: 5. `None` is
    /// no limit.
    pub concurrency_per_agent: Option<u32>,
    /// What a dispatch does when no slot is free: queue.
    pub backpressure: Backpressure,
    /// What a dispatch gets where neither it nor its tool says otherwise: attempts of 5 minutes, no
    /// retries.
    pub defaults: TaskDefaults,
    /// How long a worker may be silent before its attempts are given to another, in milliseconds:
    /// 30,000. Renewed three times as often.
    pub lease_ms: u64,
    /// How long a handler, or a whole process at its shutdown, may take to stop once told: 5 seconds.
    pub grace: Duration,
    /// How long things are kept.
    pub retention: Retention,
    /// How much of the log is kept in memory for those who watch.
    pub ring: RingLimits,
    /// May tasks be dispatched for tools that this process does not have, for workers elsewhere to
    /// run? `false`: such a dispatch is refused.
    pub accepts_any_tool: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            concurrency: 10,
            concurrency_per_agent: Some(5),
            backpressure: Backpressure::Queue,
            defaults: TaskDefaults::default(),
            lease_ms: 30_000,
            grace: Duration::from_secs(5),
            retention: Retention::default(),
            ring: RingLimits::default(),
            accepts_any_tool: false,
        }
    }
}

/// What a dispatch does when no slot is free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backpressure {
    /// The task waits.
    #[default]
    Queue,
    /// The dispatch is refused.
    Reject,
    /// The caller is told to run the tool itself.
    FallbackToSync,
}

/// Checks what a type cannot.
pub(super) fn check(config: &Config) -> Result<(), Invalid> {
    let is_zero = [
        ("concurrency", config.concurrency == 0),
        (
            "concurrencyPerAgent",
            config.concurrency_per_agent == Some(0),
        ),
        ("leaseMs", config.lease_ms == 0),
        // Without a pause between them cleanups would keep the store busy.
        ("retention.every", config.retention.every.is_zero()),
    ];
    for (field, is_zero) in is_zero {
        if is_zero {
            return Err(Invalid::new(field, "is 0"));
        }
    }
    let grace_ms = u64::try_from(config.grace.as_millis()).unwrap_or(u64::MAX);
    for (field, ms) in [("leaseMs", config.lease_ms), ("graceMs", grace_ms)] {
        if ms > DURATION_MS_MAX {
            let problem = format!("is {ms}, more than the {DURATION_MS_MAX} allowed");
            return Err(Invalid::new(field, problem));
        }
    }
    Ok(())
}

/// How many tasks may run at once, as stores are told.
pub(super) fn limits(config: &Config, tools: &BTreeMap<ToolName, Tool>) -> Limits {
    let per_tool = tools.iter().filter_map(|(name, tool)| {
        let limit = tool.settings.concurrency?;
        Some((name.clone(), limit))
    });
    Limits {
        total: Some(config.concurrency),
        per_agent: config.concurrency_per_agent,
        per_tool: per_tool.collect(),
    }
}
