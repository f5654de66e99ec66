//! What a run leaves behind: everything that was measured, as it was measured.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::found::Answer;
use crate::machine::Machine;
use crate::place::Kind;

/// A file of `bench/results`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Results {
    /// When the run began, UTC.
    pub(crate) at: String,
    /// Where several are read as one: when those before were measured.
    #[serde(skip)]
    pub(crate) earlier: Vec<String>,
    pub(crate) machine: Machine,
    /// Was it only a tenth of the work?
    pub(crate) quick: bool,
    pub(crate) lines: Vec<Line>,
}

/// One contender in one figure at one setting.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) figure: String,
    /// What all contenders of a table have in common.
    pub(crate) setting: BTreeMap<String, u64>,
    /// By which the options pick it.
    pub(crate) contender: String,
    pub(crate) store: Kind,
    /// Its own settings.
    pub(crate) own: BTreeMap<String, u64>,
    /// How much it did in each run.
    pub(crate) amount: u64,
    pub(crate) runs: Vec<Run>,
    /// Why there is nothing, or nothing more.
    pub(crate) missing: Option<String>,
}

/// One run of one contender.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    #[serde(flatten)]
    pub(crate) answer: Answer,
    /// Of its own process, and of those that it waited for, without its start-up.
    pub(crate) cpu_seconds: f64,
    /// Of the database's processes, meanwhile.
    pub(crate) server_cpu_seconds: Option<f64>,
    /// Of the database's processes together, what they share counted once.
    pub(crate) server_peak_kib: Option<u64>,
    pub(crate) took_seconds: f64,
}

impl Results {
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Reads several as one: of a figure at a setting that is in several, the last counts.
    pub(crate) fn read_all(paths: &[impl AsRef<Path>]) -> anyhow::Result<Self> {
        let mut all: Option<Self> = None;
        for path in paths.iter().map(AsRef::as_ref) {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            let read: Self = serde_json::from_str(&text)
                .with_context(|| format!("{} is no file of results", path.display()))?;
            all = Some(match all {
                None => read,
                Some(before) => before.followed_by(read),
            });
        }
        all.context("there are no results")
    }

    /// The days on which they were measured, in order.
    pub(crate) fn days(&self) -> Vec<&str> {
        let all = self.earlier.iter().chain([&self.at]);
        let mut days: Vec<_> = all.map(|at| at.get(..10).unwrap_or(at)).collect();
        days.dedup();
        days
    }

    fn followed_by(mut self, mut later: Self) -> Self {
        let is_in_later = |line: &Line| later.lines.iter().any(|it| it.place() == line.place());
        self.lines.retain(|line| !is_in_later(line));
        self.lines.append(&mut later.lines);
        self.lines
            .sort_by(|one, other| one.place().cmp(&other.place()));
        self.earlier.push(self.at);
        Self {
            lines: self.lines,
            earlier: self.earlier,
            ..later
        }
    }
}

impl Line {
    /// Which table it is in.
    fn place(&self) -> (&str, &BTreeMap<String, u64>) {
        (&self.figure, &self.setting)
    }

    /// As the tables call it.
    pub(crate) fn name(&self) -> String {
        match self.runs.last() {
            Some(run) => run.answer.contender.clone(),
            None => {
                let own = self
                    .own
                    .keys()
                    .map(|name| format!(", {}", name.replace('_', " ")));
                format!(
                    "{} on {}{}",
                    self.contender,
                    self.store.name(),
                    own.collect::<String>()
                )
            }
        }
    }

    /// Median, least and most of a value over the runs.
    pub(crate) fn value(&self, name: &str) -> Option<Spread> {
        spread(
            self.runs
                .iter()
                .filter_map(|run| run.answer.found.values.get(name).copied()),
        )
    }

    /// Seconds of processors for so many units of its work, the database's among them.
    pub(crate) fn cpu_per(&self, units: f64) -> Option<Spread> {
        let cpu = |run: &Run| run.cpu_seconds + run.server_cpu_seconds.unwrap_or(0.0);
        spread(
            self.runs
                .iter()
                .map(|run| cpu(run) / self.amount as f64 * units),
        )
    }

    pub(crate) fn peak_mib(&self) -> Option<Spread> {
        spread(
            self.runs
                .iter()
                .map(|run| run.answer.peak_kib as f64 / 1_024.0),
        )
    }

    pub(crate) fn server_peak_mib(&self) -> Option<Spread> {
        let peaks = self.runs.iter().filter_map(|run| run.server_peak_kib);
        spread(peaks.map(|kib| kib as f64 / 1_024.0))
    }
}

/// What several runs gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

fn spread(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (least, most) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    };
    Some(Spread {
        median,
        least,
        most,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a run writes is what a later one reads, field by field.
    #[test]
    fn results_are_read_as_they_were_written() {
        let answer = r#"{"contender": "a", "version": "1", "durability": "none", "values": {"p50_ms": 1.5},
            "verified": "all", "peak_kib": 7}"#;
        let run = Run {
            answer: serde_json::from_str(answer).expect("it is an answer"),
            cpu_seconds: 0.5,
            server_cpu_seconds: None,
            server_peak_kib: Some(3),
            took_seconds: 2.0,
        };
        let text = serde_json::to_string(&run).expect("it is JSON");
        let read: Run = serde_json::from_str(&text).expect("it is a run");
        assert_eq!(read.answer.found.values["p50_ms"], 1.5);
        assert_eq!((read.answer.peak_kib, read.server_peak_kib), (7, Some(3)));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        let found = spread([4.0, 1.0, 3.0, 10.0].into_iter()).expect("there are values");
        assert_eq!(
            found,
            Spread {
                median: 3.5,
                least: 1.0,
                most: 10.0
            }
        );
        assert_eq!(spread(std::iter::empty()), None);
    }
}
