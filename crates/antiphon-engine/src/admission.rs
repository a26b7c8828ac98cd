//! The door: interning routes, taking submissions or refusing them before anything is recorded.

use crate::Engine;
use crate::call::{AWAITED, Call, DURABLE, NONE, gate_of};
use crate::callback::{Planned, inherited};
use crate::effect::{Body, Effect, Effects, Gate, Handle, Peer, Refusal, Role, Urgency};
use crate::group::Children;
use crate::inbox::InboxKey;
use crate::limits::{LINES_MAX, SECTIONS_OF_ONE_MAX, TIME_MS_MAX};
use crate::planted::planted;
use crate::record::Record;
use crate::route::Places;
use crate::section::Needs;
use crate::session::Session;
use crate::tail::Ties;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use antiphon_protocol::{CallId, Durability, Key, Route, Start, State, Tag, defaults};

/// A call on its way in.
#[derive(Clone, Debug)]
pub struct Submit {
    /// Who hands it over.
    pub peer: Peer,
    /// Echoed in what is said about the call.
    pub tag: Tag,
    /// The call.
    pub id: CallId,
    /// Its route, as [`Engine::intern`] numbered it.
    pub route: u32,
    /// Bytes of its arguments.
    pub bytes: u32,
    /// What remains until its deadline, in milliseconds; 0 is none.
    pub deadline_ms: u64,
    /// When it may start.
    pub start: Start,
    /// Its idempotency key and the hash of its arguments.
    pub key: Option<(Key, u64)>,
    /// Whether the caller wants to know that it was accepted.
    pub wants_acceptance: bool,
    /// Whether its outcome goes to the caller's inbox.
    pub wants_outcome: bool,
    /// Whether it was sent before.
    pub resent: bool,
    /// The dead letter it revives.
    pub revives: Option<CallId>,
    /// What it hangs together with.
    pub ties: Option<Box<Ties>>,
}

impl Engine {
    /// Numbers a route, for as long as it is held.
    ///
    /// # Errors
    /// A [`Refusal`] when there are too many, or it asks for durable calls in memory.
    pub fn intern(&mut self, route: &Route) -> Result<u32, Refusal> {
        if !self.limits.durable && route.durability == Some(Durability::Durable) {
            return Err(Refusal::NotDurable);
        }
        let place = match self.routes.find(route) {
            Some(place) => place,
            None => self.new_route(route)?,
        };
        self.routes.hold(place);
        Ok(place)
    }

    fn new_route(&mut self, route: &Route) -> Result<u32, Refusal> {
        route.check_callbacks().map_err(Refusal::Callbacks)?;
        let (mut routes, mut procedures) = (0, 0);
        route.visit(&mut |each| {
            routes += 1;
            procedures += u32::from(!each.event && self.procedures.find(&each.procedure).is_none());
        });
        if self.routes.len() + routes > self.limits.routes_max as usize {
            self.routes.sweep();
        }
        if self.routes.len() + routes > self.limits.routes_max as usize {
            return Err(Refusal::RoutesFull { limit: self.limits.routes_max });
        }
        if procedures > 0 && self.procedures.len() + procedures > self.limits.procedures_max {
            return Err(Refusal::ProceduresFull { limit: self.limits.procedures_max });
        }
        self.check_needs(route)?;
        if self.lines >= LINES_MAX || self.routes.tenants() >= self.limits.routes_max as usize {
            return Err(Refusal::RoutesFull { limit: self.limits.routes_max });
        }
        Ok(self.keep_route(route))
    }

    /// What a route asks of workers must be possible, and its section known or one of not too many.
    fn check_needs(&self, route: &Route) -> Result<(), Refusal> {
        if route.slots == 0 || route.slots > defaults::CALL_SLOTS_MAX || route.labels.len() > defaults::CALL_LABELS_MAX
        {
            return Err(Refusal::Needs);
        }
        let Some(procedure) = self.procedures.find(&route.procedure) else { return Ok(()) };
        let own = self.procedures.get(procedure).sections.len();
        let full = own >= SECTIONS_OF_ONE_MAX || self.sections.len() >= self.limits.sections_max;
        if full && self.sections.find(procedure, Needs::of(route)).is_none() {
            return Err(Refusal::SectionsFull { limit: SECTIONS_OF_ONE_MAX });
        }
        Ok(())
    }

