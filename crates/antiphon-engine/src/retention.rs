//! How long settled calls are kept: by age, and by bytes of each procedure; dead letters and keyed calls by age alone.
//! What a connected or named inbox has not acknowledged is kept until it has.

use crate::Engine;
use crate::call::{ACKNOWLEDGED, COLD, DURABLE, NONE, OUTSTANDING, OVERDUE};
use crate::effect::{Body, Effects, Gate, Handle, Role, Urgency};
use crate::limits::OUTCOME_OVERHEAD_BYTES;
use crate::planted::planted;
use crate::record::Record;
use crate::tail::Ties;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use antiphon_protocol::{CallId, State};

/// How often ages are looked at: a second late is soon enough for hours.
pub(crate) const RETENTION_STEP_MS: u64 = 1_000;

/// How many outcomes a settlement lets go at most: more than one, so that what is too much becomes less.
const EVICTED_AT_ONCE: u32 = 8;

impl Engine {
    /// Notes a newly settled call for retention, and lets the oldest go when the procedure keeps too much.
    pub(crate) fn keep_settled(&mut self, index: u32, procedure: u32, effects: &mut impl Effects) {
        let call = self.calls.get(index);
        let entry = (index, call.generation);
        let weight = u64::from(call.bytes) + OUTCOME_OVERHEAD_BYTES;
        let keyed = self.calls.extra(index).is_some_and(|extra| extra.key.is_some());
        if self.next_retention_ms == 0 {
            self.next_retention_ms = self.now.monotonic_ms + RETENTION_STEP_MS;
        }
        if self.is_private(index) && call.has(OUTSTANDING) && call.state != State::Dead {
            // Its caller is the only one who could ask for it: it goes when that has it.
            self.calls.get_mut(index).set(OVERDUE, true);
            return;
        }
        let it = self.procedures.get_mut(procedure);
        if call.state == State::Dead && call.has(DURABLE) {
            it.dead.push_back(entry);
            it.dead_kept += 1;
            self.evict_dead(procedure, EVICTED_AT_ONCE, effects);
        } else if keyed {
            it.keyed.push_back(entry);
        } else {
            it.settled.push_back(entry);
            it.settled_bytes += weight;
            self.evict(procedure, EVICTED_AT_ONCE, effects);
        }
    }

    /// Lets the oldest dead letters of a procedure go, at most `left` of them; says how many more it might have.
    /// Entries of those that were purged are only passed over. One that its inbox still needs has gone as a dead letter,
    /// too: or else all younger ones would go in its place.
    fn evict_dead(&mut self, procedure: u32, mut left: u32, effects: &mut impl Effects) -> u32 {
        let limit = self.procedures.get(procedure).terms.dead_letters_max;
        while left > 0 {
            let it = self.procedures.get_mut(procedure);
            if (if planted!("young dead letters evicted") {
                it.counts.get(State::Dead as usize).copied().unwrap_or(0)
            } else {
                it.dead_kept.into()
            }) <= limit
            {
                break;
            }
            let Some((index, generation)) = it.dead.pop_front() else { break };
            self.let_settled_go(index, generation, effects);
            left -= 1;
        }
        left
    }

    /// The same for other outcomes, until their bytes are within bounds.
    fn evict(&mut self, procedure: u32, mut left: u32, effects: &mut impl Effects) -> u32 {
        // The newest stays, however large: whoever settled it is not done with it yet.
        let limit = self.procedures.get(procedure).terms.outcome_bytes;
        while left > 0 {
            let it = self.procedures.get_mut(procedure);
            if it.settled_bytes <= limit || it.settled.len() <= 1 {
                break;
            }
            let Some((index, generation)) = it.settled.pop_front() else { break };
            self.let_settled_go(index, generation, effects);
            left -= 1;
        }
        left
    }

    /// Forgets a settled call, or marks it to be forgotten when its inbox acknowledges it.
    fn let_settled_go(&mut self, index: u32, generation: u32, effects: &mut impl Effects) {
        if self.calls.live(index, generation).is_some() && self.is_dead_letter(index) {
            let procedure = self.procedure_of(index);
            self.procedures.get_mut(procedure).dead_kept -= 1;
        }
        match self
            .calls
            .live(index, generation)
            .map(|call| call.has(OUTSTANDING) && !planted!("unacknowledged outcome evicted"))
        {
            Some(true) => {
                if self.counts_bytes(index) {
                    let bytes = self.calls.get(index).bytes;
                    self.discount(index, bytes);
                }
                self.calls.get_mut(index).set(OVERDUE, true);
            }
            Some(false) => self.forget_when_stopped(index, effects),
            None => {}
        }
    }

