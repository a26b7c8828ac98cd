//! What every foreign broker shares: headers, verdicts, the books of callers and workers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod admission;
mod dedupe_store;
mod headers;
mod leases;
mod ledger;
mod verdicts;

use antiphon_broker::{Submission, Wants};
use antiphon_protocol::{Call, CallId, Name, Payload, Route};
use std::sync::Arc;

/// The wall clock of all these tests.
const WALL: u64 = 1_700_000_000_000;

fn id(number: u8) -> CallId {
    CallId::new(WALL, [number; 10])
}

fn call(number: u8, edit: impl FnOnce(&mut Route)) -> Call {
    let mut route = Route::new(Name::from_static("math.fib"));
    edit(&mut route);
    Call::new(id(number), Arc::new(route), Payload::json("30"))
}

fn submission(call: Call, tag: u64) -> Submission {
    Submission { call, tag, wants: Wants::AcceptanceAndOutcome, resent: false }
}
