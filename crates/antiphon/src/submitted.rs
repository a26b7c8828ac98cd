//! A call that was submitted or attached: a future of its outcome, and what else can be asked of it. Dropping it never
//! cancels.

use crate::call_error::{CallFailure, Ending, SettledCall};
use crate::inspection::Inspection;
use crate::outgoing::Outgoing;
use crate::procedure::{Procedure, Reading};
use crate::progress::ProgressStream;
use crate::session::{Acceptance, Crowded, Sent, Session};
use crate::{CallError, CallOutcome};
use antiphon_broker::Wants;
use antiphon_protocol::{
    Answer, CallId, CallStatus, Callback, CallbackOn, CancelAnswer, Failure, Knowledge, Outcome, Query, State, Tag,
};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A call that the broker has, or is about to have: a future of its outcome. Dropping it never cancels the call.
#[must_use = "the outcome comes only to whoever waits for it; drop it explicitly, or use `detach` on the call"]
pub struct SubmittedCall<V, E> {
    session: Arc<Session>,
    reading: Reading<V, E>,
    id: CallId,
    /// `None` once its outcome was given.
    tag: Option<Tag>,
}

impl<V, E> SubmittedCall<V, E> {
    pub(crate) const fn new(session: Arc<Session>, reading: Reading<V, E>, sent: Sent) -> Self {
        Self { session, reading, id: sent.id, tag: Some(sent.tag) }
    }

    /// The call's id. While a call that was sent with an idempotency key is not accepted, it is the id made here; the
    /// broker may then find an earlier call with another.
    #[must_use]
    pub fn id(&self) -> CallId {
        self.tag.and_then(|tag| self.session.id_of(tag)).unwrap_or(self.id)
    }

    /// Waits until the broker has the call, durably if it is durable.
    ///
    /// # Errors
    /// [`CallError::Refused`], or [`CallError::Unknown`] when the broker went away before it answered.
    pub async fn accepted(&mut self) -> Result<Acceptance, CallError<E>> {
        let Some(tag) = self.tag else { return Ok(Acceptance::of(self.id)) };
        let accepted = poll_fn(|context| self.session.poll_accepted(tag, context)).await;
        match accepted {
            Ok(acceptance) => {
                self.id = acceptance.id;
                Ok(acceptance)
            }
            Err(ending) => match ending.settled() {
                Ok(settled) => Ok(Acceptance::of(settled.id)),
                Err(error) => Err(error),
            },
        }
    }

    /// What the procedure tells of itself while it runs: a stream that ends with the call. It begins with what the
    /// broker has kept (the newest 64 items or 64 KiB of a call), goes on over reconnects after what came last, and
    /// holds as much here for a reader who is slow. Progress is in the broker's memory only: a restart of the broker
    /// loses what was not read. Asking again ends the earlier stream; asked when the outcome was given, it is empty.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` when the broker does not pass progress on.
    pub fn progress<P>(&self) -> Result<ProgressStream<P>, Failure> {
        self.session.follow(self.tag.unwrap_or_default())
    }

    /// Asks to cancel the call, and tells what came of it: it never ran, it is being stopped, it had settled. The
    /// outcome of a cancelled call is [`CallError::Settled`] with `CANCELLED`.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the broker went away before it answered.
    pub async fn cancel(&self) -> Result<CancelAnswer, Failure> {
        self.session.cancel(self.id()).await
    }

    /// Waits at most this long for the outcome; `None` when it has not settled by then, and may be asked again.
    ///
    /// # Panics
    /// When the outcome was given before: it is given once.
    pub async fn result_within(&mut self, duration: Duration) -> Option<Result<V, CallError<E>>> {
        tokio::time::timeout(duration, self).await.ok()
    }

    /// Waits for the outcome with everything the broker says of it, not decoded.
    ///
    /// # Errors
    /// [`CallError::Refused`] or [`CallError::Unknown`]: there is no outcome.
    ///
    /// # Panics
    /// When [`result_within`](Self::result_within) gave the outcome before: it is given once.
    pub async fn settled(mut self) -> Result<SettledCall, CallError<E>> {
        poll_fn(|context| self.poll_ending(context)).await.settled()
    }

    /// Whether the outcome, or the failure to get one, is here.
    #[must_use]
    pub fn done(&self) -> bool {
        self.tag.is_none_or(|tag| self.session.has_ended(tag))
    }

