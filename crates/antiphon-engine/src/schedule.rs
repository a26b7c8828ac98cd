//! Everything with a due time: an agenda of (time, what), earliest first. Entries are struck by ignoring them when
//! they come up; when most of an agenda is void it is swept, so that it stays as long as what is live.

use alloc::collections::{BTreeMap, BinaryHeap};
use alloc::vec::Vec;
use core::cmp::Reverse;

/// Something due: ordered by time, then by when it was put in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Due {
    pub at_ms: u64,
    pub index: u32,
    /// The stamp or generation by which to tell whether the entry still holds.
    pub stamp: u32,
}

/// What is due in the same second or so, in any order.
struct Slice {
    earliest_ms: u64,
    dues: Vec<Due>,
}

/// Due times: what comes soon in a heap, what comes later in slices of time, so that the heap stays small and what waits
/// long costs no more beside a million others than alone.
#[derive(Default)]
pub(crate) struct Agenda {
    /// Of slices that have begun.
    soon: BinaryHeap<Reverse<Due>>,
    later: BTreeMap<u64, Slice>,
    /// The last slice that has begun.
    current: u64,
    length: usize,
    void: usize,
}

/// Number of the slice of a time: 1.024 s each.
const fn slice_of(at_ms: u64) -> u64 {
    at_ms >> 10
}

impl Agenda {
    pub fn push(&mut self, at_ms: u64, index: u32, stamp: u32) {
        let due = Due { at_ms, index, stamp };
        self.length += 1;
        if slice_of(at_ms) <= self.current {
            self.soon.push(Reverse(due));
            return;
        }
        let new = || Slice { earliest_ms: at_ms, dues: Vec::new() };
        let slice = self.later.entry(slice_of(at_ms)).or_insert_with(new);
        slice.earliest_ms = slice.earliest_ms.min(at_ms);
        slice.dues.push(due);
    }

    /// The earliest time, live or void.
    pub fn next(&self) -> Option<u64> {
        let soon = self.soon.peek().map(|Reverse(due)| due.at_ms);
        soon.or_else(|| self.later.first_key_value().map(|(_, slice)| slice.earliest_ms))
    }

    /// Takes the earliest entry that is due.
    pub fn pop(&mut self, now_ms: u64) -> Option<Due> {
        if slice_of(now_ms) > self.current {
            self.begin(slice_of(now_ms));
        }
        let Reverse(due) = *self.soon.peek()?;
        if due.at_ms > now_ms {
            return None;
        }
        self.soon.pop();
        self.length -= 1;
        Some(due)
    }

    /// All slices up to this one have begun.
    fn begin(&mut self, current: u64) {
        self.current = current;
        while let Some(slice) = self.later.first_entry().filter(|slice| *slice.key() <= current) {
            self.soon.extend(slice.remove().dues.into_iter().map(Reverse));
        }
    }

    /// One entry has become void. Sweeps when more than half are: each sweep is paid for by the entries it drops.
    pub fn strike(&mut self, live: impl Fn(&Due) -> bool) {
        self.void += 1;
        if self.void > 64 && self.void * 2 > self.length {
            self.sweep(live);
        }
    }

    fn sweep(&mut self, live: impl Fn(&Due) -> bool) {
        self.soon.retain(|Reverse(due)| live(due));
        self.later.retain(|_, slice| {
            slice.dues.retain(&live);
            let earliest_ms = slice.dues.iter().map(|due| due.at_ms).min();
            slice.earliest_ms = earliest_ms.unwrap_or_default();
            earliest_ms.is_some()
        });
        self.length = self.soon.len() + self.later.values().map(|slice| slice.dues.len()).sum::<usize>();
        self.void = 0;
    }

    /// A void entry has come up and was dropped.
    pub fn dropped(&mut self) {
        self.void = self.void.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// So many, each a little later.
        Push(u64, u32),
        /// Takes all that is due after so long.
        Advance(u64),
        /// Every so many-th entry becomes void.
        Void(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        // Within a slice, over some, and far off; some lie in the past by the time they are put in.
        let at = prop_oneof![0_u64..3_000, 0_u64..100_000, Just(u64::MAX), 1_000_000_u64..1_002_000];
        prop_oneof![
            6 => (at, prop_oneof![3 => Just(1_u32), 1 => Just(50)]).prop_map(|(at, count)| Step::Push(at, count)),
            2 => prop_oneof![0_u64..700, 0_u64..30_000, Just(2_000_000)].prop_map(Step::Advance),
            1 => (2_u32..5).prop_map(Step::Void),
        ]
    }

    proptest! {
        #[test]
        fn entries_come_up_in_order_and_none_is_lost(steps in proptest::collection::vec(step(), 1..80)) {
            let (mut agenda, mut plain) = (Agenda::default(), BTreeSet::new());
            let mut void = BTreeSet::new();
            let mut now_ms = 0;
            let mut indices = 0_u32..;
            for step in steps {
                match step {
                    Step::Push(at_ms, count) => {
                        for (number, index) in (0..count).zip(&mut indices) {
                            let at_ms = at_ms.saturating_add(u64::from(number) * 37);
                            agenda.push(at_ms, index, 0);
                            plain.insert(Due { at_ms, index, stamp: 0 });
                        }
                    }
                    Step::Advance(ms) => {
                        now_ms += ms;
                        while let Some(due) = agenda.pop(now_ms) {
                            prop_assert!(due.at_ms <= now_ms);
                            if void.remove(&due.index) {
                                agenda.dropped();
                            } else {
                                prop_assert_eq!(plain.pop_first(), Some(due));
                            }
                        }
                        prop_assert!(plain.first().is_none_or(|due| due.at_ms > now_ms), "{:?} is overdue", plain.first());
                    }
                    Step::Void(every) => {
                        let struck: Vec<Due> = plain.iter().filter(|due| due.index % every == 0).copied().collect();
                        for due in struck {
                            plain.remove(&due);
                            void.insert(due.index);
                            agenda.strike(|due| plain.contains(due));
                        }
                    }
                }
                // What is void may still be told as the next; it must never be later than what is live.
                let (told, live) = (agenda.next(), plain.first().map(|due| due.at_ms));
                prop_assert!(live.is_none() || told.is_some_and(|told| Some(told) <= live), "{told:?} beside {live:?}");
                prop_assert!(agenda.length <= plain.len() + void.len());
            }
        }
    }
}
