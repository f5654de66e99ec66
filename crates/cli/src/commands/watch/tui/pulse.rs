//! How many tasks ended in each of the last seconds.

use std::collections::VecDeque;

use sidestream::Timestamp;

/// So many seconds are kept.
const SECONDS: usize = 60;

/// Counts by second, the current one last.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    counts: VecDeque<u64>,
    /// The second that the last count is of.
    second: i64,
}

impl Pulse {
    /// Something ended.
    pub(super) fn beat(&mut self, now: Timestamp) {
        self.advance(now);
        if let Some(count) = self.counts.back_mut() {
            *count += 1;
        }
    }

    /// Time has passed.
    pub(super) fn advance(&mut self, now: Timestamp) {
        let second = now.ms().div_euclid(1_000);
        let passed = match self.counts.is_empty() {
            true => 1,
            // A clock that was set back does not undo what was counted.
            false => second.saturating_sub(self.second).max(0),
        };
        for _ in 0..passed.min(SECONDS as i64) {
            self.counts.push_back(0);
        }
        while self.counts.len() > SECONDS {
            self.counts.pop_front();
        }
        self.second = self.second.max(second);
    }

    /// The counts of the last so many whole seconds, the latest last.
    pub(super) fn last(&self, seconds: usize) -> Vec<u64> {
        let whole = self.counts.len().saturating_sub(1);
        let first = whole.saturating_sub(seconds);
        self.counts.range(first..whole).copied().collect()
    }

    /// How many a second, over the last ten whole ones.
    pub(super) fn rate(&self) -> f64 {
        let last = self.last(10);
        let seconds = u32::try_from(last.len().max(1)).unwrap_or(1);
        let ended: u32 = last
            .iter()
            .map(|n| u32::try_from(*n).unwrap_or(u32::MAX))
            .sum();
        f64::from(ended) / f64::from(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_is_counted_by_the_second() {
        let mut pulse = Pulse::default();
        for ms in [5_100, 5_900, 7_000, 8_000] {
            pulse.beat(Timestamp::from_ms(ms));
        }
        assert_eq!(pulse.last(60), [2, 0, 1]);
        assert_eq!(pulse.last(2), [0, 1]);
        assert!((pulse.rate() - 1.0).abs() < f64::EPSILON);
        pulse.advance(Timestamp::from_ms(4_000));
        assert_eq!(pulse.last(60), [2, 0, 1], "the clock was set back");
        pulse.advance(Timestamp::from_ms(10_000_000));
        assert_eq!(pulse.last(60), [0; 59]);
    }
}
