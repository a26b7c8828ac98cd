//! What the engine can tell about calls, procedures and workers. Answers change nothing.

use crate::Engine;
use crate::call::{Attempt, DURABLE, NONE};
use alloc::vec::Vec;
use antiphon_protocol::{
    AttemptRecord, CallFilter, CallId, CallStatus, CallbackStatus, ChildStatus, GroupStatus, Knowledge,
    ProcedureStatus, State, WorkerStatus,
};

impl Engine {
    /// What is known of an id.
    #[must_use]
    pub fn knowledge(&self, id: CallId) -> Knowledge {
        match self.calls.find(id) {
            Some(index) => Knowledge::Known(self.status(index)),
            None if self.forgotten.contains(id) => Knowledge::Forgotten,
            None if id.unix_ms() <= self.horizon_ms => Knowledge::TooOldToSay,
            None => Knowledge::NeverSeen,
        }
    }

    fn status(&self, index: u32) -> CallStatus {
        let call = self.calls.get(index);
        let route = &self.routes.get(call.route).route;
        let worker = (call.lease != NONE).then(|| self.leases.get(call.lease).worker);
        CallStatus {
            id: call.id,
            procedure: route.procedure.clone(),
            tenant: route.tenant.clone(),
            state: call.state,
            priority: route.priority.class(),
            durable: call.has(DURABLE),
            submitted_ms: call.submitted_ms,
            since_ms: match call.state {
                State::Scheduled => self.wall_of(call.at_ms),
                State::Ready => 0,
                _ => call.at_ms,
            },
            deadline_ms: if call.state.is_settled() { 0 } else { self.wall_of(call.deadline_ms) },
            attempts: call.started,
            attempts_max: route.attempts,
            lost_leases: call.lost,
            payload_bytes: call.bytes,
            worker: worker.and_then(|worker| self.worker_name(worker)),
            stopping: call.state.is_settled() && call.lease != NONE,
            history: self.history(index),
            cause: self.calls.extra(index).and_then(|extra| extra.ties.as_ref()?.cause),
            callbacks: self.planned(index).map(|planned| self.callback_status(call.id, planned)).collect(),
            groups: self.groups_of(index),
            is_group: route.group.is_some(),
        }
    }

    fn callback_status(&self, cause: CallId, planned: crate::callback::Planned) -> CallbackStatus {
        let procedure = self.routes.get(planned.route).route.procedure.clone();
        CallbackStatus { on: planned.on, procedure, id: self.callback_id(cause, planned) }
    }

    fn groups_of(&self, index: u32) -> Vec<CallId> {
        let groups = self.calls.extra(index).map_or(&[][..], |extra| extra.groups.as_slice());
        groups.iter().map(|member| self.calls.get(member.group).id).collect()
    }

    /// Where a group stands, with at most `limit` of its children from place `from` on.
    #[must_use]
    pub fn group(&self, id: CallId, from: u32, limit: u32) -> Option<GroupStatus> {
        let index = self.calls.find(id)?;
        let call = self.calls.get(index);
        let group = self.routes.get(call.route).route.group?;
        let children = self.groups.get(&index).filter(|_| !call.state.is_settled());
        let members = children.map_or(&[][..], |children| children.members.as_slice());
        let rest = members.get(from as usize..).unwrap_or_default();
        let page = (from..).zip(rest).take(limit as usize);
        let child = |(place, member): (u32, &u32)| {
            let call = self.calls.slot(*member)?;
            let procedure = self.routes.get(call.route).route.procedure.clone();
            Some(ChildStatus { place, id: call.id, procedure, state: call.state })
        };
        Some(GroupStatus {
            id,
            state: call.state,
            group,
            sealed: call.state.is_settled() || self.is_sealed(index),
            counts: children.map_or_else(Default::default, |children| children.counts),
            children: page.filter_map(child).collect(),
        })
    }

    fn history(&self, index: u32) -> Vec<AttemptRecord> {
        let Some(extra) = self.calls.extra(index) else { return Vec::new() };
        extra.history.iter().map(attempt_record).collect()
    }

