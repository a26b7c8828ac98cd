//! A call that is awaited directly: handed over at its first poll, asked to be cancelled when dropped.

use crate::CallError;
use crate::outgoing::Outgoing;
use crate::procedure::Reading;
use crate::session::{Crowded, Session};
use antiphon_broker::Wants;
use antiphon_protocol::Tag;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A call that is awaited directly. Dropping it asks to cancel the call.
#[must_use = "a call does nothing until it is awaited"]
pub struct AwaitedCall<V, E> {
    session: Arc<Session>,
    reading: Reading<V, E>,
    stage: Stage,
}

enum Stage {
    Waiting(Box<Outgoing>),
    Sent(Tag),
    Done,
}

impl<V, E> AwaitedCall<V, E> {
    pub(crate) fn new(session: Arc<Session>, reading: Reading<V, E>, outgoing: Outgoing) -> Self {
        Self { session, reading, stage: Stage::Waiting(Box::new(outgoing)) }
    }
}

impl<V, E> Future for AwaitedCall<V, E> {
    type Output = Result<V, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let tag = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Sent(tag) => tag,
            Stage::Waiting(outgoing) => {
                if self.session.poll_room(context).is_pending() {
                    self.stage = Stage::Waiting(outgoing);
                    return Poll::Pending;
                }
                self.session.send(*outgoing, Wants::Outcome, Crowded::Keep).tag
            }
            Stage::Done => panic!("a call was polled after it had ended"),
        };
        // Before the poll, so that a panic in it leaves the call to be dropped.
        self.stage = Stage::Sent(tag);
        let Poll::Ready(ending) = self.session.poll_ending(tag, context) else { return Poll::Pending };
        self.stage = Stage::Done;
        Poll::Ready(ending.read(self.reading))
    }
}

impl<V, E> Drop for AwaitedCall<V, E> {
    fn drop(&mut self) {
        if let Stage::Sent(tag) = self.stage {
            self.session.abandon(tag, true);
        }
    }
}
