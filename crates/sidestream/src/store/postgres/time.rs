//! The database's time: the only one that counts, since the clocks of machines differ by minutes.
//!
//! Each transaction reads it, and decides by it. Between transactions this process goes on from what it
//! last read, which is good enough to say how long to wait, and nothing else rests on it.

use std::sync::Arc;

use parking_lot::Mutex;
use sidestream_core::Timestamp;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::store::steady::Steadiness;

/// The database's time, as far as this process knows it.
#[derive(Debug)]
pub(super) struct Time {
    /// In place of the database's clock: for tests.
    clock: Option<Arc<dyn Clock>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    steadiness: Steadiness,
    /// What the database's clock showed when it was last read…
    shown_ms: i64,
    /// …and when that was.
    read_at: Instant,
    /// The time then.
    time: Timestamp,
}

impl Time {
    /// `shown_ms` is what the database's clock shows, `last` the time of its last commit.
    pub(super) fn starting_after(
        clock: Option<Arc<dyn Clock>>,
        shown_ms: i64,
        last: Timestamp,
    ) -> Self {
        let shown_ms = clock.as_ref().map_or(shown_ms, |clock| clock.now().ms());
        let mut steadiness = Steadiness::starting_after(shown_ms, last);
        let time = steadiness.time_at(shown_ms);
        let state = State {
            steadiness,
            shown_ms,
            read_at: Instant::now(),
            time,
        };
        Self {
            clock,
            state: Mutex::new(state),
        }
    }

    /// The time at which a transaction decides, from what it has read.
    pub(super) fn read(&self, shown_ms: i64, last: Timestamp) -> Timestamp {
        let mut state = self.state.lock();
        let shown_ms = self.shown(shown_ms);
        let mut time = state.steadiness.time_at(shown_ms);
        if last > time {
            state.steadiness = Steadiness::starting_after(shown_ms, last);
            time = state.steadiness.time_at(shown_ms);
        }
        (state.shown_ms, state.read_at, state.time) = (shown_ms, Instant::now(), time);
        time
    }

    /// Roughly the time now.
    pub(super) fn now(&self) -> Timestamp {
        let mut state = self.state.lock();
        match &self.clock {
            Some(clock) => state.steadiness.time_at(clock.now().ms()),
            None => state.time.plus(state.read_at.elapsed()),
        }
    }

    fn shown(&self, shown_ms: i64) -> i64 {
        match &self.clock {
            Some(clock) => clock.now().ms(),
            None => shown_ms,
        }
    }
}