    /// Numbers a route that is not known, with its procedure, tenant and line, whatever the limits say.
    pub(crate) fn keep_route(&mut self, route: &Route) -> u32 {
        if route.event {
            // A topic is no procedure: there may be ever new ones.
            let nowhere = Places { procedure: NONE, tenant: 0, section: NONE, line: NONE, account: NONE };
            return self.routes.insert(route, nowhere, self.durable_by(route), alloc::vec::Vec::new());
        }
        let procedure = self.procedures.open(&route.procedure, &self.limits);
        let tenant = self.routes.tenant(route.tenant.as_ref());
        let section = self.open_section(procedure, Needs::of(route));
        let queue = &mut self.sections.get_mut(section).queue;
        let before = queue.lines();
        let line = queue.line(route.priority.class(), tenant);
        self.lines += queue.lines() - before;
        let account = self.accounts.open(procedure, tenant);
        let durable = self.durable_by(route);
        let mut callbacks = alloc::vec::Vec::with_capacity(route.callbacks.len());
        for callback in &route.callbacks {
            let route = inherited(&callback.route, route.tenant.as_ref(), durable);
            let place = self.routes.find(&route).unwrap_or_else(|| self.keep_route(&route));
            self.routes.hold(place);
            callbacks.push(Planned { on: callback.on, route: place });
        }
        self.routes.insert(route, Places { procedure, tenant, section, line, account }, durable, callbacks)
    }

    fn durable_by(&self, route: &Route) -> bool {
        route.durability.map_or(self.limits.durable, |durability| durability == Durability::Durable)
    }

    /// The section of these needs; a new one is offered to the workers there are.
    fn open_section(&mut self, procedure: u32, needs: Needs) -> u32 {
        if let Some(known) = self.sections.find(procedure, needs.clone()) {
            return known;
        }
        let place = self.sections.insert(procedure, needs);
        self.procedures.get_mut(procedure).sections.push(place);
        for worker in self.workers.places() {
            self.offer_section(worker, place);
        }
        place
    }

    /// Whether calls of this route are durable.
    #[must_use]
    pub fn is_durable(&self, route: u32) -> bool {
        self.routes.get(route).durable
    }

    /// Lets go of an interned route.
    pub fn release_route(&mut self, route: u32) {
        if self.routes.is_live(route) {
            self.routes.let_go(route);
        }
    }

    pub(crate) fn submit(&mut self, submit: Submit, effects: &mut impl Effects) {
        if self.is_event(submit.route) {
            return self.emit(submit, effects);
        }
        if let Some(known) = self.calls.find(submit.id) {
            return self.submit_again(known, &submit, effects);
        }
        if let Some((key, hash)) = &submit.key {
            let procedure = self.routes.get(submit.route).procedure;
            if let Some(known) = self.keyed.find(procedure, key) {
                let same = planted!("other arguments are the same call")
                    || self.calls.extra(known).and_then(|extra| extra.key.as_ref()).is_some_and(|(_, h)| h == hash);
                if same {
                    return self.submit_again(known, &submit, effects);
                }
                let id = self.calls.get(known).id;
                return self.refuse(&submit, Refusal::KeyConflict { id }, effects);
            }
        }
        match self.refusal(&submit) {
            Some(refusal) => self.refuse(&submit, refusal, effects),
            None => self.accept(submit, effects),
        }
    }

    /// Why a new call is not taken, if it is not.
    fn refusal(&self, submit: &Submit) -> Option<Refusal> {
        if self.events.get(submit.id).is_some() {
            return Some(Refusal::IdConflict);
        }
        if submit.resent && submit.id.unix_ms() <= self.resend_horizon_ms {
            return Some(Refusal::TooOldToSay);
        }
        let dead = submit.revives.and_then(|dead| self.calls.find(dead));
        let added = dead.map_or(0, |dead| self.added_weight(dead));
        if !self.has_room_for(self.routes.get(submit.route).weight + added) && !planted!("limit of calls ignored") {
            return Some(Refusal::CallsFull { limit: self.limits.calls_max });
        }
        if let Some(refusal) = self.queue_refusal(submit) {
            return Some(refusal);
        }
        let durable = self.is_durable(submit.route);
        for (group, _) in submit.ties.iter().flat_map(|ties| &ties.groups) {
            if let Err(refusal) = self.group_for(*group, durable) {
                return Some(refusal);
            }
        }
        if submit.key.is_some() && self.keyed.len() >= self.limits.keys_max as usize {
            return Some(Refusal::KeysFull { limit: self.limits.keys_max });
        }
        if let Some(refusal) = self.refusal_of_ties(submit) {
            return Some(refusal);
        }
        let Some(inbox) = self.inboxes.get(self.inbox_of(submit.peer)) else {
            // Only the driver itself submits without an inbox, and only to revive.
            return submit.revives.is_none().then_some(Refusal::Fenced);
        };
        let (name, limit) = match &inbox.key {
            InboxKey::Named(name) => (Some(name), self.limits.inbox_calls_max),
            InboxKey::Anonymous(_) => (None, self.limits.calls_max),
        };
        let full = inbox.open as usize + inbox.outstanding.len() >= limit as usize;
        if full && submit.wants_outcome && !planted!("limit of an inbox ignored") {
            return Some(Refusal::InboxFull { inbox: name.cloned(), limit });
        }
        self.lateness_refusal(submit)
    }

