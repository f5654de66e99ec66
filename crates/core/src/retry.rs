//! When a failed attempt is tried again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often, and after how long, a failed attempt is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// How many failures are followed by another attempt. 0 means that the first failure is final.
    pub max_retries: u32,
    /// The longest wait before the first retry, in milliseconds; it doubles with each further one.
    pub delay_ms: u64,
    /// What the wait never exceeds, in milliseconds.
    pub delay_max_ms: u64,
}

impl Default for RetryPolicy {
    /// No retries; when there are some, 1 second, doubling, at most 30 seconds.
    fn default() -> Self {
        Self {
            max_retries: 0,
            delay_ms: 1_000,
            delay_max_ms: 30_000,
        }
    }
}

impl RetryPolicy {
    /// Waits `delay * 2^retries`, at most `delay_max`, times a random factor in [0, 1).
    ///
    /// "Full jitter" of Brooker, *Exponential Backoff and Jitter* (AWS Architecture Blog, 2015).
    /// `retries` counts the retries before this one.
    #[must_use]
    pub fn backoff(&self, retries: u32, jitter: Jitter) -> Duration {
        let doubled = self
            .delay_ms
            .saturating_mul(1u64.checked_shl(retries.min(63)).unwrap_or(u64::MAX));
        let bound = doubled.min(self.delay_max_ms);
        let scaled = (u128::from(bound) * u128::from(jitter.0)) >> 32;
        Duration::from_millis(u64::try_from(scaled).unwrap_or(u64::MAX))
    }
}

/// A random factor in [0, 1), in units of 2⁻³². It comes in with the command, so that deciding
/// stays pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Jitter(pub u32);

impl Jitter {
    /// A factor of its own for the `n`-th of several, mixed from this one.
    ///
    /// The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        let mut z = (u64::from(self.0) << 32 | 0x9e37_79b9)
            .wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(((z ^ (z >> 31)) >> 32) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        let policy = RetryPolicy::default();
        let half = Jitter(1 << 31);
        let waits: Vec<_> = (0..7)
            .map(|n| policy.backoff(n, half).as_millis())
            .collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
        assert_eq!(
            policy.backoff(4_000_000_000, Jitter(u32::MAX)).as_millis(),
            29_999
        );
        assert_eq!(policy.backoff(3, Jitter(0)).as_millis(), 0);
    }
}
