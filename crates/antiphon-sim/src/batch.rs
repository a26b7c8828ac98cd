//! Many seeds, on several threads.

use crate::coverage::Coverage;
use crate::run::{Ran, run};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One seed in this many is run twice, to see that it is the same run both times.
const TWICE: u64 = 20;
/// Failing runs that are kept; the first says most.
const FAILED_MAX: usize = 20;

/// What came of a batch.
#[derive(Debug, Default)]
pub struct Batch {
    pub coverage: Coverage,
    pub failed: Vec<Ran>,
    /// Seeds that were run twice, and those of them that differed.
    pub twice: u64,
    pub differed: Vec<u64>,
}

/// Runs `count` seeds from `from` on this many threads; ends early when there are enough failures.
#[must_use]
pub fn batch(from: u64, count: u64, events: u64, threads: usize) -> Batch {
    let (next, all) = (AtomicU64::new(from), Mutex::new(Batch::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= from + count {
                return;
            }
            let ran = run(seed, events);
            let again = seed.is_multiple_of(TWICE).then(|| run(seed, events));
            let mut all = all.lock().expect("no run panics: what the broker panics with is caught");
            all.coverage.add(&ran.coverage);
            if let Some(again) = again {
                all.twice += 1;
                if again.fingerprint != ran.fingerprint {
                    all.differed.push(seed);
                }
            }
            if !ran.wrong.is_empty() {
                all.failed.push(ran);
                if all.failed.len() >= FAILED_MAX {
                    next.store(from + count, Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let mut batch = all.into_inner().expect("no run panics");
    batch.failed.sort_by_key(|ran| ran.seed);
    batch
}
