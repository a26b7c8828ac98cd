//! Calls that are awaited side by side, gathered so that a lock and a turn of the broker are a small part of each.

use crate::outgoing::Outgoing;
use crate::session::{Link, Sent, Session};
use antiphon_broker::Wants;
use std::sync::Arc;
use std::task::Context;

/// Whether a call that was just made has ended already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It cannot be sent.
    Yes,
    /// Its waker is kept.
    NotYet,
}

/// A batch that is due. Dropping it hands the calls over, also when the runtime ends before it ran.
struct Gathered(Arc<Session>);

impl Drop for Gathered {
    fn drop(&mut self) {
        let due = self.0.lock().gathering;
        if due {
            self.0.flush();
        }
    }
}

impl Session {
    /// Hands over a call whose outcome is awaited at once; `None` while there is no room for it. Calls that are awaited
    /// side by side are gathered into batches: the first to go out takes along those that are made before the runtime
    /// comes to it.
    pub(crate) fn send_awaited(
        self: &Arc<Self>,
        outgoing: &mut Option<Outgoing>,
        context: &Context<'_>,
    ) -> Option<(Sent, Answered)> {
        let mut state = self.lock();
        if !state.overflow.has_room() && !matches!(state.link, Link::Ended(_)) {
            state.overflow.wait(context.waker());
            return None;
        }
        let outgoing = outgoing.take().expect("a call is handed over once");
        let (sent, submission) = self.enter(&mut state, outgoing, Wants::Outcome);
        let Some(submission) = submission else { return Some((sent, Answered::Yes)) };
        if let Some(call) = state.pending.find(sent.tag) {
            call.waker = Some(context.waker().clone());
        }
        let ready = self.ready(&mut state);
        match ready {
            Some((caller, seen)) if state.pending.len() == 1 => {
                drop(state);
                self.hand_over(&*caller, submission, seen);
            }
            ready => {
                let first = ready.is_some();
                state.gathering |= first;
                state.overflow.keep(submission);
                let due = state.gathering && state.overflow.is_batch();
                drop(state);
                if due {
                    self.flush();
                } else if first {
                    let gathered = Gathered(Arc::clone(self));
                    drop(self.runtime.spawn(async move { drop(gathered) }));
                }
            }
        }
        Some((sent, Answered::NotYet))
    }
}
