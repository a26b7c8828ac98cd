//! Peers coming and going: callers with their inboxes, workers with their offers and held leases.

use crate::Engine;
use crate::call::gate_of;
use crate::call::{ACKNOWLEDGED, DELIVERED, DURABLE, NONE, OUTSTANDING, OVERDUE, SUSPECT, Watcher};
use crate::effect::{Body, Effect, Effects, Gate, Peer, Refusal, Role, Urgency};
use crate::inbox::InboxKey;
use crate::limits::SLOTS_MAX;
use crate::planted::planted;
use crate::record::Record;
use crate::worker::Offered;
use antiphon_protocol::{CallId, LeaseTag, Name, Offer, Schema, State, Tag};

/// What a connected peer is.
#[derive(Debug)]
pub(crate) enum Session {
    Caller { inbox: u32 },
    Worker { worker: u32 },
}

/// Something left behind, to be dealt with bit by bit.
#[derive(Debug)]
pub(crate) enum Leftover {
    /// A settled call whose inbox is gone: index and generation.
    Outcome(u32, u32),
    /// A lease of a worker that is gone.
    Lease(LeaseTag),
    /// An outcome to be delivered to an inbox that was opened again: index, generation, inbox.
    Deliver(u32, u32, u32),
    /// A call that the next tick of its schedule was to cancel: index and generation.
    Overtaken(u32, u32),
    /// A named inbox that was opened again: its place.
    Fill(u32),
}

impl Engine {
    fn seat(&mut self, peer: Peer, session: Session) {
        let place = peer.0 as usize;
        while self.sessions.len() <= place {
            self.sessions.push(None);
        }
        if let Some(slot) = self.sessions.get_mut(place) {
            *slot = Some(session);
        }
    }

    pub(crate) fn open_caller(&mut self, peer: Peer, key: InboxKey, effects: &mut impl Effects) {
        let (place, made) = self.inboxes.open(key.clone());
        let mut handle = None;
        if let InboxKey::Named(name) = key
            && made
            && self.limits.durable
        {
            let record = Record::InboxOpened { name };
            handle = Some(effects.record(&record, Body::None, Role::Base, Urgency::Now));
        }
        let Some(inbox) = self.inboxes.get_mut(place) else { return };
        inbox.handle = handle.unwrap_or(inbox.handle);
        inbox.ends_ms = 0;
        inbox.ended = false;
        if let Some(old) = inbox.peer.replace(peer) {
            effects.emit(Gate::Open, Effect::Fenced { peer: old });
            self.unseat(old);
        }
        self.seat(peer, Session::Caller { inbox: place });
        self.redeliver(place);
    }

    fn unseat(&mut self, peer: Peer) {
        if let Some(slot) = self.sessions.get_mut(peer.0 as usize) {
            *slot = None;
        }
    }

    /// Whether this inbox exists or may be made.
    #[must_use]
    pub fn takes_inbox(&self, key: &InboxKey) -> bool {
        matches!(key, InboxKey::Anonymous(_))
            || self.inboxes.find(key).is_some()
            || self.inboxes.named() < self.limits.inboxes_max as usize
    }

    /// Whether the procedures of an offer are known or may become so.
    #[must_use]
    pub fn takes_offer(&self, offer: &Offer) -> bool {
        let new = offer.procedures.iter().filter(|offered| self.procedures.find(&offered.name).is_none()).count();
        self.procedures.len() as usize + new <= self.limits.procedures_max as usize
    }

    pub(crate) fn open_worker(&mut self, peer: Peer, offer: &Offer, effects: &mut impl Effects) {
        let place = self.workers.open(offer.incarnation, offer.name.clone());
        let mut offers = alloc::vec::Vec::with_capacity(offer.procedures.len());
        for offered in &offer.procedures {
            let procedure = self.procedures.open(&offered.name, &self.limits);
            let shape = offered.schema.as_ref().and_then(Schema::shape);
            offers.push(Offered { procedure, idempotent: offered.idempotent, shape });
        }
        self.count_slots(place, false);
        self.withdraw_sections(place);
        let Some(worker) = self.workers.get_mut(place) else { return };
        let old = worker.peer.replace(peer);
        worker.name = offer.name.clone();
        worker.offers = offers;
        worker.labels.clone_from(&offer.labels);
        worker.labels.sort_unstable();
        worker.slots = offer.slots.min(SLOTS_MAX) + u32::from(planted!("one slot too many"));
        worker.credit = 0;
        worker.draining = false;
        self.count_slots(place, true);
        if let Some(old) = old {
            effects.emit(Gate::Open, Effect::Fenced { peer: old });
            self.unseat(old);
        }
        self.seat(peer, Session::Worker { worker: place });
        self.offer_sections(place);
        let kept = self.claim(place, offer);
        let stopping = kept.iter().copied().filter(|lease| self.leases.get(lease.slot).stopping);
        let stopping: alloc::vec::Vec<_> = stopping.collect();
        effects.emit(Gate::Open, Effect::Opened { peer, kept });
        for lease in stopping {
            let gate = self.gate(self.leases.get(lease.slot).call);
            effects.emit(gate, Effect::CancelAsked { peer, lease });
        }
        self.busy_workers.push_back(place);
    }

