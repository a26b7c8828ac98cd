//! The frames that callers, workers and inspectors send.

use super::{Outbound, put_failure};
use crate::Kind;
use crate::handshake::{put_short_text, put_text};
use crate::kind::{CHILD, CONCURRENT, GROUPED, KEYED, MORE_KEYS, ORDERED, RESENT, START_AT, START_IN};
use crate::limits::TRACE_BYTES_MAX;
use antiphon_broker::{ProgressReport, Report, Submission, Wants, Watch};
use antiphon_protocol::{CallId, Keys, LeaseTag, Offer, Query, Route, Settlement, Start, Tag};
use bytes::BufMut;

impl Outbound {
    /// Gives a route an index, or an index another route.
    pub fn route(&mut self, index: u32, route: &Route) {
        self.frame_with_control(Kind::Route, route, |out| out.put_u32_le(index));
    }

    /// Submits a call under a tag and the index of its route.
    pub fn submit(&mut self, tag: Tag, route: u32, submission: &Submission) {
        let call = &submission.call;
        let mut flags = match submission.wants {
            Wants::Outcome => 0,
            Wants::AcceptanceAndOutcome => 1,
            Wants::Acceptance => 2,
        };
        flags |= if submission.resent { RESENT } else { 0 };
        flags |= if call.keys.is_some() { KEYED } else { 0 };
        let more = call.keys.as_ref().map_or(0, |keys| more_keys(keys));
        flags |= if more == 0 { 0 } else { MORE_KEYS };
        flags |= match call.start {
            Start::Now => 0,
            Start::In(_) => START_IN,
            Start::At(_) => START_AT,
        };
        self.frame_with_payload(Kind::Submit, flags, Some(&call.payload), |out| {
            out.put_u64_le(tag);
            out.put_slice(&call.id.to_bytes());
            out.put_u32_le(route);
            out.put_u64_le(call.deadline_ms);
            if let Start::In(ms) | Start::At(ms) = call.start {
                out.put_u64_le(ms);
            }
            if let Some(keys) = &call.keys {
                put_short_text(out, keys.idempotency.as_ref().map_or("", |key| key.as_str()));
                put_text(out, carried(keys.trace.as_deref()).unwrap_or(""), TRACE_BYTES_MAX);
                if more != 0 {
                    out.put_u8(more);
                }
                if let Some(group) = keys.group {
                    out.put_slice(&group.to_bytes());
                }
                for key in keys.ordering.iter().chain(&keys.concurrency) {
                    put_short_text(out, key.as_str());
                }
                if let Some(parent) = keys.parent {
                    out.put_slice(&parent.to_bytes());
                }
            }
        });
    }

    /// Asks for the outcome of a call submitted elsewhere or earlier.
    pub fn attach(&mut self, tag: Tag, id: CallId) {
        let mut entry = [0; 24];
        entry.first_chunk_mut::<8>().expect("24 bytes hold 8").copy_from_slice(&tag.to_le_bytes());
        entry.last_chunk_mut::<16>().expect("24 bytes hold 16").copy_from_slice(&id.to_bytes());
        self.entry(Kind::Attach, &entry);
    }

    /// An outcome was handled.
    pub fn acknowledge(&mut self, id: CallId) {
        self.entry(Kind::Acknowledge, &id.to_bytes());
    }

    /// Asks to cancel a call.
    pub fn cancel(&mut self, id: CallId) {
        self.entry(Kind::Cancel, &id.to_bytes());
    }

    /// Asks for what a running call tells of itself, after a sequence.
    pub fn follow(&mut self, id: CallId, tag: Tag, after: u64) {
        let mut entry = [0; 32];
        let (first, numbers) = entry.split_at_mut(16);
        first.copy_from_slice(&id.to_bytes());
        numbers.first_chunk_mut::<8>().expect("16 bytes hold 8").copy_from_slice(&tag.to_le_bytes());
        numbers.last_chunk_mut::<8>().expect("16 bytes hold 8").copy_from_slice(&after.to_le_bytes());
        self.entry(Kind::Follow, &entry);
    }

