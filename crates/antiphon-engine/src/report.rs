//! Workers ending and prolonging leases, and leases that end by themselves.

use crate::Engine;
use crate::call::gate_of;
use crate::call::{Attempt, DURABLE, NONE, OUTSTANDING, OVERDUE, SUSPECT};
use crate::effect::{Body, Effect, Effects, Gate, Handle, Peer, Reason, Role, Urgency};
use crate::limits::{HISTORY_MAX, HISTORY_TEXT_MAX};
use crate::parking::Parking;
use crate::planted::planted;
use crate::record::{Progress, Record};
use crate::session::Leftover;
use crate::settle::Verdict;
use alloc::borrow::Cow;
use alloc::string::String;
use antiphon_protocol::{CallId, Code, LeaseTag, State};

/// How a worker ends a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<'a> {
    /// With a value of this many bytes; the body is the outcome.
    Succeed {
        /// Bytes of the value.
        bytes: u32,
    },
    /// With the procedure's own final error; the body is the outcome.
    Fail {
        /// Bytes of the failure.
        bytes: u32,
    },
    /// With a failure that another attempt may avoid; the body is the outcome should there be no other attempt.
    Retry {
        /// Bytes of the failure.
        bytes: u32,
        /// What kind of failure.
        code: Code,
        /// In words.
        text: &'a str,
        /// When to try again, in milliseconds; `None` is by the backoff.
        after_ms: Option<u32>,
    },
    /// With a failure that another attempt would not avoid; the body is the outcome.
    Bury {
        /// Bytes of the failure.
        bytes: u32,
        /// What kind of failure.
        code: Code,
        /// In words.
        text: &'a str,
    },
    /// Unharmed: the call goes back and no attempt is counted.
    Release,
    /// As it was asked to.
    Stop,
}

impl Engine {
    /// The lease that this peer holds under this tag for this call.
    pub(crate) fn held(&self, peer: Peer, tag: LeaseTag) -> Option<u32> {
        let worker = self.worker_of(peer)?;
        let lease = self.leases.current(tag)?;
        (lease.worker == worker && !lease.orphan).then_some(tag.slot)
    }

    /// Which attempt of which call runs under this lease, if the lease is the peer's and current, and whether its word
    /// still counts: not once the call has settled.
    #[must_use]
    pub fn attempt_under(&self, peer: Peer, tag: LeaseTag) -> Option<(CallId, u16, bool)> {
        let lease = self.leases.get(self.held(peer, tag)?);
        let call = self.calls.get(lease.call);
        Some((call.id, lease.attempt, !call.state.is_settled()))
    }

    /// Whether there is a call of this id that has not settled.
    #[must_use]
    pub fn is_under_way(&self, id: CallId) -> bool {
        self.calls.find(id).is_some_and(|index| !self.calls.get(index).state.is_settled())
    }

    pub(crate) fn report(&mut self, peer: Peer, tag: LeaseTag, id: CallId, end: End<'_>, effects: &mut impl Effects) {
        let lease = self.held(peer, tag).filter(|index| self.calls.get(self.leases.get(*index).call).id == id);
        let Some(lease) = lease else {
            self.counters.stale += 1;
            let late = !matches!(end, End::Release | End::Stop);
            if late && self.calls.find(id).is_some_and(|index| self.calls.get(index).state.is_settled()) {
                self.counters.outcomes_rejected += 1;
            }
            return effects.emit(Gate::Open, Effect::Stale { peer, lease: tag });
        };
        let index = self.leases.get(lease).call;
        let worker = self.leases.get(lease).worker;
        let gate = if planted!("report answered before fsync") { Gate::Open } else { gate_of(self.calls.get(index)) };
        if self.calls.get(index).state.is_settled() {
            return self.stopped(lease, peer, tag, end, effects);
        }
        let recorded = self.leases.get(lease).recorded;
        self.meter_end(index, end);
        self.judge(lease, index, recorded, end, effects);
        let now = self.now;
        if let Some(worker) = self.workers.get_mut(worker) {
            match end {
                End::Succeed { .. } | End::Fail { .. } => {
                    worker.settled += 1;
                    worker.note_end(false, now);
                }
                End::Retry { .. } | End::Bury { .. } => {
                    worker.failed += 1;
                    worker.note_end(true, now);
                }
                End::Release | End::Stop => {}
            }
        }
        effects.emit(gate, Effect::Settled { peer, lease: tag });
    }

