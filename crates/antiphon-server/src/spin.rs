//! Whether to go on polling for a moment before the thread sleeps. Waking an idle processor takes as long as a call's way
//! through the broker; polling takes a core. So it is done where something has just come soon, again and again, and a
//! core is left for the others.

use std::time::Duration;

/// This many waits in a row have to be short before polling begins.
const SHORT_WAITS: u32 = 8;
/// A sleep that took no longer than this many times the limit, its waking included, would have been saved by polling.
const WAKING: u32 = 2;

#[derive(Debug)]
pub(crate) struct Spin {
    limit: Duration,
    /// How many waits were short, at most twice as many as it takes.
    short: u32,
}

impl Spin {
    /// Polls for at most `limit`; never where there is one processor.
    pub(crate) fn new(limit: Duration) -> Self {
        let alone = std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
        Self { limit: if alone { Duration::ZERO } else { limit }, short: 0 }
    }

    /// How long to poll before the next sleep.
    pub(crate) const fn patience(&self) -> Duration {
        if self.short >= SHORT_WAITS { self.limit } else { Duration::ZERO }
    }

    /// Something has come after so long, polling and sleeping together.
    pub(crate) fn waited(&mut self, length: Duration) {
        if length <= WAKING * self.limit {
            self.short = (self.short + 1).min(2 * SHORT_WAITS);
        } else {
            // One long wait is one too many spins; a few of them end the spinning.
            self.short = self.short.saturating_sub(SHORT_WAITS / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(50);

    #[test]
    fn polling_begins_after_short_waits_and_ends_after_long_ones() {
        let mut spin = Spin { limit: LIMIT, short: 0 };
        for _ in 1..SHORT_WAITS {
            spin.waited(LIMIT);
            assert_eq!(spin.patience(), Duration::ZERO);
        }
        spin.waited(LIMIT);
        assert_eq!(spin.patience(), LIMIT);
        (0..100).for_each(|_| spin.waited(LIMIT));
        let long = (1..10).take_while(|_| {
            spin.waited(Duration::from_millis(1));
            spin.patience() > Duration::ZERO
        });
        assert!(long.count() <= 2, "an idle broker polls no more");
    }

    #[test]
    fn a_broker_that_is_told_not_to_never_polls() {
        let mut spin = Spin::new(Duration::ZERO);
        (0..100).for_each(|_| spin.waited(Duration::ZERO));
        assert_eq!(spin.patience(), Duration::ZERO);
    }
}
