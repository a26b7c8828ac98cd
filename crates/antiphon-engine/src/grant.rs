//! One grant: a lease of a ready call for a worker that has the slots, its record, and what it waits for.

use crate::call::{DURABLE, NONE, SUSPECT};
use crate::effect::{Body, Effect, Effects, Gate, Grant, Role, Urgency};
use crate::planted::planted;
use crate::record::Record;
use crate::{Engine, Now};
use antiphon_protocol::{LeaseTag, State};

impl Engine {
    pub(crate) fn grant(&mut self, index: u32, place: u32, effects: &mut impl Effects) {
        let Now { monotonic_ms, wall_ms } = self.now;
        let token = self.next_token();
        let ends_ms = monotonic_ms + u64::from(self.limits.lease_ms) / if planted!("leases end early") { 2 } else { 1 };
        let kept = self.routes.get(self.calls.get(index).route);
        let slots = if planted!("heavy calls take one slot") { 1 } else { u32::from(kept.route.slots.max(1)) };
        let procedure = kept.procedure;
        if !planted!("who starts counts as waiting") {
            self.end_wait(index);
        }
        self.meter_start(index);
        self.take_key(index);
        let call = self.calls.get_mut(index);
        call.started = call.started.saturating_add(1);
        call.state = State::Leased;
        call.at_ms = wall_ms;
        let attempt = call.started;
        let counts = self.procedures.get_mut(procedure);
        counts.count(State::Ready, -1);
        counts.count(State::Leased, 1);
        self.count_start(procedure);
        let Some(worker) = self.workers.get_mut(place) else { return };
        worker.used += slots;
        let (offered, idempotent) =
            worker.offered(procedure).map_or((NONE, false), |(at, offer)| (at, offer.idempotent));
        let lease = self.leases.insert(index, token, place, offered, ends_ms, attempt);
        self.leases.get_mut(lease).slots = slots;
        self.leases.get_mut(lease).held = u32::try_from(worker.leases.len()).expect("fewer leases than calls");
        worker.leases.push(lease);
        let call = self.calls.get_mut(index);
        call.lease = lease;
        if call.has(SUSPECT) && !planted!("suspects run together") {
            worker.suspect = lease;
        }
        self.counters.leased += 1;
        let gate = self.gate_of_grant(index, idempotent);
        if gate == Gate::Recorded {
            self.record_lease(lease, Urgency::Now, effects);
        }
        if let Some(peer) = self.workers.get(place).and_then(|worker| worker.peer) {
            effects.emit(gate, Effect::Lease { peer, grant: self.grant_of(lease) });
        }
    }

    /// The first attempt of a caller's idempotent call without a key may leave before anything is on disk: whatever
    /// it does may be done again anyway. Everything else waits for its cause and for the lease's own record.
    fn gate_of_grant(&self, index: u32, offered_idempotent: bool) -> Gate {
        let call = self.calls.get(index);
        if !call.has(DURABLE) || planted!("lease leaves unrecorded") {
            return Gate::Open;
        }
        let first = call.started == 1 && call.failed == 0 && !call.has(SUSPECT);
        let plain = self.calls.extra(index).is_none_or(|extra| {
            extra.key.is_none()
                && extra.revives.is_none()
                // Two that must not overlap would, if the first lease were forgotten.
                && extra.serial.is_none()
                && extra.ties.as_ref().is_none_or(|ties| ties.cause.is_none())
        });
        let route = &self.routes.get(call.route).route;
        let harmless = route.idempotent
            && offered_idempotent
            && (!route.at_most_once || planted!("at most once leaves before its record"));
        if first && plain && harmless { Gate::Open } else { Gate::Recorded }
    }

    pub(crate) fn record_lease(&mut self, lease: u32, urgency: Urgency, effects: &mut impl Effects) {
        self.leases.get_mut(lease).recorded = true;
        let it = self.leases.get(lease);
        let call = self.calls.get(it.call);
        let Some(worker) = self.workers.get(it.worker) else { return };
        let record = Record::Leased {
            id: call.id,
            lease: LeaseTag { slot: lease, token: it.token },
            incarnation: worker.incarnation,
            worker: worker.name.clone(),
            attempt: it.attempt,
            wall_ms: call.at_ms,
        };
        effects.record(&record, Body::None, Role::Delta(call.handle), urgency);
    }

    fn grant_of(&self, lease: u32) -> Grant {
        let it = self.leases.get(lease);
        let call = self.calls.get(it.call);
        let route = &self.routes.get(call.route).route;
        let deadline_ms = match call.deadline_ms {
            0 => 0,
            at_ms => at_ms.saturating_sub(self.now.monotonic_ms).max(1),
        };
        Grant {
            lease: self.leases.tag(lease),
            call: call.id,
            procedure: it.procedure,
            attempt: it.attempt,
            attempts_max: route.attempts,
            lease_ms: self.limits.lease_ms,
            attempt_timeout_ms: route.attempt_timeout_ms,
            deadline_ms,
            arguments: self.payload_of(it.call),
        }
    }
}
