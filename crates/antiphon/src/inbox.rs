//! A named inbox: outcomes wait in the broker until they are acknowledged, over restarts of everybody.

use crate::call_error::SettledCall;
use crate::session::Session;
use crate::{Antiphon, CallError, Procedure};
use antiphon_protocol::{CallId, Code, Failure, Outcome, State};
use std::collections::{HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A named inbox, open in this process. The last process to open it has it; this one's `next` then fails with
/// `UNAVAILABLE`. Submit to it with [`CallBuilder::deliver_to`](crate::CallBuilder::deliver_to).
pub struct Inbox {
    session: Arc<Session>,
    /// Keeps the connection open.
    _antiphon: Antiphon,
}

/// An outcome in a named inbox. Each time that the inbox is opened it comes again until it is acknowledged; an inbox
/// that is open gives it once, so one that is dropped unacknowledged comes only when the inbox is opened anew.
#[derive(Clone)]
pub struct Delivery {
    session: Arc<Session>,
    settled: SettledCall,
}

/// Outcomes that came and were not asked for yet.
#[derive(Default)]
pub(crate) struct Deliveries {
    queue: VecDeque<SettledCall>,
    /// Came and were not acknowledged: the broker sends them again after a reconnect.
    unacknowledged: HashSet<CallId>,
    waker: Option<Waker>,
    ended: Option<String>,
}

impl Deliveries {
    /// Gives back whom to wake.
    pub(crate) fn deliver(&mut self, settled: SettledCall) -> Option<Waker> {
        if !self.unacknowledged.insert(settled.id) {
            return None;
        }
        self.queue.push_back(settled);
        self.waker.take()
    }

    pub(crate) fn end(&mut self, reason: &str) -> Option<Waker> {
        self.ended = Some(reason.to_owned());
        self.waker.take()
    }

    fn poll_next(&mut self, context: &Context<'_>) -> Poll<Result<SettledCall, String>> {
        if let Some(settled) = self.queue.pop_front() {
            return Poll::Ready(Ok(settled));
        }
        if let Some(reason) = &self.ended {
            return Poll::Ready(Err(reason.clone()));
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Why a session ends when its own side closes it; an inbox then simply has no more outcomes.
pub(crate) const CLOSED: &str = "the connection was closed by this program";

impl Inbox {
    pub(crate) const fn new(session: Arc<Session>, antiphon: Antiphon) -> Self {
        Self { session, _antiphon: antiphon }
    }

    pub(crate) const fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The next outcome, what arrived while this program was down included; `None` once the connection was closed
    /// here.
    ///
    /// # Errors
    /// `UNAVAILABLE` when somebody else opened the inbox, or the broker gave the connection up.
    pub async fn next(&mut self) -> Result<Option<Delivery>, Failure> {
        let next = poll_fn(|context| {
            let mut state = self.session.lock();
            let deliveries = state.deliveries.as_mut().expect("the session of a named inbox has deliveries");
            deliveries.poll_next(context)
        });
        match next.await {
            Ok(settled) => Ok(Some(Delivery { session: Arc::clone(&self.session), settled })),
            Err(reason) if reason == CLOSED => Ok(None),
            Err(reason) => Err(Failure::new(Code::Unavailable, reason)),
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.session.end(CLOSED);
    }
}

impl Delivery {
    /// The call.
    #[must_use]
    pub const fn id(&self) -> CallId {
        self.settled.id
    }

    /// The call's terminal state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.settled.state
    }

    /// What the call ended with, not decoded.
    #[must_use]
    pub const fn outcome(&self) -> &Outcome {
        &self.settled.outcome
    }

    /// What the call ended with, read as an outcome of `procedure`.
    ///
    /// # Errors
    /// [`CallError::Failed`] or [`CallError::Settled`], as if the call had been awaited.
    pub fn decode<A, V, E>(&self, procedure: &Procedure<A, V, E>) -> Result<V, CallError<E>> {
        self.settled.clone().read(procedure.codec.reading)
    }

    /// Tells the broker that this outcome is handled and need not be delivered again. It is sent, not confirmed: after
    /// a crash right now the outcome may come once more.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the inbox is closed or somebody else has it.
    pub async fn acknowledge(self) -> Result<(), Failure> {
        let id = self.settled.id;
        let caller = {
            let mut state = self.session.lock();
            let caller = state.link.caller();
            if let Some(deliveries) = state.deliveries.as_mut().filter(|_| caller.is_some()) {
                deliveries.unacknowledged.remove(&id);
            }
            caller
        };
        let caller = caller.ok_or_else(|| Failure::new(Code::Unavailable, "the inbox is not open any more"))?;
        caller.acknowledge(&[id]);
        Ok(())
    }
}
