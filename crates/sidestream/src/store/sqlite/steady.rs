//! A clock that never goes back.
//!
//! The log's times rise with its places, and `created_at` with the order of dispatch; a machine whose
//! clock is set back must not break that. Time must not stand still meanwhile either, or no lease would
//! end and no retry come due. So after a step back the store's time goes on from where it was, at half
//! speed, until the machine's clock has caught up.

use std::sync::Arc;

use parking_lot::Mutex;
use sidestream_core::Timestamp;

use crate::clock::Clock;

/// A clock that never goes back.
#[derive(Debug)]
pub(super) struct SteadyClock {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What the clock showed when it was last looked at.
    shown_ms: i64,
    /// How far we are ahead of it.
    ahead_ms: i64,
}

impl SteadyClock {
    /// Goes on from `last`, or from what the clock shows, if that is later.
    pub(super) fn starting_after(clock: Arc<dyn Clock>, last: Timestamp) -> Self {
        let shown_ms = clock.now().ms();
        let ahead_ms = last.ms().saturating_sub(shown_ms).max(0);
        let state = Mutex::new(State { shown_ms, ahead_ms });
        Self { clock, state }
    }

    pub(super) fn now(&self) -> Timestamp {
        let mut state = self.state.lock();
        // Read behind the lock: of two readers the later never gets the earlier time.
        let shown_ms = self.clock.now().ms();
        let passed_ms = shown_ms.saturating_sub(state.shown_ms);
        state.shown_ms = shown_ms;
        state.ahead_ms = if passed_ms < 0 {
            state.ahead_ms.saturating_sub(passed_ms)
        } else {
            state.ahead_ms.saturating_sub(passed_ms / 2).max(0)
        };
        Timestamp::from_ms(shown_ms.saturating_add(state.ahead_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn time_neither_goes_back_nor_stands_still() {
        let clock = ManualClock::starting_at(Timestamp::from_ms(1_000));
        let steady =
            SteadyClock::starting_after(Arc::new(clock.clone()), Timestamp::from_ms(1_500));
        assert_eq!(steady.now().ms(), 1_500);

        clock.advance_ms(-900);
        assert_eq!(steady.now().ms(), 1_500);
        clock.advance_ms(1_000);
        assert_eq!(steady.now().ms(), 2_000);

        clock.advance_ms(100_000);
        assert_eq!(steady.now().ms(), 101_100);
    }
}
