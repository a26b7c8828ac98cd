//! The table of leases. Every lease lasts equally long, so they stand in one list in the order in which they end:
//! granting and extending put a lease at the end of the list, and whatever has run out is at its front.

use crate::call::NONE;
use crate::parking::Parking;
use crate::planted::planted;
use alloc::vec::Vec;
use antiphon_protocol::{CallId, LeaseTag};

/// The right to run one attempt.
#[derive(Debug)]
pub(crate) struct Lease {
    pub call: u32,
    pub token: u64,
    pub worker: u32,
    /// The place of the procedure in the worker's offer.
    pub procedure: u32,
    /// When it ends unless extended, monotonic.
    pub ends_ms: u64,
    /// Which attempt.
    pub attempt: u16,
    /// Whether it stands in the journal.
    pub recorded: bool,
    /// Whether it is held over from before a restart and its worker has not come back.
    pub orphan: bool,
    /// Whether the worker was asked to stop.
    pub stopping: bool,
    /// Whether losing it says nothing about its call: other leases of the worker went the same way.
    pub crowded: bool,
    /// Whether its worker held others, too, when it was last seen to go.
    pub beside: bool,
    /// How many slots it takes, unless it is parked.
    pub slots: u32,
    pub parking: Parking,
    /// The sub-call that its procedure waits for.
    pub awaits: Option<CallId>,
    /// Its place in its worker's list.
    pub held: u32,
    before: u32,
    after: u32,
}

/// All leases.
pub(crate) struct Leases {
    slots: Vec<Option<Lease>>,
    free: Vec<u32>,
    first: u32,
    last: u32,
}

impl Leases {
    pub const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), first: NONE, last: NONE }
    }

    /// Puts a lease at the end of the list.
    pub fn insert(&mut self, call: u32, token: u64, worker: u32, procedure: u32, ends_ms: u64, attempt: u16) -> u32 {
        let lease = Lease {
            call,
            token,
            worker,
            procedure,
            ends_ms,
            attempt,
            recorded: false,
            orphan: false,
            stopping: false,
            crowded: false,
            beside: false,
            slots: 1,
            parking: Parking::Running,
            awaits: None,
            held: NONE,
            before: NONE,
            after: NONE,
        };
        let index = match self.free.pop() {
            Some(index) => {
                if let Some(slot) = self.slots.get_mut(index as usize) {
                    *slot = Some(lease);
                }
                index
            }
            None => {
                self.slots.push(Some(lease));
                u32::try_from(self.slots.len() - 1).expect("fewer leases than calls")
            }
        };
        self.link(index);
        index
    }

    /// Puts a lease where it stood before a restart, so that the tag its worker holds stays true.
    pub fn restore(&mut self, index: u32, call: u32, token: u64, ends_ms: u64, attempt: u16) -> bool {
        while self.slots.len() <= index as usize {
            self.free.push(u32::try_from(self.slots.len()).expect("fewer leases than calls"));
            self.slots.push(None);
        }
        let Some(place) = self.free.iter().position(|free| *free == index) else { return false };
        self.free.swap_remove(place);
        self.free.push(index);
        let placed = self.insert(call, token, NONE, NONE, ends_ms, attempt);
        assert_eq!(placed, index, "the last free place is given out first");
        true
    }

    pub fn remove(&mut self, index: u32) -> Lease {
        self.unlink(index);
        self.free.push(index);
        self.slots.get_mut(index as usize).and_then(Option::take).expect("a lease is removed once")
    }

    pub fn get(&self, index: u32) -> &Lease {
        self.slots.get(index as usize).and_then(Option::as_ref).expect("a live lease")
    }

    pub fn get_mut(&mut self, index: u32) -> &mut Lease {
        self.slots.get_mut(index as usize).and_then(Option::as_mut).expect("a live lease")
    }

    /// The lease that this tag names, if it is current: invariants 2 and 3 hang on this comparison.
    pub fn current(&self, tag: LeaseTag) -> Option<&Lease> {
        self.slots
            .get(tag.slot as usize)
            .and_then(Option::as_ref)
            .filter(|lease| lease.token == tag.token || planted!("stale token accepted"))
    }

    pub fn tag(&self, index: u32) -> LeaseTag {
        LeaseTag { slot: index, token: self.get(index).token }
    }

    /// Moves a lease to the end of the list, with a new end.
    pub fn extend(&mut self, index: u32, ends_ms: u64) {
        self.unlink(index);
        self.get_mut(index).ends_ms = ends_ms;
        self.link(index);
    }

    /// The lease that ends first, and when.
    pub fn first(&self) -> Option<(u32, u64)> {
        (self.first != NONE).then(|| (self.first, self.get(self.first).ends_ms))
    }

    fn link(&mut self, index: u32) {
        let last = self.last;
        let lease = self.get_mut(index);
        lease.before = last;
        lease.after = NONE;
        if last == NONE {
            self.first = index;
        } else {
            self.get_mut(last).after = index;
        }
        self.last = index;
    }

    fn unlink(&mut self, index: u32) {
        let (before, after) = {
            let lease = self.get(index);
            (lease.before, lease.after)
        };
        if before == NONE {
            self.first = after;
        } else {
            self.get_mut(before).after = after;
        }
        if after == NONE {
            self.last = before;
        } else {
            self.get_mut(after).before = before;
        }
    }
}
