//! Virtual time: one true time for the world, and the broker's two clocks over it.

use antiphon_embedded::Clock;
use antiphon_engine::Now;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Where the wall clock stands when a world begins: some day in 2026.
const WALL_BEGIN_MS: u64 = 1_780_000_000_000;

#[derive(Debug, Default)]
struct Times {
    /// Milliseconds since the world began.
    true_ms: AtomicU64,
    /// When the broker's machine was switched on.
    booted_ms: AtomicU64,
    /// By how much the wall clock is wrong.
    wall_error_ms: AtomicI64,
}

/// The broker's clock; clones show the same time.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimClock(Arc<Times>);

impl SimClock {
    pub fn true_ms(&self) -> u64 {
        self.0.true_ms.load(Relaxed)
    }

    pub fn advance(&self, ms: u64) {
        self.0.true_ms.fetch_add(ms, Relaxed);
    }

    /// The monotonic clock starts anew with the machine.
    pub fn boot(&self) {
        self.0.booted_ms.store(self.true_ms(), Relaxed);
    }

    pub fn jump_wall(&self, ms: i64) {
        self.0.wall_error_ms.fetch_add(ms, Relaxed);
    }

    pub fn wall_ms(&self) -> u64 {
        (WALL_BEGIN_MS + self.true_ms()).saturating_add_signed(self.0.wall_error_ms.load(Relaxed))
    }
}

impl Clock for SimClock {
    fn now(&self) -> Now {
        Now { monotonic_ms: self.true_ms() - self.0.booted_ms.load(Relaxed) + 1, wall_ms: self.wall_ms() }
    }
}
