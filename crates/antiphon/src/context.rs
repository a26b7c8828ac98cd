//! What a procedure knows about the call it runs for, and how it learns that it should stop.

use crate::encoding::encode;
use crate::leases::Leases;
use crate::parking::{Parking, Waiting};
use crate::submitted::SubmittedCall;
use crate::{Antiphon, CallError};
use antiphon_broker::{Lease, Support};
use antiphon_protocol::{CallId, Code, ContentType, Failure, LeaseTag, defaults};
use serde::Serialize;
use std::fmt;
use std::future::IntoFuture;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The call that a procedure runs for. Cloning it is cheap; a clone may outlive the attempt.
#[derive(Clone)]
pub struct Context {
    attempt: Arc<AttemptState>,
    antiphon: Antiphon,
    /// Not the leases themselves: a context that is kept must not keep its worker.
    leases: Weak<Leases>,
}

/// What is known of one attempt, shared by the procedure and the worker.
pub(crate) struct AttemptState {
    pub(crate) lease: LeaseTag,
    pub(crate) call: CallId,
    attempt: u16,
    attempts_max: u16,
    pub(crate) deadline: Option<Instant>,
    pub(crate) times_out: Option<Instant>,
    pub(crate) trace: Option<Box<str>>,
    /// That of the arguments; progress is encoded alike.
    content_type: ContentType,
    pub(crate) parking: Parking,
    stop: AtomicU8,
    stopped: Notify,
    /// Whether its thread was calm when the procedure was about to be dropped: a panic since then is the procedure's own.
    pub(crate) calm: AtomicBool,
}

/// Why an attempt was asked to stop; the first reason stays, but for a lost lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Stop {
    /// Nobody asked.
    No = 0,
    /// The call was cancelled or has expired.
    Cancelled = 1,
    /// The worker drains and its patience has ended.
    Drained = 2,
    /// The lease is not held any more: nothing is to be reported.
    Stale = 3,
}

impl AttemptState {
    pub(crate) fn new(lease: &mut Lease, now: Instant) -> Self {
        let after = |ms: u64| (ms != 0).then(|| now.checked_add(Duration::from_millis(ms))).flatten();
        Self {
            lease: lease.lease,
            call: lease.call,
            attempt: lease.attempt,
            attempts_max: lease.attempts_max,
            deadline: after(lease.deadline_ms),
            times_out: after(u64::from(lease.attempt_timeout_ms)),
            trace: lease.trace.take(),
            content_type: lease.payload.content_type,
            parking: Parking::default(),
            stop: AtomicU8::new(0),
            stopped: Notify::new(),
            calm: AtomicBool::new(false),
        }
    }

    pub(crate) fn ask_to_stop(&self, stop: Stop) {
        let change = |asked: u8| (asked == 0 || stop == Stop::Stale).then_some(stop as u8);
        if self.stop.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).is_ok() {
            self.stopped.notify_waiters();
        }
    }

    pub(crate) fn stop(&self) -> Stop {
        match self.stop.load(Ordering::Acquire) {
            0 => Stop::No,
            1 => Stop::Cancelled,
            2 => Stop::Drained,
            _ => Stop::Stale,
        }
    }

    /// The end of its time: the call's deadline or the attempt's timeout.
    pub(crate) fn until(&self) -> Option<Instant> {
        match (self.deadline, self.times_out) {
            (Some(deadline), Some(timeout)) => Some(deadline.min(timeout)),
            (deadline, timeout) => deadline.or(timeout),
        }
    }

    pub(crate) fn has_timed_out(&self) -> bool {
        self.times_out.is_some_and(|until| Instant::now() >= until)
    }
}

impl Context {
    pub(crate) fn new(attempt: Arc<AttemptState>, leases: &Arc<Leases>) -> Self {
        let antiphon = leases.antiphon().for_calls_within(Arc::clone(&attempt));
        Self { antiphon, attempt, leases: Arc::downgrade(leases) }
    }

    /// Tells whoever follows the call how far it is, in any form: a number, a text, a struct. Encoded like the
    /// arguments, as JSON if those are raw bytes.
    ///
    /// It is delivered in order, at most once and without a promise: the newest 64 items or 64 KiB of a call are kept, in
    /// the broker's memory, until 30 s after the call has settled. What a procedure tells faster than its connection
    /// takes is dropped, oldest first; what an attempt tells after it has lost its lease is not passed on.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the value cannot be encoded, `RESOURCE_EXHAUSTED` when it has more than 64 KiB then,
    /// `UNIMPLEMENTED` when the broker does not pass progress on.
    pub fn progress<P: Serialize + ?Sized>(&self, value: &P) -> Result<(), Failure> {
        if self.antiphon.capabilities().progress == Support::Refused {
            let text = "this broker does not pass on what running calls tell of themselves";
            return Err(Failure::new(Code::Unimplemented, text));
        }
        let content_type = match self.attempt.content_type {
            ContentType::Raw => ContentType::Json,
            other => other,
        };
        let payload = encode(&value, content_type)
            .map_err(|error| Failure::new(Code::InvalidArgument, format!("the progress cannot be encoded: {error}")))?;
        let (bytes, max) = (payload.bytes.len(), defaults::PROGRESS_BYTES_MAX);
        if bytes > max {
            let text =
                format!("the progress has {bytes} bytes, the limit is {max}: tell where it stands, not all of it");
            return Err(Failure::new(Code::ResourceExhausted, text));
        }
        if let Some(leases) = self.leases.upgrade() {
            leases.tell(&self.attempt, payload);
        }
        Ok(())
    }