    fn is_dead_letter(&self, index: u32) -> bool {
        let call = self.calls.get(index);
        call.state == State::Dead && call.has(DURABLE)
    }

    /// Whether the call is kept by bytes, not by age alone.
    fn counts_bytes(&self, index: u32) -> bool {
        !self.is_dead_letter(index) && self.calls.extra(index).is_none_or(|extra| extra.key.is_none())
    }

    fn discount(&mut self, index: u32, bytes: u32) {
        let procedure = self.procedure_of(index);
        let it = self.procedures.get_mut(procedure);
        it.settled_bytes = it.settled_bytes.saturating_sub(u64::from(bytes) + OUTCOME_OVERHEAD_BYTES);
    }

    /// Forgets a settled call, or marks it to be forgotten when its attempt has stopped: until then its lease holds
    /// the slot.
    pub(crate) fn forget_when_stopped(&mut self, index: u32, effects: &mut impl Effects) {
        let call = self.calls.get(index);
        if call.lease == NONE && !self.is_held(index) {
            return self.forget(index, effects);
        }
        let (overdue, bytes) = (call.has(OVERDUE), call.bytes);
        if !overdue && self.counts_bytes(index) {
            self.discount(index, bytes);
        }
        self.calls.get_mut(index).set(OVERDUE, true);
    }

    /// Forgets a settled call.
    pub(crate) fn forget(&mut self, index: u32, effects: &mut impl Effects) {
        let call = self.calls.get(index);
        assert!(call.state.is_settled(), "only settled calls are forgotten");
        let (state, handle, lease, bytes) = (call.state, call.handle, call.lease, call.bytes);
        let (overdue, id, route) = (call.has(OVERDUE), call.id, call.route);
        let procedure = self.procedure_of(index);
        let key = self.calls.extra(index).and_then(|extra| extra.key.clone());
        if self.counts_bytes(index) && !overdue {
            self.discount(index, bytes);
        }
        if self.calls.get(index).has(OUTSTANDING) {
            self.leave_inbox(index);
        }
        assert!(lease == NONE, "a call whose attempt runs is not forgotten");
        if let Some((key, _)) = key {
            self.keyed.remove(procedure, &key, index);
        }
        self.leave_word(index, effects);
        if !self.is_private(index) {
            self.forgotten.insert(id);
        }
        let made_ms = id.unix_ms().min(self.now.wall_ms);
        self.horizon_ms = self.horizon_ms.max(made_ms);
        if !self.calls.get(index).has(ACKNOWLEDGED) {
            self.resend_horizon_ms = self.resend_horizon_ms.max(made_ms);
        }
        if self.limits.durable && self.horizon_ms > self.horizon_record.1 + RETENTION_STEP_MS {
            // Before what is released here can be recycled.
            self.record_horizon(effects);
        }
        let arguments = self.calls.extra(index).map_or(Handle::NONE, |extra| extra.arguments);
        for body in [handle, arguments] {
            if body != Handle::NONE {
                effects.release(body);
            }
        }
        self.procedures.get_mut(procedure).count(state, -1);
        self.routes.let_go(route);
        self.let_callbacks_go(index);
        if state == State::Dead {
            self.hold_event(index, -1);
        }
        self.calls.remove(index);
    }

    /// Leaves word of a call that is being forgotten where older records of it may stand longer than those of now.
    fn leave_word(&mut self, index: u32, effects: &mut impl Effects) {
        let call = self.calls.get_mut(index);
        if !call.has(COLD) {
            return;
        }
        // Once: a purge leaves it before its own record.
        call.set(COLD, false);
        let id = call.id;
        if !planted!("no word left of forgotten calls") {
            effects.entomb(id);
        }
    }

