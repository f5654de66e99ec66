//! Chance for the actors, each with its own, so that one drawing more does not change the others.

use std::time::Duration;

use sidestream::testing::{Chance, SeededChance};

#[derive(Debug)]
pub(crate) struct Dice(SeededChance);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SeededChance::new(seed))
    }

    /// New dice, different from these and from each other.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.0.next())
    }

    pub(crate) fn seed(&self) -> u64 {
        self.0.next()
    }

    /// 0, 1, … n - 1.
    pub(crate) fn below(&self, n: u64) -> u64 {
        self.0.next() % n
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub(crate) fn is(&self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    pub(crate) fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    pub(crate) fn ms(&self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    pub(crate) fn shuffle<T>(&self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}
