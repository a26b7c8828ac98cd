//! How fast the queue of a procedure drains, how long its attempts take, how many calls come and how far its predicted
//! waits are off. All of it is measured, in whole numbers, and forgotten with the broker.

use crate::spread::Spread;

/// How long a window is, in milliseconds: long enough to count little traffic, short enough to notice a change.
pub(crate) const WINDOW_MS: u64 = 10_000;
/// How many samples an average holds before the older half of them loses half its weight.
const SAMPLES: u64 = 256;
/// After this long, in milliseconds of waiting, fewer samples do as well.
const DRAIN_MS: u64 = 20_000;
const SAMPLES_MIN: u64 = 16;
/// The most that is taken to be left of a running attempt, in thousandths of its mean.
pub(crate) const RESIDUAL_PERMILLE_MAX: u64 = 2_500;

/// How many of something there were in the last window: the present bucket, and of the one before the part that is not
/// over yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    bucket: u64,
    now: u64,
    before: u64,
}

impl Window {
    pub fn add(&mut self, now_ms: u64, count: u64) {
        self.turn(now_ms);
        self.now += count;
    }

    fn turn(&mut self, now_ms: u64) {
        let bucket = now_ms / WINDOW_MS;
        if bucket != self.bucket {
            self.before = if bucket == self.bucket + 1 { self.now } else { 0 };
            self.now = 0;
            self.bucket = bucket;
        }
    }

    /// One less, if there was one.
    pub fn take_back(&mut self, now_ms: u64) {
        self.turn(now_ms);
        if self.now > 0 {
            self.now -= 1;
        } else {
            self.before = self.before.saturating_sub(1);
        }
    }

    pub fn count(mut self, now_ms: u64) -> u64 {
        self.turn(now_ms);
        self.now + self.before * (WINDOW_MS - now_ms % WINDOW_MS) / WINDOW_MS
    }
}

/// How fast ready calls start while some wait: starts, and the slots there were times the milliseconds they took.
/// Time in which nothing waits says nothing, so that a queue which is mostly empty keeps what is known of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drain {
    starts: u64,
    slot_ms: u64,
    waited_ms: u64,
    at_ms: u64,
}

impl Drain {
    /// Until now it was so: calls waited or none did, for so many slots. To be said before either changes.
    pub fn pass(&mut self, now_ms: u64, waiting: bool, slots: u64) {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        self.at_ms = now_ms;
        if waiting && slots > 0 {
            self.slot_ms = self.slot_ms.saturating_add(passed_ms.saturating_mul(slots));
            self.waited_ms += passed_ms;
        }
    }

    /// Whether all time until now is counted, so that there is nothing to say.
    pub fn has_passed(&self, now_ms: u64) -> bool {
        self.at_ms >= now_ms
    }

    /// A call that had waited starts.
    pub fn start(&mut self) {
        self.starts += 1;
        let enough = self.starts >= SAMPLES || (self.starts >= SAMPLES_MIN && self.waited_ms >= DRAIN_MS);
        if enough {
            self.starts /= 2;
            self.slot_ms /= 2;
            self.waited_ms /= 2;
        }
    }

    /// The time between two starts with so many slots, in microseconds.
    pub fn interval_us(&self, slots: u64) -> Option<u64> {
        let shared = self.starts.checked_mul(slots).filter(|shared| *shared > 0)?;
        Some(self.slot_ms.saturating_mul(1_000) / shared)
    }
}

/// How long attempts take from their lease to their end: count, sum and sum of squares, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Service {
    count: u64,
    sum_ms: u64,
    squares_ms: u64,
}

impl Service {
    pub fn add(&mut self, ms: u64) {
        self.count += 1;
        self.sum_ms = self.sum_ms.saturating_add(ms);
        self.squares_ms = self.squares_ms.saturating_add(ms.saturating_mul(ms));
        if self.count == 2 * SAMPLES {
            self.count /= 2;
            self.sum_ms /= 2;
            self.squares_ms /= 2;
        }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean, in microseconds.
    pub fn mean_us(&self) -> Option<u64> {
        self.sum_ms.saturating_mul(1_000).checked_div(self.count)
    }

    /// The variance, in square milliseconds.
    pub fn variance_ms2(&self) -> u64 {
        let Some(mean_square) = self.squares_ms.checked_div(self.count) else { return 0 };
        let square_of_mean = u128::from(self.sum_ms).pow(2) / u128::from(self.count).pow(2);
        mean_square.saturating_sub(u64::try_from(square_of_mean).unwrap_or(u64::MAX))
    }

    /// The square of the coefficient of variation in thousandths, at most 4000: of a very few samples it says little.
    fn variation_permille(&self) -> u64 {
        let mean_us = self.mean_us().unwrap_or(0);
        let square_ms2 = (u128::from(mean_us).pow(2) / 1_000_000).max(1);
        let permille = u128::from(self.variance_ms2()) * 1_000 / square_ms2;
        u64::try_from(permille).unwrap_or(u64::MAX).min(2 * RESIDUAL_PERMILLE_MAX - 1_000)
    }

    /// What is left of a running attempt when somebody looks, in thousandths of its mean: half when all take the same
    /// time, the whole when they are exponential.
    pub fn residual_permille(&self) -> u64 {
        if self.count == 0 { 1_000 } else { (1_000 + self.variation_permille()) / 2 }
    }
}

/// A call whose start was predicted, and is waited for to see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub call: u32,
    pub generation: u32,
    pub made_ms: u64,
    pub wait_ms: u64,
}

/// How far predicted waits are off: of one call at a time, which costs no memory per call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Foresight {
    pub probe: Option<Probe>,
    /// When a call to look at was sought last.
    sought_ms: u64,
    count: u64,
    predicted_ms: u64,
    missed_ms: u64,
}

impl Foresight {
    /// Whether to seek a call to look at: once in a millisecond is enough.
    pub fn seeks(&mut self, now_ms: u64) -> bool {
        core::mem::replace(&mut self.sought_ms, now_ms) != now_ms
    }

    /// The call that was looked at starts, or another one does.
    pub fn started(&mut self, call: u32, generation: u32, now_ms: u64) {
        let Some(probe) = self.probe.filter(|probe| probe.call == call) else { return };
        self.probe = None;
        if probe.generation != generation {
            return;
        }
        self.count += 1;
        self.predicted_ms += probe.wait_ms;
        self.missed_ms += now_ms.saturating_sub(probe.made_ms).abs_diff(probe.wait_ms);
        if self.count == SAMPLES {
            self.count /= 2;
            self.predicted_ms /= 2;
            self.missed_ms /= 2;
        }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean error, in thousandths of the predicted wait.
    pub fn error_permille(&self) -> Option<u64> {
        self.missed_ms.saturating_mul(1_000).checked_div(self.predicted_ms)
    }
}

/// What is measured of one procedure.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub arrivals: Window,
    /// Retries that have not succeeded.
    pub retries: Window,
    pub drain: Drain,
    pub service: Service,
    /// How attempts' times are spread.
    pub services: Spread,
    /// How the waits of calls for their first start are spread.
    pub waits: Spread,
    pub foresight: Foresight,
}

impl Meter {
    /// The time between two starts with so many slots, in microseconds: as measured, or as attempts take.
    pub fn interval_us(&self, slots: u64) -> Option<u64> {
        let measured = self.drain.interval_us(slots);
        measured.or_else(|| self.service.mean_us()?.checked_div(slots))
    }
}
