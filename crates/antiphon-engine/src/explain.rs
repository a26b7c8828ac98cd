//! Why a call stands where it stands. What a waiting call waits for is looked for in the order in which the causes
//! would have to go, so that there is one answer; asking changes nothing.

use crate::Engine;
use crate::call::{NONE, SUSPECT};
use crate::door::wait_behind;
use crate::parking::Parking;
use crate::worker::Worker;
use antiphon_protocol::{AttemptRecord, CallId, Cause, Explanation, Name, Standing, State};

impl Engine {
    /// Why the call with this id stands where it stands.
    #[must_use]
    pub fn explain(&self, id: CallId) -> Explanation {
        let Some(index) = self.calls.find(id) else {
            return Explanation { id, procedure: None, standing: self.absence(id) };
        };
        let procedure = self.routes.get(self.calls.get(index).route).route.procedure.clone();
        Explanation { id, procedure: Some(procedure), standing: self.standing(index) }
    }

    /// What can be said of an id that is no call here.
    fn absence(&self, id: CallId) -> Standing {
        if self.forgotten.contains(id) {
            Standing::Forgotten
        } else if id.unix_ms() <= self.horizon_ms {
            Standing::TooOldToSay
        } else {
            Standing::NeverSeen
        }
    }

    fn standing(&self, index: u32) -> Standing {
        let call = self.calls.get(index);
        match call.state {
            State::Scheduled | State::Ready => {
                let cause = self.cause(index);
                Standing::Waiting { starts_ms: self.predicted_start(index, &cause), cause }
            }
            State::Leased => self.running(index),
            state if call.lease == NONE => Standing::Settled { state, at_ms: call.at_ms },
            state => Standing::Stopping { state, worker: self.holder(index), since_ms: call.at_ms },
        }
    }

    fn running(&self, index: u32) -> Standing {
        let call = self.calls.get(index);
        let lease = self.leases.get(call.lease);
        if lease.parking != Parking::Running {
            let (attempt, worker, since_ms) = (call.started, self.holder(index), call.at_ms);
            return Standing::Parked { attempt, worker, since_ms, awaits: lease.awaits };
        }
        let worker = self.workers.get(lease.worker);
        Standing::Running {
            attempt: call.started,
            worker: self.holder(index),
            since_ms: call.at_ms,
            worker_away: worker.is_none_or(|worker| worker.peer.is_none()),
        }
    }

    /// The name of the worker that holds the call's lease.
    fn holder(&self, index: u32) -> Name {
        let worker = self.leases.get(self.calls.get(index).lease).worker;
        self.worker_name(worker).unwrap_or(Name::from_static("unknown"))
    }

    fn cause(&self, index: u32) -> Cause {
        let call = self.calls.get(index);
        if call.state == State::Scheduled {
            return self.cause_of_delay(index);
        }
        let cause = self.cause_in_lane(index).or_else(|| self.cause_in_rule(index));
        let cause = cause.or_else(|| self.cause_in_workers(index)).or_else(|| self.cause_in_key(index));
        cause.unwrap_or_else(|| self.cause_in_line(index))
    }

    fn cause_in_lane(&self, index: u32) -> Option<Cause> {
        self.lane_holder(index).map(|(by, key)| Cause::LaneHeld { by, key })
    }

    /// What operators have ruled about its procedure, if that keeps it.
    fn cause_in_rule(&self, index: u32) -> Option<Cause> {
        let procedure = self.procedures.get(self.procedure_of(index));
        let ruled = procedure.ruled.as_ref()?;
        if ruled.rule.paused {
            return Some(Cause::Paused);
        }
        if procedure.is_full() {
            return Some(Cause::CapReached { cap: u32::try_from(ruled.rule.running_max).unwrap_or(u32::MAX) });
        }
        match ruled.token_ms(self.now) {
            0 => None,
            token_ms => Some(Cause::RateLimited { until_ms: self.wall_of(token_ms) }),
        }
    }

    /// Its concurrency key, if it is aside until that has a place.
    fn cause_in_key(&self, index: u32) -> Option<Cause> {
        let serial = self.serial(index).filter(|serial| serial.aside)?;
        let running = self.concurrency.get(serial.key)?.running;
        Some(Cause::KeyHeld { key: self.ties(index)?.concurrency.clone()?, running })
    }

    fn cause_of_delay(&self, index: u32) -> Cause {
        let call = self.calls.get(index);
        let at_ms = self.wall_of(call.at_ms);
        if let Some(children) = self.groups.get(&index) {
            let unsealed_until_ms = (!children.sealed).then_some(at_ms);
            return Cause::Children { counts: children.counts, unsealed_until_ms };
        }
        if call.started == 0 {
            return Cause::NotBefore { at_ms };
        }
        if self.calls.extra(index).is_some_and(|extra| extra.held) {
            return Cause::RetryBudget { at_ms: self.held_until_ms(index), after: self.last_attempt(index) };
        }
        Cause::Retry { at_ms, after: self.last_attempt(index) }
    }

    fn last_attempt(&self, index: u32) -> Option<AttemptRecord> {
        self.calls.extra(index)?.history.last().map(crate::look::attempt_record)
    }

