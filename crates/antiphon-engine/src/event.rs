//! Events: recorded once, then distributed over turns, one call for each subscription that existed when the event was
//! accepted. Its calls share its payload, which is kept until the last of them needs it no more.

use crate::Engine;
use crate::admission::Submit;
use crate::call::Call;
use crate::codec::{Malformed, Reader, Writer};
use crate::effect::{Body, Effect, Effects, Gate, Handle, Refusal, Role, Urgency};
use crate::planted::planted;
use crate::record::{Record, name};
use crate::replay::Replay;
use crate::tail::Ties;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use antiphon_protocol::{CallId, Name, Topic};
use core::ops::Bound;
use hashbrown::{DefaultHashBuilder, HashMap};

/// How many calls one turn makes of events: about a millisecond, so that nothing else waits for a large fan-out.
const CALLS_A_TURN: u32 = 256;
/// How long to wait for room before looking again whether there is some.
const FULL_MS: u64 = 100;
/// The cursor of an event that is distributed.
const DONE: u64 = u64::MAX;

/// An event as the journal keeps it.
#[derive(Clone, PartialEq, Debug)]
pub struct Emitted {
    /// The event.
    pub id: CallId,
    /// What it is about.
    pub topic: Name,
    /// Its place in the order of events and subscriptions.
    pub number: u64,
    /// The last subscription that it made a call for.
    pub cursor: u64,
    /// When it was accepted, wall.
    pub emitted_ms: u64,
    /// Bytes of its payload.
    pub bytes: u32,
}

impl Emitted {
    pub(crate) fn encode(&self, to: &mut Writer<'_>) {
        to.u64(self.number);
        to.u64(self.cursor);
        to.u64(self.emitted_ms);
        to.u32(self.bytes);
        to.text(&self.topic);
    }

    pub(crate) fn decode(id: CallId, from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (number, cursor, emitted_ms) = (from.u64()?, from.u64()?, from.u64()?);
        Ok(Self { id, number, cursor, emitted_ms, bytes: from.u32()?, topic: name(from)? })
    }
}

/// An event in memory.
pub(crate) struct Event {
    pub it: Emitted,
    pub handle: Handle,
    pub durable: bool,
    pub cold: bool,
    /// Calls that may still need its payload.
    pub uses: u32,
}

/// All events that are remembered.
#[derive(Default)]
pub(crate) struct Events {
    all: HashMap<CallId, Event, DefaultHashBuilder>,
    /// The same by number, for who reads them in their order.
    numbers: BTreeMap<u64, CallId>,
    /// Not distributed to the end yet, in their order: number and id.
    open: VecDeque<(u64, CallId)>,
    /// Distributed, in their order.
    done: VecDeque<CallId>,
    done_bytes: u64,
    /// There was no room for more calls when it was last looked.
    pub full: bool,
    /// Set by the shell while the journal takes no more.
    pub held: bool,
}

impl Events {
    pub fn get(&self, id: CallId) -> Option<&Event> {
        self.all.get(&id)
    }

    pub fn get_mut(&mut self, id: CallId) -> Option<&mut Event> {
        self.all.get_mut(&id)
    }

    pub fn oldest_open(&self) -> Option<u64> {
        self.open.front().map(|(number, _)| *number)
    }

    /// Whether some wait to be forgotten.
    pub fn has_done(&self) -> bool {
        !self.done.is_empty()
    }

    pub fn insert(&mut self, event: Event) {
        self.numbers.insert(event.it.number, event.it.id);
        self.all.insert(event.it.id, event);
    }

    pub fn remove(&mut self, id: CallId) -> Option<Event> {
        let event = self.all.remove(&id)?;
        self.numbers.remove(&event.it.number);
        Some(event)
    }

    pub fn handles(&self) -> impl Iterator<Item = Handle> {
        self.all.values().map(|event| event.handle).filter(|handle| *handle != Handle::NONE)
    }

    /// Lines up what a recovery has found.
    pub fn line_up(&mut self) {
        let mut all: Vec<(u64, bool, CallId)> =
            self.all.values().map(|event| (event.it.number, event.it.cursor == DONE, event.it.id)).collect();
        all.sort_unstable();
        for (number, done, id) in all {
            if done {
                self.finish(id);
            } else {
                self.open.push_back((number, id));
            }
        }
    }

    fn finish(&mut self, id: CallId) {
        self.done_bytes += self.all.get(&id).map_or(0, |event| u64::from(event.it.bytes));
        self.done.push_back(id);
    }

    /// When distribution wants to go on, given the time.
    pub fn next_wake(&self, now_ms: u64) -> Option<u64> {
        let waits = self.full || self.held;
        (!self.open.is_empty()).then(|| if waits { now_ms + FULL_MS } else { 0 })
    }
}

impl Engine {
    /// Whether what is submitted by this route is an event.
    #[must_use]
    pub fn is_event(&self, route: u32) -> bool {
        self.routes.get(route).route.event
    }

    /// Whether events wait to be distributed: if so, the shell says whether the journal has room for their calls.
    #[must_use]
    pub fn has_undistributed(&self) -> bool {
        !self.events.open.is_empty()
    }

