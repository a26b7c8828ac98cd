//! What a broker that comes back must still know: everything that somebody was told, and nothing that never was.

use super::Model;
use super::calls::{Known, Lease, Phase};
use super::peers::WorkerPeer;
use crate::audit::Audit;
use antiphon_engine::Engine;
use antiphon_protocol::{CallId, CallStatus, Knowledge, State};

impl Model {
    /// The broker's process is about to end: what it has forgotten by now, it has forgotten by the clocks it had.
    pub fn census(&mut self, engine: &Engine) {
        self.now = engine.time();
        let settled: Vec<CallId> =
            self.calls.values().filter(|known| known.is_settled()).map(|known| known.id).collect();
        for id in settled {
            if !matches!(engine.knowledge(id), Knowledge::Known(_)) {
                self.forgotten(id);
            }
        }
    }

    /// The broker's process has ended.
    pub fn crash(&mut self) {
        self.callers.clear();
        self.workers.clear();
        self.peers.clear();
        self.expected.clear();
        self.leaving.clear();
        self.bulk.clear();
        self.forget_made();
    }

    /// The broker is back. Which of several leases of a call its journal still had, the auditor knows.
    pub fn recover(&mut self, engine: &Engine, audit: &Audit) {
        self.now = engine.time();
        self.full = false;
        self.dig_up(engine);
        self.order += 1;
        let order = self.order;
        let ids: Vec<CallId> = self.calls.keys().copied().collect();
        for id in ids {
            self.recover_one(engine, audit, id, order);
        }
        self.rebuild_keys();
        self.regroup(engine);
        self.recover_rules(engine);
        self.recover_made(engine);
        self.calls.values_mut().for_each(|known| known.evicted = false);
        self.evict_dead();
        self.compare(engine);
    }

    /// What was forgotten in memory alone is known again.
    fn dig_up(&mut self, engine: &Engine) {
        let known = |id: &CallId| matches!(engine.knowledge(*id), Knowledge::Known(_));
        let again: Vec<CallId> = self.graveyard.keys().copied().filter(known).collect();
        for id in again {
            if self.purged.contains(&id) {
                self.blame(format!("call {id} was purged and is back"));
            }
            if let Some(known) = self.graveyard.remove(&id) {
                self.calls.insert(id, known);
            }
        }
    }

    fn recover_one(&mut self, engine: &Engine, audit: &Audit, id: CallId, order: u64) {
        let Some(known) = self.calls.get(&id) else { return };
        let status = match engine.knowledge(id) {
            Knowledge::Known(status) => status,
            _ => {
                if !known.durable || known.floor.is_none() {
                    self.forget(id);
                    self.graveyard.remove(&id);
                } else if known.is_settled() {
                    self.forgotten(id);
                } else {
                    self.blame(format!("call {id} was acknowledged and is lost; it was {:?}", known.phase));
                    self.forget(id);
                }
                return;
            }
        };
        let due_ms = match known.phase {
            Phase::Scheduled(due_ms) if status.state == State::Ready => Some(due_ms.saturating_add(known.offsets.0)),
            _ => None,
        };
        let unsealed = known.group.is_some() && status.state == State::Expired && has_passed(known, self.now.wall_ms);
        if let Some(wrong) = cannot_be(known, &status).filter(|_| !unsealed) {
            self.blame(format!("after recovery call {id} is {}, {} attempts: {wrong}", status.state, status.attempts));
        }
        for wrong in [self.deadline_moved(id, &status), self.delay_lost(id, &status)].into_iter().flatten() {
            self.blame(wrong);
        }
        self.adopt(id, &status, audit);
        if let Some(due_ms) = due_ms {
            // Delayed calls that became due while the broker was down join their lanes when it starts, in the order in
            // which they became due.
            self.join_lane(id, (order, due_ms));
        }
    }

    /// Takes over what was recovered: nothing newer exists any more.
    fn adopt(&mut self, id: CallId, status: &CallStatus, audit: &Audit) {
        let now = self.now;
        let ends_ms = now.monotonic_ms + u64::from(self.limits.lease_ms);
        let offset = now.wall_ms - now.monotonic_ms;
        let mono = |wall_ms: u64| wall_ms.saturating_add(now.monotonic_ms).saturating_sub(now.wall_ms);
        let Some(known) = self.calls.get_mut(&id) else { return };
        let failed = status.history.iter().filter(|attempt| !attempt.lost).count();
        known.suspect = audit.is_suspect(id);
        (known.started, known.lost) = (status.attempts, status.lost_leases);
        if status.history.len() < 8 && !status.state.is_settled() {
            known.failed = failed as u16;
        }
        known.phase = match status.state {
            State::Scheduled => Phase::Scheduled(mono(status.since_ms)),
            State::Ready => Phase::Ready,
            State::Leased => Phase::Leased,
            state => Phase::Settled(state),
        };
        if known.deadline_ms != 0 && !known.is_settled() {
            known.deadline_ms = mono(status.deadline_ms).max(1);
        }
        known.offsets = (offset, offset);
        known.lease = None;
        let held = match status.state {
            State::Leased => audit.lease_of(id),
            _ if status.stopping => audit.ran_on(id),
            _ => None,
        };
        known.added.retain(|callback| {
            let id = antiphon_protocol::Callback::id(callback.on, &callback.route.procedure, id);
            status.callbacks.iter().any(|other| other.id == id)
        });
        if known.turn.is_some_and(|(_, late)| late > 0) {
            // It joined its lane late, which is recorded lazily.
            (known.turn, known.turn_lost) = (None, true);
        }
        if let Some(fact) = held {
            self.serial += 1;
            self.order += 1;
            known.lease = Some(Lease {
                serial: self.serial,
                token: Some(fact.token),
                worker: fact.incarnation.0,
                ends_ms,
                order: self.order,
                orphan: true,
                crowded: false,
                beside: false,
                // Which of several suspects of one worker was one when it was leased, nobody recorded.
                as_suspect: false,
                parked: super::leases::Parked::No,
                gated: true,
            });
            self.workers.entry(fact.incarnation.0).or_insert_with(|| WorkerPeer::gone(fact.worker.clone()));
        }
        known.key = known.own_key.clone().filter(|_| !known.is_settled() || known.started > 0);
        if !known.is_settled() {
            known.outcome = None;
            known.settled_wall_ms = 0;
            self.open.insert(id);
        } else if known.lease.is_none() {
            self.open.remove(&id);
        } else {
            // Its attempt may still run.
            self.open.insert(id);
        }
        let known = self.calls.get_mut(&id).expect("it was just there");
        known.marks.clear();
        known.mark();
        // What was recovered was written anew and fsynced before the broker serves.
        known.floor = Some(0);
    }

