//! From what was put down to an engine that serves again: lanes are filled, calls go back where they waited or ran, and a
//! new epoch begins.

use super::{HeldOver, Replay};
use crate::call::SUSPECT;
use crate::effect::{Body, Effects, Handle, Role, Urgency};
use crate::group::Children;
use crate::planted::planted;
use crate::record::Record;
use crate::{Engine, Now};
use alloc::vec::Vec;
use antiphon_protocol::{Epoch, State};

impl Replay {
    /// The engine at `now`, in a new epoch that is recorded. Deadlines have gone on while the broker was down; leases
    /// have not: each is held one full length. `live` hears of every body that is still needed.
    pub fn finish(mut self, now: Now, effects: &mut impl Effects, mut live: impl FnMut(Handle)) -> Engine {
        self.engine.now.monotonic_ms = now.monotonic_ms.max(1);
        self.engine.now.wall_ms = self.engine.now.wall_ms.max(now.wall_ms);
        self.fill_lanes();
        self.engine.begin_rules();
        let (mut settled, mut overdue) = (Vec::new(), Vec::new());
        for index in 0..self.engine.calls.end() {
            let Some(call) = self.engine.calls.slot(index) else { continue };
            live(call.handle);
            if call.state.is_settled() {
                settled.push((call.at_ms, index));
            } else {
                overdue.extend(self.resume(index).map(|due_ms| (due_ms, index)));
            }
        }
        // Behind what was recovered: these records are new, and count as live by themselves.
        for (index, (on, told)) in core::mem::take(&mut self.torn) {
            self.engine.write_callback(index, on, told, effects);
        }
        self.engine.inboxes.handles().for_each(&mut live);
        self.engine.events.handles().for_each(&mut live);
        self.engine.subscriptions.handles().for_each(&mut live);
        self.engine.schedules.handles().for_each(&mut live);
        self.engine.events.line_up();
        self.engine.procedures.configured.keys().copied().for_each(&mut live);
        if self.engine.horizon_record.0 != Handle::NONE {
            live(self.engine.horizon_record.0);
        }
        settled.sort_unstable();
        self.engine.regroup();
        for (_, index) in settled {
            self.rest(index, effects, &mut live);
        }
        self.begin_epoch(effects);
        self.engine.leave_overtaken();
        // Delayed calls that became due meanwhile join their lanes before any new call does, in the order in which they
        // became due: by the wall clock, as the monotonic one began only now.
        overdue.sort_unstable();
        for (_, index) in overdue {
            self.engine.join_lane_late(index, effects);
            self.engine.become_ready(index);
        }
        self.engine.start_due(u32::MAX, effects);
        self.engine
    }

    /// Calls that had joined their lanes stand there again, in their order: those that are not settled, and those that
    /// are but whose attempt may still run.
    fn fill_lanes(&mut self) {
        let mut joined = Vec::new();
        for index in 0..self.engine.calls.end() {
            let Some(call) = self.engine.calls.slot(index) else { continue };
            let held = !call.state.is_settled() || self.leases.contains_key(&index);
            if held && self.engine.give_stand(index) {
                let turn = self.engine.ties(index).and_then(|ties| ties.ordering.as_ref()).map_or(0, |(_, turn)| *turn);
                joined.extend((turn != 0).then_some((turn, index)));
            }
        }
        joined.sort_unstable();
        if planted!("a restart turns lanes around") {
            joined.reverse();
        }
        if let Some((turn, _)) = joined.last() {
            self.engine.lane_turns = self.engine.lane_turns.max(*turn);
        }
        for (_, index) in joined {
            self.engine.enter_lane(index);
        }
    }

    /// A call that is not settled goes back where it waited or ran. Says when it was due, by the wall clock, if that has
    /// passed and it has yet to join its lane.
    fn resume(&mut self, index: u32) -> Option<u64> {
        let engine = &mut self.engine;
        engine.hold_callbacks(index);
        engine.hold_event(index, 1);
        engine.note_tick(index);
        engine.count_unsettled(index);
        let call = engine.calls.get(index);
        let (route, inbox, at_ms, deadline_ms) = (call.route, call.inbox, call.at_ms, call.deadline_ms);
        engine.routes.hold(route);
        if let Some(inbox) = engine.inboxes.get_mut(inbox) {
            inbox.open += 1;
        }
        engine.hold_key(index);
        engine.count_tied(index);
        let late = engine.joins_late(index);
        // One that has joined its lane was ready before, whatever the wall clock says now; only a retry waits in its lane.
        let joined = !late && engine.ties(index).is_some_and(|ties| ties.ordering.is_some());
        let was_ready = joined && engine.calls.get(index).failed == 0;
        let deadline_ms =
            engine.monotonic_of(if planted!("deadline forgotten by a restart") { 0 } else { deadline_ms });
        let held = self.leases.remove(&index);
        let due_ms = if held.is_some() || was_ready || planted!("delay forgotten by a restart") {
            0
        } else {
            engine.monotonic_of(at_ms)
        };
        let now_ms = engine.now.monotonic_ms;
        let overdue = late && held.is_none() && due_ms <= now_ms && !engine.is_group(index);
        let call = engine.calls.get_mut(index);
        call.deadline_ms = deadline_ms;
        if held.is_none() {
            call.state = if due_ms > now_ms || late { State::Scheduled } else { State::Ready };
            call.at_ms = if late { due_ms } else { due_ms.max(now_ms) };
        } else {
            call.state = State::Leased;
        }
        if engine.is_group(index) {
            let sealed =
                engine.calls.extra(index).and_then(|extra| extra.ties.as_ref()).is_some_and(|ties| ties.sealed);
            engine.calls.get_mut(index).state = State::Scheduled;
            engine.groups.insert(index, Children::new(sealed));
        }
        engine.mind_deadline(index);
        match held {
            None => engine.line_up(index),
            Some(held) => engine.hold_over(index, held),
        }
        overdue.then_some(at_ms)
    }

