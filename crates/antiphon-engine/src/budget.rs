//! The budget of retries of each procedure: however many calls fail, only a part as many as are new is tried again.
//! What is over it waits, in order; a retry that succeeds did no harm and is given back, so that a queue which was held
//! up by an outage goes on as fast as its calls succeed.

use crate::Engine;
use crate::call::DURABLE;
use crate::meter::WINDOW_MS;
use crate::planted::planted;
use antiphon_protocol::State;

/// How often held calls are looked at, in milliseconds: often enough that the budget is used evenly.
const STEP_MS: u64 = 100;

/// A setting that means there is no budget.
pub(crate) const UNBOUNDED: u64 = u64::MAX;

impl Engine {
    /// How many retries a procedure may have in a window.
    fn retries_max(&self, procedure: u32) -> u64 {
        let it = self.procedures.get(procedure);
        if it.terms.retry_percent == UNBOUNDED {
            return UNBOUNDED;
        }
        let new = it.meter.arrivals.count(self.now.monotonic_ms);
        it.terms.retries_min.max(new.saturating_mul(it.terms.retry_percent) / 100)
    }

    fn may_retry(&self, procedure: u32) -> bool {
        let retries = self.procedures.get(procedure).meter.retries.count(self.now.monotonic_ms);
        retries < self.retries_max(procedure) || planted!("the budget of retries is ignored")
    }

    /// Whether the budget is used up for a call that failed now.
    pub(crate) fn is_out_of_retries(&self, index: u32) -> bool {
        let procedure = self.procedure_of(index);
        !self.procedures.get(procedure).held.is_empty() || !self.may_retry(procedure)
    }

    /// Takes one retry from the budget.
    pub(crate) fn take_retry(&mut self, index: u32) {
        let (now_ms, procedure) = (self.now.monotonic_ms, self.procedure_of(index));
        self.procedures.get_mut(procedure).meter.retries.add(now_ms, 1);
    }

    /// A call that had failed succeeds.
    pub(crate) fn give_retry_back(&mut self, index: u32) {
        if self.calls.get(index).failed > 0 {
            let (now_ms, procedure) = (self.now.monotonic_ms, self.procedure_of(index));
            self.procedures.get_mut(procedure).meter.retries.take_back(now_ms);
        }
    }

    /// A call is due that has been tried before: true when it has to wait for the budget.
    pub(crate) fn hold_retry(&mut self, index: u32) -> bool {
        let call = self.calls.get(index);
        if call.failed == 0 {
            return false;
        }
        if !call.has(DURABLE) || !self.is_out_of_retries(index) {
            self.take_retry(index);
            return false;
        }
        let procedure = self.procedure_of(index);
        let stamp = self.next_stamp();
        self.calls.get_mut(index).stamp = stamp;
        self.calls.extra_mut(index).held = true;
        let it = self.procedures.get_mut(procedure);
        it.held.push_back((index, stamp));
        if it.held.len() == 1 && !planted!("held retries are forgotten") {
            self.budgets.push(self.now.monotonic_ms + STEP_MS, procedure, 0);
        }
        true
    }

    /// Lets held calls go on as far as the budgets of their procedures allow.
    pub(crate) fn release_retries(&mut self, budget: u32) {
        let mut left = budget;
        while left > 0 {
            let Some(due) = self.budgets.pop(self.now.monotonic_ms) else { return };
            let procedure = due.index;
            while left > 0 && self.may_retry(procedure) {
                let Some((index, stamp)) = self.procedures.get_mut(procedure).held.pop_front() else { break };
                left -= 1;
                let held =
                    self.calls.slot(index).is_some_and(|call| call.state == State::Scheduled && call.stamp == stamp);
                if held {
                    self.calls.extra_mut(index).held = false;
                    self.take_retry(index);
                    self.become_ready(index);
                }
            }
            if !self.procedures.get(procedure).held.is_empty() {
                let wait_ms = if left == 0 { 0 } else { STEP_MS };
                self.budgets.push(self.now.monotonic_ms + wait_ms, procedure, 0);
            }
        }
    }

    /// When a held call should be let go, in wall-clock time: the budget of a window for each that many before it.
    pub(crate) fn held_until_ms(&self, index: u32) -> u64 {
        let procedure = self.procedure_of(index);
        let stamp = self.calls.get(index).stamp;
        let held = &self.procedures.get(procedure).held;
        let before = held.partition_point(|(_, other)| (other.wrapping_sub(stamp) as i32) < 0) as u64;
        let windows_ms = (before + 1).saturating_mul(WINDOW_MS).checked_div(self.retries_max(procedure));
        self.now.wall_ms.saturating_add(windows_ms.unwrap_or(WINDOW_MS).max(STEP_MS))
    }
}
