//! Where a driver reads the time.

use antiphon_engine::Now;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Tells the time. Tests bring their own.
pub trait Clock: Send + Sync + 'static {
    /// The time now, on both clocks.
    fn now(&self) -> Now;
}

/// The clocks of this machine.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Counts monotonic time from now on.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        // One is added so that no instant is zero, which means "none" in the engine.
        let monotonic_ms = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic_ms, wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
    }
}
