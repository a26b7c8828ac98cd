//! Calls that the broker did not take yet, in their order and bounded, and who waits for room among them.

use antiphon_broker::Submission;
use antiphon_protocol::CallId;
use std::collections::VecDeque;
use std::task::Waker;

/// How many calls wait in this process for a broker that takes no more; further ones wait to be submitted. Enough to
/// keep any broker busy when it can go on, and few enough that the broker's own limits are what users meet.
const CALLS_MAX: usize = 4096;
/// The same in bytes of arguments.
const BYTES_MAX: usize = 64 << 20;

/// Calls that are gathered are handed over when they are this many: then a lock and a turn of the broker are a small
/// part of each, and the broker begins while further ones are made.
const BATCH_CALLS: usize = 64;
/// Or when their arguments have this many bytes.
const BATCH_BYTES: usize = 64 << 10;

/// Calls that the broker did not take yet.
#[derive(Default)]
pub(crate) struct Overflow {
    calls: VecDeque<Submission>,
    bytes: usize,
    waiting: Vec<Waker>,
}

impl Overflow {
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether so many are kept that more would gain nothing, if they were only gathered.
    pub(crate) fn is_batch(&self) -> bool {
        self.calls.len() >= BATCH_CALLS || self.bytes >= BATCH_BYTES
    }

    pub(crate) fn has_room(&self) -> bool {
        self.calls.len() < CALLS_MAX && self.bytes < BYTES_MAX
    }

    /// Keeps a call behind the others, also beyond the bound: whoever can wait or refuse has looked before.
    pub(crate) fn keep(&mut self, call: Submission) {
        self.bytes += call.call.payload.bytes.len();
        self.calls.push_back(call);
    }

    /// Takes one call out: it is never handed over.
    pub(crate) fn take(&mut self, id: CallId) -> Option<Submission> {
        let place = self.calls.iter().position(|submission| submission.call.id == id)?;
        let taken = self.calls.remove(place)?;
        self.bytes -= taken.call.payload.bytes.len();
        Some(taken)
    }

    pub(crate) fn calls(&mut self) -> impl Iterator<Item = &mut Submission> {
        self.calls.iter_mut()
    }

    pub(crate) fn take_all(&mut self) -> Vec<Submission> {
        self.bytes = 0;
        Vec::from(std::mem::take(&mut self.calls))
    }

    /// Puts calls before those that came meanwhile.
    pub(crate) fn put_back(&mut self, calls: Vec<Submission>) {
        for call in calls.into_iter().rev() {
            self.bytes += call.call.payload.bytes.len();
            self.calls.push_front(call);
        }
    }

    pub(crate) fn wait(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }

    /// Whom to wake when there is room; nobody while there is none.
    pub(crate) fn take_waiting(&mut self) -> Vec<Waker> {
        if self.has_room() { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }

    /// Forgets the calls; gives back whom to wake.
    pub(crate) fn clear(&mut self) -> Vec<Waker> {
        drop(self.take_all());
        self.take_waiting()
    }
}
