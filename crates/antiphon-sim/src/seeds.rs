//! Many seeds on several threads.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One seed in so many is run twice, to see that it is the same run.
pub(crate) const TWICE: u64 = 20;

/// Runs `each` on `count` seeds from `from` on this many threads, until one of them says that it is enough.
pub(crate) fn each_seed(from: u64, count: u64, threads: usize, each: impl Fn(u64) -> ControlFlow<()> + Sync) {
    let next = AtomicU64::new(from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= from + count {
                return;
            }
            if each(seed).is_break() {
                next.store(from + count, Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
}
