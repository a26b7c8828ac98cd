//! Everything with a due time: an agenda of (time, what), earliest first. Entries are struck by ignoring them when
//! they come up; when most of an agenda is void it is swept, so that it stays as long as what is live.

use alloc::collections::BinaryHeap;
use core::cmp::Reverse;

/// Something due: ordered by time, then by when it was put in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Due {
    pub at_ms: u64,
    pub index: u32,
    /// The stamp or generation by which to tell whether the entry still holds.
    pub stamp: u32,
}

/// A heap of due times.
#[derive(Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<Due>>,
    void: usize,
}

impl Agenda {
    pub fn push(&mut self, at_ms: u64, index: u32, stamp: u32) {
        self.heap.push(Reverse(Due { at_ms, index, stamp }));
    }

    /// The earliest time, live or void.
    pub fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(due)| due.at_ms)
    }

    /// Takes the earliest entry that is due.
    pub fn pop(&mut self, now_ms: u64) -> Option<Due> {
        let Reverse(due) = *self.heap.peek()?;
        if due.at_ms > now_ms {
            return None;
        }
        self.heap.pop();
        Some(due)
    }

    /// One entry has become void. Sweeps when more than half are: each sweep is paid for by the entries it drops.
    pub fn strike(&mut self, live: impl Fn(&Due) -> bool) {
        self.void += 1;
        if self.void > 64 && self.void * 2 > self.heap.len() {
            self.heap.retain(|Reverse(due)| live(due));
            self.void = 0;
        }
    }

    /// A void entry has come up and was dropped.
    pub fn dropped(&mut self) {
        self.void = self.void.saturating_sub(1);
    }
}
