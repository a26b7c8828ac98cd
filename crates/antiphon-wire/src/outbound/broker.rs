//! The frames that the broker sends.

use super::client::{carried, lease_bytes};
use super::{Outbound, control, put_failure};
use crate::Kind;
use crate::handshake::{put_short_text, put_text};
use crate::kind::{FAILED, LAST_OF_PART, TRACED, VOLATILE, WAIT_UNKNOWN};
use crate::limits::{CONTROL_BYTES_MAX, TEXT_BYTES_MAX, TRACE_BYTES_MAX};
use antiphon_broker::{Emission, Event, Lease};
use antiphon_protocol::{Answer, CallId, CancelAnswer, Code, Epoch, Failure, LeaseTag, Outcome, Payload, State, Tag};
use bytes::BufMut;

impl Outbound {
    /// Tells a caller or a worker of an event. [`Event::Writable`] and [`Event::Down`] are made by the receiving side.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Accepted { tag, id, duplicate, wait_ms } => self.accepted(*tag, *id, *duplicate, *wait_ms),
            Event::Refused { tag, failure } => {
                self.frame_with_payload(Kind::Refused, 0, failure.details.as_ref(), |out| {
                    out.put_u64_le(*tag);
                    put_failure(out, failure);
                });
            }
            Event::Outcome { tag, id, state, attempts, outcome } => {
                self.outcome(*tag, *id, *state, *attempts, outcome);
            }
            Event::CancelAnswered { id, answer } => self.cancel_answered(*id, answer),
            Event::Progress { tag, id, progress } => {
                self.frame_with_payload(Kind::Progress, 0, Some(&progress.payload), |out| {
                    out.put_u64_le(*tag);
                    out.put_slice(&id.to_bytes());
                    out.put_u64_le(progress.sequence);
                    out.put_u16_le(progress.attempt);
                });
            }
            Event::ProgressEnded { tag } => self.entry(Kind::ProgressEnded, &tag.to_le_bytes()),
            Event::Emitted { tag, emission, last } => self.emitted(*tag, emission, *last),
            Event::Watched { tag, through, failure } => self.watched(*tag, *through, failure.as_ref()),
            Event::Lease(lease) => self.lease(lease),
            Event::CancelAsked { lease } => self.entry(Kind::CancelAsked, &lease_bytes(*lease)),
            Event::Settled { lease } => self.entry(Kind::Settled, &lease_bytes(*lease)),
            Event::Stale { lease } => self.entry(Kind::Stale, &lease_bytes(*lease)),
            Event::Resumed { lease } => self.entry(Kind::Resumed, &lease_bytes(*lease)),
            Event::DrainAsked => self.frame(Kind::DrainAsked, 0, |_| ()),
            Event::Up { epoch, kept } => self.up(*epoch, kept),
            Event::Writable | Event::Down { .. } => (),
        }
    }

    fn accepted(&mut self, tag: Tag, id: CallId, duplicate: bool, wait_ms: Option<u64>) {
        let wait_ms =
            wait_ms.map_or(WAIT_UNKNOWN, |ms| u32::try_from(ms).unwrap_or(WAIT_UNKNOWN).min(WAIT_UNKNOWN - 1));
        let mut entry = [0; 29];
        let mut rest = &mut entry[..];
        rest.put_u64_le(tag);
        rest.put_slice(&id.to_bytes());
        rest.put_u8(u8::from(duplicate));
        rest.put_u32_le(wait_ms);
        self.entry(Kind::Accepted, &entry);
    }

    fn outcome(&mut self, tag: Tag, id: CallId, state: State, attempts: u16, outcome: &Outcome) {
        let (flags, payload, failure) = match outcome {
            Outcome::Reply(payload) => (0, Some(payload), None),
            Outcome::Failure(failure) => (FAILED, failure.details.as_ref(), Some(failure)),
        };
        self.frame_with_payload(Kind::Outcome, flags, payload, |out| {
            out.put_u64_le(tag);
            out.put_slice(&id.to_bytes());
            out.put_u8(state as u8);
            out.put_u16_le(attempts);
            if let Some(failure) = failure {
                put_failure(out, failure);
            }
        });
    }

    fn emitted(&mut self, tag: Tag, emission: &Emission, last: bool) {
        let flags = if emission.durable { 0 } else { VOLATILE } | if last { LAST_OF_PART } else { 0 };
        self.frame_with_payload(Kind::Emitted, flags, Some(&emission.payload), |out| {
            out.put_u64_le(tag);
            out.put_slice(&emission.id.to_bytes());
            out.put_u64_le(emission.number);
            out.put_u64_le(emission.emitted_ms);
            put_short_text(out, emission.topic.name());
        });
    }

    fn watched(&mut self, tag: Tag, through: u64, failure: Option<&Failure>) {
        self.frame(Kind::Watched, if failure.is_some() { FAILED } else { 0 }, |out| {
            out.put_u64_le(tag);
            out.put_u64_le(through);
            if let Some(failure) = failure {
                out.put_u8(failure.code as u8);
                put_text(out, &failure.message, TEXT_BYTES_MAX);
            }
        });
    }

    fn cancel_answered(&mut self, id: CallId, answer: &CancelAnswer) {
        let (number, state, worker) = match answer {
            CancelAnswer::NeverRan => (0, 0, ""),
            CancelAnswer::Stopping { worker } => (1, 0, worker.as_str()),
            CancelAnswer::AlreadySettled(state) => (2, *state as u8, ""),
            CancelAnswer::NotFound => (3, 0, ""),
            CancelAnswer::BetweenAttempts => (4, 0, ""),
            CancelAnswer::Children => (6, 0, ""),
            CancelAnswer::NotReached => (5, 0, ""),
        };
        self.frame(Kind::CancelAnswered, 0, |out| {
            out.put_slice(&id.to_bytes());
            out.put_u8(number);
            out.put_u8(state);
            put_short_text(out, worker);
        });
    }

    fn lease(&mut self, lease: &Lease) {
        let trace = carried(lease.trace.as_deref());
        let flags = if trace.is_some() { TRACED } else { 0 };
        self.frame_with_payload(Kind::Lease, flags, Some(&lease.payload), |out| {
            out.put_slice(&lease_bytes(lease.lease));
            out.put_slice(&lease.call.to_bytes());
            out.put_u32_le(lease.procedure);
            out.put_u16_le(lease.attempt);
            out.put_u16_le(lease.attempts_max);
            out.put_u32_le(lease.lease_ms);
            out.put_u32_le(lease.attempt_timeout_ms);
            out.put_u64_le(lease.deadline_ms);
            if let Some(trace) = trace {
                put_text(out, trace, TRACE_BYTES_MAX);
            }
        });
    }

    fn up(&mut self, epoch: Epoch, kept: &[LeaseTag]) {
        let bytes: Vec<u8> = kept.iter().flat_map(|lease| lease_bytes(*lease)).collect();
        self.frame_with_payload(Kind::Up, 0, Some(&Payload::raw(bytes)), |out| out.put_u32_le(epoch.0));
    }

    /// Answers a question; an answer that is too long for the wire is refused instead.
    pub fn answer(&mut self, ticket: u32, answer: &Answer) {
        let mut payload = control(answer);
        if payload.bytes.len() > usize::try_from(CONTROL_BYTES_MAX).unwrap_or(usize::MAX) {
            let message = format!("the answer has {} bytes: ask for fewer", payload.bytes.len());
            payload = control(&Answer::Refused { code: Code::ResourceExhausted, message });
        }
        self.frame_with_payload(Kind::Answer, 0, Some(&payload), |out| out.put_u32_le(ticket));
    }
}
