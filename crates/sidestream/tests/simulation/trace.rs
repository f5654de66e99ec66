//! What happened, line by line: a hash of all of it, and the text where it is wanted.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher};

use sidestream::Timestamp;

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
