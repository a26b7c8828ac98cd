//! Delivering outcomes to inboxes. A named inbox may hold a million of them: its consumer gets a window at a time, and
//! each acknowledgement lets the next one through.

use crate::Engine;
use crate::call::gate_of;
use crate::call::{DELIVERED, NONE, OUTSTANDING, Watcher};
use crate::effect::{Effects, Gate};
use crate::inbox::{Inbox, InboxKey};
use crate::planted::planted;
use crate::session::Leftover;
use alloc::vec::Vec;

/// How many outcomes a named inbox's consumer has before it acknowledges: enough to keep it busy over a round trip.
const WINDOW: u32 = 1_000;
/// And how many bytes of them, though always one: what a connection holds without being slowed down.
const WINDOW_BYTES: u64 = 8 << 20;

impl Inbox {
    /// Whether its consumer has as much as it may have unacknowledged.
    fn is_full(&self) -> bool {
        self.in_flight >= WINDOW || (self.in_flight > 0 && self.in_flight_bytes >= WINDOW_BYTES)
    }
}

impl Engine {
    /// Tells the outcome of a newly settled call to its inbox and to whoever else asked for it.
    pub(crate) fn deliver(&mut self, index: u32, effects: &mut impl Effects) {
        let to = self.calls.get(index).inbox;
        if let Some(inbox) = self.inboxes.get_mut(to) {
            inbox.open = inbox.open.saturating_sub(1);
        }
        if self.inboxes.get(to).is_some_and(|inbox| inbox.ended) {
            self.calls.get_mut(index).inbox = NONE;
            self.drop_ended_inbox(to);
        } else if self.join_inbox(to, index) {
            self.hand_over(to, index, effects);
        } else {
            self.calls.get_mut(index).inbox = NONE;
        }
        self.tell_watchers(index, effects);
    }

    /// Puts a settled call into its inbox's list of what is not acknowledged; false when there is no such inbox.
    pub(crate) fn join_inbox(&mut self, place: u32, index: u32) -> bool {
        let Some(inbox) = self.inboxes.get_mut(place) else { return false };
        let call = self.calls.get_mut(index);
        call.place = u32::try_from(inbox.outstanding.len()).expect("fewer outcomes than calls");
        call.set(OUTSTANDING, true);
        inbox.outstanding.push(index);
        true
    }

    fn tell_watchers(&mut self, index: u32, effects: &mut impl Effects) {
        if self.calls.extra(index).is_none_or(|extra| extra.watchers.is_empty()) {
            return;
        }
        let watchers = core::mem::take(&mut self.calls.extra_mut(index).watchers);
        for Watcher { inbox, stamp, tag } in watchers {
            let inbox = self.inboxes.get(inbox).filter(|inbox| inbox.stamp == stamp);
            if let Some(peer) = inbox.and_then(|inbox| inbox.peer) {
                self.tell_outcome(index, peer, tag, effects);
            }
        }
    }

    /// Hands an outcome to the consumer of its inbox, or puts it in line behind a full window.
    fn hand_over(&mut self, place: u32, index: u32, effects: &mut impl Effects) {
        let Some(inbox) = self.inboxes.get_mut(place) else { return };
        let Some(peer) = inbox.peer else { return };
        if matches!(inbox.key, InboxKey::Named(_)) {
            if inbox.is_full() {
                let generation = self.calls.get(index).generation;
                inbox.backlog.push_back((index, generation));
                return;
            }
            inbox.in_flight += 1;
            let call = self.calls.get_mut(index);
            inbox.in_flight_bytes += u64::from(call.bytes);
            call.set(DELIVERED, true);
        }
        let call = self.calls.get(index);
        let gate = if planted!("outcome before fsync") { Gate::Open } else { gate_of(call) };
        effects.emit(gate, self.outcome_for(index, peer, call.tag));
    }

    /// Whatever the inbox has not acknowledged is delivered again, in the order it settled, a few at a time.
    pub(crate) fn redeliver(&mut self, place: u32) {
        if planted!("outcomes not delivered again") {
            return;
        }
        let Some(inbox) = self.inboxes.get_mut(place) else { return };
        inbox.in_flight = 0;
        inbox.in_flight_bytes = 0;
        let named = matches!(inbox.key, InboxKey::Named(_));
        let mut again: Vec<u32> = inbox.outstanding.clone();
        again.sort_by_key(|index| self.calls.get(*index).at_ms);
        let mut backlog = Vec::with_capacity(again.len());
        for index in again {
            let call = self.calls.get_mut(index);
            call.set(DELIVERED, false);
            backlog.push((index, call.generation));
        }
        if named {
            if let Some(inbox) = self.inboxes.get_mut(place) {
                inbox.backlog = backlog.into();
            }
            self.leftovers.push_back(Leftover::Fill(place));
        } else {
            let each = backlog.into_iter().map(|(index, generation)| Leftover::Deliver(index, generation, place));
            self.leftovers.extend(each);
        }
    }

    /// Lets outcomes in line through to the consumer of a named inbox, as far as its window is open.
    pub(crate) fn fill_window(&mut self, place: u32, effects: &mut impl Effects) {
        loop {
            let Some(inbox) = self.inboxes.get_mut(place) else { return };
            if inbox.peer.is_none() || inbox.is_full() {
                return;
            }
            let Some((index, generation)) = inbox.backlog.pop_front() else { return };
            if self.calls.live(index, generation).is_some_and(|call| call.has(OUTSTANDING)) {
                self.hand_over(place, index, effects);
            }
        }
    }
}
