//! Callbacks: calls that a settlement makes, in the same batch and again by replay, so that each is made once.

use crate::call::{Call, DURABLE, gate_of};
use crate::effect::{Body, Effects, Ending, Gate, Reason, Refusal, Role, Told, Urgency};
use crate::planted::planted;
use crate::record::Record;
use crate::tail::Ties;
use crate::{Engine, Now};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;
use antiphon_protocol::{CallId, Callback, CallbackOn, State, defaults};

/// A callback of one call: when, and the place of its route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Planned {
    pub on: CallbackOn,
    pub route: u32,
}

impl Engine {
    /// How many calls this one stands for while it is not settled.
    pub(crate) fn weight(&self, index: u32) -> u32 {
        self.routes.get(self.calls.get(index).route).weight + self.added_weight(index)
    }

    /// The same for the callbacks alone that were added to it.
    pub(crate) fn added_weight(&self, index: u32) -> u32 {
        let added = self.calls.extra(index).map_or(&[][..], |extra| extra.callbacks.as_slice());
        added.iter().map(|callback| self.routes.get(callback.route).weight).sum()
    }

    /// Whether so many more calls may be unsettled, those reserved for callbacks included.
    pub(crate) fn has_room_for(&self, weight: u32) -> bool {
        u64::from(self.unsettled) + self.reserved + u64::from(weight) <= u64::from(self.limits.calls_max)
    }

    /// Counts a call that is not settled, and what it stands for.
    pub(crate) fn count_unsettled(&mut self, index: u32) {
        self.unsettled += 1;
        let reserved = u64::from(self.weight(index) - 1);
        if reserved > 0 {
            self.reserved += reserved;
            self.reserve_queues(index, 1);
        }
    }

    /// The same backwards, when it settles.
    pub(crate) fn discount_unsettled(&mut self, index: u32) {
        self.unsettled -= 1;
        let reserved = u64::from(self.weight(index) - 1);
        if reserved > 0 {
            self.reserved -= reserved;
            if !planted!("places of callbacks leak") {
                self.reserve_queues(index, -1);
            }
        }
    }

    /// The callbacks of a call count in the queues of their procedures before they are made.
    fn reserve_queues(&mut self, index: u32, by: i64) {
        let planned: Vec<Planned> = self.planned(index).collect();
        for planned in planned {
            self.reserve_queue(planned.route, by);
        }
    }

    /// The same for what becomes of one of them, and of its own.
    fn reserve_queue(&mut self, route: u32, by: i64) {
        let kept = self.routes.get(route);
        let (procedure, next) = (kept.procedure, kept.callbacks.clone());
        let it = self.procedures.get_mut(procedure);
        it.reserved = it.reserved.saturating_add_signed(by);
        for planned in next {
            self.reserve_queue(planned.route, by);
        }
    }

    /// The callbacks of a call: those of its route, then those that were added.
    pub(crate) fn planned(&self, index: u32) -> impl Iterator<Item = Planned> {
        let own = self.routes.get(self.calls.get(index).route).callbacks.iter();
        let added = self.calls.extra(index).map_or(&[][..], |extra| extra.callbacks.as_slice());
        own.chain(added).copied()
    }

    /// The id of the call that a callback of this one is or becomes.
    pub(crate) fn callback_id(&self, cause: CallId, planned: Planned) -> CallId {
        let route = &self.routes.get(planned.route).route;
        Callback::id(planned.on, &route.procedure, cause)
    }

    pub(crate) fn callback_of(&self, planned: Planned) -> Callback {
        Callback { on: planned.on, route: (*self.routes.get(planned.route).route).clone() }
    }

    /// What a callback is told of a settled call.
    pub(crate) fn told(&self, index: u32) -> Told {
        let call = self.calls.get(index);
        Told {
            id: call.id,
            procedure: self.routes.get(call.route).route.procedure.clone(),
            state: call.state,
            attempts: call.started,
            ending: call.state.is_settled().then(|| match Reason::from_number(call.reason) {
                Some(reason) => Ending::Decided(reason),
                None => Ending::Stored(call.handle),
            }),
        }
    }

    /// Makes the callbacks of a call that has just settled.
    pub(crate) fn make_callbacks(&mut self, index: u32, effects: &mut impl Effects) {
        let succeeded = self.calls.get(index).state == State::Succeeded;
        let due: Vec<Planned> = self
            .planned(index)
            .filter(|planned| planned.on.follows(succeeded) || planted!("callbacks follow any outcome"))
            .collect();
        for planned in due {
            self.make_callback(index, planned, effects);
        }
    }

    fn make_callback(&mut self, cause: u32, planned: Planned, effects: &mut impl Effects) {
        let told = self.told(cause);
        let Some(index) = self.plan_callback(cause, planned) else { return };
        self.counters.accepted += 1;
        self.routes.hold(planned.route);
        self.count_unsettled(index);
        self.write_callback(index, planned.on, told, effects);
        self.line_up(index);
    }

