//! How much a caller may have on its way to a foreign broker without its confirmation.

use crate::Submission;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many calls, and how many bytes of arguments, may be on their way. Beyond it nothing is taken: a server that is
/// blocked, full or away is not hidden by memory.
const CALLS_MAX: usize = 4_096;
const BYTES_MAX: usize = 64 << 20;

/// How much is on its way. Shared between whoever submits and the pump that publishes.
#[derive(Debug, Default)]
pub struct Room {
    calls: AtomicUsize,
    bytes: AtomicUsize,
    /// Somebody was turned away and waits to be told that there is room.
    wanted: AtomicBool,
}

impl Room {
    fn is_left(&self) -> bool {
        self.calls.load(Ordering::SeqCst) < CALLS_MAX && self.bytes.load(Ordering::SeqCst) < BYTES_MAX
    }

    fn take(&self, submission: &Submission) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(submission.call.payload.bytes.len(), Ordering::SeqCst);
    }

    /// Takes from the front of `calls` what fits and hands it to `pump`. Where something is left, [`Self::is_wanted`]
    /// becomes true when there is room again.
    pub fn fill(&self, calls: &mut Vec<Submission>, pump: impl Fn(Vec<Submission>)) {
        loop {
            let fits = calls
                .iter()
                .take_while(|call| {
                    self.is_left() && {
                        self.take(call);
                        true
                    }
                })
                .count();
            if fits > 0 {
                pump(calls.drain(..fits).collect());
            }
            if calls.is_empty() {
                return;
            }
            self.wanted.store(true, Ordering::SeqCst);
            // Room that was made before that was seen by nobody else.
            if !self.is_left() || !self.wanted.swap(false, Ordering::SeqCst) {
                return;
            }
        }
    }

    /// A call with so many bytes of arguments is with the server, or refused.
    pub fn give(&self, bytes: usize) {
        self.calls.fetch_sub(1, Ordering::SeqCst);
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// Whether somebody is to be told that there is room again.
    pub fn is_wanted(&self) -> bool {
        let half = self.calls.load(Ordering::SeqCst) <= CALLS_MAX / 2;
        let half = half && self.bytes.load(Ordering::SeqCst) <= BYTES_MAX / 2;
        half && self.wanted.swap(false, Ordering::SeqCst)
    }
}