    /// The journal has no room for calls of events now, or has again. They wait; nothing is lost.
    pub fn hold_distribution(&mut self, hold: bool) {
        self.events.held = hold;
    }

    /// The number of the newest event there can be: events and subscriptions are numbered in one order, which goes on
    /// over restarts.
    #[must_use]
    pub const fn newest_event(&self) -> u64 {
        self.order
    }

    /// Events that are remembered, in the order in which they were accepted, after a number: where the payload is, and
    /// whether it is journaled.
    pub fn events_after(&self, number: u64) -> impl Iterator<Item = (&Emitted, Handle, bool)> {
        let after = self.events.numbers.range((Bound::Excluded(number), Bound::Unbounded));
        let events = after.filter_map(|(_, id)| self.events.get(*id));
        events.map(|event| (&event.it, event.handle, event.durable))
    }

    /// Takes an event, or says that it was taken before.
    pub(crate) fn emit(&mut self, submit: Submit, effects: &mut impl Effects) {
        let topic = self.routes.get(submit.route).route.procedure.clone();
        if let Some(event) = self.events.get(submit.id) {
            if event.it.topic != topic {
                return self.refuse(&submit, Refusal::IdConflict, effects);
            }
            self.counters.duplicates += 1;
            return Self::emitted(&submit, event.durable, true, effects);
        }
        if let Some(refusal) = self.refusal_of_event(&submit) {
            return self.refuse(&submit, refusal, effects);
        }
        self.order += 1;
        let durable = self.routes.get(submit.route).durable;
        let it = Emitted {
            id: submit.id,
            topic,
            number: self.order,
            cursor: 0,
            emitted_ms: self.now.wall_ms,
            bytes: submit.bytes,
        };
        let handle = if durable {
            let record = Record::Emitted(Cow::Borrowed(&it));
            effects.record(&record, Body::Command, Role::Base, Urgency::Now)
        } else {
            effects.store(Body::Command)
        };
        self.counters.emitted += 1;
        self.events.open.push_back((it.number, it.id));
        self.events.insert(Event { it, handle, durable, cold: false, uses: 0 });
        Self::emitted(&submit, durable, false, effects);
    }

    fn emitted(submit: &Submit, durable: bool, duplicate: bool, effects: &mut impl Effects) {
        let gate = if durable { Gate::Recorded } else { Gate::Open };
        let accepted = Effect::Accepted { peer: submit.peer, tag: submit.tag, id: submit.id, duplicate, wait_ms: None };
        effects.emit(gate, accepted);
    }

    fn refusal_of_event(&self, submit: &Submit) -> Option<Refusal> {
        if submit.resent && submit.id.unix_ms() <= self.resend_horizon_ms {
            return Some(Refusal::TooOldToSay);
        }
        if self.calls.find(submit.id).is_some() {
            return Some(Refusal::IdConflict);
        }
        let limit = self.limits.events_open_max;
        if self.events.open.len() >= limit as usize {
            return Some(Refusal::EventsFull { limit });
        }
        let limit = self.limits.events_max;
        (self.events.all.len() >= limit as usize).then_some(Refusal::EventsFull { limit })
    }

    /// Makes calls of the events that wait, in their order, a few at a time.
    pub(crate) fn distribute(&mut self, budget: u32, effects: &mut impl Effects) {
        let mut left =
            if planted!("an event makes its calls in one turn") { u32::MAX } else { budget.min(CALLS_A_TURN) };
        self.events.full = false;
        while left > 0 && !self.events.full && !self.events.held {
            let Some((_, id)) = self.events.open.front().copied() else { return };
            left = self.distribute_one(id, left, effects);
        }
    }

    fn distribute_one(&mut self, id: CallId, mut left: u32, effects: &mut impl Effects) -> u32 {
        let Some(event) = self.events.get(id) else {
            self.events.open.pop_front();
            return left - 1;
        };
        let (before, number) = (event.it.cursor, event.it.number);
        let mut cursor = before;
        let topic = Topic::try_from(event.it.topic.clone());
        let matching = topic.map(|topic| self.subscriptions.patterns.matching(&topic));
        while left > 0 {
            left -= 1;
            let next = matching.as_ref().ok().and_then(|found| self.subscriptions.patterns.next(found, cursor, number));
            let Some((subscription, place)) = next else {
                cursor = DONE;
                break;
            };
            if !self.make_event_call(id, number, place, effects) {
                self.events.full = true;
                break;
            }
            cursor = subscription;
        }
        if cursor != before {
            self.advance_event(id, cursor, effects);
        }
        if cursor == DONE {
            self.events.open.pop_front();
            self.events.finish(id);
            self.drop_ended_subscriptions(effects);
        }
        left
    }

    fn advance_event(&mut self, id: CallId, cursor: u64, effects: &mut impl Effects) {
        let Some(event) = self.events.get_mut(id) else { return };
        event.it.cursor = cursor;
        let (durable, handle) = (event.durable, event.handle);
        if durable {
            // Behind the records of the calls: a crash that cuts it off finds those calls there.
            effects.record(&Record::Distributed { id, cursor }, Body::None, Role::Delta(handle), Urgency::Lazy);
        }
    }

