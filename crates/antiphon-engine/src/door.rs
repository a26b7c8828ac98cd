//! What the door looks at: how much waits already, and whether a call would start in time. And the wait it predicts.

use crate::admission::Submit;
use crate::effect::{Bound, Refusal};
use crate::meter::{Probe, RESIDUAL_PERMILLE_MAX};
use crate::planted::planted;
use crate::procedure::Procedure;
use crate::queue::Entry;
use crate::section::Section;
use crate::{Engine, Now};
use alloc::vec::Vec;
use antiphon_protocol::{Measured, Route, Start};

/// How many workers are asked whether they have a free slot: those that lost theirs leave the ring as they come up.
const ASKED: usize = 8;
/// When a refused caller may come back at the earliest and the latest: sooner is no relief, later is not known.
const RETRY_AFTER_MS: (u64, u64) = (100, 60_000);
/// The same where nothing is known.
const RETRY_AFTER_UNKNOWN_MS: u64 = 1_000;

impl Engine {
    /// Whether the queue of a call's procedure, or of a callback's, has no room for it. Of callbacks it is looked at when the
    /// call that makes them is accepted: later they cannot be refused any more.
    pub(crate) fn reservation_refusal(&self, route: &Route) -> Option<Refusal> {
        let mut procedures = Vec::new();
        route.visit(&mut |each| procedures.push(each.procedure.clone()));
        procedures.iter().find_map(|name| {
            let it = self.procedures.get(self.procedures.find(name)?);
            let more = procedures.iter().filter(|other| *other == name).count() as u64;
            let full = it.waiting.calls.saturating_add(it.reserved).saturating_add(more) > it.terms.queued_max;
            full.then(|| Self::queue_full(it, Bound::Calls, it.terms.queued_max))
        })
    }

    fn queue_full(it: &Procedure, bound: Bound, limit: u64) -> Refusal {
        let one_start_ms = it.meter.interval_us(it.slots).map(|us| us / 1_000);
        let retry_after_ms = one_start_ms.map_or(RETRY_AFTER_UNKNOWN_MS, patient);
        Refusal::QueueFull { procedure: it.name.clone(), bound, limit, retry_after_ms }
    }

    /// Whether the procedure's queue, or its tenant's part of it, is as full as it may be; or that of a callback.
    pub(crate) fn queue_refusal(&self, submit: &Submit) -> Option<Refusal> {
        let route = self.routes.get(submit.route);
        let it = self.procedures.get(route.procedure);
        let (all, own, terms, bytes) =
            (it.waiting, self.accounts.get(route.account), &it.terms, u64::from(submit.bytes));
        let bounds = [
            (all.calls.saturating_add(it.reserved) + 1, terms.queued_max, Bound::Calls),
            (all.bytes + bytes, terms.queued_bytes_max, Bound::Bytes),
            (own.calls + 1, terms.tenant_queued_max, Bound::TenantCalls),
            (own.bytes + bytes, terms.tenant_queued_bytes_max, Bound::TenantBytes),
        ];
        let ignored = |bound: Bound| match bound {
            Bound::Calls | Bound::Bytes => planted!("limits of queues are ignored"),
            Bound::TenantCalls | Bound::TenantBytes => planted!("limits of tenants are ignored"),
        };
        match bounds.into_iter().find(|(would_be, limit, bound)| would_be > limit && !ignored(*bound)) {
            Some((_, limit, bound)) => Some(Self::queue_full(it, bound, limit)),
            None if route.route.callbacks.is_empty() || planted!("callbacks need no place in a queue") => None,
            None => self.reservation_refusal(&route.route),
        }
    }

    /// Whether the call would end too late, as far as can be told: its wait, and as long as an attempt takes. One before which nothing waits is always taken: so
    /// there is always something to measure.
    pub(crate) fn lateness_refusal(&self, submit: &Submit) -> Option<Refusal> {
        if !self.limits.predict || submit.deadline_ms == 0 || !starts_now(submit, self.now) {
            return None;
        }
        if self.is_surely_in_time(submit) {
            return None;
        }
        let (ahead, wait_ms) = self.wait_of(submit)?;
        let it = self.procedures.get(self.routes.get(submit.route).procedure);
        let service_ms = it.meter.service.mean_us().unwrap_or(0) / 1_000;
        let ends_ms = if planted!("late calls are let in") { 0 } else { wait_ms.saturating_add(service_ms) };
        if ahead == 0 || ends_ms <= submit.deadline_ms {
            return None;
        }
        let procedure = it.name.clone();
        let retry_after_ms = patient(ends_ms - submit.deadline_ms);
        Some(Refusal::TooLate { procedure, wait_ms, service_ms, deadline_ms: submit.deadline_ms, retry_after_ms })
    }

    /// Whether the call would end before its deadline even if all that are ready went first: which of them do is then
    /// not worked out.
    fn is_surely_in_time(&self, submit: &Submit) -> bool {
        let route = self.routes.get(submit.route);
        let it = self.procedures.get(route.procedure);
        let Some(interval_us) = it.meter.interval_us(it.slots) else { return true };
        let service_ms = it.meter.service.mean_us().unwrap_or(0) / 1_000;
        let Some(latest_ms) = submit.deadline_ms.checked_sub(service_ms) else { return false };
        let ahead_permille = self.sections.get(route.section).ready() as u64 * 1_000 + RESIDUAL_PERMILLE_MAX;
        interval_us.saturating_mul(ahead_permille) <= latest_ms.saturating_mul(1_000_000)
    }

