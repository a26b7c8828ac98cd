//! The engine's effects in the seam's words: the texts of refusals and of what the engine decides are here.

use crate::bodies::Body;
use crate::output::outcome_of;
use antiphon_broker::{
    AcceptedMeans, Attach, Callbacks, CancelReach, Capabilities, Delay, Event, Fencing, Idempotency, Lease, LeasesOf,
    Ordering, Questions, Support,
};
use antiphon_engine::{Bound, Effect, Ending, Grant, Peer, Reason, Refusal};
use antiphon_protocol::{Code, Epoch, Failure, Outcome, Payload, RateError, defaults};

/// The event for an effect, and to whom; `body` is what its handle stands for.
pub(crate) fn event(effect: Effect, body: Option<Body>, epoch: Epoch) -> Option<(Peer, Event)> {
    Some(match effect {
        Effect::Accepted { peer, tag, id, duplicate, wait_ms } => {
            (peer, Event::Accepted { tag, id, duplicate, wait_ms })
        }
        Effect::Refused { peer, tag, refusal } => (peer, Event::Refused { tag, failure: refused(&refusal) }),
        Effect::Outcome { peer, tag, id, state, attempts, ending } => {
            let outcome = match ending {
                Ending::Stored(_) => outcome_of(body),
                Ending::Decided(reason) => Outcome::Failure(decided(reason)),
            };
            (peer, Event::Outcome { tag, id, state, attempts, outcome })
        }
        Effect::CancelAnswered { peer, id, answer } => (peer, Event::CancelAnswered { id, answer }),
        Effect::Lease { peer, grant } => (peer, Event::Lease(lease(grant, body)?)),
        Effect::CancelAsked { peer, lease } => (peer, Event::CancelAsked { lease }),
        Effect::Settled { peer, lease } => (peer, Event::Settled { lease }),
        Effect::Stale { peer, lease } => (peer, Event::Stale { lease }),
        Effect::Resumed { peer, lease } => (peer, Event::Resumed { lease }),
        Effect::DrainAsked { peer } => (peer, Event::DrainAsked),
        Effect::Opened { peer, kept } => (peer, Event::Up { epoch, kept }),
        Effect::Fenced { peer } => {
            let reason = "a newer session of the same caller, inbox or worker has taken over".to_owned();
            (peer, Event::Down { reason, last: true })
        }
    })
}

/// `None` when the arguments cannot be read: the worker gets nothing and the lease runs out.
fn lease(grant: Grant, body: Option<Body>) -> Option<Lease> {
    let Some(Body::Arguments { payload, trace }) = body else { return None };
    let payload: Payload = payload;
    Some(Lease {
        lease: grant.lease,
        call: grant.call,
        procedure: grant.procedure,
        attempt: grant.attempt,
        attempts_max: grant.attempts_max,
        lease_ms: grant.lease_ms,
        attempt_timeout_ms: grant.attempt_timeout_ms,
        deadline_ms: grant.deadline_ms,
        payload,
        trace,
    })
}

/// What the engine decided, in words.
pub(crate) fn decided(reason: Reason) -> Failure {
    let (code, text) = match reason {
        Reason::CancelledQueued => (Code::Cancelled, "cancelled before it started"),
        Reason::CancelledRunning => (Code::Cancelled, "cancelled while it ran: its worker was asked to stop"),
        Reason::CancelledRetrying => (Code::Cancelled, "cancelled between two attempts"),
        Reason::ExpiredQueued => {
            (Code::DeadlineExceeded, "the deadline passed before a worker had a free slot: it never ran")
        }
        Reason::ExpiredRunning => {
            (Code::DeadlineExceeded, "the deadline passed while it ran: its worker was asked to stop")
        }
        Reason::ExpiredRetrying => (Code::DeadlineExceeded, "the deadline passed between two attempts"),
        Reason::GroupCancelled => (Code::Cancelled, "the group was cancelled, and its children with it"),
        Reason::GroupExpired => (Code::DeadlineExceeded, "the deadline passed before the group was decided"),
        Reason::GroupUnsealed => (Code::DeadlineExceeded, "the group was not sealed in time"),
        Reason::RetryBudget => (
            Code::ResourceExhausted,
            "it failed, and its procedure has used up its budget of retries: a volatile call is not kept for later",
        ),
        Reason::LostLeases => {
            (Code::Unknown, "its workers died while running it, too often to try again: kept as a dead letter")
        }
        Reason::AtMostOnceLost => {
            (Code::Unknown, "it runs at most once and its worker was lost: whether it ran to its end is not known")
        }
    };
    let mut failure = Failure::new(code, text);
    failure.may_have_run = reason.may_have_run();
    failure
}

