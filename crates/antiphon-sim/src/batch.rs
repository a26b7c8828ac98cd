//! Many seeds, on several threads.

use crate::coverage::Coverage;
use crate::run::{Ran, run};
use crate::seeds::{TWICE, each_seed};
use std::ops::ControlFlow;
use std::sync::Mutex;

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
    let all = Mutex::new(Batch::default());
    each_seed(from, count, threads, |seed| {
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
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    let mut batch = all.into_inner().expect("no run panics");
    batch.failed.sort_by_key(|ran| ran.seed);
    batch
}
