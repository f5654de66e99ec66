//! What happened, line by line: a hash of all of it, and the text where it is wanted.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher};

use sidestream::Timestamp;
use sidestream::core::EventKind;

/// So many lines are shown of a run that nobody asked to see whole.
const LINES_SHOWN: usize = 60;

#[derive(Default)]
pub(crate) struct Trace {
    lines: VecDeque<String>,
    hash: u64,
    keeps_all: bool,
}

impl Trace {
    pub(crate) fn new(keeps_all: bool) -> Self {
        Self {
            keeps_all,
            ..Self::default()
        }
    }

    pub(crate) fn note(&mut self, now: Timestamp, line: fmt::Arguments<'_>) {
        let mut text = if self.keeps_all || self.lines.len() < LINES_SHOWN {
            String::new()
        } else {
            self.lines.pop_front().unwrap_or_default()
        };
        text.clear();
        // Since the start of the simulated world, which is at a full million of seconds.
        let ms = now.ms().rem_euclid(1_000_000_000);
        let _ = write!(text, "{:>5}.{:03} {line}", ms / 1_000, ms % 1_000);
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.hash);
        hasher.write(text.as_bytes());
        self.hash = hasher.finish();
        self.lines.push_back(text);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// An event, as a trace shows it.
pub(crate) struct Line<'a>(pub(crate) &'a EventKind);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            EventKind::Dispatched(spec) => write!(f, "dispatched {}", spec.identity.tool_name),
            EventKind::Started {
                attempt,
                worker,
                is_resumed,
            } => {
                write!(
                    f,
                    "started {attempt} by {worker}{}",
                    if *is_resumed { " resumed" } else { "" }
                )
            }
            EventKind::Output { attempt, payload } => write!(f, "output {attempt} {payload}"),
            EventKind::Suspended { attempt, .. } => write!(f, "suspended {attempt}"),
            EventKind::Resumed { data } => write!(f, "resumed {data}"),
            EventKind::Completed { attempt, .. } => write!(f, "completed {attempt}"),
            EventKind::Retrying {
                attempt,
                error,
                next_attempt_at,
            } => {
                write!(
                    f,
                    "retrying {attempt} at {next_attempt_at}: {}",
                    error.message
                )
            }
            EventKind::Failed { attempt, error } => {
                write!(f, "failed {attempt}: {}", error.message)
            }
            EventKind::TimedOut { attempt, .. } => write!(f, "timed out {attempt}"),
            EventKind::Cancelled => f.write_str("cancelled"),
            EventKind::Retried => f.write_str("retried"),
            EventKind::Recorded(_) => f.write_str("recorded"),
        }
    }
}