    /// Whether the call was cancelled, as far as is known here; false once its outcome was given. Asks nobody:
    /// [`status`](Self::status) asks the broker.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.tag.is_some_and(|tag| self.session.was_cancelled(tag))
    }

    /// Asks the broker where the call stands.
    ///
    /// # Errors
    /// As [`Inspection::status`]; `NOT_FOUND` when the broker does not know it.
    pub async fn status(&self) -> Result<CallStatus, Failure> {
        match Inspection::new(&*self.session.broker).status(self.id()).await? {
            Knowledge::Known(status) => Ok(status),
            Knowledge::NeverSeen | Knowledge::TooOldToSay | Knowledge::Forgotten => Err(Failure::new(
                antiphon_protocol::Code::NotFound,
                format!("the broker does not know call {}", self.id()),
            )),
        }
    }

    /// Asks the broker whether an attempt is running now.
    ///
    /// # Errors
    /// As [`SubmittedCall::status`].
    pub async fn running(&self) -> Result<bool, Failure> {
        Ok(self.status().await?.state == State::Leased)
    }

    /// Adds a callback, also when the call has settled: then it is made at once, if it follows such an outcome. The
    /// same one again changes nothing. Gives the id of the call that it is or becomes.
    ///
    /// # Errors
    /// As for all questions; `NOT_FOUND` when the broker does not know the call, `RESOURCE_EXHAUSTED` at a limit.
    pub async fn callback<W, F>(
        &self,
        on: CallbackOn,
        procedure: Procedure<CallOutcome<V, E>, W, F>,
    ) -> Result<CallId, Failure> {
        let callback = Box::new(Callback { on, route: procedure.route });
        let query = Query::AddCallback { call: self.id(), callback };
        match Inspection::new(&*self.session.broker).ask(query).await? {
            Answer::CallbackAdded(id) => Ok(id),
            other => Err(crate::inspection::unexpected(&other)),
        }
    }

    /// Waits for the outcome of the call that was chained to this one with [`CallBuilder::then`](crate::CallBuilder::then).
    /// If this call does not succeed, the chain ends here, with [`CallError::Settled`].
    ///
    /// # Errors
    /// Those of the chained call, and those of this one.
    pub async fn followed_by<W, F>(self, next: &Procedure<V, W, F>) -> Result<SubmittedCall<W, F>, CallError<F>> {
        let session = Arc::clone(&self.session);
        let mut call = self;
        let settled = poll_fn(|context| call.poll_ending(context)).await.settled::<F>()?;
        match settled.outcome {
            Outcome::Reply(_) => {
                let id = Callback::id(CallbackOn::Value, &next.route.procedure, settled.id);
                let sent = session.attach(id);
                Ok(SubmittedCall::new(session, next.codec.reading, sent))
            }
            Outcome::Failure(failure) => Err(CallError::Settled(CallFailure::new(settled.id, failure))),
        }
    }

    pub(crate) fn poll_ending(&mut self, context: &Context<'_>) -> Poll<Ending> {
        let tag = self.tag.expect("a call was polled after it had ended");
        let ending = self.session.poll_ending(tag, context);
        if let Poll::Ready(ending) = &ending {
            self.tag = None;
            if let Ending::Settled(settled) = ending {
                self.id = settled.id;
            }
        }
        ending
    }
}

impl<V: Send + 'static, E: Send + 'static> SubmittedCall<V, E> {
    /// Calls `callback` with the outcome, on the runtime and never on the thread that reads from the broker; at once
    /// if the call has settled already. A process that ends before forgets the callback, never the call.
    pub fn on_outcome(self, callback: impl FnOnce(Result<V, CallError<E>>) + Send + 'static) {
        let runtime = self.session.runtime.clone();
        drop(runtime.spawn(async move { callback(self.await) }));
    }
}

impl<V, E> Future for SubmittedCall<V, E> {
    type Output = Result<V, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let reading = self.reading;
        self.poll_ending(context).map(|ending| ending.read(reading))
    }
}

impl<V, E> Drop for SubmittedCall<V, E> {
    fn drop(&mut self) {
        if let Some(tag) = self.tag {
            self.session.abandon(tag, false);
        }
    }
}

impl<V, E> std::fmt::Debug for SubmittedCall<V, E> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SubmittedCall").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A call on its way to the broker; done when the broker has it.
#[must_use = "a call is handed over when this is first polled"]
pub struct Submitting<V, E> {
    session: Arc<Session>,
    reading: Reading<V, E>,
    outgoing: Option<Outgoing>,
    call: Option<SubmittedCall<V, E>>,
}

impl<V, E> Submitting<V, E> {
    pub(crate) const fn new(session: Arc<Session>, reading: Reading<V, E>, outgoing: Outgoing) -> Self {
        Self { session, reading, outgoing: Some(outgoing), call: None }
    }

    /// Waits for room in this process, hands the call over, and does not wait for the broker to have it.
    pub(crate) fn poll_sent(&mut self, context: &Context<'_>) -> Poll<SubmittedCall<V, E>> {
        if self.outgoing.is_some() && self.session.poll_room(context).is_pending() {
            return Poll::Pending;
        }
        if let Some(outgoing) = self.outgoing.take() {
            let sent = self.session.send(outgoing, Wants::AcceptanceAndOutcome, Crowded::Keep);
            self.call = Some(SubmittedCall::new(Arc::clone(&self.session), self.reading, sent));
        }
        Poll::Ready(self.call.take().expect("a submission was polled after it had ended"))
    }
}

impl<V, E> Future for Submitting<V, E> {
    type Output = Result<SubmittedCall<V, E>, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(mut call) = self.poll_sent(context) else { return Poll::Pending };
        let tag = call.tag.expect("its outcome was not taken");
        match self.session.poll_accepted(tag, context) {
            Poll::Pending => {
                self.call = Some(call);
                Poll::Pending
            }
            Poll::Ready(Ok(acceptance)) => {
                call.id = acceptance.id;
                Poll::Ready(Ok(call))
            }
            Poll::Ready(Err(ending)) => match ending.settled() {
                Ok(_) => Poll::Ready(Ok(call)),
                Err(error) => Poll::Ready(Err(error)),
            },
        }
    }
}