    /// Measures an attempt that came to an end of its own.
    fn meter_end(&mut self, index: u32, end: End<'_>) {
        if !matches!(end, End::Release | End::Stop) {
            let took_ms = self.now.wall_ms.saturating_sub(self.calls.get(index).at_ms);
            let procedure = self.procedure_of(index);
            let meter = &mut self.procedures.get_mut(procedure).meter;
            meter.service.add(took_ms);
            meter.services.add(took_ms);
        }
    }

    /// The attempt of a call that was cancelled or expired has stopped.
    fn stopped(&mut self, lease: u32, peer: Peer, tag: LeaseTag, end: End<'_>, effects: &mut impl Effects) {
        self.end_stopped(lease, effects);
        if matches!(end, End::Release | End::Stop) {
            effects.emit(Gate::Open, Effect::Settled { peer, lease: tag });
        } else {
            self.counters.outcomes_rejected += 1;
            effects.emit(Gate::Open, Effect::Stale { peer, lease: tag });
        }
    }

    fn judge(&mut self, lease: u32, index: u32, recorded: bool, end: End<'_>, effects: &mut impl Effects) {
        match end {
            End::Succeed { bytes } => {
                self.give_retry_back(index);
                self.end_lease(lease);
                self.settle(index, State::Succeeded, Verdict::Told(bytes), effects);
            }
            End::Fail { bytes } => {
                self.end_lease(lease);
                self.settle(index, State::Failed, Verdict::Told(bytes), effects);
            }
            End::Bury { bytes, code, text } => {
                self.note_attempt(lease, index, code, text, false);
                let call = self.calls.get_mut(index);
                call.failed = call.failed.saturating_add(1);
                self.end_lease(lease);
                self.settle(index, State::Dead, Verdict::Told(bytes), effects);
            }
            End::Retry { bytes, code, text, after_ms } => {
                let ended = self.note_attempt(lease, index, code, text, false);
                self.end_lease(lease);
                self.retry(index, bytes, ended, after_ms, effects);
            }
            End::Release | End::Stop if self.runs_once(index) => {
                // It was leased, so it may have run; a second lease is what its caller has ruled out.
                self.end_lease(lease);
                self.settle(index, State::Dead, Verdict::Decided(Reason::AtMostOnceLost), effects);
            }
            End::Release | End::Stop => {
                self.end_lease(lease);
                let call = self.calls.get_mut(index);
                call.started -= u16::from(!planted!("release costs an attempt"));
                self.return_call(index, self.now.monotonic_ms, None, recorded, effects);
            }
        }
    }

    fn runs_once(&self, index: u32) -> bool {
        self.routes.get(self.calls.get(index).route).route.at_most_once
    }

    /// A failed attempt: another one after the backoff, or the call is dead.
    fn retry(&mut self, index: u32, bytes: u32, ended: Attempt, after_ms: Option<u32>, effects: &mut impl Effects) {
        let call = self.calls.get_mut(index);
        call.failed = call.failed.saturating_add(1);
        let failed = call.failed;
        let route = &self.routes.get(self.calls.get(index).route).route;
        if failed >= route.attempts.saturating_add(u16::from(planted!("one attempt too many"))) || self.runs_once(index)
        {
            return self.settle(index, State::Dead, Verdict::Told(bytes), effects);
        }
        let bound_ms = route.backoff.bound_ms(failed);
        let mut wait_ms = match after_ms {
            Some(ms) => u64::from(ms),
            None => self.random_below(bound_ms + 1),
        };
        let exhausted = self.is_out_of_retries(index);
        if exhausted && !self.calls.get(index).has(DURABLE) {
            return self.settle(index, State::Dead, Verdict::Decided(Reason::RetryBudget), effects);
        }
        if exhausted {
            // When it is due it is held, if the budget still is used up.
            wait_ms = wait_ms.max(1);
        } else if wait_ms == 0 {
            self.take_retry(index);
        }
        self.return_call(index, self.now.monotonic_ms + wait_ms, Some(ended), true, effects);
    }

