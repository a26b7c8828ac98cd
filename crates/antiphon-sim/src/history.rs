//! What callers and workers saw, in the order in which they saw it. Kept outside the broker: it survives everything.

use crate::action::{How, Shape};
use antiphon_protocol::{CallId, CancelAnswer, Code, Epoch, LeaseTag, Outcome, State};

/// Something that a client did or saw.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    /// A caller made a call and handed it over.
    Submitted {
        caller: u8,
        life: u32,
        call: u32,
        id: CallId,
        shape: Shape,
        payload: Vec<u8>,
    },
    /// A caller asked for the outcome of a call that another life or caller made.
    Attached {
        caller: u8,
        life: u32,
        id: CallId,
    },
    Accepted {
        caller: u8,
        life: u32,
        call: u32,
        id: CallId,
        duplicate: bool,
    },
    Refused {
        caller: u8,
        call: u32,
        code: Code,
        may_have_run: bool,
    },
    Outcome {
        caller: u8,
        life: u32,
        id: CallId,
        state: State,
        outcome: Outcome,
    },
    Cancelled {
        caller: u8,
        id: CallId,
        answer: CancelAnswer,
    },
    /// Somebody was told the status of a call: its state, if the broker knows it.
    Status {
        id: CallId,
        state: Option<State>,
        too_old: bool,
    },
    Revived {
        dead: CallId,
        id: CallId,
    },
    Purged {
        dead: CallId,
    },
    /// A worker got an attempt and began to run it.
    Began {
        worker: u8,
        id: CallId,
        lease: LeaseTag,
        attempt: u16,
        attempts_max: u16,
        payload: Vec<u8>,
        deadline_ms: u64,
    },
    /// A worker reported, with the bytes or the text of its outcome.
    Reported {
        worker: u8,
        id: CallId,
        lease: LeaseTag,
        how: How,
        text: String,
    },
    /// A report was recorded.
    Settled {
        worker: u8,
        id: CallId,
        lease: LeaseTag,
    },
    Stale {
        worker: u8,
        id: CallId,
        lease: LeaseTag,
    },
    /// A worker came back and was told what it still holds.
    Kept {
        worker: u8,
        leases: Vec<LeaseTag>,
    },
    Epoch {
        epoch: Epoch,
    },
    /// A running call told how far it is.
    Told {
        id: CallId,
        payload: Vec<u8>,
    },
    /// A caller heard what a call told.
    Heard {
        id: CallId,
        sequence: u64,
        payload: Vec<u8>,
    },
}
