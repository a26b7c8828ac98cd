//! How a procedure's times are spread: how many there were of each length, in steps of an eighth.

use alloc::boxed::Box;
use antiphon_protocol::Quantiles;

/// Lengths below this are told apart, in milliseconds; above, an octave has as many steps.
const EXACT: u64 = 8;
/// Steps of the octave that `EXACT` is in the lowest of.
const LOWEST: u32 = EXACT.ilog2();
/// Longer than 2 to this power, in milliseconds, is all the same: nine hours.
const HIGHEST: u32 = 25;
const STEPS: usize = (EXACT as usize) * (HIGHEST - LOWEST + 1) as usize;
/// After so many times, each weighs half.
const TIMES_MAX: u32 = 8_192;

/// Counts of times by their length; newer times weigh more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spread {
    counts: Option<Box<[u16; STEPS]>>,
    total: u32,
}

impl Spread {
    pub fn add(&mut self, ms: u64) {
        let counts = self.counts.get_or_insert_with(|| Box::new([0; STEPS]));
        if let Some(count) = counts.get_mut(step_of(ms)) {
            *count += 1;
            self.total += 1;
        }
        if self.total == TIMES_MAX {
            // What is left of halving one step is counted in the next, so that long times, which are few, are not lost.
            let mut rest = 0;
            for count in counts.iter_mut() {
                let doubled = *count + rest;
                (*count, rest) = (doubled / 2, doubled % 2);
            }
            self.total /= 2;
        }
    }

    /// The time that so many thousandths of all are at most as long as, in microseconds.
    fn quantile_us(&self, permille: u64) -> Option<u64> {
        let rank = (u64::from(self.total) * permille).div_ceil(1_000).max(1);
        let mut passed = 0;
        let step = self.counts.as_ref()?.iter().position(|count| {
            passed += u64::from(*count);
            passed >= rank
        })?;
        let (shortest, width) = times_of(step);
        Some((2 * shortest + width - 1) * 500)
    }

    pub fn quantiles(&self) -> Option<Quantiles> {
        Some(Quantiles {
            p50_us: self.quantile_us(500)?,
            p90_us: self.quantile_us(900)?,
            p99_us: self.quantile_us(990)?,
        })
    }
}

fn step_of(ms: u64) -> usize {
    let ms = ms.min((1 << HIGHEST) - 1);
    if ms < EXACT {
        return usize::try_from(ms).unwrap_or(0);
    }
    let octave = ms.ilog2() - LOWEST;
    let step = u64::from(octave) * EXACT + (ms >> octave);
    usize::try_from(step).unwrap_or(STEPS - 1)
}

/// The shortest time of a step, and how many milliseconds it is wide.
fn times_of(step: usize) -> (u64, u64) {
    let step = step as u64;
    if step < 2 * EXACT {
        return (step, 1);
    }
    let octave = step / EXACT - 1;
    ((EXACT + step % EXACT) << octave, 1 << octave)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_within_its_step() {
        for ms in (0..100_000).chain((0..25).map(|power| 1 << power)).chain([(1 << HIGHEST) - 1]) {
            let (shortest, width) = times_of(step_of(ms));
            assert!((shortest..shortest + width).contains(&ms), "{ms} in {shortest} + {width}");
            assert!(width == 1 || width * EXACT <= shortest, "{ms}: an eighth at most");
        }
        assert_eq!(step_of(u64::MAX), STEPS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_times() {
        let mut spread = Spread::default();
        assert_eq!(spread.quantiles(), None);
        (0..1_000).for_each(|ms| spread.add(ms));
        let found = spread.quantiles().expect("there are times");
        for (found_us, ms) in [(found.p50_us, 500), (found.p90_us, 900), (found.p99_us, 990)] {
            assert!(found_us.abs_diff(ms * 1_000) <= ms * 1_000 / 14, "{found:?}");
        }
    }

    #[test]
    fn halving_keeps_the_shape_and_new_times_win() {
        let mut spread = Spread::default();
        for round in 0..100_000_u64 {
            spread.add(if round % 50 == 0 { 4_000 + round % 700 } else { 3 });
        }
        let found = spread.quantiles().expect("there are times");
        assert_eq!(found.p50_us, 3_000);
        assert!((4_000_000..5_000_000).contains(&found.p99_us), "two in a hundred are long: {found:?}");
        (0..100_000).for_each(|_| spread.add(100));
        assert!(spread.quantiles().is_some_and(|found| found.p50_us.abs_diff(100_000) < 8_000));
    }
}
