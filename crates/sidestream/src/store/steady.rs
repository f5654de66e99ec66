//! A clock that does not go back, unless it was wrong.
//!
//! The log's times rise with its places, and `created_at` with the order of dispatch; a machine whose
//! clock is set back a little, as happens daily, must not break that. Time must not stand still
//! meanwhile either, or no lease would end and no retry come due. So after a small step back the store's
//! time goes on from where it was, at half speed, until the machine's clock has caught up. A large step
//! back means that the clock was wrong before: then the store follows it, rather than be wrong for as
//! long again.

#[cfg(feature = "sqlite")]
use std::sync::Arc;

#[cfg(feature = "sqlite")]
use parking_lot::Mutex;
use sidestream_core::Timestamp;

#[cfg(feature = "sqlite")]
use crate::clock::Clock;

/// How far the clock may be set back without our following, in milliseconds.
const AHEAD_MS_MAX: i64 = 60_000;

/// How a clock is followed.
#[derive(Debug)]
pub(super) struct Steadiness {
    /// What the clock showed when it was last looked at.
    shown_ms: i64,
    /// How far we are ahead of it, in half milliseconds: whoever looks each millisecond must not keep
    /// us from being caught up with.
    ahead_halves: i64,
}

impl Steadiness {
    /// Goes on from `last`, or from what the clock shows, if that is later.
    pub(super) fn starting_after(shown_ms: i64, last: Timestamp) -> Self {
        let ahead_ms = last.ms().saturating_sub(shown_ms);
        Self {
            shown_ms,
            ahead_halves: bounded(ahead_ms.saturating_mul(2)),
        }
    }

    /// The time, now that the clock shows this.
    pub(super) fn time_at(&mut self, shown_ms: i64) -> Timestamp {
        let passed_ms = shown_ms.saturating_sub(self.shown_ms);
        self.shown_ms = shown_ms;
        let change_halves = if passed_ms < 0 {
            passed_ms.saturating_mul(2)
        } else {
            passed_ms
        };
        self.ahead_halves = bounded(self.ahead_halves.saturating_sub(change_halves));
        Timestamp::from_ms(shown_ms.saturating_add(self.ahead_halves / 2))
    }
}

/// A clock that does not go back, unless it was wrong.
#[cfg(feature = "sqlite")]
#[derive(Debug)]
pub(super) struct SteadyClock {
    clock: Arc<dyn Clock>,
    state: Mutex<Steadiness>,
}

#[cfg(feature = "sqlite")]
impl SteadyClock {
    /// Goes on from `last`, or from what the clock shows, if that is later.
    pub(super) fn starting_after(clock: Arc<dyn Clock>, last: Timestamp) -> Self {
        let state = Mutex::new(Steadiness::starting_after(clock.now().ms(), last));
        Self { clock, state }
    }

    pub(super) fn now(&self) -> Timestamp {
        let mut state = self.state.lock();
        // Read behind the lock: of two readers the later never gets the earlier time.
        state.time_at(self.clock.now().ms())
    }
}

/// How far ahead we are, or stay.
fn bounded(ahead_halves: i64) -> i64 {
    if ahead_halves > 2 * AHEAD_MS_MAX {
        0
    } else {
        ahead_halves.max(0)
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn steady(shown_ms: i64, last_ms: i64) -> (ManualClock, SteadyClock) {
        let clock = ManualClock::starting_at(Timestamp::from_ms(shown_ms));
        let last = Timestamp::from_ms(last_ms);
        let steady = SteadyClock::starting_after(Arc::new(clock.clone()), last);
        (clock, steady)
    }

    #[test]
    fn after_a_small_step_back_time_neither_goes_back_nor_stands_still() {
        let (clock, steady) = steady(1_000, 1_500);
        assert_eq!(steady.now().ms(), 1_500);
        clock.advance_ms(-900);
        assert_eq!(steady.now().ms(), 1_500);
        clock.advance_ms(1_000);
        assert_eq!(steady.now().ms(), 2_000);
        clock.advance_ms(100_000);
        assert_eq!(steady.now().ms(), 101_100);
    }

    /// A busy store looks each millisecond, or more often.
    #[test]
    fn the_clock_catches_up_however_often_it_is_looked_at() {
        let (clock, steady) = steady(1_000, 1_500);
        let mut before = steady.now();
        for _ in 0..1_000 {
            clock.advance_ms(1);
            assert!(steady.now() >= before && steady.now() == steady.now());
            before = steady.now();
        }
        assert_eq!(before.ms(), 2_000);
    }

    #[test]
    fn a_large_step_back_is_followed() {
        let (clock, steady) = steady(1_000_000, 2_000_000);
        assert_eq!(steady.now().ms(), 1_000_000);
        clock.advance_ms(-500_000);
        assert_eq!(steady.now().ms(), 500_000);
    }
}
