//! Concurrency keys: at most so many calls of one procedure and tenant with one key run at a time. A call that comes up
//! while its key is full goes aside; a place that becomes free is kept for the first of those, which returns to its
//! queue: so nothing is scanned, and none is overtaken for ever.

use crate::Engine;
use crate::call::{Calls, NONE};
use crate::lane::Serial;
use crate::planted::planted;
use crate::queue::Entry;
use crate::tail::Ties;
use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use antiphon_protocol::{Key, State};
use core::cmp::Reverse;
use hashbrown::{DefaultHashBuilder, HashMap};

/// Procedure, tenant, concurrency key.
pub(crate) type ConcurrencyKey = (u32, u32, Key);

/// One concurrency key that is in use.
pub(crate) struct Held {
    key: ConcurrencyKey,
    /// Leases of its calls. An index of those: derived, never journaled.
    pub running: u32,
    /// Places kept for calls that have returned to their queues.
    promised: u32,
    /// Ready calls that are aside, in the order in which they are due; some are void.
    aside: BinaryHeap<Reverse<Entry>>,
    /// How many are not.
    live: u32,
}

/// All concurrency keys in use.
#[derive(Default)]
pub(crate) struct ConcurrencyKeys {
    slots: Vec<Option<Held>>,
    free: Vec<u32>,
    index: HashMap<ConcurrencyKey, u32, DefaultHashBuilder>,
}

impl ConcurrencyKeys {
    pub fn get(&self, place: u32) -> Option<&Held> {
        self.slots.get(place as usize).and_then(Option::as_ref)
    }

    fn get_mut(&mut self, place: u32) -> Option<&mut Held> {
        self.slots.get_mut(place as usize).and_then(Option::as_mut)
    }

    fn open(&mut self, key: ConcurrencyKey) -> u32 {
        if let Some(place) = self.index.get(&key) {
            return *place;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer keys than calls")
        });
        let aside = BinaryHeap::new();
        if let Some(slot) = self.slots.get_mut(place as usize) {
            *slot = Some(Held { key: key.clone(), running: 0, promised: 0, aside, live: 0 });
        }
        self.index.insert(key, place);
        place
    }

    /// Forgets a key that nobody uses.
    fn close_idle(&mut self, place: u32) {
        let idle = self.get(place).is_some_and(|held| held.running == 0 && held.promised == 0 && held.live == 0);
        if idle && let Some(held) = self.slots.get_mut(place as usize).and_then(Option::take) {
            self.index.remove(&held.key);
            self.free.push(place);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ConcurrencyKey, &Held)> {
        self.slots.iter().flatten().map(|held| (&held.key, held))
    }
}

impl Held {
    /// Drops void entries once they are most of what is aside.
    fn sweep(&mut self, calls: &Calls) {
        if self.aside.len() > 64 && self.live as usize * 2 < self.aside.len() {
            self.aside.retain(|Reverse(entry)| is_aside(calls, entry));
        }
    }
}

fn is_aside(calls: &Calls, entry: &Entry) -> bool {
    crate::dispatch::is_live(calls, entry)
        && calls.extra(entry.call).and_then(|extra| extra.serial.as_ref()).is_some_and(|serial| serial.aside)
}

impl Engine {
    pub(crate) fn concurrency_key(&self, route: u32, ties: &Ties) -> Option<ConcurrencyKey> {
        let key = ties.concurrency.as_ref()?;
        let kept = self.routes.get(route);
        Some((kept.procedure, kept.tenant, key.clone()))
    }

    /// The key under which a call is counted or parked.
    pub(crate) fn key_of(&self, serial: &Serial) -> Option<&ConcurrencyKey> {
        self.concurrency.get(serial.key).map(|held| &held.key)
    }

    /// A call has come up: whether its concurrency key lets it start. If not, it has gone aside.
    pub(crate) fn passes_key(&mut self, index: u32) -> bool {
        let Some(ties) = self.ties(index) else { return true };
        let (route, entry) = (self.calls.get(index).route, self.entry_of(index));
        let Some(key) = self.concurrency_key(route, ties) else { return true };
        if self.serial(index).is_some_and(|serial| serial.promised) {
            return true;
        }
        let limit = self.routes.get(route).route.concurrency.max(1) + u32::from(planted!("a key takes one more"));
        let place = self.concurrency.open(key);
        let Some(held) = self.concurrency.get_mut(place) else { return true };
        if held.live == 0 && held.running + held.promised < limit {
            return true;
        }
        held.aside.push(Reverse(entry));
        held.live += 1;
        if let Some(serial) = self.serial_mut(index) {
            (serial.key, serial.aside) = (place, true);
        }
        self.keep_promises(place);
        false
    }

    /// A lease of the call begins: it counts under its key.
    pub(crate) fn take_key(&mut self, index: u32) {
        let route = self.calls.get(index).route;
        let Some(ties) = self.ties(index) else { return };
        let Some(key) = self.concurrency_key(route, ties) else { return };
        let promised = self.serial(index).is_some_and(|serial| serial.promised);
        let place = self.concurrency.open(key);
        if let Some(held) = self.concurrency.get_mut(place) {
            held.running += 1;
            held.promised -= u32::from(promised);
        }
        if let Some(serial) = self.serial_mut(index) {
            (serial.key, serial.promised) = (place, false);
        }
    }

    /// A lease of the call has ended: its place is free.
    pub(crate) fn return_key(&mut self, index: u32) {
        let Some(serial) = self.serial_mut(index) else { return };
        let place = core::mem::replace(&mut serial.key, NONE);
        let Some(held) = self.concurrency.get_mut(place) else { return };
        held.running -= u32::from(!planted!("the place under a key leaks"));
        if !planted!("who is aside stays there") {
            self.keep_promises(place);
        }
        self.concurrency.close_idle(place);
    }

    /// A ready call steps out of line: says whether it was aside, and gives back what was kept for it.
    pub(crate) fn leave_key(&mut self, index: u32) -> bool {
        let Some(serial) = self.serial_mut(index) else { return false };
        let (aside, promised) = (core::mem::take(&mut serial.aside), core::mem::take(&mut serial.promised));
        if !aside && !promised {
            return false;
        }
        let place = core::mem::replace(&mut serial.key, NONE);
        let calls = &self.calls;
        if let Some(held) = self.concurrency.get_mut(place) {
            held.promised -= u32::from(promised);
            held.live -= u32::from(aside);
            held.sweep(calls);
        }
        self.keep_promises(place);
        self.concurrency.close_idle(place);
        aside
    }

    /// Free places of a key go to the calls that are aside, in their order.
    fn keep_promises(&mut self, place: u32) {
        loop {
            let calls = &self.calls;
            let Some(held) = self.concurrency.get_mut(place) else { return };
            while held.aside.peek().is_some_and(|Reverse(entry)| !is_aside(calls, entry)) {
                held.aside.pop();
            }
            let Some(Reverse(entry)) = held.aside.peek().copied() else { return };
            let kept = self.routes.get(self.calls.get(entry.call).route);
            // What no worker could take gets no place: it would keep that from all others.
            let served = self.sections.get(kept.section).workers > 0;
            if served && held.running + held.promised >= kept.route.concurrency.max(1) {
                return;
            }
            held.aside.pop();
            held.live -= 1;
            held.promised += u32::from(served);
            if let Some(serial) = self.serial_mut(entry.call) {
                (serial.aside, serial.promised) = (false, served);
                serial.key = if served { place } else { NONE };
            }
            debug_assert!(self.calls.get(entry.call).state == State::Ready, "only ready calls are aside");
            self.enqueue(entry.call);
        }
    }
}
