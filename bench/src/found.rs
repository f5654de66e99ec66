//! What one run of one figure found: the form in which every contender, ours or not, answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The line by which a contender says that what came before was its start-up.
pub(crate) const READY: &str = "ready";

/// Says so, to whoever counts what the work takes.
pub(crate) fn ready() {
    println!("{READY}");
}

/// The last line of a contender's output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// As the tables call it: `Sidestream on SQLite`.
    pub(crate) contender: String,
    pub(crate) version: String,
    /// What a completed task is safe against, as the contender read it back; never what it was told to be.
    pub(crate) durability: String,
    #[serde(flatten)]
    pub(crate) found: Found,
    /// The most memory that its process has had: whoever looks at it from outside may come too late.
    #[serde(default)]
    pub(crate) peak_kib: u64,
}

/// Values by their names, and what was looked at afterwards to believe them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Found {
    /// The unit stands last in the name: `tasks_per_second`, `p99_ms`.
    pub(crate) values: BTreeMap<String, f64>,
    /// In the past tense, with numbers: `40,000 tasks are completed, 120,000 events follow each other`.
    #[serde(default)]
    pub(crate) verified: String,
}

impl Found {
    /// Nothing measured yet; `verified` says what was looked at. Who finds a row missing returns an error instead.
    pub(crate) fn verified(verified: impl Into<String>) -> Self {
        Self {
            values: BTreeMap::new(),
            verified: verified.into(),
        }
    }

    pub(crate) fn value(mut self, name: &str, value: f64) -> Self {
        self.values.insert(name.to_owned(), value);
        self
    }

    /// Two values: `p50_ms` and `p99_ms`, each behind `prefix`.
    pub(crate) fn latencies(self, prefix: &str, mut ms: Vec<f64>) -> Self {
        if ms.is_empty() {
            return self;
        }
        let (p50, p99) = (percentile(&mut ms, 0.5), percentile(&mut ms, 0.99));
        self.value(&format!("{prefix}p50_ms"), p50)
            .value(&format!("{prefix}p99_ms"), p99)
    }
}

/// The value that this share of the others does not exceed. Sorts them; there must be one.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    values[((last as f64) * share).round() as usize]
}
