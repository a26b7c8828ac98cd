//! Leases, as the model has them: granted, prolonged, ended by a report, lost.

use super::answers::Expected;
use super::calls::{Known, Lease, Phase};
use super::{Incarnation, Model};
use antiphon_broker::Report;
use antiphon_embedded::PeerId;
use antiphon_engine::Engine;
use antiphon_protocol::{CallId, CallStatus, Code, Failure, Knowledge, LeaseTag, Outcome, Setting, Settlement, State};

/// Whether a lease takes its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parked {
    No,
    /// Its procedure waits.
    Yes,
    /// Its procedure wants to go on, and has not been told that it may.
    Over,
}

impl Model {
    /// A procedure waits: the broker has been told.
    pub fn park(&mut self, engine: &Engine, peer: PeerId, tag: LeaseTag) {
        self.tick(engine);
        match self.held(peer, tag) {
            None => self.expect(peer, Expected::Stale { lease: tag }),
            Some(id) => self.set_parked(id, Parked::Yes),
        }
    }

    /// A procedure has waited and wants to go on.
    pub fn go_on(&mut self, engine: &Engine, peer: PeerId, tag: LeaseTag) {
        self.tick(engine);
        let Some(id) = self.held(peer, tag) else { return self.expect(peer, Expected::Stale { lease: tag }) };
        let parked =
            self.calls.get(&id).and_then(|known| known.lease.as_ref()).is_some_and(|l| l.parked == Parked::Yes);
        if parked {
            self.set_parked(id, Parked::Over);
        }
    }

    /// A procedure that waited has its slots again.
    pub(super) fn resumed(&mut self, peer: PeerId, tag: LeaseTag) {
        if let Some(id) = self.held(peer, tag) {
            self.reached.insert("a procedure that waited went on");
            self.set_parked(id, Parked::No);
        }
    }

    fn set_parked(&mut self, id: CallId, parked: Parked) {
        if let Some(lease) = self.calls.get_mut(&id).and_then(|known| known.lease.as_mut()) {
            lease.parked = parked;
        }
    }

    /// A running call has told how far it is.
    pub fn told_of(&mut self, engine: &Engine, peer: PeerId, tag: LeaseTag) {
        self.tick(engine);
        if self.held(peer, tag).is_none() {
            self.expect(peer, Expected::Stale { lease: tag });
        }
    }

    /// The call whose lease this worker may speak for under this tag.
    fn held(&self, peer: PeerId, tag: LeaseTag) -> Option<CallId> {
        let worker = *self.peers.get(&peer)?;
        let mine = |known: &&Known| {
            known.lease.as_ref().is_some_and(|l| l.token == Some(tag.token) && l.worker == worker && !l.orphan)
        };
        self.open_calls().find(mine).map(|known| known.id)
    }

    /// A worker has ended a lease; the broker has dealt with it already.
    pub fn report(&mut self, engine: &Engine, peer: PeerId, report: &Report) {
        self.tick(engine);
        let lease = report.lease;
        let Some(id) = self.held(peer, lease).filter(|id| *id == report.call) else {
            return self.expect(peer, Expected::Stale { lease });
        };
        let Some(known) = self.calls.get(&id) else { return };
        if self.full && !known.is_settled() && still_leased(engine, known) {
            // There was no room to record it: the lease runs out.
            return self.expect(peer, Expected::Stale { lease });
        }
        if known.is_settled() {
            if self.full && still_stopping(engine, id) {
                return self.expect(peer, Expected::Stale { lease });
            }
            self.end_lease(id);
            let stopped = matches!(report.settlement, Settlement::Release | Settlement::Stop);
            let expected = if stopped { Expected::Settled { lease, id, mark: 0 } } else { Expected::Stale { lease } };
            return self.expect(peer, expected);
        }
        self.end_lease(id);
        self.judge(engine, id, &report.settlement);
        let mark = self.calls.get(&id).map_or(0, Known::last_mark);
        self.expect(peer, Expected::Settled { lease, id, mark });
        self.compare_one(engine, id);
    }

