//! Counts, kept in a file, and the comparison of new ones with them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// By so much a count may rise or fall unsaid: what differs from run to run (threads that wait a little longer,
/// the places of hashed keys) stays well below it.
const TOLERANCE: f64 = 0.03;
/// The same where another compiler or C library made the counts: those alone shift them by some percent.
const TOLERANCE_BETWEEN_TOOLS: f64 = 0.25;

/// How many instructions each operation took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// The compiler and the C library.
    made_with: String,
    counts: BTreeMap<String, u64>,
}

impl Counts {
    pub(crate) fn new(made_with: String, counts: BTreeMap<String, u64>) -> Self {
        Self { made_with, counts }
    }

    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("{} cannot be read", file.display()))?;
        serde_json::from_str(&text).with_context(|| file.display().to_string())
    }

    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        Ok(std::fs::write(file, text)?)
    }

    pub(crate) fn compare(&self, found: &Self) -> Report {
        let (before, now) = (&self.counts, &found.counts);
        let new = now.keys().filter(|name| !before.contains_key(*name));
        let lines = before.keys().chain(new).map(|name| Line {
            name: name.clone(),
            accepted: before.get(name).copied(),
            found: now.get(name).copied(),
        });
        let tools = (self.made_with.clone(), found.made_with.clone());
        Report {
            lines: lines.collect(),
            other_tools: (tools.0 != tools.1).then_some(tools),
        }
    }
}

/// How counts compare.
#[derive(Debug)]
pub(crate) struct Report {
    lines: Vec<Line>,
    /// What made the accepted ones, and these, where that is not the same.
    other_tools: Option<(String, String)>,
}

#[derive(Debug)]
struct Line {
    name: String,
    accepted: Option<u64>,
    found: Option<u64>,
}

impl Line {
    /// The share by which it has risen; below zero if it has fallen.
    fn rise(&self) -> Option<f64> {
        Some(self.found? as f64 / self.accepted? as f64 - 1.0)
    }

    /// What is wrong with it, in words.
    fn problem(&self, tolerance: f64) -> Option<String> {
        let Self {
            name,
            accepted,
            found,
        } = self;
        match (accepted, found, self.rise()) {
            (Some(accepted), Some(found), Some(rise)) if rise.abs() > tolerance => {
                let way = if rise > 0.0 { "slower" } else { "faster" };
                let percent = rise.abs() * 100.0;
                Some(format!(
                    "`{name}` has become {way}: from {} to {} instructions, {percent:.1} %",
                    grouped(*accepted),
                    grouped(*found)
                ))
            }
            (Some(_), Some(_), _) => None,
            (None, _, _) => Some(format!("`{name}` has no count to compare with")),
            (_, None, _) => Some(format!(
                "`{name}` has a count, but is no operation any more"
            )),
        }
    }
}

impl Report {
    pub(crate) fn is_good(&self) -> bool {
        self.problems().next().is_none()
    }

    fn tolerance(&self) -> f64 {
        match self.other_tools {
            Some(_) => TOLERANCE_BETWEEN_TOOLS,
            None => TOLERANCE,
        }
    }

    fn problems(&self) -> impl Iterator<Item = String> {
        let tolerance = self.tolerance();
        self.lines
            .iter()
            .filter_map(move |line| line.problem(tolerance))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<44}{:>16}{:>16}{:>9}",
            "instructions of", "accepted", "now", "change"
        )?;
        for line in &self.lines {
            let count = |count: Option<u64>| count.map_or("-".to_owned(), grouped);
            let rise = line
                .rise()
                .map_or("-".to_owned(), |rise| format!("{:+.1} %", rise * 100.0));
            let (accepted, found) = (count(line.accepted), count(line.found));
            writeln!(f, "{:<44}{accepted:>16}{found:>16}{rise:>9}", line.name)?;
        }
        if let Some((accepted, now)) = &self.other_tools {
            writeln!(
                f,
                "\nThe accepted counts are of {accepted}, these of {now}: changes of up to {:.0} % say nothing.",
                TOLERANCE_BETWEEN_TOOLS * 100.0
            )?;
        }
        if self.is_good() {
            return Ok(());
        }
        writeln!(f)?;
        for problem in self.problems() {
            writeln!(f, "{problem}")?;
        }
        write!(
            f,
            "A change of more than {:.0} % is to be known. What became slower unintended, make as fast as it was \
             (`callgrind_annotate` shows where); else run `cargo run --profile guard -p sidestream-guard -- --accept`, \
             and commit bench/guard/counts.json with the reason.",
            self.tolerance() * 100.0
        )
    }
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> Counts {
        made_with("a compiler", counts)
    }

    fn made_with(tools: &str, counts: &[(&str, u64)]) -> Counts {
        let counts = counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count));
        Counts::new(tools.to_owned(), counts.collect())
    }

    #[test]
    fn what_stays_within_the_tolerance_is_good() {
        let accepted = counts(&[("a", 1_000_000), ("b", 500)]);
        let report = accepted.compare(&counts(&[("a", 1_029_999), ("b", 490)]));
        assert!(report.is_good(), "{report}");
    }

    #[test]
    fn a_slower_operation_is_named_with_both_counts_and_what_to_do() {
        let accepted = counts(&[("a", 1_000_000), ("b", 500)]);
        let report = accepted.compare(&counts(&[("a", 1_040_000), ("b", 500)]));
        assert!(!report.is_good());
        let report = report.to_string();
        let said = "`a` has become slower: from 1,000,000 to 1,040,000 instructions, 4.0 %";
        assert!(
            report.contains(said) && report.contains("--accept"),
            "{report}"
        );
    }

    /// Else what has become faster could become slower again unseen.
    #[test]
    fn a_faster_operation_a_new_one_and_a_lost_one_are_told_too() {
        let accepted = counts(&[("faster", 1_000), ("lost", 1)]);
        let report = accepted.compare(&counts(&[("faster", 900), ("new", 1)]));
        let problems: Vec<_> = report.problems().collect();
        assert_eq!(problems.len(), 3, "{problems:?}");
    }

    #[test]
    fn between_compilers_only_what_is_much_slower_is_told() {
        let accepted = made_with("one compiler", &[("a", 1_000), ("b", 1_000)]);
        let report = accepted.compare(&made_with("another", &[("a", 1_200), ("b", 900)]));
        assert!(report.is_good(), "{report}");
        let report = report.to_string();
        assert!(
            report.contains("one compiler") && report.contains("another"),
            "{report}"
        );
        let report = accepted.compare(&made_with("another", &[("a", 1_300), ("b", 900)]));
        assert!(!report.is_good(), "{report}");
    }
}
