//! Calls that end without their procedure's word: cancelled, or expired. And calls that become due.

use crate::call::NONE;
use crate::effect::{Effect, Effects, Gate, Peer, Reason};
use crate::planted::planted;
use crate::settle::Verdict;
use crate::{Engine, Now};
use antiphon_protocol::{CallId, CancelAnswer, Name, State};

impl Engine {
    pub(crate) fn cancel(&mut self, peer: Peer, id: CallId, effects: &mut impl Effects) {
        let (gate, answer) = self.cancel_call(id, effects);
        let gate = if planted!("cancel answered before fsync") { Gate::Open } else { gate };
        effects.emit(gate, Effect::CancelAnswered { peer, id, answer });
    }

    /// Cancels a call at an operator's word.
    pub fn cancel_one(&mut self, now: Now, id: CallId, effects: &mut impl Effects) -> CancelAnswer {
        self.tick(now);
        self.cancel_call(id, effects).1
    }

    pub(crate) fn cancel_call(&mut self, id: CallId, effects: &mut impl Effects) -> (Gate, CancelAnswer) {
        let Some(index) = self.calls.find(id) else { return (Gate::Open, CancelAnswer::NotFound) };
        let gate = self.gate(index);
        (gate, self.cancel_index(index, effects))
    }

    pub(crate) fn cancel_index(&mut self, index: u32, effects: &mut impl Effects) -> CancelAnswer {
        let call = self.calls.get(index);
        let (state, started) = (call.state, call.started);
        if state.is_settled() {
            CancelAnswer::AlreadySettled(state)
        } else if state == State::Leased {
            CancelAnswer::Stopping { worker: self.stop(index, State::Cancelled, Reason::CancelledRunning, effects) }
        } else {
            let (reason, answer) = match (self.group_reason(index, State::Cancelled), started) {
                (Some(reason), _) => (reason, CancelAnswer::Children),
                (None, 0) => (Reason::CancelledQueued, CancelAnswer::NeverRan),
                (None, _) => (Reason::CancelledRetrying, CancelAnswer::BetweenAttempts),
            };
            if !planted!("cancelled call stays in line") {
                self.withdraw(index);
            }
            self.settle(index, State::Cancelled, Verdict::Decided(reason), effects);
            answer
        }
    }

    /// Takes a waiting call out of wherever it waits.
    pub(crate) fn withdraw(&mut self, index: u32) {
        match self.calls.get(index).state {
            State::Ready => self.step_out(index),
            State::Scheduled => {
                let stamp = self.next_stamp();
                self.calls.get_mut(index).stamp = stamp;
                let calls = &self.calls;
                self.scheduled.strike(|due| {
                    calls.slot(due.index).is_some_and(|call| call.state == State::Scheduled && call.stamp == due.stamp)
                });
            }
            _ => {}
        }
    }

    /// Settles a running call at once and asks its worker to stop; the lease, and with it the slot, is held until
    /// the worker confirms or the lease ends.
    fn stop(&mut self, index: u32, state: State, reason: Reason, effects: &mut impl Effects) -> Name {
        let lease = self.calls.get(index).lease;
        let gate = self.gate(index);
        self.settle(index, state, Verdict::Decided(reason), effects);
        let it = self.leases.get_mut(lease);
        it.stopping = true;
        let worker = it.worker;
        let tag = self.leases.tag(lease);
        if let Some(peer) = self.workers.get(worker).and_then(|worker| worker.peer) {
            effects.emit(gate, Effect::CancelAsked { peer, lease: tag });
        }
        self.worker_name(worker).unwrap_or(Name::from_static("unknown"))
    }

    pub(crate) fn expire_calls(&mut self, budget: u32, effects: &mut impl Effects) {
        for _ in 0..budget {
            let Some(due) = self.deadlines.pop(self.now.monotonic_ms) else { return };
            let Some(call) = self.calls.live(due.index, due.stamp).filter(|call| !call.state.is_settled()) else {
                self.deadlines.dropped();
                continue;
            };
            let (state, started) = (call.state, call.started);
            if planted!("expired calls start") && state == State::Ready {
            } else if state == State::Leased {
                self.stop(due.index, State::Expired, Reason::ExpiredRunning, effects);
            } else {
                let queued = if started == 0 { Reason::ExpiredQueued } else { Reason::ExpiredRetrying };
                let reason = self.group_reason(due.index, State::Expired).unwrap_or(queued);
                self.withdraw(due.index);
                self.settle(due.index, State::Expired, Verdict::Decided(reason), effects);
            }
        }
    }

    /// Calls whose delay or backoff is over become ready.
    pub(crate) fn start_due(&mut self, budget: u32, effects: &mut impl Effects) {
        for _ in 0..budget {
            let Some(due) = self.scheduled.pop(self.now.monotonic_ms) else { return };
            let live = self
                .calls
                .slot(due.index)
                .is_some_and(|call| call.state == State::Scheduled && call.stamp == due.stamp);
            if !live {
                self.scheduled.dropped();
                continue;
            }
            if self.is_group(due.index) {
                self.settle(due.index, State::Expired, Verdict::Decided(Reason::GroupUnsealed), effects);
                continue;
            }
            if !self.hold_retry(due.index) {
                self.join_lane_late(due.index, effects);
                self.become_ready(due.index);
            }
        }
    }

    /// A scheduled call waits for a slot from now on.
    pub(crate) fn become_ready(&mut self, index: u32) {
        let procedure = self.procedure_of(index);
        self.procedures.get_mut(procedure).count(State::Scheduled, -1);
        self.end_wait(index);
        let call = self.calls.get_mut(index);
        call.state = State::Ready;
        call.lease = NONE;
        self.line_up(index);
    }
}
