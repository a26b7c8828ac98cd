//! Who is connected, as the model has it.

use super::answers::Expected;
use super::calls::Phase;
use super::leases::Parked;
use super::{Incarnation, Model, inbox_name};
use antiphon_broker::Inbox;
use antiphon_embedded::PeerId;
use antiphon_engine::Engine;
use antiphon_protocol::{CallId, LeaseTag, Name, Offer};
use std::collections::BTreeMap;

/// A connected caller.
#[derive(Clone, Debug)]
pub(super) struct CallerPeer {
    pub inbox: String,
    pub named: bool,
    /// A newer session has taken over; the connection is about to be closed.
    pub fenced: bool,
}

/// A worker that is connected or holds a lease.
#[derive(Clone, Debug)]
pub(super) struct WorkerPeer {
    pub name: Name,
    pub peer: Option<PeerId>,
    /// What it serves, and whether running that twice does no harm.
    pub offers: BTreeMap<Name, bool>,
    pub slots: i64,
    pub labels: Vec<Name>,
    pub draining: bool,
}

impl WorkerPeer {
    /// One that holds a lease and has not come back.
    pub fn gone(name: Name) -> Self {
        Self { name, peer: None, offers: BTreeMap::new(), slots: 0, labels: Vec::new(), draining: false }
    }
}

impl Model {
    pub fn open_caller(&mut self, engine: &Engine, peer: PeerId, inbox: &Inbox) {
        self.tick(engine);
        let (name, named) = (inbox_name(inbox), matches!(inbox, Inbox::Named(_)));
        let older = self.callers.iter_mut().find(|(_, caller)| caller.inbox == name && !caller.fenced);
        let older = older.map(|(peer, caller)| {
            caller.fenced = true;
            *peer
        });
        if let Some(older) = older {
            self.expect(older, Expected::Fenced);
        }
        self.callers.insert(peer, CallerPeer { inbox: name, named, fenced: false });
    }

    pub fn open_worker(&mut self, engine: &Engine, peer: PeerId, offer: &Offer) {
        self.tick(engine);
        let older = self.workers.get(&offer.incarnation.0).and_then(|worker| worker.peer);
        if let Some(older) = older {
            self.peers.remove(&older);
            self.expect(older, Expected::Fenced);
        }
        let worker = WorkerPeer {
            name: offer.name.clone(),
            peer: Some(peer),
            offers: offer.procedures.iter().map(|offered| (offered.name.clone(), offered.idempotent)).collect(),
            slots: i64::from(offer.slots),
            labels: offer.labels.clone(),
            draining: false,
        };
        self.workers.insert(offer.incarnation.0, worker);
        self.peers.insert(peer, offer.incarnation.0);
        let kept = self.claim(offer);
        self.expect(peer, Expected::Opened { kept });
    }

    fn claim(&mut self, offer: &Offer) -> Vec<LeaseTag> {
        let ends_ms = self.now.monotonic_ms + u64::from(self.limits.lease_ms);
        let mut kept = Vec::new();
        let mut kept_serials = Vec::new();
        for held in &offer.held {
            self.order += 1;
            let order = self.order;
            let known = self.calls.get_mut(&held.call);
            let lease = known.and_then(|known| known.lease.as_mut());
            let lease = lease.filter(|l| l.token == Some(held.lease.token) && l.worker == offer.incarnation.0);
            match lease {
                Some(lease) => {
                    (lease.ends_ms, lease.order, lease.orphan, lease.crowded) = (ends_ms, order, false, false);
                    kept.push(held.lease);
                    kept_serials.push(lease.serial);
                }
                None => self.absolve(held.call),
            }
        }
        for (id, serial) in self.leases_of(offer.incarnation.0) {
            if !kept_serials.contains(&serial) {
                if let Some(lease) = self.calls.get_mut(&id).and_then(|known| known.lease.as_mut()) {
                    lease.crowded = true;
                }
                self.leaving.push((id, serial));
            }
        }
        kept
    }

