//! Bodies: the arguments and outcomes that records carry, which the engine knows by handle only. Those of volatile
//! calls are kept here; those in the journal are cached while they are likely to be wanted, within a budget of bytes.

use antiphon_engine::Handle;
use antiphon_protocol::{Code, ContentType, Failure, Outcome, Payload};
use bytes::Bytes;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Handles with this bit are places in memory, not journal positions: no journal has 2³¹ segments.
const IN_MEMORY: u64 = 1 << 63;
/// What a cached body counts beside its bytes: its entry in the table and its allocation.
const OVERHEAD_BYTES: usize = 96;

/// What a record carries.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    Arguments { payload: Payload, trace: Option<Box<str>> },
    Outcome(Outcome),
}

impl Body {
    fn len(&self) -> usize {
        match self {
            Self::Arguments { payload, .. } | Self::Outcome(Outcome::Reply(payload)) => payload.bytes.len(),
            Self::Outcome(Outcome::Failure(failure)) => {
                failure.message.len() + failure.details.as_ref().map_or(0, |details| details.bytes.len())
            }
        }
    }
}

/// All bodies that are in memory.
pub(crate) struct Bodies {
    kept: Vec<Option<Body>>,
    kept_bytes: usize,
    free: Vec<u32>,
    cached: FxHashMap<u64, Body>,
    order: VecDeque<u64>,
    bytes: usize,
    budget: usize,
}

impl Bodies {
    pub fn new(budget: usize) -> Self {
        Self {
            kept: Vec::new(),
            kept_bytes: 0,
            free: Vec::new(),
            cached: FxHashMap::default(),
            order: VecDeque::new(),
            bytes: 0,
            budget,
        }
    }

    /// Whether this handle is a place in memory.
    pub const fn is_in_memory(handle: Handle) -> bool {
        handle.0 & IN_MEMORY != 0
    }

    /// Whether one more body of a volatile call fits into memory.
    pub fn has_room(&self, bytes: usize, max: usize) -> Result<(), Failure> {
        if self.kept_bytes + bytes + OVERHEAD_BYTES <= max {
            return Ok(());
        }
        let text =
            format!("volatile calls take {max} bytes of memory, the limit: try again later, or make them durable");
        Err(Failure::new(Code::ResourceExhausted, text).retry_after_ms(1_000))
    }

    pub fn keep(&mut self, body: Body) -> Handle {
        self.kept_bytes += body.len() + OVERHEAD_BYTES;
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.kept.push(None);
                u32::try_from(self.kept.len() - 1).expect("fewer bodies than calls")
            }
        };
        if let Some(slot) = self.kept.get_mut(place as usize) {
            *slot = Some(body);
        }
        Handle(IN_MEMORY | u64::from(place))
    }

    pub fn cache(&mut self, handle: Handle, body: Body) {
        let bytes = body.len() + OVERHEAD_BYTES;
        if bytes > self.budget {
            return;
        }
        self.bytes += bytes;
        self.cached.insert(handle.0, body);
        self.order.push_back(handle.0);
        while self.bytes > self.budget {
            let Some(oldest) = self.order.pop_front() else { break };
            self.uncache(oldest);
        }
        if self.order.len() > 1024 && self.order.len() > 4 * self.cached.len() {
            self.order.retain(|handle| self.cached.contains_key(handle));
        }
    }

    fn uncache(&mut self, handle: u64) {
        if let Some(body) = self.cached.remove(&handle) {
            self.bytes -= body.len() + OVERHEAD_BYTES;
        }
    }

    pub fn get(&self, handle: Handle) -> Option<&Body> {
        if Self::is_in_memory(handle) {
            self.kept.get((handle.0 & u64::from(u32::MAX)) as usize).and_then(Option::as_ref)
        } else {
            self.cached.get(&handle.0)
        }
    }

    pub fn release(&mut self, handle: Handle) {
        if Self::is_in_memory(handle) {
            let place = (handle.0 & u64::from(u32::MAX)) as u32;
            if let Some(body) = self.kept.get_mut(place as usize).and_then(Option::take) {
                self.kept_bytes -= body.len() + OVERHEAD_BYTES;
                self.free.push(place);
            }
        } else {
            self.uncache(handle.0);
        }
    }
}

