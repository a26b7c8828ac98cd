//! How fast calls of a procedure may start.

use crate::{Code, Setting, Settings};
use core::fmt;
use serde::{Deserialize, Serialize};

/// So many starts in so much time: a bucket of tokens, empty after a start of the broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rate {
    /// Starts; 1 to 1,000,000.
    pub count: u32,
    /// In this many milliseconds, 1 to one day.
    pub period_ms: u32,
    /// How many may start at once after a pause, at least 1; and at least what a millisecond brings, which is the finest
    /// a broker's clock tells apart.
    pub burst: u32,
}

/// One day.
const PERIOD_MS_MAX: u32 = 24 * 3_600_000;
const COUNT_MAX: u32 = 1_000_000;

impl Rate {
    /// A rate with a burst of a tenth of a second's worth, at least 1.
    ///
    /// # Errors
    /// [`RateError`] when a number is out of its range.
    pub fn new(count: u32, period_ms: u32) -> Result<Self, RateError> {
        let tenth = u64::from(count) * 100 / u64::from(period_ms.max(1));
        let burst = u32::try_from(tenth).unwrap_or(u32::MAX).max(1);
        Self { count, period_ms, burst }.checked()
    }

    /// What is set for a procedure; `None` when nothing is, or nothing that is a rate.
    #[must_use]
    pub fn of(settings: &Settings) -> Option<Self> {
        let get = |setting, or| settings.get(setting).map_or(Some(or), |value| u32::try_from(value).ok());
        let rate = Self::new(get(Setting::RateCount, 0)?, get(Setting::RatePeriodMs, 1_000)?).ok()?;
        Self { burst: get(Setting::RateBurst, rate.burst)?, ..rate }.checked().ok()
    }

    /// Itself, if its numbers are in their ranges.
    ///
    /// # Errors
    /// [`RateError`] when one is not.
    pub const fn checked(self) -> Result<Self, RateError> {
        let Self { count, period_ms, burst } = self;
        if count == 0 || count > COUNT_MAX || burst == 0 || burst > COUNT_MAX {
            return Err(RateError);
        }
        if period_ms == 0 || period_ms > PERIOD_MS_MAX { Err(RateError) } else { Ok(self) }
    }

    /// The time between two starts, in nanoseconds, rounded up so that the rate is never exceeded.
    #[must_use]
    pub const fn interval_ns(&self) -> u64 {
        (self.period_ms as u64 * 1_000_000).div_ceil(self.count as u64)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, period_ms, burst } = self;
        match period_ms {
            1_000 => write!(formatter, "{count}/s")?,
            60_000 => write!(formatter, "{count}/min")?,
            3_600_000 => write!(formatter, "{count}/h")?,
            ms => write!(formatter, "{count} in {ms} ms")?,
        }
        write!(formatter, ", burst {burst}")
    }
}

/// A rate's numbers are out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateError;

impl RateError {
    /// The code that goes with it.
    pub const CODE: Code = Code::InvalidArgument;
}

impl fmt::Display for RateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a rate is 1 to 1000000 starts in 1 ms to 24 h, with a burst of 1 to 1000000")
    }
}

impl core::error::Error for RateError {}