    /// Keeps the leases that the worker brings along and that are current; those it does not know are lost.
    fn claim(&mut self, place: u32, offer: &Offer) -> alloc::vec::Vec<LeaseTag> {
        let mut kept = alloc::vec::Vec::new();
        let ends_ms = self.now.monotonic_ms + u64::from(self.limits.lease_ms);
        for held in &offer.held {
            let ours = self.leases.current(held.lease).is_some_and(|lease| {
                lease.worker == place && self.calls.slot(lease.call).is_some_and(|call| call.id == held.call)
            });
            if !ours {
                self.absolve(held.call);
                continue;
            }
            let index = held.lease.slot;
            let procedure = self.procedure_of(self.leases.get(index).call);
            let offered = self.workers.get(place).and_then(|worker| worker.offered(procedure)).map(|(at, _)| at);
            self.leases.extend(
                index,
                if planted!("returning worker not given time") { self.now.monotonic_ms } else { ends_ms },
            );
            let lease = self.leases.get_mut(index);
            lease.orphan = false;
            lease.crowded = false;
            lease.procedure = offered.unwrap_or(NONE);
            kept.push(held.lease);
        }
        let Some(worker) = self.workers.get(place) else { return kept };
        for index in &worker.leases {
            let tag = self.leases.tag(*index);
            if !kept.contains(&tag) && !planted!("leases of a returning worker leak") {
                self.leases.get_mut(*index).crowded = true;
                self.leftovers.push_back(Leftover::Lease(tag));
            }
        }
        kept
    }

    /// A worker that was thought to have died of this call is back with it: only its connection had broken.
    ///
    /// This is not recorded: of the records with a call's lost leases, one takes it out of the lease that it may run under by
    /// now. After a restart the call is a suspect again, with the lost lease that was taken back.
    fn absolve(&mut self, id: CallId) {
        let Some(index) = self.calls.find(id) else { return };
        let call = self.calls.get(index);
        if call.state.is_settled() || !call.has(SUSPECT) {
            return;
        }
        let (ready, lost, lease) = (call.state == State::Ready, call.lost.saturating_sub(1), call.lease);
        if ready {
            self.step_out(index);
        }
        let stamp = self.next_stamp();
        let call = self.calls.get_mut(index);
        call.lost = lost;
        call.set(SUSPECT, lost > 0);
        if ready {
            call.stamp = stamp;
            self.stand(index);
        }
        if lease != NONE && lost == 0 {
            self.absolve_lease(lease);
        }
    }

    /// The lease of a call that is no suspect any more.
    fn absolve_lease(&mut self, lease: u32) {
        let it = self.leases.get_mut(lease);
        let place = it.worker;
        let Some(worker) = self.workers.get_mut(place) else { return };
        if worker.peer.is_none() {
            // Its next worker is gone, too: if with others, it is no more to blame than they are, who may have left by now.
            it.crowded |= it.beside;
        }
        if worker.suspect == lease {
            worker.suspect = NONE;
            // Another suspect may start there.
            self.busy_workers.push_back(place);
        }
    }

    pub(crate) fn procedure_of(&self, call: u32) -> u32 {
        self.routes.get(self.calls.get(call).route).procedure
    }

    pub(crate) fn close(&mut self, peer: Peer, _effects: &mut impl Effects) {
        match self.sessions.get_mut(peer.0 as usize).and_then(Option::take) {
            Some(Session::Caller { inbox }) => self.close_inbox(inbox, peer),
            Some(Session::Worker { worker }) => self.close_worker(worker, peer),
            None => {}
        }
    }

    fn close_inbox(&mut self, place: u32, peer: Peer) {
        let ends_ms = self.now.monotonic_ms + self.limits.inbox_grace_ms;
        let Some(inbox) = self.inboxes.get_mut(place) else { return };
        if inbox.peer != Some(peer) {
            return;
        }
        inbox.peer = None;
        if matches!(inbox.key, InboxKey::Anonymous(_)) {
            inbox.ends_ms = ends_ms;
            let stamp = inbox.stamp;
            self.graces.push(ends_ms, place, stamp);
        }
    }