    /// Puts a call whose attempt is over back in line, at the earliest at `due_ms`.
    pub(crate) fn return_call(
        &mut self,
        index: u32,
        due_ms: u64,
        ended: Option<Attempt>,
        record: bool,
        effects: &mut impl Effects,
    ) {
        let later = due_ms > self.now.monotonic_ms;
        if planted!("a retry loses the head of its lane") {
            self.leave_lane(index);
        }
        let procedure = self.procedure_of(index);
        self.procedures.get_mut(procedure).count(State::Leased, -1);
        let call = self.calls.get_mut(index);
        call.state = if later { State::Scheduled } else { State::Ready };
        call.at_ms = due_ms;
        let (id, handle, durable) = (call.id, call.handle, call.has(DURABLE));
        if record && durable {
            let due_ms = if later { self.wall_of(due_ms) } else { 0 };
            let progress = self.progress(index);
            let record = Record::Returned { id, due_ms, progress, ended: ended.map(Cow::Owned) };
            effects.record(&record, Body::None, Role::Delta(handle), Urgency::Now);
        }
        self.line_up(index);
    }

    pub(crate) fn progress(&self, index: u32) -> Progress {
        let call = self.calls.get(index);
        Progress { started: call.started, failed: call.failed, lost: call.lost, suspect: call.has(SUSPECT) }
    }