    /// The call.
    #[must_use]
    pub fn call_id(&self) -> CallId {
        self.attempt.call
    }

    /// Which attempt this is, counted from 1.
    #[must_use]
    pub fn attempt(&self) -> u16 {
        self.attempt.attempt
    }

    /// How many attempts there may be.
    #[must_use]
    pub fn attempts_max(&self) -> u16 {
        self.attempt.attempts_max
    }

    /// The fence of this attempt: strictly increasing over the attempts of a call, never issued twice. Hand it to
    /// systems that refuse older ones.
    #[must_use]
    pub fn lease_token(&self) -> u64 {
        self.attempt.lease.token
    }

    /// What remains until the call's deadline, or this attempt's timeout if that is sooner; `None` when there is neither.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.attempt.until().map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Whether the attempt should stop: cancelled, out of time, its lease lost, or its worker is done draining.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.check().is_err()
    }

    /// Waits until the attempt is asked to stop. Procedures that are `async` are dropped then by themselves; this is
    /// for what they have spawned. Running out of time is not waited for.
    pub async fn cancelled(&self) {
        let mut stopped = std::pin::pin!(self.attempt.stopped.notified());
        stopped.as_mut().enable();
        if self.attempt.stop() == Stop::No {
            stopped.await;
        }
    }

    /// For blocking procedures, to be called now and then: fails when the attempt should stop.
    ///
    /// # Errors
    /// `CANCELLED` when asked to stop, `DEADLINE_EXCEEDED` when out of time, `ABORTED` when the lease was lost: another
    /// attempt may run already.
    pub fn check(&self) -> Result<(), Failure> {
        let (code, text) = match self.attempt.stop() {
            Stop::Cancelled => (Code::Cancelled, "the call was cancelled or has expired"),
            Stop::Drained => (Code::Cancelled, "the worker is stopping: the call will run elsewhere"),
            Stop::Stale => (Code::Aborted, "the lease was lost: another attempt may run already"),
            Stop::No if self.remaining().is_some_and(|left| left.is_zero()) => {
                (Code::DeadlineExceeded, "the attempt is out of time")
            }
            Stop::No => return Ok(()),
        };
        Err(Failure::new(code, text).may_have_run())
    }

    /// Waits for a sub-call without holding the slot: other calls use it meanwhile, so that procedures that wait for each
    /// other's calls cannot use up all slots. Keys, the lane and the lease stay held. Once the outcome is here the slot is
    /// taken back, before any new call gets one; then this returns. At most 1,000 calls of a worker wait so; further ones
    /// keep their slots. A broker that knows no such thing leaves the slot where it is, too.
    ///
    /// # Errors
    /// As the call's own.
    pub async fn wait<V, E>(&self, call: SubmittedCall<V, E>) -> Result<V, CallError<E>> {
        let id = call.id();
        Waiting::new(Arc::clone(&self.attempt), Weak::clone(&self.leases), Some(id), call).await
    }

    /// The same for anything else that a procedure waits for: a call that is not submitted yet, many calls, a timer.
    pub async fn wait_for<F: IntoFuture>(&self, future: F) -> F::Output {
        let future = future.into_future();
        Waiting::new(Arc::clone(&self.attempt), Weak::clone(&self.leases), None, future).await
    }

    /// The same for blocking procedures, on their own thread.
    ///
    /// # Panics
    /// In a procedure that is `async`.
    pub fn wait_blocking<F: IntoFuture>(&self, future: F) -> F::Output {
        self.antiphon.runtime().block_on(self.wait_for(future))
    }

    /// An idempotency key for a sub-call, the same over all attempts of this call: a sub-call named alike is made
    /// once, however often this call is tried.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.attempt.call)
    }

    /// The W3C trace context, as the caller gave it.
    #[must_use]
    pub fn trace(&self) -> Option<&str> {
        self.attempt.trace.as_deref()
    }

    /// The connection of the worker, for calls made on behalf of this one: they end by its deadline and carry its trace.
    /// Awaited ones are asked to be cancelled when this attempt is stopped, since its future is dropped.
    #[must_use]
    pub const fn antiphon(&self) -> &Antiphon {
        &self.antiphon
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempt, .. } = self;
        formatter
            .debug_struct("Context")
            .field("call_id", &attempt.call)
            .field("attempt", &attempt.attempt)
            .finish_non_exhaustive()
    }
}