    fn judge(&mut self, engine: &Engine, id: CallId, settlement: &Settlement) {
        let Some(known) = self.calls.get_mut(&id) else { return };
        let once = known.route.at_most_once;
        let failure = |failure: &Failure| Some(Outcome::Failure(failure.clone().may_have_run()));
        match settlement {
            Settlement::Succeed(payload) => {
                self.settle(id, State::Succeeded, Some(Outcome::Reply(payload.clone())));
            }
            Settlement::Fail(told) => self.settle(id, State::Failed, failure(told)),
            Settlement::Bury(told) => {
                known.failed += 1;
                self.settle(id, State::Dead, failure(told));
            }
            Settlement::Retry(told) => {
                known.failed += 1;
                let failed = known.failed;
                if failed >= known.route.attempts || once {
                    return self.settle(id, State::Dead, failure(told));
                }
                if self.budget && !known.durable && is_dead(engine, id) {
                    // The budget of retries is used up.
                    self.reached.insert("a volatile call without a retry left");
                    return self.settle(id, State::Dead, None);
                }
                let (earliest, latest) = match told.retry_after_ms {
                    Some(ms) => (u64::from(ms), u64::from(ms).max(u64::from(self.budget))),
                    None => (0, known.route.backoff.bound_ms(failed)),
                };
                self.await_due(engine, id, earliest, latest);
            }
            Settlement::Release | Settlement::Stop if once => self.settle(id, State::Dead, None),
            Settlement::Release | Settlement::Stop => {
                known.started -= 1;
                self.change(id, Phase::Ready);
            }
        }
    }

    /// A call waits for its next attempt, between these many milliseconds from now: the broker has chosen.
    fn await_due(&mut self, engine: &Engine, id: CallId, earliest: u64, latest: u64) {
        let now = self.now;
        let Knowledge::Known(status) = engine.knowledge(id) else { return };
        let due_ms = match status.state {
            State::Scheduled => status.since_ms.saturating_add(now.monotonic_ms).saturating_sub(now.wall_ms),
            _ => now.monotonic_ms,
        };
        if due_ms < now.monotonic_ms + earliest || due_ms > now.monotonic_ms + latest {
            let waits = due_ms.saturating_sub(now.monotonic_ms);
            self.blame(format!("call {id} waits {waits} ms before its next attempt, not {earliest} to {latest}"));
        }
        self.change(id, if due_ms > now.monotonic_ms { Phase::Scheduled(due_ms) } else { Phase::Ready });
    }

    pub(super) fn change(&mut self, id: CallId, phase: Phase) {
        let Some(known) = self.calls.get_mut(&id) else { return };
        let before = known.state().name();
        known.phase = phase;
        self.transitions.insert((before, known.state().name()));
        known.mark();
    }

    pub fn extend(&mut self, engine: &Engine, peer: PeerId, tag: LeaseTag) {
        self.tick(engine);
        let Some(id) = self.held(peer, tag) else {
            return self.expect(peer, Expected::Stale { lease: tag });
        };
        self.order += 1;
        let (order, ends_ms) = (self.order, self.now.monotonic_ms + u64::from(self.limits.lease_ms));
        if let Some(lease) = self.calls.get_mut(&id).and_then(|known| known.lease.as_mut()) {
            (lease.ends_ms, lease.order) = (ends_ms, order);
        }
    }

    pub(super) fn end_lease(&mut self, id: CallId) {
        let Some(known) = self.calls.get_mut(&id) else { return };
        let Some(lease) = known.lease.take() else { return };
        if known.is_settled() {
            self.open.remove(&id);
        }
        self.drop_idle(lease.worker);
    }

    /// Of leases that are lost together, only one that alone was a suspect's says something about its call.
    pub(super) fn mark_crowded(&mut self, held: &[(CallId, u64)]) {
        let suspect = |id: &CallId| self.calls.get(id).is_some_and(|known| known.suspect);
        let suspects: Vec<CallId> = held.iter().map(|(id, _)| *id).filter(suspect).collect();
        for (id, _) in held {
            let alone = held.len() == 1 || suspects == [*id];
            if let Some(lease) = self.calls.get_mut(id).and_then(|known| known.lease.as_mut()) {
                lease.beside = held.len() > 1;
                lease.crowded |= !alone;
            }
        }
    }

    /// A lease is lost: its worker died, hung or was cut off.
    pub(super) fn lose(&mut self, id: CallId) {
        let Some(known) = self.calls.get_mut(&id) else { return };
        let Some(lease) = known.lease.clone() else { return };
        if let Some(peer) = self.workers.get(&lease.worker).and_then(|worker| worker.peer) {
            // The worker may never have been told of it.
            self.expected.entry(peer).or_default().push(Expected::Lost { token: lease.token });
        }
        let Some(known) = self.calls.get_mut(&id) else { return };
        if known.is_settled() {
            return self.end_lease(id);
        }
        let counted = !lease.crowded && !lease.orphan;
        known.suspect |= !lease.orphan;
        known.lost = known.lost.saturating_add(u8::from(counted));
        let dead = known.route.at_most_once || known.lost >= self.limits.lost_leases_max;
        self.end_lease(id);
        if dead {
            self.settle(id, State::Dead, None);
        } else {
            self.change(id, Phase::Ready);
        }
    }