    fn refusal_of_ties(&self, submit: &Submit) -> Option<Refusal> {
        let ties = submit.ties.as_ref()?;
        if self.tied_calls >= self.limits.tied_calls_max {
            return Some(Refusal::TiedFull { limit: self.limits.tied_calls_max });
        }
        self.deadlock(submit.route, ties)
    }

    pub(crate) fn refuse(&mut self, submit: &Submit, refusal: Refusal, effects: &mut impl Effects) {
        self.counters.refused += 1;
        // A refusal says nothing that could be lost, but one that names another call waits for that call's record.
        let gate = if names_another(&refusal) { Gate::Recorded } else { Gate::Open };
        effects.emit(gate, Effect::Refused { peer: submit.peer, tag: submit.tag, refusal });
    }

    /// The same call again: sent once more after a broken connection, or under its idempotency key.
    fn submit_again(&mut self, index: u32, submit: &Submit, effects: &mut impl Effects) {
        let call = self.calls.get(index);
        let gate = if planted!("duplicate answered before fsync") { Gate::Open } else { gate_of(call) };
        let (id, state) = (call.id, call.state);
        if self.routes.get(call.route).procedure != self.routes.get(submit.route).procedure {
            return self.refuse(submit, Refusal::IdConflict, effects);
        }
        for place in 0..self.routes.get(submit.route).callbacks.len() {
            let Some(planned) = self.routes.get(submit.route).callbacks.get(place).copied() else { break };
            let callback = self.callback_of(planned);
            if let Err(refusal) = self.add_callback_to(index, &callback, effects) {
                return self.refuse(submit, refusal, effects);
            }
        }
        // The same submission sent again joined its groups when it was accepted; they may be settled by now.
        let groups = submit.ties.iter().flat_map(|ties| &ties.groups).filter(|_| id != submit.id);
        for (group, _) in groups {
            if let Err(refusal) = self.join_group(index, *group, effects) {
                return self.refuse(submit, refusal, effects);
            }
        }
        self.counters.duplicates += 1;
        if submit.wants_acceptance {
            let wait_ms = self.predicted_wait_ms(index);
            effects.emit(gate, Effect::Accepted { peer: submit.peer, tag: submit.tag, id, duplicate: true, wait_ms });
        }
        if submit.wants_outcome {
            if state.is_settled() {
                self.tell_outcome(index, submit.peer, submit.tag, effects);
            } else {
                self.watch(index, submit.peer, submit.tag);
            }
        }
    }

    fn accept(&mut self, submit: Submit, effects: &mut impl Effects) {
        let route = self.routes.get(submit.route);
        let (durable, awaited, procedure) = (route.durable, !submit.wants_acceptance, route.procedure);
        let shared = awaited && route.route.idempotent && submit.key.is_none();
        let watches = self.may_watch_prediction(procedure);
        let wait_ms = if watches || submit.wants_acceptance { self.expected_wait_ms(&submit) } else { None };
        let index = self.calls.insert(self.new_call(&submit, durable));
        self.routes.hold(submit.route);
        self.counters.accepted += 1;
        self.keep_keys(index, &submit);
        self.count_unsettled(index);
        if submit.wants_outcome
            && let Some(inbox) = self.inboxes.get_mut(self.calls.get(index).inbox)
        {
            inbox.open += 1;
        }
        let handle = if durable {
            let submitted = self.submitted(index);
            let record = Record::Submitted(Cow::Borrowed(&submitted));
            let urgency = if shared { Urgency::Shared } else { Urgency::Now };
            effects.record(&record, Body::Command, Role::Base, urgency)
        } else {
            effects.store(Body::Command)
        };
        self.calls.get_mut(index).handle = handle;
        if submit.wants_acceptance {
            let gate = gate_of(self.calls.get(index));
            let (peer, tag, id) = (submit.peer, submit.tag, submit.id);
            effects.emit(gate, Effect::Accepted { peer, tag, id, duplicate: false, wait_ms });
        }
        if watches {
            self.watch_prediction(index, wait_ms);
        }
        let now_ms = self.now.monotonic_ms;
        self.procedures.get_mut(procedure).meter.arrivals.add(now_ms, 1);
        self.mind_deadline(index);
        self.line_up(index);
    }