    /// Idempotent calls without a key are leased again at once; the others when the lease ends.
    fn close_worker(&mut self, place: u32, peer: Peer) {
        let Some(worker) = self.workers.get_mut(place) else { return };
        if worker.peer != Some(peer) {
            return;
        }
        let held = worker.leases.clone();
        self.count_slots(place, false);
        if let Some(worker) = self.workers.get_mut(place) {
            worker.peer = None;
        }
        self.withdraw_sections(place);
        self.mark_crowded(&held);
        for index in held {
            let call = self.leases.get(index).call;
            let route = &self.routes.get(self.calls.get(call).route).route;
            let keyed = self.calls.extra(call).is_some_and(|extra| extra.key.is_some() || extra.serial.is_some());
            if route.idempotent && !keyed && !self.calls.get(call).state.is_settled() {
                self.leftovers.push_back(Leftover::Lease(self.leases.tag(index)));
            }
        }
        self.drop_idle_worker(place);
    }

    /// A worker that is gone and holds nothing is forgotten.
    pub(crate) fn drop_idle_worker(&mut self, place: u32) {
        if self.workers.get(place).is_some_and(|worker| worker.peer.is_none() && worker.leases.is_empty()) {
            self.workers.remove(place);
        }
    }

    pub(crate) fn end_graces(&mut self) {
        while let Some(due) = self.graces.pop(self.now.monotonic_ms) {
            let ended = self.inboxes.get(due.index).is_some_and(|inbox| {
                inbox.stamp == due.stamp && inbox.peer.is_none() && inbox.ends_ms != 0 && inbox.ends_ms <= due.at_ms
            });
            if ended {
                self.end_inbox(due.index);
            }
        }
    }

    /// An inbox keeps nothing any more. Its place stays while unsettled calls point to it.
    fn end_inbox(&mut self, place: u32) {
        let Some(inbox) = self.inboxes.get_mut(place) else { return };
        inbox.ended = true;
        for index in core::mem::take(&mut inbox.outstanding) {
            let call = self.calls.get_mut(index);
            call.set(OUTSTANDING, false);
            call.inbox = NONE;
            self.leftovers.push_back(Leftover::Outcome(index, call.generation));
        }
        self.drop_ended_inbox(place);
    }

    pub(crate) fn drop_ended_inbox(&mut self, place: u32) {
        if self.inboxes.get(place).is_some_and(|inbox| inbox.ended && inbox.open == 0) {
            self.inboxes.remove(place);
        }
    }

    pub(crate) fn clear_leftovers(&mut self, budget: u32, effects: &mut impl Effects) {
        for _ in 0..budget {
            match self.leftovers.pop_front() {
                None => return,
                Some(Leftover::Lease(tag)) => self.lose(tag, effects),
                Some(Leftover::Outcome(index, generation)) => {
                    if self.calls.live(index, generation).is_some_and(|call| call.has(OVERDUE)) {
                        self.forget_when_stopped(index, effects);
                    }
                }
                Some(Leftover::Overtaken(index, generation)) => {
                    if self.calls.live(index, generation).is_some() {
                        self.cancel_index(index, effects);
                    }
                }
                Some(Leftover::Fill(place)) => self.fill_window(place, effects),
                Some(Leftover::Deliver(index, generation, inbox)) => {
                    let outstanding = self.calls.live(index, generation).filter(|call| call.has(OUTSTANDING));
                    if let (Some(call), Some(peer)) = (outstanding, self.inboxes.get(inbox).and_then(|to| to.peer)) {
                        let tag = call.tag;
                        self.tell_outcome(index, peer, tag, effects);
                    }
                }
            }
        }
    }

    pub(crate) fn attach(&mut self, peer: Peer, id: CallId, tag: Tag, effects: &mut impl Effects) {
        let Some(index) = self.calls.find(id) else {
            let refusal = if id.unix_ms() <= self.horizon_ms { Refusal::TooOldToSay } else { Refusal::NotFound };
            effects.emit(Gate::Open, Effect::Refused { peer, tag, refusal });
            return;
        };
        if self.calls.get(index).state.is_settled() {
            self.tell_outcome(index, peer, tag, effects);
        } else {
            self.watch(index, peer, tag);
        }
    }

    /// The caller will be told the outcome: as the call's own inbox, or as one more.
    pub(crate) fn watch(&mut self, index: u32, peer: Peer, tag: Tag) {
        let inbox = self.inbox_of(peer);
        if inbox == NONE {
            return;
        }
        if self.calls.get(index).inbox == inbox {
            self.calls.get_mut(index).tag = tag;
            return;
        }
        let stamp = self.inboxes.get(inbox).map_or(0, |inbox| inbox.stamp);
        let inboxes = &self.inboxes;
        let there = |watcher: &Watcher| inboxes.get(watcher.inbox).is_some_and(|inbox| inbox.stamp == watcher.stamp);
        let watchers = &mut self.calls.extra_mut(index).watchers;
        watchers.retain(|other| other.inbox != inbox && there(other));
        watchers.push(Watcher { inbox, stamp, tag });
    }