    /// Makes the call of one event for one subscription; false when there is no room for it now.
    fn make_event_call(&mut self, event: CallId, number: u64, place: u32, effects: &mut impl Effects) -> bool {
        let Some(kept) = self.subscriptions.get(place) else { return true };
        // It was removed before the event came.
        if kept.ended != 0 && kept.ended < number && !planted!("who is unsubscribed gets events") {
            return true;
        }
        let (id, route) = (event.derived(&kept.id.to_bytes()), kept.route);
        if self.calls.find(id).is_some() {
            return true;
        }
        let weight = self.routes.get(route).weight;
        let Some(it) = self.events.get_mut(event) else { return true };
        let (bytes, durable) = (it.it.bytes, it.durable && self.routes.get(route).durable);
        if !self.has_room_for(weight) {
            return false;
        }
        if let Some(it) = self.events.get_mut(event) {
            it.uses += 1;
        }
        let index = self.calls.insert(Call::made(id, route, bytes, durable, self.now));
        let ties = Ties { cause: Some(event), ..Ties::default() };
        self.calls.extra_mut(index).ties = Some(Box::new(ties));
        self.routes.hold(route);
        self.counters.accepted += 1;
        self.count_unsettled(index);
        if durable {
            let record = Record::Submitted(Cow::Owned(self.submitted(index)));
            let handle = effects.record(&record, Body::None, Role::Base, Urgency::Now);
            self.calls.get_mut(index).handle = handle;
        }
        self.line_up(index);
        true
    }

    /// The event that a call was made of.
    pub(crate) fn event_of(&self, index: u32) -> Option<&Event> {
        self.events.get(self.calls.extra(index)?.ties.as_ref()?.cause?)
    }

    /// A call of an event that is not settled, or is a dead letter, needs the event's payload.
    pub(crate) fn hold_event(&mut self, index: u32, by: i32) {
        let cause = self.calls.extra(index).and_then(|extra| extra.ties.as_ref()).and_then(|ties| ties.cause);
        if let Some(event) = cause.and_then(|cause| self.events.get_mut(cause)) {
            event.uses = event.uses.saturating_add_signed(by);
        }
    }

    /// Forgets events that are distributed, whose calls need them no more, and that are old or too many.
    pub(crate) fn retain_events(&mut self, budget: u32, effects: &mut impl Effects) {
        for _ in 0..budget.min(u32::try_from(self.events.done.len()).unwrap_or(u32::MAX)) {
            let Some(id) = self.events.done.pop_front() else { return };
            let Some(event) = self.events.get(id) else { continue };
            let old = event.it.emitted_ms.saturating_add(self.limits.event_ms) <= self.now.wall_ms;
            let many = self.events.done.len() >= self.limits.events_done_max as usize
                || self.events.done_bytes > self.limits.outcome_bytes;
            if !old && !many {
                return self.events.done.push_front(id);
            }
            if event.uses > 0 {
                self.events.done.push_back(id);
                continue;
            }
            self.forget_event(id, effects);
        }
    }

    fn forget_event(&mut self, id: CallId, effects: &mut impl Effects) {
        let Some(event) = self.events.remove(id) else { return };
        self.events.done_bytes = self.events.done_bytes.saturating_sub(u64::from(event.it.bytes));
        if event.cold {
            effects.entomb(id);
        }
        let made_ms = id.unix_ms().min(self.now.wall_ms);
        self.horizon_ms = self.horizon_ms.max(made_ms);
        self.resend_horizon_ms = self.resend_horizon_ms.max(made_ms);
        if self.limits.durable && self.horizon_ms > self.horizon_record.1 + crate::retention::RETENTION_STEP_MS {
            // Before what is released here can be recycled.
            self.record_horizon(effects);
        }
        if event.handle != Handle::NONE {
            effects.release(event.handle);
        }
    }

    /// The record of an event stands in a segment that is to be emptied.
    pub(crate) fn move_event(&mut self, id: CallId, at: Option<Handle>, effects: &mut impl Effects) -> bool {
        let Some(event) = self.events.all.get_mut(&id).filter(|event| event.durable) else { return false };
        let old = event.handle;
        if at.is_some_and(|at| at != old) {
            return false;
        }
        let record = Record::Emitted(Cow::Borrowed(&event.it));
        event.handle = effects.record(&record, Body::Stored(old), Role::Base, Urgency::Now);
        event.cold = true;
        effects.release(old);
        true
    }
}

impl Replay {
    pub(crate) fn emitted(&mut self, record: Emitted, handle: Handle, cold: bool) {
        self.clock(record.emitted_ms);
        self.engine.order = self.engine.order.max(record.number);
        let cold = cold || self.engine.events.get(record.id).is_some_and(|event| event.cold);
        self.engine.events.insert(Event { it: record, handle, durable: true, cold, uses: 0 });
    }
}
