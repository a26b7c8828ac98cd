//! What becomes of a delivery: before its attempt, and after.

use super::CallHeader;
use antiphon_protocol::{Code, Failure, Outcome, Settlement, State};

/// What to do with a call that a worker has been handed.
#[derive(Clone, PartialEq, Debug)]
pub enum Arrival {
    /// Run it.
    Lease,
    /// It is not due yet: publish it again under this header, to come back at its `due_ms`.
    Early(CallHeader),
    /// It is over without another attempt: publish the outcome, then let go of the delivery.
    Over(Ending),
}

impl Arrival {
    /// Judges a delivery that the server has handed out `redelivered` times before, each time to a worker that went
    /// without settling it; more than `lost_max` of those make a call dead.
    #[must_use]
    pub fn judge(header: &CallHeader, redelivered: u32, lost_max: u32, wall_ms: u64) -> Self {
        let lost = u32::from(header.lost).saturating_add(redelivered);
        let over = |state, failure: Failure| {
            let attempts = header.started(redelivered).saturating_sub(1);
            Self::Over(Ending::Over { state, attempts, outcome: Outcome::Failure(failure) })
        };
        if header.at_most_once && (lost > 0 || header.failed > 0) {
            let text = "it may run once, and the worker that had it went without a word";
            return over(State::Dead, Failure::new(Code::Unknown, text).may_have_run());
        }
        if lost > lost_max {
            let text = format!("{lost} workers in turn had it and went without a word");
            return over(State::Dead, Failure::new(Code::Unknown, text).may_have_run());
        }
        if header.remaining_ms(wall_ms) == Some(0) {
            let mut failure =
                Failure::new(Code::DeadlineExceeded, "its deadline passed before a worker had time for it");
            failure.may_have_run = header.started(redelivered) > 1;
            return over(State::Expired, failure);
        }
        if header.due_ms > wall_ms {
            let mut header = header.clone();
            header.again(redelivered);
            return Self::Early(header);
        }
        Self::Lease
    }
}

/// What becomes of a call after an attempt.
#[derive(Clone, PartialEq, Debug)]
pub enum Ending {
    /// It is over: publish the outcome and, if it is dead, the dead letter; then let go of the delivery.
    Over {
        /// The terminal state.
        state: State,
        /// How many attempts were started.
        attempts: u16,
        /// The outcome.
        outcome: Outcome,
    },
    /// It goes on: publish it again under this header, to come back at its `due_ms`; then let go of the delivery.
    Again(CallHeader),
}

impl Ending {
    /// Judges the end of an attempt that was reported. `stopped` is the state that its call had already when the attempt
    /// was asked to stop; `random` decides within the bound of the backoff.
    #[must_use]
    pub fn judge(
        header: &CallHeader,
        redelivered: u32,
        stopped: Option<State>,
        settlement: Settlement,
        wall_ms: u64,
        random: u64,
    ) -> Self {
        let attempts = header.started(redelivered);
        let over = |state, outcome| Self::Over { state, attempts, outcome };
        let failed = |state, failure| over(state, Outcome::Failure(failure));
        match (stopped, settlement) {
            (Some(State::Expired), _) => {
                let text = "its deadline passed while it was running";
                failed(State::Expired, Failure::new(Code::DeadlineExceeded, text).may_have_run())
            }
            (Some(_), _) => {
                failed(State::Cancelled, Failure::new(Code::Cancelled, "it was cancelled while running").may_have_run())
            }
            (None, Settlement::Succeed(value)) => over(State::Succeeded, Outcome::Reply(value)),
            (None, Settlement::Fail(failure)) => failed(State::Failed, failure),
            (None, Settlement::Bury(failure)) => failed(State::Dead, failure),
            (None, Settlement::Retry(failure)) => {
                let count = header.failed.saturating_add(1);
                if count >= header.attempts || header.at_most_once {
                    return failed(State::Dead, failure.may_have_run());
                }
                let bound_ms = header.backoff.bound_ms(count);
                let wait_ms = failure.retry_after_ms.map_or_else(|| random % (bound_ms + 1), u64::from);
                let mut next = header.clone();
                next.again(redelivered);
                next.failed = count;
                next.due_ms = if wait_ms == 0 { 0 } else { wall_ms.saturating_add(wait_ms) };
                Self::Again(next)
            }
            (None, Settlement::Release | Settlement::Stop) if header.at_most_once => {
                let text = "it may run once, and its worker gave it back";
                failed(State::Dead, Failure::new(Code::Unknown, text).may_have_run())
            }
            (None, Settlement::Release | Settlement::Stop) => {
                let mut next = header.clone();
                next.again(redelivered);
                next.due_ms = 0;
                Self::Again(next)
            }
        }
    }
}

impl CallHeader {
    /// Counts one more publication; the server counts redeliveries anew from there.
    fn again(&mut self, redelivered: u32) {
        self.hops = self.hops.saturating_add(1);
        self.lost = self.lost.saturating_add(u16::try_from(redelivered).unwrap_or(u16::MAX));
    }

    /// The header under which a call that is due is published again, after so many lost leases.
    #[must_use]
    pub fn published_again(&self, redelivered: u32) -> Self {
        let mut next = self.clone();
        next.again(redelivered);
        next.due_ms = 0;
        next
    }
}
