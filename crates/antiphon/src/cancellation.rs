//! Cancels calls: here while they are kept, at the broker once it has them.

use crate::call_error::{Ending, SettledCall};
use crate::session::{Link, Session, State, acknowledge};
use antiphon_broker::Caller;
use antiphon_protocol::{CallId, CancelAnswer, Code, Failure, Outcome, Tag};
use std::sync::Arc;
use std::task::Waker;
use tokio::sync::oneshot;

impl Session {
    /// Nobody waits for the call any more; with `cancel` it is asked to be cancelled unless it has ended.
    pub(crate) fn abandon(&self, tag: Tag, cancel: bool) {
        let mut state = self.lock();
        let Some(call) = state.pending.remove(tag) else { return };
        let due = if let Some(Ending::Settled(settled)) = &call.ending { state.owe(settled) } else { None };
        let mut wakers = Vec::new();
        let mut caller = None;
        if cancel && call.ending.is_none() && !state.cancel_kept(call.id, &mut wakers) {
            caller = state.canceller(call.id);
        }
        drop(state);
        acknowledge(due);
        wakers.into_iter().for_each(Waker::wake);
        if let Some(caller) = caller {
            caller.cancel(&[call.id]);
        }
    }

    /// Whether the call has ended as cancelled and its outcome was not taken.
    pub(crate) fn was_cancelled(&self, tag: Tag) -> bool {
        let mut state = self.lock();
        let ending = state.pending.find(tag).and_then(|call| call.ending.as_ref());
        matches!(ending, Some(Ending::Settled(settled)) if settled.state == antiphon_protocol::State::Cancelled)
    }

    /// Asks to cancel a call and tells what came of it.
    pub(crate) async fn cancel(self: &Arc<Self>, id: CallId) -> Result<CancelAnswer, Failure> {
        let (sender, receiver) = oneshot::channel();
        let mut wakers = Vec::new();
        let caller = {
            let mut state = self.lock();
            if let Link::Ended(reason) = &state.link {
                return Err(Failure::new(Code::Unavailable, reason.clone()));
            }
            if matches!(state.link, Link::Closed) {
                self.open(&mut state);
            }
            state.cancels.entry(id).or_default().push(sender);
            if state.cancel_kept(id, &mut wakers) { None } else { state.canceller(id) }
        };
        wakers.into_iter().for_each(Waker::wake);
        if let Some(caller) = caller {
            caller.cancel(&[id]);
        }
        let lost = |_| Failure::new(Code::Unavailable, "the broker went away before it answered the cancellation");
        receiver.await.map_err(lost)
    }
}

impl State {
    /// Cancels a call that was not handed over: it never is. False when it is not kept here.
    fn cancel_kept(&mut self, id: CallId, wakers: &mut Vec<Waker>) -> bool {
        let Some(submission) = self.overflow.take(id) else { return false };
        if let Some(call) = self.pending.find(submission.tag).filter(|call| call.ending.is_none()) {
            let failure = Failure::new(Code::Cancelled, "cancelled before it was handed to the broker");
            let (state, outcome) = (antiphon_protocol::State::Cancelled, Outcome::Failure(failure));
            // Its acknowledgement names a call that the broker does not know, which brokers pass over.
            call.ending = Some(Ending::Settled(SettledCall { id, state, attempts: 0, outcome }));
            wakers.extend(call.waker.take());
        }
        let asked = self.cancels.remove(&id).unwrap_or_default();
        // Who asked may have gone.
        asked.into_iter().for_each(|asked| drop(asked.send(CancelAnswer::NeverRan)));
        wakers.extend(self.overflow.take_waiting());
        true
    }

    /// Whom to ask to cancel a call that is not kept. `None` when it is asked later: before the caller is open, or
    /// while calls are offered, of which this may be one that the broker does not have yet.
    fn canceller(&mut self, id: CallId) -> Option<Arc<dyn Caller>> {
        let caller = self.link.caller().filter(|_| self.offering == 0);
        if caller.is_none() {
            self.cancellations.push(id);
        }
        caller
    }

    /// What is to be cancelled at the broker now that no calls are offered; and whom to wake.
    pub(crate) fn take_cancellations(&mut self) -> (Vec<CallId>, Vec<Waker>) {
        let mut wakers = Vec::new();
        if self.offering > 0 {
            return (Vec::new(), wakers);
        }
        let mut handed_over = std::mem::take(&mut self.cancellations);
        handed_over.retain(|id| !self.cancel_kept(*id, &mut wakers));
        (handed_over, wakers)
    }
}
