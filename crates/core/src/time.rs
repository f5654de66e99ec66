//! Moments, to the millisecond, as the wire has them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::Invalid;

/// A moment: milliseconds since 1970-01-01 00:00 UTC, between the years −9999 and 9999.
///
/// On the wire it is ISO 8601 in UTC with milliseconds; it is read from any RFC 3339 form.
///
/// ```
/// use sidestream_core::Timestamp;
///
/// let at: Timestamp = "2026-11-21T01:10:24.219+01:00".parse()?;
/// assert_eq!(at.to_string(), "2026-11-21T00:10:24.219Z");
/// # Ok::<(), sidestream_core::Invalid>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// The last moment that can be written in any time zone, in the year 9999, in milliseconds.
const MS_MAX: i64 = 253_402_207_200_000;
/// The first such moment, in the year −9999, in milliseconds.
const MS_MIN: i64 = -377_705_023_201_000;

impl Timestamp {
    /// A moment by its milliseconds since 1970, brought into range.
    #[must_use]
    pub fn from_ms(ms: i64) -> Self {
        Self(ms.clamp(MS_MIN, MS_MAX))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn ms(self) -> i64 {
        self.0
    }

    /// This much later, or the last moment there is.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        self.plus_ms(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }

    /// This many milliseconds later, or the last moment there is.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self::from_ms(self.0.saturating_add(ms))
    }

    /// How long after `earlier` this is; zero when it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = jiff::Timestamp::from_millisecond(self.0).expect("kept in range by from_ms");
        write!(f, "{at:.3}")
    }
}

impl FromStr for Timestamp {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let at: jiff::Timestamp = text.parse().map_err(|_| {
            Invalid::new(
                "time",
                format!(
                    "{text:?} is not an ISO 8601 time with a zone, such as 2026-11-21T00:10:24.219Z"
                ),
            )
        })?;
        Ok(Self::from_ms(at.as_millisecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
