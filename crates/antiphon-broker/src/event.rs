//! What a broker tells callers and workers.

use antiphon_protocol::{CallId, CancelAnswer, Epoch, Failure, LeaseTag, Outcome, Payload, State, Tag, Topic};

/// One thing a broker tells a sink.
// Leases and outcomes are nearly all events there are: boxing them would cost an allocation per call.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum Event {
    /// To a caller: the broker has the call, durably if it is durable.
    Accepted {
        /// The caller's tag.
        tag: Tag,
        /// The call; another than the one submitted when an idempotency key found an earlier one.
        id: CallId,
        /// Whether the broker had it before.
        duplicate: bool,
        /// How long it should wait for its start, in milliseconds from now, where the broker can tell.
        wait_ms: Option<u64>,
    },
    /// To a caller: the broker does not take the call (or does not know it, after an attach).
    Refused {
        /// The caller's tag.
        tag: Tag,
        /// Why.
        failure: Failure,
    },
    /// To a caller: the call has settled. Delivered again after a reconnect until it is acknowledged.
    Outcome {
        /// The tag under which this caller asked for it; 0 in a named inbox.
        tag: Tag,
        /// The call.
        id: CallId,
        /// The terminal state.
        state: State,
        /// How many attempts were started.
        attempts: u16,
        /// The outcome.
        outcome: Outcome,
    },
    /// To a caller: what came of a cancellation.
    CancelAnswered {
        /// The call.
        id: CallId,
        /// What came of it.
        answer: CancelAnswer,
    },
    /// To a caller that follows the call: what the running procedure tells of itself. In order, before the outcome; the
    /// newest only, if there was much.
    Progress {
        /// The tag under which this caller follows it.
        tag: Tag,
        /// The call.
        id: CallId,
        /// What was told.
        progress: Progress,
    },
    /// To a caller that asked to follow a call which is not under way (any more): everything kept was told, and nothing
    /// will be.
    ProgressEnded {
        /// The tag under which it was asked.
        tag: Tag,
    },
    /// To a caller that watches events: one that matches, in the order in which they were accepted.
    Emitted {
        /// The tag under which this caller watches.
        tag: Tag,
        /// The event.
        emission: Emission,
        /// Whether it ends this part: to hear of more, watch again after its number.
        last: bool,
    },
    /// To a caller that watches events: this part is over without a last event, and to hear of more it watches again, after
    /// this number.
    Watched {
        /// The tag under which it watched.
        tag: Tag,
        /// All events up to this number were looked at.
        through: u64,
        /// Why no more are told now, if something is wrong.
        failure: Option<Failure>,
    },
    /// To a worker: run this.
    Lease(Lease),
    /// To a worker: stop this attempt, then report [`antiphon_protocol::Settlement::Stop`] (or whatever it ended with).
    CancelAsked {
        /// Which lease.
        lease: LeaseTag,
    },
    /// To a worker: the report is recorded.
    Settled {
        /// Which lease.
        lease: LeaseTag,
    },
    /// To a worker: that lease is not current; nothing was recorded, and its attempt should stop.
    Stale {
        /// Which lease.
        lease: LeaseTag,
    },
    /// To a worker: the lease has its slots again, and its procedure may go on.
    Resumed {
        /// Which lease.
        lease: LeaseTag,
    },
    /// To a worker: an operator asks it to drain.
    DrainAsked,
    /// More can be submitted or reported.
    Writable,
    /// Connected. Held leases that are not in `kept` are stale. Calls that went with an earlier start of the broker
    /// (accepted volatile ones, and those of unknown fate) are refused by the broker's side with `UNAVAILABLE`, may have
    /// run; it submits again what was not answered and attaches again what was accepted.
    Up {
        /// The broker's start; a change means that volatile calls of the start before are gone.
        epoch: Epoch,
        /// Of the leases a worker brought along, those it still holds.
        kept: Vec<LeaseTag>,
    },
    /// Not connected any more; the broker's side reconnects by itself unless `last`.
    Down {
        /// Why.
        reason: String,
        /// Whether it is given up: closed, fenced by a newer session, or refused.
        last: bool,
    },
}

/// What a running procedure told of itself.
#[derive(Clone, PartialEq, Debug)]
pub struct Progress {
    /// Its place: strictly increasing for a call, over attempts and restarts of the broker, but with gaps.
    pub sequence: u64,
    /// Which attempt told it, counted from 1.
    pub attempt: u16,
    /// What it told.
    pub payload: Payload,
}

/// An event, as whoever watches events hears it.
#[derive(Clone, PartialEq, Debug)]
pub struct Emission {
    /// Its place among all events: strictly increasing, over restarts of a broker that journals, but with gaps.
    pub number: u64,
    /// Its id.
    pub id: CallId,
    /// What it is about.
    pub topic: Topic,
    /// When the broker accepted it, in milliseconds since 1970.
    pub emitted_ms: u64,
    /// Whether it is journaled.
    pub durable: bool,
    /// What it tells.
    pub payload: Payload,
}

/// The right to run one attempt of a call.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Names it; the token fences it.
    pub lease: LeaseTag,
    /// The call.
    pub call: CallId,
    /// The place of the procedure in the worker's offer.
    pub procedure: u32,
    /// Which attempt, counted from 1.
    pub attempt: u16,
    /// How many attempts there may be.
    pub attempts_max: u16,
    /// How long the lease lasts without being extended, in milliseconds.
    pub lease_ms: u32,
    /// Bound on this attempt in milliseconds; 0 is none.
    pub attempt_timeout_ms: u32,
    /// What remains until the call's deadline, in milliseconds; 0 is no deadline.
    pub deadline_ms: u64,
    /// The arguments.
    pub payload: Payload,
    /// W3C trace context, as the caller gave it.
    pub trace: Option<Box<str>>,
}
