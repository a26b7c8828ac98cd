//! One frame, decoded. Decoding copies a payload once, into its own memory, so that a long-lived call never keeps a
//! read buffer alive; arrays stay where they are and are read entry by entry.

use crate::cursor::Cursor;
use crate::handshake::{Hello, Refusal, Welcome};
use crate::kind::{
    ABANDONED, CHILD, CHUNKED, CONCURRENT, FAILED, GROUPED, KEYED, LAST, LAST_OF_PART, MORE_KEYS, ORDERED, RESENT,
    START_AT, START_IN, TRACED, VOLATILE, WAIT_UNKNOWN, WANTS,
};
use crate::limits::{BATCH_MAX, DEPTH_MAX, ROUTES_MAX};
use crate::{FrameError, Kind};
use antiphon_broker::{Emission, Event, Lease, Progress, ProgressReport, Report, Wants, Watch};
use antiphon_protocol::{
    Answer, CallId, CancelAnswer, Code, ContentType, Epoch, Failure, Key, Keys, LeaseTag, Offer, Outcome, Pattern,
    Payload, Query, Route, Settlement, Start, State, Tag, Topic,
};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// A frame of the wire.
#[allow(missing_docs, clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Frame<'a> {
    Hello(Hello),
    Welcome(Welcome),
    Refusal(Refusal),
    Goodbye {
        code: Code,
        last: bool,
        text: String,
    },
    Ping(u64),
    Pong(u64),
    Chunk {
        abandoned: bool,
        bytes: &'a [u8],
    },
    Route {
        index: u32,
        route: Box<Route>,
    },
    Submit(Submitted),
    Attach(Entries<'a, (Tag, CallId)>),
    Acknowledge(Entries<'a, CallId>),
    Cancel(Entries<'a, CallId>),
    Follow(Entries<'a, (CallId, Tag, u64)>),
    Watch(Watch),
    Accepted(Entries<'a, Accepted>),
    ProgressEnded(Entries<'a, Tag>),
    Offer(Box<Offer>),
    Credit(i32),
    Report(Report),
    Extend(Entries<'a, LeaseTag>),
    Drain,
    ProgressReport(ProgressReport),
    Park(Entries<'a, Parked>),
    Resume(Entries<'a, LeaseTag>),
    CancelAsked(Entries<'a, LeaseTag>),
    Settled(Entries<'a, LeaseTag>),
    Stale(Entries<'a, LeaseTag>),
    Resumed(Entries<'a, LeaseTag>),
    /// The frames that carry one event: refused, outcome, cancel answered, progress, lease, drain asked, up.
    Event(Event),
    Query {
        ticket: u32,
        query: Box<Query>,
    },
    Answer {
        ticket: u32,
        answer: Box<Answer>,
    },
}

/// A call as it comes in; the route is the index that its connection gave it.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Submitted {
    pub tag: Tag,
    pub id: CallId,
    pub route: u32,
    pub deadline_ms: u64,
    pub start: Start,
    pub keys: Option<Box<Keys>>,
    pub wants: Wants,
    pub resent: bool,
    pub payload: Payload,
}

/// One entry of an acceptance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Accepted {
    pub tag: Tag,
    pub id: CallId,
    pub duplicate: bool,
    pub wait_ms: Option<u64>,
}

/// One lease whose procedure waits, and the call that it waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Parked {
    pub lease: LeaseTag,
    pub awaits: Option<CallId>,
}

impl<'a> Frame<'a> {
    /// Reads a frame's body. `whole` is the payload of a frame whose payload came in chunks.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes are not such a frame.
    pub fn decode(kind: Kind, flags: u8, body: &'a [u8], whole: Option<Bytes>) -> Result<Self, FrameError> {
        let mut cursor = Cursor::new(body);
        let frame = match kind {
            Kind::Attach => return Entries::new(body).map(Self::Attach),
            Kind::Acknowledge => return Entries::new(body).map(Self::Acknowledge),
            Kind::Cancel => return Entries::new(body).map(Self::Cancel),
            Kind::Follow => return Entries::new(body).map(Self::Follow),
            Kind::ProgressEnded => return Entries::new(body).map(Self::ProgressEnded),
            Kind::Accepted => return Entries::new(body).map(Self::Accepted),
            Kind::Extend => return Entries::new(body).map(Self::Extend),
            Kind::CancelAsked => return Entries::new(body).map(Self::CancelAsked),
            Kind::Settled => return Entries::new(body).map(Self::Settled),
            Kind::Stale => return Entries::new(body).map(Self::Stale),
            Kind::Park => return Entries::new(body).map(Self::Park),
            Kind::Resume => return Entries::new(body).map(Self::Resume),
            Kind::Resumed => return Entries::new(body).map(Self::Resumed),
            Kind::Chunk => return Ok(Self::Chunk { abandoned: flags & ABANDONED != 0, bytes: body }),
            kind if kind.has_payload() => return Self::decode_with_payload(kind, flags, body, whole),
            Kind::Hello => Self::Hello(Hello::decode(&mut cursor)?),
            Kind::Welcome => Self::Welcome(Welcome::decode(&mut cursor)?),
            Kind::Refusal => Self::Refusal(Refusal::decode(&mut cursor)?),
            Kind::Goodbye => {
                Self::Goodbye { code: code(cursor.u8()?)?, last: flags & LAST != 0, text: cursor.text()?.to_owned() }
            }
            Kind::Ping => Self::Ping(cursor.u64()?),
            Kind::Pong => Self::Pong(cursor.u64()?),
            Kind::Watch => Self::Watch(watch(&mut cursor)?),
            Kind::Watched => Self::Event(watched(&mut cursor, flags)?),
            Kind::Credit => Self::Credit(cursor.i32()?),
            Kind::Drain => Self::Drain,
            Kind::DrainAsked => Self::Event(Event::DrainAsked),
            Kind::CancelAnswered => Self::Event(cancel_answered(&mut cursor)?),
            other => return Err(FrameError::OutOfPlace(other)),
        };
        cursor.end()?;
        Ok(frame)
    }
}

impl Frame<'_> {
    /// The same for the kinds that end in a payload; such a frame borrows nothing.
    pub(crate) fn decode_with_payload(
        kind: Kind,
        flags: u8,
        body: &[u8],
        whole: Option<Bytes>,
    ) -> Result<Frame<'static>, FrameError> {
        let cursor = &mut Cursor::new(body);
        let tail = Tail { chunked: flags & CHUNKED != 0, whole };
        let frame = match kind {
            Kind::Submit => Frame::Submit(submitted(cursor, flags, tail)?),
            Kind::Report => Frame::Report(report(cursor, tail)?),
            Kind::ProgressReport => Frame::ProgressReport(ProgressReport {
                lease: cursor.lease_tag()?,
                call: cursor.call_id()?,
                payload: tail.required(cursor)?,
            }),
            Kind::Progress => Frame::Event(progress(cursor, tail)?),
            Kind::Emitted => Frame::Event(emitted(cursor, flags, tail)?),
            Kind::Lease => Frame::Event(Event::Lease(lease(cursor, flags, tail)?)),
            Kind::Outcome => Frame::Event(outcome(cursor, flags, tail)?),
            Kind::Refused => Frame::Event(Event::Refused { tag: cursor.u64()?, failure: failure(cursor, tail)? }),
            Kind::Up => {
                let epoch = Epoch(cursor.u32()?);
                let kept = tail.read(cursor)?.map(|payload| payload.bytes).unwrap_or_default();
                Frame::Event(Event::Up { epoch, kept: all_entries(&kept)? })
            }
            Kind::Route => {
                let index = cursor.u32()?;
                if index >= ROUTES_MAX {
                    return Err(FrameError::Field("route index"));
                }
                Frame::Route { index, route: Box::new(tail.control(cursor)?) }
            }
            Kind::Offer => Frame::Offer(Box::new(tail.control(cursor)?)),
            Kind::Query => Frame::Query { ticket: cursor.u32()?, query: Box::new(tail.control(cursor)?) },
            Kind::Answer => Frame::Answer { ticket: cursor.u32()?, answer: Box::new(tail.control(cursor)?) },
            other => return Err(FrameError::OutOfPlace(other)),
        };
        Ok(frame)
    }

    /// The bytes of the payload for a program behind this side; what is for this side itself is not counted.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Submit(submitted) => submitted.payload.bytes.len(),
            Self::ProgressReport(report) => report.payload.bytes.len(),
            Self::Report(report) => match &report.settlement {
                Settlement::Succeed(payload) => payload.bytes.len(),
                Settlement::Fail(failure) | Settlement::Retry(failure) | Settlement::Bury(failure) => {
                    failure.details.as_ref().map_or(0, |details| details.bytes.len())
                }
                Settlement::Release | Settlement::Stop => 0,
            },
            _ => 0,
        }
    }
}

/// The payload that ends a frame: content type, length, then the bytes, unless those came in chunks.
struct Tail {
    chunked: bool,
    whole: Option<Bytes>,
}

impl Tail {
    /// Reads the payload, and the end of the frame with it.
    fn read(self, cursor: &mut Cursor<'_>) -> Result<Option<Payload>, FrameError> {
        let content_type = cursor.u8()?;
        let count = usize::try_from(cursor.u32()?).map_err(|_| FrameError::Short)?;
        let bytes = match self.whole {
            Some(whole) if self.chunked => whole,
            None if !self.chunked => Bytes::copy_from_slice(cursor.bytes(count)?),
            _ => return Err(FrameError::Chunk),
        };
        core::mem::replace(cursor, Cursor::new(&[])).end()?;
        match content_type {
            0 if bytes.is_empty() => Ok(None),
            number => match ContentType::from_number(number) {
                Some(content_type) => Ok(Some(Payload { content_type, bytes })),
                None => Err(FrameError::Field("content type")),
            },
        }
    }

    fn required(self, cursor: &mut Cursor<'_>) -> Result<Payload, FrameError> {
        self.read(cursor)?.ok_or(FrameError::Field("payload"))
    }

    fn none<T>(self, cursor: &mut Cursor<'_>, value: T) -> Result<T, FrameError> {
        match self.read(cursor)? {
            None => Ok(value),
            Some(_) => Err(FrameError::Field("payload")),
        }
    }

    fn control<T: DeserializeOwned>(self, cursor: &mut Cursor<'_>) -> Result<T, FrameError> {
        let payload = self.required(cursor)?;
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(&payload.bytes);
        deserializer.set_max_depth(DEPTH_MAX);
        T::deserialize(&mut deserializer).map_err(|_| FrameError::Field("MessagePack body"))
    }
}

pub(crate) fn code(number: u8) -> Result<Code, FrameError> {
    Code::from_number(number).ok_or(FrameError::Field("code"))
}

fn submitted(cursor: &mut Cursor<'_>, flags: u8, tail: Tail) -> Result<Submitted, FrameError> {
    let wants = match flags & WANTS {
        0 => Wants::Outcome,
        1 => Wants::AcceptanceAndOutcome,
        2 => Wants::Acceptance,
        _ => return Err(FrameError::Field("wants")),
    };
    let (tag, id, route, deadline_ms) = (cursor.u64()?, cursor.call_id()?, cursor.u32()?, cursor.u64()?);
    let start = match flags & (START_IN | START_AT) {
        0 => Start::Now,
        START_IN => Start::In(cursor.u64()?),
        START_AT => Start::At(cursor.u64()?),
        _ => return Err(FrameError::Field("start")),
    };
    let keys = if flags & KEYED == 0 { None } else { Some(Box::new(keys(cursor, flags)?)) };
    let payload = tail.required(cursor)?;
    Ok(Submitted { tag, id, route, deadline_ms, start, keys, wants, resent: flags & RESENT != 0, payload })
}

fn keys(cursor: &mut Cursor<'_>, flags: u8) -> Result<Keys, FrameError> {
    let idempotency = match cursor.short_text()? {
        "" => None,
        text => Some(Key::new(text).map_err(|_| FrameError::Field("idempotency key"))?),
    };
    let trace = match cursor.text()? {
        "" => None,
        text => Some(Box::from(text)),
    };
    let more = if flags & MORE_KEYS == 0 { 0 } else { cursor.u8()? };
    if more & !(GROUPED | ORDERED | CONCURRENT | CHILD) != 0 {
        return Err(FrameError::Field("keys"));
    }
    let group = if more & GROUPED == 0 { None } else { Some(cursor.call_id()?) };
    let ordering = if more & ORDERED == 0 { None } else { Some(key(cursor, "ordering key")?) };
    let concurrency = if more & CONCURRENT == 0 { None } else { Some(key(cursor, "concurrency key")?) };
    let parent = if more & CHILD == 0 { None } else { Some(cursor.call_id()?) };
    Ok(Keys { idempotency, trace, ordering, concurrency, parent, group })
}

fn key(cursor: &mut Cursor<'_>, field: &'static str) -> Result<Key, FrameError> {
    Key::new(cursor.short_text()?).map_err(|_| FrameError::Field(field))
}

fn failure(cursor: &mut Cursor<'_>, tail: Tail) -> Result<Failure, FrameError> {
    let code = code(cursor.u8()?)?;
    let (bits, retry_after_ms) = (cursor.u8()?, cursor.u32()?);
    let message = cursor.text()?.to_owned();
    let retry_after_ms = (bits & 2 != 0).then_some(retry_after_ms);
    Ok(Failure { code, message, details: tail.read(cursor)?, retry_after_ms, may_have_run: bits & 1 != 0 })
}

fn report(cursor: &mut Cursor<'_>, tail: Tail) -> Result<Report, FrameError> {
    let number = cursor.u8()?;
    let (lease, call) = (cursor.lease_tag()?, cursor.call_id()?);
    let settlement = match number {
        0 => Settlement::Succeed(tail.required(cursor)?),
        1 => Settlement::Fail(failure(cursor, tail)?),
        2 => Settlement::Retry(failure(cursor, tail)?),
        3 => Settlement::Bury(failure(cursor, tail)?),
        4 => tail.none(cursor, Settlement::Release)?,
        5 => tail.none(cursor, Settlement::Stop)?,
        _ => return Err(FrameError::Field("settlement")),
    };
    Ok(Report { lease, call, settlement })
}

fn lease(cursor: &mut Cursor<'_>, flags: u8, tail: Tail) -> Result<Lease, FrameError> {
    let (lease, call) = (cursor.lease_tag()?, cursor.call_id()?);
    let (procedure, attempt, attempts_max) = (cursor.u32()?, cursor.u16()?, cursor.u16()?);
    let (lease_ms, attempt_timeout_ms, deadline_ms) = (cursor.u32()?, cursor.u32()?, cursor.u64()?);
    let trace = if flags & TRACED == 0 { None } else { Some(Box::from(cursor.text()?)) };
    let payload = tail.required(cursor)?;
    Ok(Lease {
        lease,
        call,
        procedure,
        attempt,
        attempts_max,
        lease_ms,
        attempt_timeout_ms,
        deadline_ms,
        payload,
        trace,
    })
}

fn outcome(cursor: &mut Cursor<'_>, flags: u8, tail: Tail) -> Result<Event, FrameError> {
    let (tag, id) = (cursor.u64()?, cursor.call_id()?);
    let state = State::from_number(cursor.u8()?).filter(|state| state.is_settled());
    let state = state.ok_or(FrameError::Field("state"))?;
    let attempts = cursor.u16()?;
    let outcome = if flags & FAILED == 0 {
        Outcome::Reply(tail.required(cursor)?)
    } else {
        Outcome::Failure(failure(cursor, tail)?)
    };
    Ok(Event::Outcome { tag, id, state, attempts, outcome })
}

fn progress(cursor: &mut Cursor<'_>, tail: Tail) -> Result<Event, FrameError> {
    let (tag, id) = (cursor.u64()?, cursor.call_id()?);
    let (sequence, attempt) = (cursor.u64()?, cursor.u16()?);
    let payload = tail.required(cursor)?;
    Ok(Event::Progress { tag, id, progress: Progress { sequence, attempt, payload } })
}

fn watch(cursor: &mut Cursor<'_>) -> Result<Watch, FrameError> {
    let (tag, after) = (cursor.u64()?, cursor.u64()?);
    let pattern = Pattern::new(cursor.short_text()?).map_err(|_| FrameError::Field("pattern"))?;
    Ok(Watch { tag, pattern, after })
}

fn watched(cursor: &mut Cursor<'_>, flags: u8) -> Result<Event, FrameError> {
    let (tag, through) = (cursor.u64()?, cursor.u64()?);
    let failure =
        if flags & FAILED == 0 { None } else { Some(Failure::new(code(cursor.u8()?)?, cursor.text()?.to_owned())) };
    Ok(Event::Watched { tag, through, failure })
}

fn emitted(cursor: &mut Cursor<'_>, flags: u8, tail: Tail) -> Result<Event, FrameError> {
    let (tag, id) = (cursor.u64()?, cursor.call_id()?);
    let (number, emitted_ms) = (cursor.u64()?, cursor.u64()?);
    let topic = Topic::new(cursor.short_text()?).map_err(|_| FrameError::Field("topic"))?;
    let (durable, payload) = (flags & VOLATILE == 0, tail.required(cursor)?);
    let emission = Emission { number, id, topic, emitted_ms, durable, payload };
    Ok(Event::Emitted { tag, emission, last: flags & LAST_OF_PART != 0 })
}

fn cancel_answered(cursor: &mut Cursor<'_>) -> Result<Event, FrameError> {
    let id = cursor.call_id()?;
    let (number, state) = (cursor.u8()?, cursor.u8()?);
    let worker = cursor.name()?;
    let answer = match (number, worker) {
        (0, None) => CancelAnswer::NeverRan,
        (1, Some(worker)) => CancelAnswer::Stopping { worker },
        (2, None) => CancelAnswer::AlreadySettled(State::from_number(state).ok_or(FrameError::Field("state"))?),
        (3, None) => CancelAnswer::NotFound,
        (4, None) => CancelAnswer::BetweenAttempts,
        (6, None) => CancelAnswer::Children,
        (5, None) => CancelAnswer::NotReached,
        _ => return Err(FrameError::Field("cancel answer")),
    };
    Ok(Event::CancelAnswered { id, answer })
}

/// Something with a fixed number of bytes, many of which make a frame.
pub trait Entry: Sized {
    /// How many bytes one has.
    const BYTES: usize;
    /// Reads one off exactly that many bytes.
    #[must_use]
    fn read(bytes: &[u8]) -> Option<Self>;
}

/// The entries of an array frame, read one by one.
#[derive(Debug)]
pub struct Entries<'a, T> {
    body: &'a [u8],
    entry: PhantomData<T>,
}

impl<'a, T: Entry> Entries<'a, T> {
    fn new(body: &'a [u8]) -> Result<Self, FrameError> {
        if !body.len().is_multiple_of(T::BYTES) {
            return Err(FrameError::Short);
        }
        if body.len() > BATCH_MAX * T::BYTES {
            return Err(FrameError::Field("count"));
        }
        Ok(Self { body, entry: PhantomData })
    }
}

impl<T: Entry> Iterator for Entries<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let (first, rest) = self.body.split_at_checked(T::BYTES)?;
        self.body = rest;
        T::read(first)
    }
}

fn all_entries(bytes: &[u8]) -> Result<Vec<LeaseTag>, FrameError> {
    if !bytes.len().is_multiple_of(LeaseTag::BYTES) {
        return Err(FrameError::Short);
    }
    Ok(bytes.chunks_exact(LeaseTag::BYTES).filter_map(LeaseTag::read).collect())
}

impl Entry for CallId {
    const BYTES: usize = 16;
    fn read(bytes: &[u8]) -> Option<Self> {
        Cursor::new(bytes).call_id().ok()
    }
}

impl Entry for (Tag, CallId) {
    const BYTES: usize = 24;
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        Some((cursor.u64().ok()?, cursor.call_id().ok()?))
    }
}

impl Entry for (CallId, Tag, u64) {
    const BYTES: usize = 32;
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        Some((cursor.call_id().ok()?, cursor.u64().ok()?, cursor.u64().ok()?))
    }
}

impl Entry for Tag {
    const BYTES: usize = 8;
    fn read(bytes: &[u8]) -> Option<Self> {
        Cursor::new(bytes).u64().ok()
    }
}

impl Entry for LeaseTag {
    const BYTES: usize = 12;
    fn read(bytes: &[u8]) -> Option<Self> {
        Cursor::new(bytes).lease_tag().ok()
    }
}

impl Entry for Parked {
    const BYTES: usize = 28;
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let (lease, awaits) = (cursor.lease_tag().ok()?, cursor.call_id().ok()?);
        Some(Self { lease, awaits: (awaits != CallId::from_bytes([0; 16])).then_some(awaits) })
    }
}

impl Entry for Accepted {
    const BYTES: usize = 29;
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let (tag, id, duplicate) = (cursor.u64().ok()?, cursor.call_id().ok()?, cursor.u8().ok()? != 0);
        let wait_ms = cursor.u32().ok().filter(|ms| *ms != WAIT_UNKNOWN).map(u64::from);
        Some(Self { tag, id, duplicate, wait_ms })
    }
}
