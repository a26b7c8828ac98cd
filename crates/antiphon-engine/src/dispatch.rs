//! Handing ready calls to free slots.
//!
//! Nothing is scanned: a procedure whose queue got a call and a worker that got a slot are put on a list, and each
//! grant takes the front of a queue and the better of the two workers at the front of a ring.

use crate::call::{DURABLE, NONE, SUSPECT};
use crate::effect::{Body, Effect, Effects, Gate, Grant, Role, Urgency};
use crate::limits::Order;
use crate::queue::Entry;
use crate::record::Record;
use crate::{Engine, Now};
use antiphon_protocol::{LeaseTag, State};

impl Engine {
    /// Puts a ready call in line.
    pub(crate) fn enqueue(&mut self, index: u32) {
        let call = self.calls.get(index);
        let route = self.routes.get(call.route);
        let entry = self.entry_of(index);
        let (line, procedure, suspect) = (route.line, route.procedure, call.has(SUSPECT));
        self.pass_time(procedure);
        let procedure_ref = self.procedures.get_mut(procedure);
        if suspect {
            procedure_ref.suspects.push_back(entry);
        } else {
            procedure_ref.queue.push(line, entry);
        }
        self.wake_procedure(procedure);
    }

    /// A ready call's entry in its line.
    pub(crate) fn entry_of(&self, index: u32) -> Entry {
        let call = self.calls.get(index);
        if self.limits.order == Order::Submitted {
            return Entry { due_ms: call.at_ms, call: index, stamp: call.stamp };
        }
        let class = self.routes.get(call.route).route.priority.class();
        let mut due_ms = call.at_ms.saturating_add(patience_ms(class));
        if call.deadline_ms != 0 {
            due_ms = due_ms.min(call.deadline_ms);
        }
        Entry { due_ms, call: index, stamp: call.stamp }
    }

    fn wake_procedure(&mut self, procedure: u32) {
        let it = self.procedures.get_mut(procedure);
        if !it.busy && !it.ring.is_empty() {
            it.busy = true;
            self.busy_procedures.push_back(procedure);
        }
    }

    /// Takes a ready call out of line without leasing it.
    pub(crate) fn step_out(&mut self, index: u32) {
        let call = self.calls.get_mut(index);
        let stamp = call.stamp;
        call.stamp = stamp.wrapping_sub(1 << 31);
        let (route, suspect) = (self.routes.get(call.route), call.has(SUSPECT));
        let (procedure, line) = (route.procedure, route.line);
        self.pass_time(procedure);
        let calls = &self.calls;
        let it = self.procedures.get_mut(procedure);
        if suspect {
            it.suspects.retain(|entry| !(entry.call == index && entry.stamp == stamp));
        } else {
            it.queue.strike(line, |entry| is_live(calls, entry));
        }
    }

    pub(crate) fn dispatch(&mut self, budget: u32, effects: &mut impl Effects) {
        let mut left = budget;
        while left > 0 {
            if let Some(worker) = self.busy_workers.pop_front() {
                left = self.fill_worker(worker, left, effects);
            } else if let Some(procedure) = self.busy_procedures.pop_front() {
                left = self.serve_procedure(procedure, left, effects);
            } else {
                return;
            }
        }
    }

    /// Gives a worker's free slots to its procedures in turn, then puts it in the rings of those it could still serve.
    fn fill_worker(&mut self, place: u32, mut left: u32, effects: &mut impl Effects) -> u32 {
        loop {
            let Some(worker) = self.workers.get(place) else { return left };
            if worker.free() == 0 {
                return left;
            }
            if left == 0 {
                self.busy_workers.push_back(place);
                return 0;
            }
            let Some((turn, procedure)) = self.next_ready(place) else { break };
            if let Some(worker) = self.workers.get_mut(place) {
                worker.turn = turn + 1;
            }
            if !self.grant_next(procedure, place, effects) {
                break;
            }
            left -= 1;
        }
        self.join_rings(place);
        left
    }

    /// The next of the worker's procedures, in turn, that has something this worker may run.
    fn next_ready(&self, place: u32) -> Option<(usize, u32)> {
        let worker = self.workers.get(place)?;
        let count = worker.offers.len();
        (0..count).map(|step| (worker.turn + step) % count).find_map(|turn| {
            let procedure = worker.offers.get(turn)?.procedure;
            let it = self.procedures.get(procedure);
            let takes = it.queue.ready() > 0 || (!it.suspects.is_empty() && worker.suspect == NONE);
            takes.then_some((turn, procedure))
        })
    }

    fn join_rings(&mut self, place: u32) {
        let Some(worker) = self.workers.get_mut(place) else { return };
        for offer in &mut worker.offers {
            if !offer.in_ring {
                offer.in_ring = true;
                self.procedures.get_mut(offer.procedure).ring.push_back(place);
            }
        }
    }

    fn serve_procedure(&mut self, procedure: u32, mut left: u32, effects: &mut impl Effects) -> u32 {
        self.procedures.get_mut(procedure).busy = false;
        // A worker may be unable to take what is left: one that runs a suspect takes no other. Each is tried once.
        let mut untried = self.procedures.get(procedure).ring.len();
        while self.procedures.get(procedure).ready() > 0 && untried > 0 {
            if left == 0 {
                self.wake_procedure(procedure);
                return 0;
            }
            let Some(place) = self.freest(procedure) else { return left };
            if self.grant_next(procedure, place, effects) {
                left -= 1;
            } else {
                untried -= 1;
            }
        }
        left
    }