    /// Connected workers that serve the call's procedure.
    fn serving(&self, index: u32) -> impl Iterator<Item = &Worker> {
        let procedure = self.procedure_of(index);
        self.workers.iter().filter(move |worker| worker.peer.is_some() && worker.offered(procedure).is_some())
    }

    /// Those of them that take its arguments.
    fn understanding(&self, index: u32) -> impl Iterator<Item = &Worker> {
        let section = self.sections.get(self.routes.get(self.calls.get(index).route).section);
        self.serving(index).filter(|worker| worker.understands(section.procedure, &section.needs))
    }

    /// Those of them that have the labels and, in all, the slots that the call needs.
    fn able(&self, index: u32) -> impl Iterator<Item = &Worker> {
        let needs = &self.sections.get(self.routes.get(self.calls.get(index).route).section).needs;
        self.understanding(index).filter(|worker| needs.met_by(&worker.labels) && worker.total() >= needs.slots)
    }

    /// What is wrong with the workers there are, if none of them could ever take the call.
    fn cause_in_workers(&self, index: u32) -> Option<Cause> {
        let count = self.serving(index).count();
        if count == 0 {
            return Some(Cause::NoWorker);
        }
        let needs = &self.sections.get(self.routes.get(self.calls.get(index).route).section).needs;
        let understanding = self.understanding(index).count();
        if understanding == 0 {
            return Some(Cause::NoSchema { workers: u32::try_from(count).unwrap_or(u32::MAX) });
        }
        let labelled = || self.understanding(index).filter(|worker| needs.met_by(&worker.labels));
        if labelled().next().is_none() {
            let workers = u32::try_from(understanding).unwrap_or(u32::MAX);
            return Some(Cause::NoLabels { required: needs.labels.clone(), workers });
        }
        let largest = labelled().map(Worker::total).max().unwrap_or(0);
        if largest < needs.slots {
            return Some(Cause::TooFewSlots { needed: needs.slots, largest });
        }
        let count = self.able(index).count();
        let open = self.able(index).filter(|worker| worker.is_open()).count();
        (open == 0).then(|| Cause::Draining { workers: u32::try_from(count).unwrap_or(u32::MAX) })
    }

    /// What keeps a ready call that some worker could take.
    fn cause_in_line(&self, index: u32) -> Cause {
        let open = || self.able(index).filter(|worker| worker.is_open());
        let ahead = self.ahead(index);
        let suspect = self.calls.get(index).has(SUSPECT);
        // A worker that runs a suspect takes no other, however many slots are free.
        let takes = |worker: &&Worker| !suspect || worker.suspect == NONE;
        if !open().any(|worker| takes(&worker)) {
            return Cause::Suspect { ahead };
        }
        let own = self.routes.get(self.calls.get(index).route).section;
        let needed = self.sections.get(own).needs.slots;
        let free = || open().filter(takes).filter(|worker| worker.free() >= needed);
        let kept = |worker: &Worker| worker.reserved != NONE && worker.reserved != own;
        if ahead == 0 && free().any(|worker| !kept(worker)) {
            return Cause::Starting;
        }
        if let Some(worker) = free().find(|worker| kept(worker)) {
            return Cause::SlotsKept { ahead, needed: self.sections.get(worker.reserved).needs.slots };
        }
        let (workers, slots) = open().fold((0, 0_u32), |(count, slots), worker| (count + 1, slots + worker.slots));
        Cause::SlotsBusy { ahead, workers, slots }
    }

    /// How many calls of its procedure should start before this ready one, roughly.
    pub(crate) fn ahead(&self, index: u32) -> u64 {
        let call = self.calls.get(index);
        let route = self.routes.get(call.route);
        let section = self.sections.get(route.section);
        if call.has(SUSPECT) {
            return section.suspects.iter().take_while(|entry| entry.call != index).count() as u64;
        }
        section.suspects.len() as u64 + section.queue.ahead(route.line, &self.entry_of(index))
    }

    /// When a waiting call should start, in wall-clock time.
    fn predicted_start(&self, index: u32, cause: &Cause) -> Option<u64> {
        match cause {
            Cause::NotBefore { at_ms } | Cause::Retry { at_ms, .. } | Cause::RetryBudget { at_ms, .. } => Some(*at_ms),
            Cause::RateLimited { until_ms } => Some(*until_ms),
            Cause::Starting => Some(self.now.wall_ms),
            Cause::SlotsBusy { .. } => Some(self.now.wall_ms.saturating_add(self.predicted_wait_ms(index)?)),
            _ => None,
        }
    }

    /// How long a call goes on waiting for its start, in milliseconds; `None` where that cannot be told.
    pub(crate) fn predicted_wait_ms(&self, index: u32) -> Option<u64> {
        let call = self.calls.get(index);
        let it = self.procedures.get(self.procedure_of(index));
        if call.state != State::Ready || it.slots == 0 {
            return None;
        }
        let ahead = self.ahead(index);
        let section = self.sections.get(self.routes.get(call.route).section);
        if ahead == 0 && self.has_free_slot(section) { Some(0) } else { wait_behind(it, ahead) }
    }
}