fn queue_full(procedure: &str, bound: Bound, limit: u64) -> String {
    let what = match bound {
        Bound::Calls => "calls wait",
        Bound::Bytes => "bytes of arguments wait",
        Bound::TenantCalls => "calls of this tenant wait",
        Bound::TenantBytes => "bytes of arguments of this tenant wait",
    };
    format!("as many {what} for {procedure} as may, {limit}: add workers or try again later")
}

fn brief(ms: u64) -> u32 {
    u32::try_from(ms).unwrap_or(u32::MAX)
}

/// A refusal, in words.
pub(crate) fn refused(refusal: &Refusal) -> Failure {
    match refusal {
        Refusal::CallsFull { limit } => {
            let text = format!("the broker holds {limit} unsettled calls, its limit: add workers or try again later");
            Failure::new(Code::ResourceExhausted, text).retry_after_ms(1_000)
        }
        Refusal::QueueFull { procedure, bound, limit, retry_after_ms } => {
            let text = queue_full(procedure, *bound, *limit);
            Failure::new(Code::ResourceExhausted, text).retry_after_ms(brief(*retry_after_ms))
        }
        Refusal::TooLate { procedure, wait_ms, service_ms, deadline_ms, retry_after_ms } => {
            let text = format!(
                "calls of {procedure} wait about {wait_ms} ms for a slot and take {service_ms} ms, longer than the {deadline_ms} ms \
                 to the deadline: add workers, give it more time or try again later"
            );
            Failure::new(Code::ResourceExhausted, text).retry_after_ms(brief(*retry_after_ms))
        }
        Refusal::RoutesFull { limit } => {
            let text =
                format!("{limit} different routes (procedure, tenant, options) are in use, the limit: use fewer");
            Failure::new(Code::ResourceExhausted, text).retry_after_ms(10_000)
        }
        Refusal::Fenced => {
            Failure::new(Code::Aborted, "a newer session of the same caller or inbox has taken over: submit there")
        }
        Refusal::Rate => Failure::new(RateError::CODE, RateError.to_string()),
        Refusal::BurstWithoutRate => {
            Failure::new(RateError::CODE, "a burst means nothing without a rate: set the rate with it")
        }
        Refusal::ProceduresFull { limit } => {
            let text = format!("{limit} different procedures are known, the limit: use fewer names");
            Failure::new(Code::ResourceExhausted, text)
        }
        Refusal::InboxFull { inbox: None, limit } => {
            let text = format!("this caller has {limit} calls whose outcomes it has not acknowledged, the limit");
            Failure::new(Code::ResourceExhausted, text).retry_after_ms(1_000)
        }
        Refusal::InboxFull { inbox: Some(inbox), limit } => {
            let text = format!("inbox {inbox} holds {limit} calls that are not acknowledged, its limit: read it first");
            Failure::new(Code::ResourceExhausted, text).retry_after_ms(1_000)
        }
        Refusal::KeysFull { limit } => {
            let text = format!("{limit} idempotency keys are remembered, the limit: try again when some have aged out");
            Failure::new(Code::ResourceExhausted, text).retry_after_ms(60_000)
        }
        Refusal::KeyConflict { id } => {
            let text = format!("the idempotency key belongs to call {id}, which has other arguments: use another key");
            Failure::new(Code::AlreadyExists, text)
        }
        Refusal::IdConflict => {
            Failure::new(Code::AlreadyExists, "the call id belongs to a call of another procedure: make a new id")
        }
        Refusal::TooOldToSay => {
            let text = "the call is older than what the broker remembers: whether it ran cannot be said any more";
            Failure::new(Code::FailedPrecondition, text).may_have_run()
        }
        Refusal::TiedFull { limit } => {
            let text =
                format!("{limit} unsettled calls have an ordering key, a concurrency key or a parent, the limit");
            Failure::new(Code::ResourceExhausted, text).retry_after_ms(1_000)
        }
        Refusal::SectionsFull { limit } => {
            let text = format!(
                "the procedure has calls with {limit} different sets of labels and slots, the limit: use fewer"
            );
            Failure::new(Code::ResourceExhausted, text)
        }
        Refusal::Needs => {
            let (slots, labels) = (defaults::CALL_SLOTS_MAX, defaults::CALL_LABELS_MAX);
            let text = format!("a call takes 1 to {slots} slots and requires at most {labels} labels");
            Failure::new(Code::InvalidArgument, text)
        }
        Refusal::LaneHeld { by, lane, key } => {
            let text = format!(
                "it could never start: call {by}, within which it was made, holds lane {lane} of ordering key {key}"
            );
            Failure::new(Code::FailedPrecondition, text)
        }
        Refusal::KeyHeld { by, key } => {
            let text = format!(
                "it could never start: calls within which it was made, {by} the outermost, hold all places of \
                 concurrency key {key}"
            );
            Failure::new(Code::FailedPrecondition, text)
        }
        Refusal::TooDeep { limit } => {
            let text = format!(
                "it was made within more than {limit} calls: whether one of them holds its lane or key is not looked for"
            );
            Failure::new(Code::FailedPrecondition, text)
        }
        Refusal::NotFound => Failure::new(Code::NotFound, "the broker has never seen this call, or has forgotten it"),
        Refusal::NoGroup { id } => Failure::new(Code::NotFound, format!("there is no group {id}")),
        Refusal::GroupOfItself { id } => {
            Failure::new(Code::InvalidArgument, format!("group {id} cannot be a child of itself"))
        }
        Refusal::GroupsOfCallFull { limit } => {
            let text = format!("the call is a child of {limit} groups, the limit: put groups into groups");
            Failure::new(Code::ResourceExhausted, text)
        }
        Refusal::GroupSettled { id, state } => {
            Failure::new(Code::FailedPrecondition, format!("group {id} is {state}: open another one"))
        }
        Refusal::GroupSealed { id } => {
            Failure::new(Code::FailedPrecondition, format!("group {id} is sealed: add children before it is"))
        }
        Refusal::GroupFull { id, limit } => {
            let text = format!("group {id} has {limit} children, the limit: put groups into groups");
            Failure::new(Code::ResourceExhausted, text)
        }
        Refusal::GroupDurable { id } => {
            let text =
                format!("group {id} is durable and this call is not: make the call durable, or the group volatile");
            Failure::new(Code::FailedPrecondition, text)
        }
        Refusal::SubscriptionsFull { limit } => {
            let text = format!("{limit} subscriptions exist, the limit: remove some, or use patterns");
            Failure::new(Code::ResourceExhausted, text)
        }
        Refusal::SchedulesFull { limit } => {
            let text = format!("{limit} schedules exist, the limit: remove some");
            Failure::new(Code::ResourceExhausted, text)
        }
        Refusal::EventsFull { limit } => {
            let text =
                format!("{limit} events wait to make their calls or for those to end, the limit: try again later");
            Failure::new(Code::ResourceExhausted, text).retry_after_ms(1_000)
        }
        Refusal::Callbacks(error) => Failure::new(Code::InvalidArgument, error.to_string()),
        Refusal::NotDurable => {
            let text = "this broker keeps calls in memory: a durable call needs one with a data directory";
            Failure::new(Code::FailedPrecondition, text)
        }
    }
}

/// What a driver can do.
pub(crate) fn capabilities(durable: bool, payload_bytes_max: u32) -> Capabilities {
    Capabilities {
        accepted: if durable { AcceptedMeans::Fsynced } else { AcceptedMeans::Memory },
        durable_by_default: durable,
        fencing: Fencing::AtSettle,
        cancel: CancelReach::Running,
        attach: Attach::ById,
        ordering: Ordering::Lanes,
        idempotency: Idempotency::ByKey,
        delay: Delay::Exact,
        callbacks: Callbacks::Atomic,
        groups: Support::Native,
        late_binding: Support::Native,
        priorities: Support::Native,
        concurrency_keys: Support::Native,
        needs: Support::Native,
        parking: Support::Native,
        tenants: Support::Native,
        leases: LeasesOf::Incarnation,
        questions: Questions::All,
        named_inboxes: Support::Native,
        progress: Support::Native,
        events: Support::Native,
        schedules: Support::Native,
        payload_bytes_max,
    }
}