const TRACE: u8 = 0x10;
const REPLY: u8 = 0x20;
const FAILURE: u8 = 0x30;
const KIND: u8 = 0xF0;
const HAS_TRACE: u8 = 1;
const MAY_HAVE_RUN: u8 = 1;
const HAS_RETRY: u8 = 2;
const HAS_DETAILS: u8 = 4;

/// Calls `write` with the pieces of a body as the journal keeps it: a short prefix, then the payload as it is.
/// `scratch` is reused between calls.
pub(crate) fn encode<R>(body: Option<&Body>, scratch: &mut Vec<u8>, write: impl FnOnce(&[&[u8]]) -> R) -> R {
    scratch.clear();
    let payload: &[u8] = match body {
        None => return write(&[]),
        Some(Body::Arguments { payload, trace }) => {
            scratch.push(TRACE | u8::from(trace.is_some()));
            scratch.push(payload.content_type as u8);
            if let Some(trace) = trace {
                text(scratch, trace);
            }
            &payload.bytes
        }
        Some(Body::Outcome(Outcome::Reply(payload))) => {
            scratch.extend_from_slice(&[REPLY, payload.content_type as u8]);
            &payload.bytes
        }
        Some(Body::Outcome(Outcome::Failure(failure))) => encode_failure(failure, scratch),
    };
    write(&[scratch, payload])
}

fn encode_failure<'a>(failure: &'a Failure, scratch: &mut Vec<u8>) -> &'a [u8] {
    let mut flags = if failure.may_have_run { MAY_HAVE_RUN } else { 0 };
    flags |= if failure.retry_after_ms.is_some() { HAS_RETRY } else { 0 };
    flags |= if failure.details.is_some() { HAS_DETAILS } else { 0 };
    scratch.extend_from_slice(&[FAILURE, failure.code as u8, flags]);
    if let Some(ms) = failure.retry_after_ms {
        scratch.extend_from_slice(&ms.to_le_bytes());
    }
    text(scratch, &failure.message);
    match &failure.details {
        Some(details) => {
            scratch.push(details.content_type as u8);
            &details.bytes
        }
        None => &[],
    }
}

fn text(to: &mut Vec<u8>, text: &str) {
    to.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
    to.extend_from_slice(text.as_bytes());
}

/// A body as the journal keeps it, read back; `None` when it is not one.
pub(crate) fn decode(bytes: Vec<u8>) -> Option<Body> {
    let mut rest = Bytes::from(bytes);
    let kind = take(&mut rest, 1)?.first().copied()?;
    match kind & KIND {
        TRACE => {
            let content_type = content_type(&mut rest)?;
            let trace = if kind & HAS_TRACE != 0 { Some(take_text(&mut rest)?.into_boxed_str()) } else { None };
            Some(Body::Arguments { payload: Payload::new(content_type, rest), trace })
        }
        REPLY => {
            let content_type = content_type(&mut rest)?;
            Some(Body::Outcome(Outcome::Reply(Payload::new(content_type, rest))))
        }
        FAILURE => decode_failure(rest).map(|failure| Body::Outcome(Outcome::Failure(failure))),
        _ => None,
    }
}

fn decode_failure(mut rest: Bytes) -> Option<Failure> {
    let code = Code::from_number(take(&mut rest, 1)?.first().copied()?)?;
    let flags = take(&mut rest, 1)?.first().copied()?;
    let retry_after_ms = if flags & HAS_RETRY != 0 {
        Some(u32::from_le_bytes(take(&mut rest, 4)?.as_ref().try_into().ok()?))
    } else {
        None
    };
    let message = take_text(&mut rest)?;
    let details = if flags & HAS_DETAILS != 0 {
        let content_type = content_type(&mut rest)?;
        Some(Payload::new(content_type, rest))
    } else {
        None
    };
    Some(Failure { code, message, details, retry_after_ms, may_have_run: flags & MAY_HAVE_RUN != 0 })
}

fn take(from: &mut Bytes, count: usize) -> Option<Bytes> {
    (from.len() >= count).then(|| from.split_to(count))
}

fn content_type(from: &mut Bytes) -> Option<ContentType> {
    ContentType::from_number(take(from, 1)?.first().copied()?)
}

fn take_text(from: &mut Bytes) -> Option<String> {
    let count = u32::from_le_bytes(take(from, 4)?.as_ref().try_into().ok()?);
    String::from_utf8(take(from, count as usize)?.to_vec()).ok()
}