    /// A settled call goes back among those that are kept.
    fn rest(&mut self, index: u32, effects: &mut impl Effects, live: &mut impl FnMut(Handle)) {
        let engine = &mut self.engine;
        engine.hold_callbacks(index);
        let call = engine.calls.get(index);
        let (route, inbox, state) = (call.route, call.inbox, call.state);
        if state == State::Dead {
            engine.hold_event(index, 1);
        }
        engine.routes.hold(route);
        let arguments = engine.calls.extra(index).map_or(Handle::NONE, |extra| extra.arguments);
        if arguments != Handle::NONE {
            live(arguments);
        }
        engine.hold_key(index);
        engine.join_inbox(inbox, index);
        let procedure = engine.procedure_of(index);
        engine.procedures.get_mut(procedure).count(state, 1);
        if let Some(held) = self.leases.remove(&index) {
            engine.hold_over(index, held);
        }
        engine.keep_settled(index, procedure, effects);
    }

    fn begin_epoch(&mut self, effects: &mut impl Effects) {
        let engine = &mut self.engine;
        let old = engine.started;
        if old != Handle::NONE {
            engine.epoch = Epoch(engine.epoch.0 + u32::from(!planted!("tokens start anew after a restart")));
        }
        // What was numbered and not journaled (a volatile event) is gone, and its number must not come again.
        engine.order = engine.order.max(u64::from(engine.epoch.0) << 40);
        if engine.limits.durable {
            let record = Record::Started { epoch: engine.epoch, wall_ms: engine.now.wall_ms };
            engine.started = effects.record(&record, Body::None, Role::Base, Urgency::Now);
        }
        let grace_ms = engine.now.monotonic_ms + engine.limits.inbox_grace_ms;
        engine.start_graces(grace_ms);
    }
}

impl Engine {
    fn hold_callbacks(&mut self, index: u32) {
        let added = self.calls.extra(index).map_or(Vec::new(), |extra| extra.callbacks.clone());
        added.iter().for_each(|planned| self.routes.hold(planned.route));
    }

    fn hold_key(&mut self, index: u32) {
        if let Some((key, _)) = self.calls.extra(index).and_then(|extra| extra.key.clone()) {
            let procedure = self.procedure_of(index);
            self.keyed.insert(procedure, key, index);
        }
    }

    /// A lease from before the restart is held for its worker to come back to.
    fn hold_over(&mut self, index: u32, held: HeldOver) {
        let ends_ms =
            self.now.monotonic_ms + if planted!("restart ends leases") { 1 } else { self.limits.lease_ms.into() };
        let procedure = self.procedure_of(index);
        if !self.leases.restore(held.lease.slot, index, held.lease.token, ends_ms, held.attempt) {
            // Two records claim the same place: neither worker can be told apart, so the call goes back.
            if self.calls.get(index).state.is_settled() {
                return self.leave_lane(index);
            }
            let call = self.calls.get_mut(index);
            call.state = State::Ready;
            call.at_ms = self.now.monotonic_ms;
            return self.line_up(index);
        }
        let slots = u32::from(self.routes.get(self.calls.get(index).route).route.slots.max(1));
        self.take_key(index);
        self.procedures.get_mut(procedure).running += 1;
        let worker = self.workers.open(held.incarnation, held.worker);
        let place = held.lease.slot;
        if let Some(worker) = self.workers.get_mut(worker) {
            let at = u32::try_from(worker.leases.len()).expect("fewer leases than calls");
            worker.leases.push(place);
            worker.used += slots;
            self.leases.get_mut(place).held = at;
        }
        let lease = self.leases.get_mut(place);
        lease.worker = worker;
        lease.orphan = true;
        lease.recorded = true;
        lease.slots = slots;
        lease.stopping = self.calls.get(index).state.is_settled();
        let call = self.calls.get_mut(index);
        call.lease = place;
        if call.has(SUSPECT)
            && let Some(worker) = self.workers.get_mut(worker)
        {
            worker.suspect = place;
        }
        if !self.calls.get(index).state.is_settled() {
            self.procedures.get_mut(procedure).count(State::Leased, 1);
        }
    }

    /// Recovered anonymous inboxes end unless their callers come back.
    fn start_graces(&mut self, ends_ms: u64) {
        let stamps = self.inboxes.close_all(ends_ms);
        for (place, stamp) in stamps {
            self.graces.push(ends_ms, place, stamp);
        }
    }
}
