//! Where time comes from, so that a test can turn it.

use std::fmt;
use std::sync::Arc;

use sidestream_core::Timestamp;

/// Tells the time to a store.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where the machine's clock is read"
    )]
    fn now(&self) -> Timestamp {
        let since_1970 = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_ms(0).plus(since_1970)
    }
}

/// The clock of a tokio runtime: it stands still, and jumps, when the runtime's time is paused. Starts
/// at a time given, so that a simulation is the same each time.
#[derive(Debug, Clone, Copy)]
pub struct RuntimeClock {
    start: Timestamp,
    started: tokio::time::Instant,
}

impl RuntimeClock {
    /// A clock that shows `start` now.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Self {
        Self {
            start,
            started: tokio::time::Instant::now(),
        }
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        self.start.plus(self.started.elapsed())
    }
}

/// A clock that a test turns by hand.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<std::sync::atomic::AtomicI64>);

impl ManualClock {
    /// A clock that shows `start` until it is turned.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Self {
        Self(Arc::new(start.ms().into()))
    }

    /// Shows another time from now on.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.ms(), std::sync::atomic::Ordering::SeqCst);
    }

    /// Goes on by so many milliseconds.
    pub fn advance_ms(&self, ms: i64) {
        self.0.fetch_add(ms, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}