    /// A worker that was thought to have died of this call is back with it.
    fn absolve(&mut self, id: CallId) {
        let Some(known) = self.calls.get_mut(&id) else { return };
        if known.is_settled() || !known.suspect {
            return;
        }
        known.lost = known.lost.saturating_sub(1);
        known.suspect = known.lost > 0;
        known.mark();
        let worker = known.lease.as_ref().filter(|_| known.lost == 0).map(|lease| lease.worker);
        let Some(worker) = worker else { return };
        let gone = self.workers.get(&worker).is_none_or(|worker| worker.peer.is_none());
        if let Some(lease) = self.calls.get_mut(&id).and_then(|known| known.lease.as_mut()) {
            lease.crowded |= gone && lease.beside;
            lease.as_suspect = false;
        }
    }

    /// The leases of a worker: call and serial.
    pub(super) fn leases_of(&self, worker: Incarnation) -> Vec<(CallId, u64)> {
        let leases = self.open_calls().filter_map(|known| known.lease.as_ref().map(|lease| (known, lease)));
        leases.filter(|(_, lease)| lease.worker == worker).map(|(known, lease)| (known.id, lease.serial)).collect()
    }

    pub fn close(&mut self, engine: &Engine, peer: PeerId) {
        self.tick(engine);
        self.expected.remove(&peer);
        self.callers.remove(&peer);
        let Some(incarnation) = self.peers.remove(&peer) else { return };
        let Some(worker) = self.workers.get_mut(&incarnation) else { return };
        worker.peer = None;
        let held = self.leases_of(incarnation);
        self.mark_crowded(&held);
        for (id, serial) in held {
            let known = self.calls.get(&id);
            let again = known.is_some_and(|known| {
                known.route.idempotent && !known.is_settled() && known.key.is_none() && !known.is_serial()
            });
            if again {
                self.leaving.push((id, serial));
            }
        }
        self.drop_idle(incarnation);
    }

    pub(super) fn drop_idle(&mut self, incarnation: Incarnation) {
        let gone = self.workers.get(&incarnation).is_some_and(|worker| worker.peer.is_none());
        if gone && self.leases_of(incarnation).is_empty() {
            self.workers.remove(&incarnation);
        }
    }

    pub fn credit(&mut self, engine: &Engine, peer: PeerId, slots: i32) {
        self.tick(engine);
        if let Some(worker) = self.peers.get(&peer).and_then(|incarnation| self.workers.get_mut(incarnation)) {
            worker.slots += i64::from(slots);
        }
    }

    pub fn drain(&mut self, engine: &Engine, peer: PeerId) {
        self.tick(engine);
        if let Some(worker) = self.peers.get(&peer).and_then(|incarnation| self.workers.get_mut(incarnation)) {
            worker.draining = true;
        }
    }

    /// No ready call waits while a worker that serves it has a free slot.
    pub(super) fn nobody_idles(&mut self) {
        let mut idle = Vec::new();
        // Slots may be kept free for a call that takes several.
        let heavy = |known: &super::Known| known.phase == Phase::Ready && known.route.slots > 1;
        if self.open_calls().any(heavy) {
            return;
        }
        for worker in self.workers.iter().filter(|(_, worker)| worker.peer.is_some() && !worker.draining) {
            let (incarnation, worker) = worker;
            let resuming = |known: &super::Known| {
                known.lease.as_ref().is_some_and(|lease| lease.worker == *incarnation && lease.parked == Parked::Over)
            };
            if worker.slots <= self.used(*incarnation) || self.open_calls().any(resuming) {
                continue;
            }
            let waits = |known: &&super::Known| {
                worker.offers.contains_key(&known.route.procedure)
                    && known.route.labels.iter().all(|label| worker.labels.contains(label))
                    && self.may_start_now(known)
            };
            if let Some(known) = self.open_calls().find(waits) {
                idle.push(format!("call {} is ready and worker {} has a free slot", known.id, worker.name));
            }
        }
        self.wrong.append(&mut idle);
    }
}
