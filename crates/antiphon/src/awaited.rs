//! A call that is awaited directly: handed over at its first poll, asked to be cancelled when dropped.

use crate::CallError;
use crate::gathering::Answered;
use crate::outgoing::Outgoing;
use crate::procedure::Reading;
use crate::session::Session;
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
    /// Until it is handed over.
    outgoing: Option<Outgoing>,
    /// From then until its outcome is given.
    tag: Option<Tag>,
}

impl<V, E> AwaitedCall<V, E> {
    pub(crate) const fn new(session: Arc<Session>, reading: Reading<V, E>, outgoing: Outgoing) -> Self {
        Self { session, reading, outgoing: Some(outgoing), tag: None }
    }
}

impl<V, E> Future for AwaitedCall<V, E> {
    type Output = Result<V, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let call = &mut *self;
        if call.outgoing.is_some() {
            let Some((sent, answered)) = call.session.send_awaited(&mut call.outgoing, context) else {
                return Poll::Pending;
            };
            call.tag = Some(sent.tag);
            if answered == Answered::NotYet {
                return Poll::Pending;
            }
        }
        let tag = self.tag.expect("a call is not polled after it has ended");
        let Poll::Ready(ending) = self.session.poll_ending(tag, context) else { return Poll::Pending };
        self.tag = None;
        Poll::Ready(ending.read(self.reading))
    }
}

impl<V, E> Drop for AwaitedCall<V, E> {
    fn drop(&mut self) {
        if let Some(tag) = self.tag {
            self.session.abandon(tag, true);
        }
    }
}