    /// Puts the call of a callback in place, without arguments yet; nothing if it is there.
    pub(crate) fn plan_callback(&mut self, cause: u32, planned: Planned) -> Option<u32> {
        let from = self.calls.get(cause);
        let (id, durable) = (self.callback_id(from.id, planned), from.has(DURABLE));
        let (cause, bytes) = (from.id, from.bytes);
        if self.calls.find(id).is_some() {
            return None;
        }
        let index = self.calls.insert(Call::made(id, planned.route, bytes, durable, self.now));
        let ties = Ties { cause: Some(cause), ..Ties::default() };
        self.calls.extra_mut(index).ties = Some(Box::new(ties));
        Some(index)
    }

    /// Records a callback with its arguments, made from how its cause ended.
    pub(crate) fn write_callback(&mut self, index: u32, on: CallbackOn, told: Told, effects: &mut impl Effects) {
        let body = Body::Told { on, told };
        let handle = if self.calls.get(index).has(DURABLE) {
            let record = Record::Submitted(Cow::Owned(self.submitted(index)));
            effects.record(&record, body, Role::Base, Urgency::Now)
        } else {
            effects.store(body)
        };
        self.calls.get_mut(index).handle = handle;
    }

    /// What was added to a dead letter goes on with the call that revives it.
    pub(crate) fn revive_callbacks(&mut self, index: u32, dead: Option<CallId>) {
        let dead = dead.and_then(|dead| self.calls.find(dead)).and_then(|dead| self.calls.extra(dead));
        let Some(callbacks) = dead.map(|extra| extra.callbacks.clone()).filter(|all| !all.is_empty()) else { return };
        callbacks.iter().for_each(|planned| self.routes.hold(planned.route));
        self.calls.extra_mut(index).callbacks = callbacks;
    }

    /// A call is forgotten, and with it the routes of the callbacks that were added to it.
    pub(crate) fn let_callbacks_go(&mut self, index: u32) {
        let added = self.calls.extra(index).map_or(Vec::new(), |extra| extra.callbacks.clone());
        for planned in added {
            self.routes.let_go(planned.route);
        }
    }

    /// Adds a callback to a call, settled or not. The same one again changes nothing. Says its id and what the answer
    /// waits for.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], one about the callback's route, or one of a limit.
    pub fn add_callback(
        &mut self,
        now: Now,
        id: CallId,
        callback: &Callback,
        effects: &mut impl Effects,
    ) -> Result<(CallId, Gate), Refusal> {
        self.tick(now);
        let Some(index) = self.calls.find(id) else {
            return Err(if id.unix_ms() <= self.horizon_ms { Refusal::TooOldToSay } else { Refusal::NotFound });
        };
        let callback_id = Callback::id(callback.on, &callback.route.procedure, id);
        self.add_callback_to(index, callback, effects)?;
        Ok((callback_id, gate_of(self.calls.get(index))))
    }

    pub(crate) fn add_callback_to(
        &mut self,
        index: u32,
        callback: &Callback,
        effects: &mut impl Effects,
    ) -> Result<(), Refusal> {
        if self.planned(index).any(|planned| self.callback_of(planned).is_same(callback)) {
            return Ok(());
        }
        let call = self.calls.get(index);
        let (id, handle, settled, durable) = (call.id, call.handle, call.state.is_settled(), call.has(DURABLE));
        let succeeded = call.state == State::Succeeded;
        if self.planned(index).count() >= usize::from(defaults::CALLBACKS_MAX) {
            return Err(Refusal::Callbacks(antiphon_protocol::CallbackError::TooMany));
        }
        let cause = (*self.routes.get(call.route).route).clone();
        let callback = Callback { on: callback.on, route: inherited(&callback.route, cause.tenant.as_ref(), durable) };
        let follows = callback.on.follows(succeeded);
        if !settled || follows {
            if !self.has_room_for(callback.route.calls()) {
                return Err(Refusal::CallsFull { limit: self.limits.calls_max });
            }
            if let Some(refusal) = self.reservation_refusal(&callback.route) {
                return Err(refusal);
            }
        }
        let planned = Planned { on: callback.on, route: self.intern(&callback.route)? };
        if durable {
            let record = Record::CallbackAdded { id, callback: Cow::Borrowed(&callback) };
            effects.record(&record, Body::None, Role::Delta(handle), Urgency::Now);
        }
        self.calls.extra_mut(index).callbacks.push(planned);
        if !settled {
            self.reserved += u64::from(self.routes.get(planned.route).weight);
            self.reserve_queue(planned.route, 1);
        } else if follows {
            self.make_callback(index, planned, effects);
        }
        Ok(())
    }
}

/// The route of a callback as its cause has it treated.
pub(crate) fn inherited(
    route: &antiphon_protocol::Route,
    tenant: Option<&antiphon_protocol::Name>,
    durable: bool,
) -> antiphon_protocol::Route {
    use antiphon_protocol::Durability;
    let mut route = route.clone();
    route.durability = Some(if durable { Durability::Durable } else { Durability::Volatile });
    route.tenant = route.tenant.or_else(|| tenant.cloned());
    route
}