    /// Of the two free workers at the front of the ring, the one with more free slots (power of two choices); the
    /// one taken goes to the back.
    fn freest(&mut self, procedure: u32) -> Option<u32> {
        let first = self.ring_front(procedure)?;
        self.procedures.get_mut(procedure).ring.pop_front();
        let second = self.ring_front(procedure);
        let any = self.procedures.get(procedure).queue.ready() > 0;
        // One that runs a suspect cannot take another, however many free slots it has.
        let free = |engine: &Self, place: u32| {
            let worker = engine.workers.get(place);
            worker.map_or((false, 0), |worker| (any || worker.suspect == NONE, worker.free()))
        };
        let ring = &mut self.procedures.get_mut(procedure).ring;
        let chosen = match second {
            Some(second) if second != first => {
                ring.pop_front();
                let (a, b) = (free(self, first), free(self, second));
                let ring = &mut self.procedures.get_mut(procedure).ring;
                let (chosen, other) = if b > a { (second, first) } else { (first, second) };
                ring.push_front(other);
                ring.push_back(chosen);
                chosen
            }
            _ => {
                ring.push_back(first);
                first
            }
        };
        Some(chosen)
    }

    /// The worker at the front of the ring, after dropping those that have no free slot any more.
    fn ring_front(&mut self, procedure: u32) -> Option<u32> {
        loop {
            let place = *self.procedures.get(procedure).ring.front()?;
            let serves = self.workers.get(place).is_some_and(|worker| {
                worker.free() > 0 && worker.offered(procedure).is_some_and(|(_, offer)| offer.in_ring)
            });
            if serves {
                return Some(place);
            }
            self.procedures.get_mut(procedure).ring.pop_front();
            self.left_ring(place, procedure);
        }
    }

    fn left_ring(&mut self, place: u32, procedure: u32) {
        if let Some(worker) = self.workers.get_mut(place)
            && let Some(offer) = worker.offers.iter_mut().find(|offer| offer.procedure == procedure)
        {
            offer.in_ring = false;
        }
    }

    /// Leases the procedure's next call to this worker; false when there is none that this worker may run.
    fn grant_next(&mut self, procedure: u32, place: u32, effects: &mut impl Effects) -> bool {
        let runs_suspect = self.workers.get(place).is_none_or(|worker| worker.suspect != NONE);
        self.pass_time(procedure);
        let calls = &self.calls;
        let it = self.procedures.get_mut(procedure);
        let suspect = if runs_suspect { None } else { it.suspects.pop_front() };
        let Some(entry) = suspect.or_else(|| it.queue.pop(self.limits.classes, |entry| is_live(calls, entry))) else {
            return false;
        };
        self.grant(entry.call, place, effects);
        true
    }

    fn grant(&mut self, index: u32, place: u32, effects: &mut impl Effects) {
        let Now { monotonic_ms, wall_ms } = self.now;
        let token = self.next_token();
        let ends_ms = monotonic_ms + u64::from(self.limits.lease_ms);
        let procedure = self.procedure_of(index);
        self.end_wait(index);
        self.meter_start(index);
        let call = self.calls.get_mut(index);
        call.started = call.started.saturating_add(1);
        call.state = State::Leased;
        call.at_ms = wall_ms;
        let attempt = call.started;
        let counts = self.procedures.get_mut(procedure);
        counts.count(State::Ready, -1);
        counts.count(State::Leased, 1);
        let Some(worker) = self.workers.get_mut(place) else { return };
        let (offered, idempotent) =
            worker.offered(procedure).map_or((NONE, false), |(at, offer)| (at, offer.idempotent));
        let lease = self.leases.insert(index, token, place, offered, ends_ms, attempt);
        self.leases.get_mut(lease).held = u32::try_from(worker.leases.len()).expect("fewer leases than calls");
        worker.leases.push(lease);
        let call = self.calls.get_mut(index);
        call.lease = lease;
        if call.has(SUSPECT) {
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
        if !call.has(DURABLE) {
            return Gate::Open;
        }
        let first = call.started == 1 && call.failed == 0 && !call.has(SUSPECT);
        let plain = self.calls.extra(index).is_none_or(|extra| {
            extra.key.is_none()
                && extra.revives.is_none()
                && extra.ties.as_ref().is_none_or(|ties| ties.cause.is_none())
        });
        let idempotent = self.routes.get(call.route).route.idempotent && offered_idempotent;
        if first && plain && idempotent { Gate::Open } else { Gate::Recorded }
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

/// Whether an entry still stands for a ready call.
pub(crate) fn is_live(calls: &crate::call::Calls, entry: &Entry) -> bool {
    calls.slot(entry.call).is_some_and(|call| call.state == State::Ready && call.stamp == entry.stamp)
}

/// How long calls of a class wait before others of their tenant go first that are due earlier.
pub(crate) fn patience_ms(class: u8) -> u64 {
    u64::from(10 - class) * 1_000
}