    /// Writes the end of an attempt into the call's history.
    fn note_attempt(&mut self, lease: u32, index: u32, code: Code, text: &str, lost: bool) -> Attempt {
        let it = self.leases.get(lease);
        let mut end = text.len().min(HISTORY_TEXT_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let attempt = Attempt {
            attempt: it.attempt,
            ended_ms: self.now.wall_ms,
            code,
            text: String::from(text.get(..end).unwrap_or_default()),
            worker: self.worker_name(it.worker),
            lost,
        };
        self.remember(index, attempt.clone());
        attempt
    }

    pub(crate) fn remember(&mut self, index: u32, attempt: Attempt) {
        let history = &mut self.calls.extra_mut(index).history;
        if history.len() == HISTORY_MAX {
            history.remove(0);
        }
        history.push(attempt);
    }

    /// Ends the lease of a settled call: nothing of it runs any more. For a call that others wait for that is a fact.
    fn end_stopped(&mut self, index: u32, effects: &mut impl Effects) {
        let lease = self.leases.get(index);
        let (call, recorded) = (lease.call, lease.recorded);
        let it = self.calls.get(call);
        if recorded && it.has(DURABLE) && self.serial(call).is_some() {
            let (id, handle) = (it.id, it.handle);
            effects.record(&Record::Stopped { id }, Body::None, Role::Delta(handle), Urgency::Lazy);
        }
        self.end_lease(index);
        self.leave_lane(call);
        self.untie(call);
    }

    /// Ends a lease and gives back its slots, unless it had done so, and its place under its concurrency key.
    pub(crate) fn end_lease(&mut self, index: u32) {
        let lease = self.leases.remove(index);
        self.return_key(lease.call);
        if lease.parking == Parking::Running {
            let procedure = self.procedure_of(lease.call);
            self.count_stop(procedure);
        }
        let call = self.calls.get_mut(lease.call);
        call.lease = NONE;
        if call.state.is_settled() && call.has(OVERDUE) && !call.has(OUTSTANDING) {
            // It was kept only for its attempt to stop.
            self.leftovers.push_back(Leftover::Outcome(lease.call, call.generation));
        }
        let Some(worker) = self.workers.get_mut(lease.worker) else { return };
        worker.leases.swap_remove(lease.held as usize);
        if let Some(moved) = worker.leases.get(lease.held as usize).copied() {
            self.leases.get_mut(moved).held = lease.held;
        }
        match lease.parking {
            Parking::Running if planted!("the slot of a stopped attempt leaks") && lease.stopping => {}
            Parking::Running => worker.used -= lease.slots,
            Parking::Parked | Parking::Resuming => worker.parked -= 1,
        }
        if worker.suspect == index {
            worker.suspect = NONE;
        }
        if worker.peer.is_some() {
            self.busy_workers.push_back(lease.worker);
        } else {
            self.drop_idle_worker(lease.worker);
        }
    }

    pub(crate) fn extend(&mut self, peer: Peer, tag: LeaseTag, effects: &mut impl Effects) {
        let Some(lease) = self.held(peer, tag) else {
            self.counters.stale += 1;
            return effects.emit(Gate::Open, Effect::Stale { peer, lease: tag });
        };
        let ends_ms = self.now.monotonic_ms + u64::from(self.limits.lease_ms);
        self.leases.extend(lease, if planted!("extension lost") { self.now.monotonic_ms + 1 } else { ends_ms });
        let it = self.leases.get(lease);
        let call = self.calls.get(it.call);
        // An eager lease that lasts gets its record now, so that a restart of the broker does not cut it short.
        if !it.recorded && call.has(DURABLE) && !call.state.is_settled() {
            self.record_lease(lease, Urgency::Lazy, effects);
        }
    }

    pub(crate) fn expire_leases(&mut self, budget: u32, effects: &mut impl Effects) {
        for _ in 0..budget {
            match self.leases.first() {
                Some((index, ends_ms)) if ends_ms <= self.now.monotonic_ms && !planted!("leases never end") => {
                    let worker = self.leases.get(index).worker;
                    if !self.leases.get(index).crowded
                        && let Some(worker) = self.workers.get(worker)
                    {
                        let held = worker.leases.clone();
                        self.mark_crowded(&held);
                    }
                    self.lose(self.leases.tag(index), effects);
                }
                _ => return,
            }
        }
    }

    /// Of leases that are lost together, only one that alone was a suspect's says something about its call.
    pub(crate) fn mark_crowded(&mut self, held: &[u32]) {
        let suspect = |engine: &Self, lease: u32| engine.calls.get(engine.leases.get(lease).call).has(SUSPECT);
        let suspects = held.iter().filter(|lease| suspect(self, **lease)).count();
        for lease in held {
            self.leases.get_mut(*lease).beside = held.len() > 1;
            let alone = held.len() == 1 || (suspects == 1 && suspect(self, *lease));
            if !alone && !planted!("innocent calls suspected") {
                self.leases.get_mut(*lease).crowded = true;
            }
        }
    }

    /// A lease is lost: its worker died, hung, or was cut off.
    pub(crate) fn lose(&mut self, tag: LeaseTag, effects: &mut impl Effects) {
        if self.leases.current(tag).is_none() {
            return;
        }
        let lease = tag.slot;
        let it = self.leases.get(lease);
        let (index, counted, orphan) =
            (it.call, !it.crowded && (!it.orphan || planted!("restart counts against calls")), it.orphan);
        if let Some(peer) = self.workers.get(it.worker).and_then(|worker| worker.peer) {
            effects.emit(Gate::Open, Effect::Stale { peer, lease: tag });
        }
        if self.calls.get(index).state.is_settled() {
            return self.end_stopped(lease, effects);
        }
        self.counters.lost_leases += 1;
        let text = if orphan { "the broker restarted and the worker did not come back" } else { "the lease was lost" };
        let ended = self.note_attempt(lease, index, Code::Unavailable, text, true);
        self.end_lease(lease);
        let at_most_once = self.runs_once(index) && !planted!("at most once leased again");
        let call = self.calls.get_mut(index);
        call.set(SUSPECT, !orphan || call.has(SUSPECT));
        call.lost = call.lost.saturating_add(u8::from(counted));
        let lost = call.lost;
        if at_most_once {
            self.settle(index, State::Dead, Verdict::Decided(Reason::AtMostOnceLost), effects);
        } else if lost >= self.limits.lost_leases_max && !planted!("limit of lost leases ignored") {
            self.settle(index, State::Dead, Verdict::Decided(Reason::LostLeases), effects);
        } else {
            self.return_call(index, self.now.monotonic_ms, Some(ended), true, effects);
        }
    }

    /// Where the payload that a call is given stands: with the call, or with the event that it was made of.
    pub(crate) fn payload_of(&self, index: u32) -> Handle {
        self.event_of(index).map_or_else(|| self.arguments_of(index), |event| event.handle)
    }

    /// The record with the arguments of a call, also of a dead letter.
    pub(crate) fn arguments_of(&self, index: u32) -> Handle {
        let call = self.calls.get(index);
        match self.calls.extra(index) {
            Some(extra) if call.state.is_settled() => extra.arguments,
            _ if call.state.is_settled() => Handle::NONE,
            _ => call.handle,
        }
    }
}