    /// How long a call would wait for its start, in milliseconds; `None` where that cannot be told.
    pub(crate) fn expected_wait_ms(&self, submit: &Submit) -> Option<u64> {
        if !starts_now(submit, self.now) {
            return None;
        }
        self.wait_of(submit).map(|(_, wait_ms)| wait_ms)
    }

    /// How many calls would start before this one, and how long that takes.
    fn wait_of(&self, submit: &Submit) -> Option<(u64, u64)> {
        let route = self.routes.get(submit.route);
        let it = self.procedures.get(route.procedure);
        let section = self.sections.get(route.section);
        // What a rule, a lane, a key, labels or a cost in slots make of it is not measured.
        let plain = it.ruled.is_none() && section.needs.is_plain();
        if it.slots == 0 || !plain || submit.ties.as_ref().is_some_and(|ties| ties.is_serial()) {
            return None;
        }
        if section.ready() == 0 && self.has_free_slot(section) {
            return Some((0, 0));
        }
        let ahead = section.suspects.len() as u64 + section.queue.ahead_of_new(route.line, self.new_entry(submit));
        wait_behind(it, ahead).map(|wait_ms| (ahead, wait_ms))
    }

    /// The entry that the call would have, if it has a deadline that might bring it forward.
    fn new_entry(&self, submit: &Submit) -> Option<Entry> {
        let class = self.routes.get(submit.route).route.priority.class();
        let due_ms = self.now.monotonic_ms + crate::dispatch::patience_ms(class);
        let deadline_ms = self.now.monotonic_ms.saturating_add(submit.deadline_ms);
        let early = submit.deadline_ms != 0 && deadline_ms < due_ms;
        early.then_some(Entry { due_ms: deadline_ms, call: 0, stamp: self.stamp })
    }

    pub(crate) fn has_free_slot(&self, section: &Section) -> bool {
        let mut asked = section.ring.iter().take(ASKED);
        asked.any(|place| self.workers.get(*place).is_some_and(|worker| worker.free() > 0))
    }

    /// Whether no call of the procedure is being looked at whether its predicted wait comes true.
    pub(crate) fn may_watch_prediction(&mut self, procedure: u32) -> bool {
        let free = self.procedures.get(procedure).meter.foresight.probe.is_none_or(|probe| {
            // One that was settled before it started tells nothing.
            self.calls.live(probe.call, probe.generation).is_none_or(|call| call.state.is_settled())
        });
        free && self.procedures.get_mut(procedure).meter.foresight.seeks(self.now.monotonic_ms)
    }

    /// Looks whether the predicted wait of this newly accepted call comes true.
    pub(crate) fn watch_prediction(&mut self, index: u32, wait_ms: Option<u64>) {
        let Some(wait_ms) = wait_ms.filter(|ms| *ms > 0) else { return };
        let procedure = self.procedure_of(index);
        let (generation, made_ms) = (self.calls.get(index).generation, self.now.monotonic_ms);
        let probe = Probe { call: index, generation, made_ms, wait_ms };
        self.procedures.get_mut(procedure).meter.foresight.probe = Some(probe);
    }

    /// To be said before the ready calls of a procedure or its slots change.
    pub(crate) fn pass_time(&mut self, procedure: u32) {
        let now_ms = self.now.monotonic_ms;
        let it = self.procedures.get(procedure);
        if it.meter.drain.has_passed(now_ms) {
            return;
        }
        let (waiting, slots) = (it.sections.iter().any(|place| self.sections.get(*place).ready() > 0), it.slots);
        let it = self.procedures.get_mut(procedure);
        it.meter.drain.pass(now_ms, waiting, slots);
    }

    /// A call gets its lease.
    pub(crate) fn meter_start(&mut self, index: u32) {
        let now_ms = self.now.monotonic_ms;
        let call = self.calls.get(index);
        let (generation, first) = (call.generation, call.started == 0);
        let waited_ms = now_ms.saturating_sub(call.at_ms);
        let procedure = self.procedure_of(index);
        let meter = &mut self.procedures.get_mut(procedure).meter;
        if waited_ms > 0 {
            meter.drain.start();
        }
        if first {
            meter.waits.add(waited_ms);
            meter.foresight.started(index, generation, now_ms);
        }
    }

    /// What is measured of a procedure.
    pub(crate) fn measured(&self, procedure: &Procedure) -> Measured {
        let meter = &procedure.meter;
        Measured {
            arrived: meter.arrivals.count(self.now.monotonic_ms),
            start_interval_us: meter.interval_us(procedure.slots),
            attempts: meter.service.count(),
            service_mean_us: meter.service.mean_us().unwrap_or(0),
            service_variance_ms2: meter.service.variance_ms2(),
            service: meter.services.quantiles(),
            wait: meter.waits.quantiles(),
            predictions: meter.foresight.count(),
            prediction_error_permille: meter.foresight.error_permille(),
        }
    }
}

/// How long a call waits for its start behind so many others when all slots are busy, in milliseconds.
pub(crate) fn wait_behind(procedure: &Procedure, ahead: u64) -> Option<u64> {
    let interval_us = u128::from(procedure.meter.interval_us(procedure.slots)?);
    let behind_permille = u128::from(ahead) * 1_000 + u128::from(procedure.meter.service.residual_permille());
    Some(u64::try_from(interval_us * behind_permille / 1_000_000).unwrap_or(u64::MAX))
}

const fn starts_now(submit: &Submit, now: Now) -> bool {
    match submit.start {
        Start::Now | Start::In(0) => true,
        Start::In(_) => false,
        Start::At(wall_ms) => wall_ms <= now.wall_ms,
    }
}

fn patient(ms: u64) -> u64 {
    ms.clamp(RETRY_AFTER_MS.0, RETRY_AFTER_MS.1)
}
