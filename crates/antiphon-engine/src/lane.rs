//! Ordering lanes: calls with one ordering key, in the order in which they became ready first. Only the first of a
//! lane stands in a queue or runs; it leaves when it is settled and no attempt of it runs any more.
//!
//! A lane is a list through its calls, so that any of them leaves it in one step. The number under which a call joined
//! is journaled: with its submission, or by itself when it was delayed.

use crate::Engine;
use crate::call::{DURABLE, NONE};
use crate::effect::{Body, Effects, Refusal, Role, Urgency};
use crate::planted::planted;
use crate::record::Record;
use crate::tail::Ties;
use alloc::vec::Vec;
use antiphon_protocol::{CallId, Key, Name, State, defaults};
use hashbrown::{DefaultHashBuilder, HashMap};

/// Tenant, name of the lane, ordering key.
pub(crate) type LaneKey = (u32, Name, Key);

/// One lane with at least one call.
pub(crate) struct Lane {
    key: LaneKey,
    pub first: u32,
    last: u32,
}

/// All lanes with calls.
#[derive(Default)]
pub(crate) struct Lanes {
    slots: Vec<Option<Lane>>,
    free: Vec<u32>,
    index: HashMap<LaneKey, u32, DefaultHashBuilder>,
}

/// Where a call stands in its lane and under its concurrency key.
#[derive(Debug, Clone)]
pub(crate) struct Serial {
    /// Its lane, once it has joined, and its neighbours there.
    pub lane: u32,
    before: u32,
    after: u32,
    /// Where its concurrency key is kept, while it is counted or parked there.
    pub key: u32,
    /// A place under its concurrency key is kept for it.
    pub promised: bool,
    /// It is ready, and aside until its concurrency key has a place.
    pub aside: bool,
}

impl Default for Serial {
    fn default() -> Self {
        Self { lane: NONE, before: NONE, after: NONE, key: NONE, promised: false, aside: false }
    }
}

impl Lanes {
    pub fn get(&self, place: u32) -> Option<&Lane> {
        self.slots.get(place as usize).and_then(Option::as_ref)
    }

    fn get_mut(&mut self, place: u32) -> &mut Lane {
        self.slots.get_mut(place as usize).and_then(Option::as_mut).expect("a lane lives as long as it has calls")
    }

    fn open(&mut self, key: LaneKey) -> u32 {
        if let Some(place) = self.index.get(&key) {
            return *place;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer lanes than calls")
        });
        if let Some(slot) = self.slots.get_mut(place as usize) {
            *slot = Some(Lane { key: key.clone(), first: NONE, last: NONE });
        }
        self.index.insert(key, place);
        place
    }

    fn close(&mut self, place: u32) {
        if let Some(lane) = self.slots.get_mut(place as usize).and_then(Option::take) {
            self.index.remove(&lane.key);
            self.free.push(place);
        }
    }
}

impl Engine {
    pub(crate) fn serial(&self, index: u32) -> Option<&Serial> {
        self.calls.extra(index)?.serial.as_deref()
    }

    pub(crate) fn serial_mut(&mut self, index: u32) -> Option<&mut Serial> {
        if index == NONE || self.calls.get(index).extra == NONE {
            return None;
        }
        self.calls.extra_mut(index).serial.as_deref_mut()
    }

    pub(crate) fn ties(&self, index: u32) -> Option<&Ties> {
        self.calls.extra(index)?.ties.as_deref()
    }

    pub(crate) fn ties_mut(&mut self, index: u32) -> Option<&mut Ties> {
        if self.calls.get(index).extra == NONE {
            return None;
        }
        self.calls.extra_mut(index).ties.as_deref_mut()
    }

    /// Counts an unsettled call that is tied to others.
    pub(crate) fn count_tied(&mut self, index: u32) {
        let Some(ties) = self.ties(index) else { return };
        let counted = ties.ordering.is_some() || ties.concurrency.is_some() || ties.parent.is_some();
        self.tied_calls += u32::from(counted);
        self.give_stand(index);
    }

    /// A call with an ordering or concurrency key has a place to note where it stands; says whether it is one.
    pub(crate) fn give_stand(&mut self, index: u32) -> bool {
        let keyed = self.ties(index).is_some_and(|ties| ties.ordering.is_some() || ties.concurrency.is_some());
        if keyed {
            self.calls.extra_mut(index).serial.get_or_insert_default();
        }
        keyed
    }

    /// The same backwards, when it settles.
    pub(crate) fn discount_tied(&mut self, index: u32) {
        let Some(ties) = self.ties(index) else { return };
        let counted = ties.ordering.is_some() || ties.concurrency.is_some() || ties.parent.is_some();
        self.tied_calls -= u32::from(counted);
    }

    /// Whether the journal says of a settled call that it stood in a lane or under a key when it settled: then an attempt
    /// of it ran on.
    pub(crate) fn ran_on(&self, index: u32) -> bool {
        let keyed = self.ties(index).is_some_and(|ties| ties.ordering.is_some() || ties.concurrency.is_some());
        keyed && self.calls.get(index).state != State::Dead
    }

    /// A settled call of which nothing runs stands in no lane and under no key; what it needs again when it is revived
    /// stays with a dead letter.
    pub(crate) fn untie(&mut self, index: u32) {
        let call = self.calls.get(index);
        if call.extra == NONE || call.lease != NONE {
            return;
        }
        let dead = call.state == State::Dead;
        let extra = self.calls.extra_mut(index);
        extra.serial = None;
        if let Some(ties) = extra.ties.as_deref_mut().filter(|_| !dead) {
            (ties.ordering, ties.concurrency, ties.parent) = (None, None, None);
        }
        if extra.ties.as_deref() == Some(&Ties::default()) {
            extra.ties = None;
        }
    }