    /// Asks for events.
    pub fn watch(&mut self, watch: &Watch) {
        self.frame(Kind::Watch, 0, |out| {
            out.put_u64_le(watch.tag);
            out.put_u64_le(watch.after);
            put_short_text(out, watch.pattern.as_str());
        });
    }

    /// Passes on what a running call tells of itself.
    pub fn progress(&mut self, told: &ProgressReport) {
        self.frame_with_payload(Kind::ProgressReport, 0, Some(&told.payload), |out| {
            out.put_slice(&lease_bytes(told.lease));
            out.put_slice(&told.call.to_bytes());
        });
    }

    /// What a worker runs and holds.
    pub fn offer(&mut self, offer: &Offer) {
        self.frame_with_control(Kind::Offer, offer, |_| ());
    }

    /// Slots became free, or are taken away.
    pub fn credit(&mut self, slots: i32) {
        self.frame(Kind::Credit, 0, |out| out.put_i32_le(slots));
    }

    /// Ends a lease.
    pub fn report(&mut self, report: &Report) {
        let (number, payload, failure) = match &report.settlement {
            Settlement::Succeed(payload) => (0, Some(payload), None),
            Settlement::Fail(failure) => (1, failure.details.as_ref(), Some(failure)),
            Settlement::Retry(failure) => (2, failure.details.as_ref(), Some(failure)),
            Settlement::Bury(failure) => (3, failure.details.as_ref(), Some(failure)),
            Settlement::Release => (4, None, None),
            Settlement::Stop => (5, None, None),
        };
        self.frame_with_payload(Kind::Report, 0, payload, |out| {
            out.put_u8(number);
            out.put_slice(&lease_bytes(report.lease));
            out.put_slice(&report.call.to_bytes());
            if let Some(failure) = failure {
                put_failure(out, failure);
            }
        });
    }

    /// Prolongs a lease.
    pub fn extend(&mut self, lease: LeaseTag) {
        self.entry(Kind::Extend, &lease_bytes(lease));
    }

    /// The procedure under a lease waits for a call, and takes no slots meanwhile.
    pub fn park(&mut self, lease: LeaseTag, awaits: Option<CallId>) {
        let mut entry = [0; 28];
        entry.first_chunk_mut::<12>().expect("28 bytes hold 12").copy_from_slice(&lease_bytes(lease));
        let awaits = awaits.map_or([0; 16], CallId::to_bytes);
        entry.last_chunk_mut::<16>().expect("28 bytes hold 16").copy_from_slice(&awaits);
        self.entry(Kind::Park, &entry);
    }

    /// It wants to go on.
    pub fn resume(&mut self, lease: LeaseTag) {
        self.entry(Kind::Resume, &lease_bytes(lease));
    }

    /// Takes no more leases.
    pub fn drain(&mut self) {
        self.frame(Kind::Drain, 0, |_| ());
    }

    /// Asks a question; the answer carries the ticket.
    pub fn query(&mut self, ticket: u32, query: &Query) {
        self.frame_with_control(Kind::Query, query, |out| out.put_u32_le(ticket));
    }
}

/// What the keys of a submission say beside those that always follow.
fn more_keys(keys: &Keys) -> u8 {
    let mut more = 0;
    more |= if keys.group.is_some() { GROUPED } else { 0 };
    more |= if keys.ordering.is_some() { ORDERED } else { 0 };
    more |= if keys.concurrency.is_some() { CONCURRENT } else { 0 };
    more |= if keys.parent.is_some() { CHILD } else { 0 };
    more
}

/// A trace context cut short would be another one: too long, it does not travel.
pub(super) fn carried(trace: Option<&str>) -> Option<&str> {
    trace.filter(|trace| trace.len() <= TRACE_BYTES_MAX)
}

pub(super) fn lease_bytes(lease: LeaseTag) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes.first_chunk_mut::<4>().expect("12 bytes hold 4").copy_from_slice(&lease.slot.to_le_bytes());
    bytes.last_chunk_mut::<8>().expect("12 bytes hold 8").copy_from_slice(&lease.token.to_le_bytes());
    bytes
}
