//! What an examination of a store finds: for the one who runs it, in words.

use std::fmt;
use std::time::Duration;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, such as `clock`.
    pub topic: &'static str,
    /// Is it as it should be?
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do about it; empty where there is nothing to do.
    pub advice: String,
}

/// Is something as it should be?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is.
    Good,
    /// It works, and will not for ever, or not well.
    Doubtful,
    /// It does not work.
    Bad,
}

impl Finding {
    /// All is well.
    pub fn good(topic: &'static str, seen: impl Into<String>) -> Self {
        Self {
            topic,
            verdict: Verdict::Good,
            seen: seen.into(),
            advice: String::new(),
        }
    }

    /// It should be looked at.
    pub fn doubtful(
        topic: &'static str,
        seen: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            topic,
            verdict: Verdict::Doubtful,
            seen: seen.into(),
            advice: advice.into(),
        }
    }

    /// Something must be done.
    pub fn bad(topic: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            topic,
            verdict: Verdict::Bad,
            seen: seen.into(),
            advice: advice.into(),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Doubtful => "doubtful",
            Self::Bad => "bad",
        })
    }
}

/// Bytes for people: `17.3 MiB`.
#[must_use]
pub fn bytes_in_words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} bytes"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// A time for people, of which the beginning says enough: `90 s`, `12 min`, `30 h`, `5 days`.
#[must_use]
pub fn time_in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