    /// Looks through at most `budget` calls for those that match, from `cursor` downwards; says where to go on, if
    /// there is more: also when as many were found as are asked for. Start with `u32::MAX`.
    pub fn list(&self, filter: &CallFilter, cursor: u32, budget: u32, found: &mut Vec<CallStatus>) -> Option<u32> {
        let limit = if filter.limit == 0 { 100 } else { filter.limit as usize };
        let mut at = cursor.min(self.calls.end());
        for _ in 0..budget {
            if at == 0 {
                return None;
            }
            if found.len() >= limit {
                break;
            }
            at -= 1;
            if self.calls.slot(at).is_some() && self.matches(at, filter) {
                found.push(self.status(at));
            }
        }
        Some(at)
    }

    fn matches(&self, index: u32, filter: &CallFilter) -> bool {
        let call = self.calls.get(index);
        let route = &self.routes.get(call.route).route;
        filter.state.is_none_or(|state| state == call.state)
            && filter.procedure.as_ref().is_none_or(|procedure| *procedure == route.procedure)
            && filter.tenant.as_ref().is_none_or(|tenant| Some(tenant) == route.tenant.as_ref())
            && filter.label.as_ref().is_none_or(|label| route.labels.contains(label))
            && call.submitted_ms >= filter.since_ms
            && (filter.until_ms == 0 || call.submitted_ms < filter.until_ms)
    }

    /// Calls by state, in the order of the states' numbers.
    #[must_use]
    pub fn counts(&self) -> [u64; 8] {
        let mut sums = [0; 8];
        for procedure in self.procedures.iter() {
            for (sum, count) in sums.iter_mut().zip(procedure.counts) {
                *sum += count;
            }
        }
        sums
    }

    /// Every procedure with calls or workers.
    #[must_use]
    pub fn procedures(&self) -> Vec<ProcedureStatus> {
        let mut all = Vec::new();
        for procedure in 0..self.procedures.len() {
            let it = self.procedures.get(procedure);
            let serving =
                self.workers.iter().filter(|worker| worker.peer.is_some() && worker.offered(procedure).is_some());
            let (workers, slots) =
                serving.fold((0, 0_u32), |(count, slots), worker| (count + 1, slots.saturating_add(worker.slots)));
            let sections = it.sections.iter().map(|section| self.sections.get(*section));
            let fronts = sections.flat_map(|section| section.queue.fronts().chain(section.suspects.front().copied()));
            let ready = fronts.filter(|entry| crate::dispatch::is_live(&self.calls, entry));
            let waited = ready.map(|entry| self.now.monotonic_ms.saturating_sub(self.calls.get(entry.call).at_ms));
            let oldest_ready_ms = waited.max().unwrap_or(0);
            let status = ProcedureStatus {
                procedure: it.name.clone(),
                calls: it.counts,
                workers,
                slots,
                oldest_ready_ms,
                settled: it.total,
                measured: self.measured(it),
                running: it.running,
                paused: it.ruled.as_ref().is_some_and(|ruled| ruled.rule.paused),
            };
            if status.paused || workers > 0 || it.total > 0 || it.counts.iter().any(|count| *count > 0) {
                all.push(status);
            }
        }
        all
    }

    /// Every worker that is connected or holds a lease.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerStatus> {
        let status = |worker: &crate::worker::Worker| WorkerStatus {
            name: worker.name.clone(),
            procedures: worker.offers.iter().map(|offer| self.procedures.get(offer.procedure).name.clone()).collect(),
            slots: worker.slots,
            leased: u32::try_from(worker.leases.len()).unwrap_or(u32::MAX),
            connected: worker.peer.is_some(),
            draining: worker.draining,
            labels: worker.labels.clone(),
            parked: worker.parked,
            settled: worker.settled,
            failed: worker.failed,
        };
        self.workers.iter().map(status).collect()
    }
}

pub(crate) fn attempt_record(attempt: &Attempt) -> AttemptRecord {
    AttemptRecord {
        attempt: attempt.attempt,
        ended_ms: attempt.ended_ms,
        code: attempt.code,
        message: attempt.text.clone(),
        worker: attempt.worker.clone(),
        lost: attempt.lost,
    }
}
