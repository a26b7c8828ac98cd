//! What every foreign broker needs and none of them gives: attempts, backoff, deadlines, slots, one outcome a call.
//!
//! Nothing here reads a clock or knows a broker, and nothing but [`DedupeStore`] does I/O. An adapter brings bytes and
//! times, and does what comes back:
//!
//! - [`Admission`] refuses a call that the broker's [`Capabilities`](crate::Capabilities) do not cover, before anything
//!   is published.
//! - [`Ledger`] is the caller's book: tags, duplicates, deadlines, what to publish again after a reconnect, and which
//!   outcome is the first of its call. Later ones never surface.
//! - [`CallHeader`] and [`OutcomeHeader`] are what travels beside the payload, as text for any kind of header.
//! - [`Arrival`] and [`Ending`] judge what a worker gets and how its attempt ended.
//! - [`LeaseBook`] is the worker's book: slots, leases, deadlines, requests to stop.
//! - [`HandingCaller`] and [`HandingWorker`] hand what the seam gives them to a pump.
//! - [`DeadLetter`] reads what is written on one, for the questions about them.
//! - [`Room`] bounds what a caller has on its way; [`plain_failure`] and [`content_type`] speak to peers without Antiphon.
//! - [`Recent`] remembers the last few of something; [`DedupeStore`] remembers handled outcomes over restarts.

mod admission;
mod call_header;
mod dead_letter;
mod dedupe_store;
mod fields;
mod hand_over;
mod lease_book;
mod ledger;
mod outcome_header;
mod plain;
mod recent;
mod room;
mod verdict;

pub use admission::Admission;
pub use call_header::{CallHeader, HeaderError};
pub use dead_letter::{DeadLetter, dead_letters_only, listed, not_dead};
pub use dedupe_store::DedupeStore;
pub use hand_over::{CallerAsked, HandingCaller, HandingWorker, WorkerAsked};
pub use lease_book::{Held, LeaseBook, Reported, Waiting};
pub use ledger::{CancelStep, Delivery, Ledger, Surfacing};
pub use outcome_header::OutcomeHeader;
pub use plain::{content_type, failure_text, plain_failure};
pub use recent::Recent;
pub use room::Room;
pub use verdict::{Arrival, Ending};

/// The header that makes a message a call: [`CallHeader`] as text.
pub const CALL: &str = "antiphon-call";
/// The header that makes a message an outcome: [`OutcomeHeader`] as text. A reply without it is a plain one.
pub const OUTCOME: &str = "antiphon-outcome";
/// The text of a failure, beside [`OUTCOME`].
pub const FAILURE: &str = "antiphon-failure";
/// W3C trace context: the first line of [`Keys::trace`](antiphon_protocol::Keys::trace).
pub const TRACEPARENT: &str = "traceparent";
/// W3C trace context: what follows the first line.
pub const TRACESTATE: &str = "tracestate";

/// Parts a trace context into the values of [`TRACEPARENT`] and [`TRACESTATE`]: at its first white space.
#[must_use]
pub fn split_trace(trace: &str) -> (&str, Option<&str>) {
    match trace.split_once(char::is_whitespace) {
        Some((parent, state)) => (parent, Some(state.trim_start()).filter(|state| !state.is_empty())),
        None => (trace, None),
    }
}

/// Puts a trace context together again, one line each.
#[must_use]
pub fn join_trace(parent: &str, state: Option<&str>) -> Box<str> {
    match state {
        Some(state) => format!("{parent}\n{state}").into(),
        None => parent.into(),
    }
}