    pub(crate) fn acknowledge(&mut self, peer: Peer, id: CallId, effects: &mut impl Effects) {
        let Some(index) = self.calls.find(id) else { return };
        let call = self.calls.get(index);
        let inbox = self.inbox_of(peer);
        if inbox == NONE || call.inbox != inbox || !call.has(OUTSTANDING) {
            return;
        }
        let (durable, overdue) = (call.has(DURABLE), call.has(OVERDUE));
        self.leave_inbox(index);
        self.calls.get_mut(index).set(ACKNOWLEDGED, true);
        let named = self.inboxes.get(inbox).is_some_and(|inbox| matches!(inbox.key, InboxKey::Named(_)));
        if durable && named {
            let handle = self.calls.get(index).handle;
            effects.record(&Record::Acknowledged { id }, Body::None, Role::Delta(handle), Urgency::Lazy);
        }
        if overdue {
            self.forget_when_stopped(index, effects);
        }
        self.fill_window(inbox, effects);
    }

    /// Takes a settled call out of its inbox's list.
    pub(crate) fn leave_inbox(&mut self, index: u32) {
        let call = self.calls.get_mut(index);
        let (inbox, place, delivered) = (call.inbox, call.place, call.has(DELIVERED));
        let bytes = u64::from(call.bytes);
        call.set(OUTSTANDING, false);
        call.set(DELIVERED, false);
        call.place = NONE;
        call.inbox = NONE;
        let Some(inbox) = self.inboxes.get_mut(inbox) else { return };
        if delivered {
            inbox.in_flight -= 1;
            inbox.in_flight_bytes = inbox.in_flight_bytes.saturating_sub(bytes);
        }
        if (place as usize) < inbox.outstanding.len() {
            inbox.outstanding.swap_remove(place as usize);
            if let Some(moved) = inbox.outstanding.get(place as usize).copied() {
                self.calls.get_mut(moved).place = place;
            }
        }
    }

    pub(crate) fn credit(&mut self, peer: Peer, slots: i32) {
        let Some(place) = self.worker_of(peer) else { return };
        self.count_slots(place, false);
        if let Some(worker) = self.workers.get_mut(place) {
            worker.credit = worker.credit.saturating_add(i64::from(slots));
        }
        self.count_slots(place, true);
        self.busy_workers.push_back(place);
    }

    pub(crate) fn drain(&mut self, peer: Peer) {
        let Some(place) = self.worker_of(peer) else { return };
        self.count_slots(place, false);
        if let Some(worker) = self.workers.get_mut(place) {
            worker.draining = true;
        }
    }

    /// Counts the worker's slots in or out of those of the procedures it serves: out before they change, in again then.
    fn count_slots(&mut self, place: u32, there: bool) {
        let Some(worker) = self.workers.get(place) else { return };
        let (slots, offers) = (worker.capacity(), worker.offers.len());
        for at in 0..offers {
            let Some(procedure) =
                self.workers.get(place).and_then(|worker| worker.offers.get(at)).map(|it| it.procedure)
            else {
                return;
            };
            self.pass_time(procedure);
            let it = self.procedures.get_mut(procedure);
            it.slots = if there { it.slots + slots } else { it.slots.saturating_sub(slots) };
        }
    }

    /// Asks every connected worker of this name to drain; says how many were asked.
    pub fn ask_to_drain(&mut self, name: &Name, effects: &mut impl Effects) -> u32 {
        let mut asked = 0;
        let peers: alloc::vec::Vec<_> =
            self.workers.iter().filter(|worker| worker.name == *name).filter_map(|worker| worker.peer).collect();
        for peer in peers {
            effects.emit(Gate::Open, Effect::DrainAsked { peer });
            asked += 1;
        }
        asked
    }

    pub(crate) fn worker_of(&self, peer: Peer) -> Option<u32> {
        match self.sessions.get(peer.0 as usize) {
            Some(Some(Session::Worker { worker })) => Some(*worker),
            _ => None,
        }
    }

    /// Tells one peer the outcome of a settled call.
    pub(crate) fn tell_outcome(&self, index: u32, peer: Peer, tag: Tag, effects: &mut impl Effects) {
        let gate = gate_of(self.calls.get(index));
        effects.emit(gate, self.outcome_for(index, peer, tag));
    }
}