    /// The lane that a call of this route with these ties belongs to.
    fn lane_key(&self, route: u32, ties: &Ties) -> Option<LaneKey> {
        let (key, _) = ties.ordering.as_ref()?;
        let kept = self.routes.get(route);
        Some((kept.tenant, kept.route.lane().clone(), key.clone()))
    }

    /// Gives a call that becomes ready for the first time its number in its lane, before that is recorded.
    pub(crate) fn number_in_lane(&mut self, index: u32) {
        let turn = self.lane_turns + 1;
        if let Some(ties) = self.ties_mut(index)
            && let Some((_, at)) = &mut ties.ordering
            && *at == 0
        {
            *at = turn;
            self.lane_turns = turn;
        }
    }

    /// A ready call that has an ordering key stands at the end of its lane, if it is not in it. Says whether it may
    /// stand in its queue.
    pub(crate) fn enter_lane(&mut self, index: u32) -> bool {
        let Some(serial) = self.serial(index) else { return true };
        let lane = serial.lane;
        if lane != NONE {
            return self.lanes.get(lane).is_some_and(|lane| lane.first == index);
        }
        let route = self.calls.get(index).route;
        let Some(key) = self.ties(index).and_then(|ties| self.lane_key(route, ties)) else { return true };
        let place = self.lanes.open(key);
        let lane = self.lanes.get_mut(place);
        let before = core::mem::replace(&mut lane.last, index);
        let first = before == NONE;
        if first {
            lane.first = index;
        }
        if let Some(serial) = self.serial_mut(index) {
            (serial.lane, serial.before, serial.after) = (place, before, NONE);
        }
        if let Some(before) = self.serial_mut(before) {
            before.after = index;
        }
        first || planted!("calls of a lane overlap")
    }

    /// Whether a ready call waits behind others of its lane.
    pub(crate) fn waits_in_lane(&self, index: u32) -> bool {
        let lane = self.serial(index).map_or(NONE, |serial| serial.lane);
        self.lanes.get(lane).is_some_and(|lane| lane.first != index)
    }

    /// The call at the head of a call's lane, if that is another.
    pub(crate) fn lane_holder(&self, index: u32) -> Option<(CallId, Key)> {
        let lane = self.lanes.get(self.serial(index)?.lane)?;
        (lane.first != index).then(|| (self.calls.get(lane.first).id, lane.key.2.clone()))
    }

    /// A settled call of which nothing runs leaves its lane; the next one's turn comes.
    pub(crate) fn leave_lane(&mut self, index: u32) {
        let Some(serial) = self.serial_mut(index) else { return };
        let (place, before, after) = (serial.lane, serial.before, serial.after);
        if place == NONE {
            return;
        }
        (serial.lane, serial.before, serial.after) = (NONE, NONE, NONE);
        if let Some(before) = self.serial_mut(before) {
            before.after = after;
        }
        if let Some(after) = self.serial_mut(after) {
            after.before = before;
        }
        let lane = self.lanes.get_mut(place);
        if before == NONE {
            lane.first = after;
        }
        if after == NONE {
            lane.last = before;
        }
        let head = lane.first;
        if head == NONE {
            self.lanes.close(place);
        } else if before == NONE && self.calls.get(head).state == State::Ready && !planted!("a lane is not passed on") {
            self.enqueue(head);
        }
    }

    /// Whether the call has an ordering key and has not joined its lane yet.
    pub(crate) fn joins_late(&self, index: u32) -> bool {
        self.ties(index).and_then(|ties| ties.ordering.as_ref()).is_some_and(|(_, turn)| *turn == 0)
    }

    /// A delayed call becomes ready for the first time: its place in its lane is a fact of its own.
    pub(crate) fn join_lane_late(&mut self, index: u32, effects: &mut impl Effects) {
        let before = self.lane_turns;
        self.number_in_lane(index);
        let (call, turn) = (self.calls.get(index), self.lane_turns);
        if turn != before && call.has(DURABLE) {
            let record = Record::LaneJoined { id: call.id, turn };
            effects.record(&record, Body::None, Role::Delta(call.handle), Urgency::Lazy);
        }
    }

    /// Why a call made within another can never start: it needs what the calls it was made within hold while they may
    /// wait for it.
    pub(crate) fn deadlock(&self, route: u32, ties: &Ties) -> Option<Refusal> {
        if ties.ordering.is_none() && ties.concurrency.is_none() {
            return None;
        }
        let lane = self.lane_key(route, ties);
        let key = self.concurrency_key(route, ties);
        let mut holding = 0;
        let mut next = ties.parent;
        for _ in 0..defaults::ANCESTORS_MAX {
            let id = next?;
            let index = self.calls.find(id)?;
            let call = self.calls.get(index);
            if call.state.is_settled() && call.lease == NONE {
                return None;
            }
            let serial = self.serial(index);
            let held = serial.and_then(|serial| self.lanes.get(serial.lane)).map(|lane| &lane.key);
            if let (Some(key), true) = (&lane, held.is_some() && held == lane.as_ref()) {
                return Some(Refusal::LaneHeld { by: id, lane: key.1.clone(), key: key.2.clone() });
            }
            if let Some(key) = &key
                && call.lease != NONE
                && serial.and_then(|serial| self.key_of(serial)) == Some(key)
            {
                holding += 1;
                if holding >= self.routes.get(route).route.concurrency.max(1) {
                    return Some(Refusal::KeyHeld { by: id, key: key.2.clone() });
                }
            }
            next = self.ties(index)?.parent;
        }
        next.map(|_| Refusal::TooDeep { limit: defaults::ANCESTORS_MAX })
    }
}
