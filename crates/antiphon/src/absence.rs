//! What a session does while its broker is away: it ends calls at their deadlines, which otherwise the broker does alone.

use crate::CallFailure;
use crate::call_builder::whole_ms;
use crate::call_error::Ending;
use crate::session::{Link, Session, State};
use antiphon_protocol::{Code, Failure};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use tokio::time::Instant;

/// How often deadlines are looked at: late enough that a broker which comes back in time answers first.
const STEP: Duration = Duration::from_millis(250);

impl Session {
    /// Watches deadlines here while no broker does: once a connection breaks, until it is back.
    pub(crate) fn watch_deadlines(self: &Arc<Self>, state: &mut State) {
        if std::mem::replace(&mut state.watching, true) {
            return;
        }
        let weak = Arc::downgrade(self);
        drop(self.runtime.spawn(async move {
            loop {
                tokio::time::sleep(STEP).await;
                let Some(session) = weak.upgrade() else { return };
                if !session.expire(Instant::now()) {
                    return;
                }
            }
        }));
    }

    /// Ends what is past its deadline; false when the broker watches again.
    fn expire(&self, now: Instant) -> bool {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        if !matches!(state.link, Link::Away(_)) {
            state.watching = false;
            return false;
        }
        for call in state.pending.waiting().filter(|call| call.deadline.is_some_and(|deadline| deadline <= now)) {
            let failure = Failure::new(Code::DeadlineExceeded, "the deadline passed while the broker was away");
            call.ending = Some(Ending::Unknown(CallFailure::new(call.id, failure.may_have_run())));
            wakers.extend(call.waker.take());
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        true
    }
}

impl State {
    /// Counts down the deadlines of kept calls, and ends those that have passed: they never run. Gives back whom to
    /// wake. A call that nobody waits for any more keeps the time that it was given.
    pub(crate) fn expire_kept(&mut self, now: Instant) -> Vec<Waker> {
        let mut expired = Vec::new();
        for submission in self.overflow.calls() {
            let Some(deadline) = self.pending.find(submission.tag).and_then(|call| call.deadline) else { continue };
            let left = whole_ms(deadline.saturating_duration_since(now));
            submission.call.deadline_ms = left;
            if left == 0 {
                expired.push((submission.call.id, submission.tag));
            }
        }
        let mut wakers = Vec::new();
        for (id, tag) in expired {
            drop(self.overflow.take(id));
            let Some(call) = self.pending.find(tag).filter(|call| call.ending.is_none()) else { continue };
            let text = "the deadline passed before the broker took the call";
            call.ending = Some(Ending::Refused(CallFailure::new(id, Failure::new(Code::DeadlineExceeded, text))));
            wakers.extend(call.waker.take());
        }
        wakers
    }
}
