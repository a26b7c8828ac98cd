//! Procedures that wait for sub-calls: their slot is given back meanwhile, their lease, keys and lane are kept. Who is
//! back gets a slot before any new call does, so that nested calls cannot use up all slots and wait for each other.

use crate::Engine;
use crate::effect::{Effect, Effects, Gate, Peer};
use crate::planted::planted;
use antiphon_protocol::{CallId, LeaseTag};

/// Whether a lease takes its slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parking {
    /// It does.
    Running,
    /// It does not: its procedure waits.
    Parked,
    /// It does not yet: its procedure wants to go on.
    Resuming,
}

impl Engine {
    /// A procedure waits for a sub-call: its slots are free meanwhile, unless as many wait already as may.
    pub(crate) fn park(&mut self, peer: Peer, tag: LeaseTag, awaits: Option<CallId>, effects: &mut impl Effects) {
        let Some(index) = self.held(peer, tag) else {
            return self.stale(peer, tag, effects);
        };
        let lease = self.leases.get_mut(index);
        lease.awaits = awaits;
        let (place, slots, call, parking) = (lease.worker, lease.slots, lease.call, lease.parking);
        let Some(worker) = self.workers.get_mut(place) else { return };
        if parking != Parking::Running
            || (worker.parked >= self.limits.parked_max && !planted!("any number may be parked"))
        {
            return;
        }
        worker.parked += 1;
        worker.used -= slots;
        self.leases.get_mut(index).parking = Parking::Parked;
        let procedure = self.procedure_of(call);
        self.count_stop(procedure);
        self.busy_workers.push_back(place);
    }

    /// A procedure wants to go on: it is told when it has its slots.
    pub(crate) fn resume(&mut self, peer: Peer, tag: LeaseTag, effects: &mut impl Effects) {
        let Some(index) = self.held(peer, tag) else {
            return self.stale(peer, tag, effects);
        };
        let lease = self.leases.get_mut(index);
        let place = lease.worker;
        match lease.parking {
            Parking::Running => effects.emit(Gate::Open, Effect::Resumed { peer, lease: tag }),
            Parking::Resuming => {}
            Parking::Parked => {
                lease.parking = Parking::Resuming;
                if let Some(worker) = self.workers.get_mut(place) {
                    worker.resuming.push_back(tag);
                }
                self.busy_workers.push_back(place);
            }
        }
    }

    /// Gives slots to those of a worker that want to go on, first come first served. Says whether what is left may go
    /// to new calls.
    pub(crate) fn resume_first(&mut self, place: u32, effects: &mut impl Effects) -> bool {
        let count = self.workers.get(place).map_or(0, |worker| worker.resuming.len());
        for _ in 0..count {
            let Some(worker) = self.workers.get_mut(place) else { return true };
            let Some(tag) = worker.resuming.pop_front() else { return true };
            let (room, peer) = (worker.room(), worker.peer);
            let Some(lease) = self.leases.current(tag).filter(|lease| lease.parking == Parking::Resuming) else {
                continue;
            };
            let (slots, procedure) = (lease.slots, self.procedure_of(lease.call));
            let Some(worker) = self.workers.get_mut(place) else { return true };
            if room < i64::from(slots) {
                worker.resuming.push_front(tag);
                return false;
            }
            let it = self.procedures.get_mut(procedure);
            if it.is_full() {
                worker.resuming.push_back(tag);
                it.resuming.push(place);
                continue;
            }
            it.running += 1;
            worker.used += if planted!("who goes on takes no slot") { 0 } else { slots };
            worker.parked -= 1;
            let lease = self.leases.get_mut(tag.slot);
            (lease.parking, lease.awaits) = (Parking::Running, None);
            if let Some(peer) = peer {
                effects.emit(Gate::Open, Effect::Resumed { peer, lease: tag });
            }
        }
        true
    }

    /// The lease that a worker speaks of is not current.
    fn stale(&mut self, peer: Peer, lease: LeaseTag, effects: &mut impl Effects) {
        self.counters.stale += 1;
        effects.emit(Gate::Open, Effect::Stale { peer, lease });
    }
}