    /// Puts the call's deadline, if it has one, on the agenda; once for every call.
    pub(crate) fn mind_deadline(&mut self, index: u32) {
        let call = self.calls.get(index);
        if call.deadline_ms != 0 {
            self.deadlines.push(call.deadline_ms, index, call.generation);
        }
    }

    fn new_call(&self, submit: &Submit, durable: bool) -> Call {
        let now_ms = self.now.monotonic_ms;
        let due_ms = match submit.start {
            Start::Now | Start::In(0) => 0,
            Start::In(delay_ms) => {
                now_ms.saturating_add(delay_ms.min(TIME_MS_MAX)) / if planted!("delay too short") { 2 } else { 1 }
            }
            Start::At(wall_ms) if wall_ms > self.now.wall_ms => {
                self.monotonic_of(wall_ms.min(self.now.wall_ms.saturating_add(TIME_MS_MAX)))
            }
            Start::At(_) => 0,
        };
        let due_ms = match self.routes.get(submit.route).route.group {
            Some(group) => now_ms.saturating_add(group.unsealed_ms.clamp(1, TIME_MS_MAX)),
            None => due_ms,
        };
        let deadline_ms = match submit.deadline_ms {
            0 => 0,
            remaining_ms => now_ms.saturating_add(remaining_ms.min(TIME_MS_MAX)).max(1),
        };
        let inbox = if submit.wants_outcome { self.inbox_of(submit.peer) } else { NONE };
        let named = self.inboxes.get(inbox).is_some_and(|inbox| matches!(inbox.key, InboxKey::Named(_)));
        let flags = if durable { DURABLE } else { 0 } | if submit.wants_acceptance { 0 } else { AWAITED };
        Call {
            id: submit.id,
            handle: Handle::NONE,
            at_ms: due_ms.max(now_ms),
            deadline_ms,
            submitted_ms: self.now.wall_ms,
            // What is left in a named inbox is read by whoever opens it next, who knows nothing of tags.
            tag: if named { 0 } else { submit.tag },
            route: submit.route,
            inbox,
            place: NONE,
            lease: NONE,
            bytes: submit.bytes,
            extra: NONE,
            stamp: 0,
            generation: 0,
            started: 0,
            failed: 0,
            state: if due_ms > now_ms { State::Scheduled } else { State::Ready },
            flags,
            lost: 0,
            reason: 0,
        }
    }

    fn keep_keys(&mut self, index: u32, submit: &Submit) {
        if let Some((key, hash)) = &submit.key {
            let procedure = self.routes.get(submit.route).procedure;
            self.calls.extra_mut(index).key = Some((key.clone(), *hash));
            self.keyed.insert(procedure, key.clone(), index);
        }
        if submit.revives.is_some() {
            self.calls.extra_mut(index).revives = submit.revives;
            self.revive_callbacks(index, submit.revives);
        }
        if let Some(ties) = &submit.ties {
            let groups: alloc::vec::Vec<_> = ties.groups.iter().filter_map(|(id, _)| self.calls.find(*id)).collect();
            let ties = Ties { groups: alloc::vec::Vec::new(), ..(**ties).clone() };
            self.calls.extra_mut(index).ties = (ties != Ties::default()).then(|| Box::new(ties));
            self.count_tied(index);
            if self.calls.get(index).state == State::Ready || planted!("delayed calls join their lanes at once") {
                self.number_in_lane(index);
            }
            for group in groups {
                self.enter_group(index, group);
            }
        }
        if self.is_group(index) {
            self.groups.insert(index, Children::new(false));
            self.weigh_group(index);
        }
    }

    /// Puts a call that is new, recovered or returned where its state says, and counts it there.
    pub(crate) fn line_up(&mut self, index: u32) {
        let stamp = self.next_stamp();
        let call = self.calls.get_mut(index);
        call.stamp = stamp;
        let (state, at_ms, route) = (call.state, call.at_ms, call.route);
        let procedure = self.routes.get(route).procedure;
        self.procedures.get_mut(procedure).count(state, 1);
        if matches!(state, State::Scheduled | State::Ready) {
            self.begin_wait(index);
        }
        match state {
            State::Scheduled if self.is_sealed(index) => {}
            State::Scheduled => self.scheduled.push(at_ms, index, stamp),
            State::Ready => self.stand(index),
            _ => {}
        }
    }

    /// The inbox of a connected caller.
    pub(crate) fn inbox_of(&self, peer: Peer) -> u32 {
        match self.sessions.get(peer.0 as usize) {
            Some(Some(Session::Caller { inbox })) => *inbox,
            _ => NONE,
        }
    }
}

/// Whether a refusal says something about another call.
const fn names_another(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::KeyConflict { .. } | Refusal::LaneHeld { .. } | Refusal::KeyHeld { .. })
}