    /// A deadline goes on while the broker is down, by its wall clock.
    fn deadline_moved(&self, id: CallId, status: &CallStatus) -> Option<String> {
        let known = self.calls.get(&id)?;
        if known.deadline_ms == 0 || status.state.is_settled() {
            return None;
        }
        let (least, most) = (known.deadline_ms + known.offsets.0, known.deadline_ms + known.offsets.1);
        // One that has passed reads as an instant of the new clock.
        let passed = least <= self.now.wall_ms;
        let right =
            (least..=most).contains(&status.deadline_ms) || (passed && status.deadline_ms <= self.now.wall_ms + 1);
        (!right).then(|| format!("after recovery call {id} has its deadline at {}, not {least}", status.deadline_ms))
    }

    /// What was to wait still does, by the wall clock.
    fn delay_lost(&self, id: CallId, status: &CallStatus) -> Option<String> {
        let known = self.calls.get(&id)?;
        let waits = |mark: &super::calls::Mark| match mark.phase {
            Phase::Scheduled(due_ms) => Some(due_ms.saturating_add(known.offsets.0)),
            _ => None,
        };
        let possible = known.marks.get(known.floor.unwrap_or(0)..).unwrap_or_default();
        let due_ms = possible.iter().map(waits).collect::<Option<Vec<_>>>()?.into_iter().min()?;
        let early = status.state == State::Ready && due_ms > self.now.wall_ms;
        early.then(|| format!("after recovery call {id} is ready {} ms early", due_ms - self.now.wall_ms))
    }

    fn rebuild_keys(&mut self) {
        self.keys.clear();
        for known in self.calls.values() {
            if let Some(key) = &known.key {
                self.keys.insert((known.route.procedure.clone(), key.clone()), known.id);
            }
        }
    }
}

/// Why a call cannot be as it was recovered, if it cannot.
fn cannot_be(known: &Known, status: &CallStatus) -> Option<String> {
    if !known.durable {
        return Some("it was volatile".to_owned());
    }
    let floor = known.floor.unwrap_or(0);
    let possible = known.marks.get(floor..).unwrap_or_default();
    if status.state.is_settled() {
        let settled = possible.iter().any(|mark| mark.phase == Phase::Settled(status.state));
        return (!settled).then(|| format!("it never was; it was {:?}", known.phase));
    }
    if let Some(Phase::Settled(state)) = possible.first().map(|mark| mark.phase) {
        return Some(format!("it was acknowledged as {state}"));
    }
    let started = |mark: &super::calls::Mark| mark.started;
    let least = possible.iter().map(started).min().unwrap_or(0);
    let most = possible.iter().map(started).max().unwrap_or(0);
    if !(least..=most).contains(&status.attempts) {
        return Some(format!("it had {least} to {most}"));
    }
    let leased = possible.iter().any(|mark| mark.phase == Phase::Leased);
    if status.state == State::Leased && !leased {
        return Some("it was not leased".to_owned());
    }
    let failed = status.history.iter().filter(|attempt| !attempt.lost).count();
    let fewest = possible.iter().map(|mark| mark.failed).min().unwrap_or(0);
    if status.history.len() < 8 && failed < usize::from(fewest) {
        return Some(format!("{fewest} attempts had failed, not {failed}"));
    }
    None
}

/// Whether a group may not have been sealed when the broker went down, and its time is over. That it was sealed since
/// counts only when somebody was told.
fn has_passed(known: &Known, wall_ms: u64) -> bool {
    let possible = known.marks.get(known.floor.unwrap_or(0)..).unwrap_or_default();
    let over = |due_ms: u64| due_ms.saturating_add(known.offsets.0) <= wall_ms;
    possible.iter().any(|mark| matches!(mark.phase, Phase::Scheduled(due_ms) if over(due_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use antiphon_protocol::{Name, Route};
    use std::sync::Arc;

    #[test]
    fn a_group_expires_over_a_restart_unless_somebody_was_told_that_it_is_sealed() {
        let route = Arc::new(Route::new(Name::from_static("group")));
        let mut known = Known::new(CallId::new(1, [1; 10]), route, true, 1_000);
        known.phase = Phase::Scheduled(500);
        let unsealed = known.mark();
        known.phase = Phase::Settled(State::Succeeded);
        let settled = known.mark();
        known.told(unsealed);
        assert!(!has_passed(&known, 1_499));
        assert!(has_passed(&known, 1_500), "the seal may be lost");
        known.told(settled);
        assert!(!has_passed(&known, 1_500), "the seal was told of");
    }
}