    /// Forgets what is too old.
    pub(crate) fn retain(&mut self, budget: u32, effects: &mut impl Effects) {
        if self.next_retention_ms == 0 || self.now.monotonic_ms < self.next_retention_ms {
            return;
        }
        self.next_retention_ms = self.now.monotonic_ms + RETENTION_STEP_MS;
        if self.limits.durable && self.horizon_ms > self.horizon_record.1 {
            self.record_horizon(effects);
        }
        self.retain_events(budget, effects);
        let mut left = budget;
        for procedure in 0..self.procedures.len() {
            let terms = &self.procedures.get(procedure).terms;
            let (outcome_ms, dead_letter_ms) = (terms.outcome_ms, terms.dead_letter_ms);
            left = self.retain_list(procedure, outcome_ms, left, |it| &mut it.settled, effects);
            left = self.retain_list(procedure, self.limits.idempotency_ms, left, |it| &mut it.keyed, effects);
            left = self.retain_list(procedure, dead_letter_ms, left, |it| &mut it.dead, effects);
            left = self.evict(procedure, left, effects);
            left = self.evict_dead(procedure, left, effects);
        }
        if left == 0 {
            self.next_retention_ms = self.now.monotonic_ms;
        }
    }

    pub(crate) fn record_horizon(&mut self, effects: &mut impl Effects) {
        let (old, ms, resend_ms) = (self.horizon_record.0, self.horizon_ms, self.resend_horizon_ms);
        let handle = effects.record(&Record::Horizon { ms, resend_ms }, Body::None, Role::Base, Urgency::Lazy);
        if old != Handle::NONE {
            effects.release(old);
        }
        self.horizon_record = (handle, ms);
    }

    fn retain_list(
        &mut self,
        procedure: u32,
        age_ms: u64,
        mut left: u32,
        list: impl Fn(&mut crate::procedure::Procedure) -> &mut VecDeque<(u32, u32)>,
        effects: &mut impl Effects,
    ) -> u32 {
        while left > 0 {
            let Some((index, generation)) = list(self.procedures.get_mut(procedure)).front().copied() else { break };
            let call = self.calls.live(index, generation);
            if call.is_some_and(|call| call.at_ms.saturating_add(age_ms) > self.now.wall_ms) {
                break;
            }
            list(self.procedures.get_mut(procedure)).pop_front();
            self.let_settled_go(index, generation, effects);
            left -= 1;
        }
        left
    }

    /// Forgets a dead letter at an operator's word; false when there is none with this id, or a group
    /// that is not settled needs it.
    pub fn purge(&mut self, id: CallId, effects: &mut impl Effects) -> bool {
        let Some(index) = self.calls.find(id).filter(|index| self.calls.get(*index).state == State::Dead) else {
            return false;
        };
        if self.is_held(index) {
            return false;
        }
        // Before the purge itself: a crash that cut it off behind that would leave nothing that covers the records of the
        // cold log once the record of the purge is recycled, and the call would be back.
        self.leave_word(index, effects);
        let call = self.calls.get(index);
        if call.has(DURABLE) && !planted!("purge not recorded") {
            let handle = call.handle;
            effects.record(&Record::Forgotten { id }, Body::None, Role::Delta(handle), Urgency::Now);
        }
        if self.is_dead_letter(index) && !self.calls.get(index).has(OVERDUE) {
            let procedure = self.procedure_of(index);
            self.procedures.get_mut(procedure).dead_kept -= 1;
        }
        self.forget(index, effects);
        true
    }

    /// The keys by which a dead letter was tied to other calls, for the call that revives it: it joins its lane anew.
    #[must_use]
    pub fn keys_of_dead_letter(&self, id: CallId) -> Option<Box<Ties>> {
        let ties = self.ties(self.calls.find(id)?)?;
        let ordering = ties.ordering.as_ref().map(|(key, _)| (key.clone(), 0));
        let keys = Ties { ordering, concurrency: ties.concurrency.clone(), ..Ties::default() };
        keys.is_serial().then(|| Box::new(keys))
    }

    /// The route and the arguments of a dead letter.
    #[must_use]
    pub fn dead_letter(&self, id: CallId) -> Option<(antiphon_protocol::Route, Handle)> {
        let index = self.calls.find(id).filter(|index| self.calls.get(*index).state == State::Dead)?;
        let route = (*self.routes.get(self.calls.get(index).route).route).clone();
        Some((route, self.payload_of(index)))
    }

    /// What an answer about this call waits for.
    #[must_use]
    pub fn gate_of_answer(&self, id: CallId) -> Gate {
        self.calls.find(id).map_or(Gate::Open, |index| self.gate(index))
    }
}