    /// The broker has leased a ready call to somebody: could it?
    pub(super) fn granted(&mut self, id: CallId, status: &CallStatus) {
        let Some(name) = &status.worker else { return };
        let Some(incarnation) = self.workers.iter().find(|(_, w)| w.name == *name).map(|(incarnation, _)| *incarnation)
        else {
            return self.blame(format!("call {id} was leased to {name}, which is not connected"));
        };
        if let Some(wrong) = self.grant_is_wrong(id, incarnation) {
            self.blame(format!("call {id} was leased to {name} although {wrong}"));
        }
        self.serial += 1;
        self.order += 1;
        let (serial, order) = (self.serial, self.order);
        let ends_ms = self.now.monotonic_ms + u64::from(self.limits.lease_ms);
        let offers = self.workers.get(&incarnation).map(|worker| worker.offers.clone()).unwrap_or_default();
        let Some(known) = self.calls.get_mut(&id) else { return };
        let plain =
            known.key.is_none() && !known.revives && !known.suspect && !known.is_serial() && known.cause.is_none();
        let harmless = known.route.idempotent
            && !known.route.at_most_once
            && offers.get(&known.route.procedure).copied().unwrap_or(false);
        let first = known.started == 0 && known.failed == 0;
        let gated = known.durable && !(first && plain && harmless);
        known.started += 1;
        known.lease = Some(Lease {
            serial,
            token: None,
            worker: incarnation,
            ends_ms,
            order,
            orphan: false,
            crowded: false,
            beside: false,
            as_suspect: known.suspect,
            parked: Parked::No,
            gated,
        });
        let procedure = known.route.procedure.clone();
        let of = [
            (known.order.is_some(), "a call of a lane"),
            (known.together.is_some(), "a call under a concurrency key"),
            (!known.route.labels.is_empty(), "a call with a label"),
            (known.route.slots > 1, "a call of several slots"),
            (known.failed > 0, "a retry"),
        ];
        self.reached.extend(of.into_iter().filter(|(is, _)| *is).map(|(_, what)| what));
        for (setting, what) in [(Setting::RunningMax, "a call under a cap"), (Setting::RateCount, "a call at a rate")] {
            if self.rule(&procedure, setting).is_some() {
                self.reached.insert(what);
            }
        }
        self.change(id, Phase::Leased);
        self.count_start(&procedure);
    }

    fn grant_is_wrong(&self, id: CallId, incarnation: Incarnation) -> Option<String> {
        let known = self.calls.get(&id)?;
        let worker = self.workers.get(&incarnation)?;
        let held = self.leases_of(incarnation);
        if worker.peer.is_none() || worker.draining {
            return Some("it takes no leases".to_owned());
        }
        if self.used(incarnation) + i64::from(known.route.slots) > worker.slots {
            return Some(format!("its {} slots are taken", worker.slots));
        }
        if let Some(label) = known.route.labels.iter().find(|label| !worker.labels.contains(label)) {
            return Some(format!("it has not the label {label}"));
        }
        if let Some(wrong) = self.must_wait(known) {
            return Some(wrong);
        }
        if !worker.offers.contains_key(&known.route.procedure) {
            return Some("it does not serve that".to_owned());
        }
        if known.route.at_most_once && known.started > 0 {
            return Some("it runs at most once".to_owned());
        }
        if known.deadline_ms != 0 && known.deadline_ms <= self.now.monotonic_ms {
            return Some("its deadline has passed".to_owned());
        }
        let runs_suspect = held.iter().any(|(id, _)| {
            self.calls.get(id).and_then(|known| known.lease.as_ref()).is_some_and(|lease| lease.as_suspect)
        });
        (known.suspect && runs_suspect).then(|| "it runs another suspect".to_owned())
    }
}

fn is_dead(engine: &Engine, id: CallId) -> bool {
    matches!(engine.knowledge(id), Knowledge::Known(status) if status.state == State::Dead)
}

fn still_leased(engine: &Engine, known: &Known) -> bool {
    matches!(engine.knowledge(known.id), Knowledge::Known(status) if status.state == State::Leased)
}

fn still_stopping(engine: &Engine, id: CallId) -> bool {
    matches!(engine.knowledge(id), Knowledge::Known(status) if status.stopping)
}

/// What the broker says of a call that it ended by itself.
pub(super) fn decided_code(state: State) -> Code {
    match state {
        State::Cancelled => Code::Cancelled,
        State::Expired => Code::DeadlineExceeded,
        _ => Code::Unknown,
    }
}
