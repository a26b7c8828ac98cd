//! Calls and outcomes as messages, and back. Whoever speaks plain AMQP needs only the properties: `reply_to`,
//! `correlation_id`, `content_type`; the headers are ours.

use crate::names::Names;
use crate::publication::{Publication, short};
use antiphon_broker::foreign::{
    CALL, CallHeader, Delivery, FAILURE, HeaderError, OUTCOME, OutcomeHeader, TRACEPARENT, TRACESTATE, content_type,
    failure_text, join_trace, plain_failure, split_trace,
};
use antiphon_protocol::{CallId, Name, Outcome, Payload, Priority, State};
use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

/// The header of a dead letter: its [`OutcomeHeader`].
pub(crate) const DEAD: &str = "antiphon-dead";
/// The header of a dead letter: when it died, in milliseconds since 1970.
pub(crate) const DIED: &str = "antiphon-died";
/// The header of a dead letter: its procedure.
pub(crate) const PROCEDURE: &str = "antiphon-procedure";
/// Where the server writes how often it handed a message out before.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// Who waits for an outcome.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    /// The queue; `None` where nobody waits.
    pub(crate) reply_to: Option<ShortString>,
    /// What the asker recognises its answer by.
    pub(crate) correlation: Option<ShortString>,
    /// Whether it speaks plain AMQP, so that a failure must be in the body.
    pub(crate) plain: bool,
}

/// A call as it was received.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) header: CallHeader,
    pub(crate) redelivered: u32,
    pub(crate) payload: Payload,
    pub(crate) trace: Option<Box<str>>,
    pub(crate) asker: Asker,
}

/// An outcome as it was received.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) id: CallId,
    pub(crate) state: State,
    pub(crate) attempts: u16,
    pub(crate) outcome: Outcome,
}

/// A call, to be published to `queue`.
pub(crate) fn call(delivery: Delivery<'_>, queue: &str, reply_to: Option<&str>) -> Publication {
    let Delivery { call, header, .. } = delivery;
    let trace = call.keys.as_ref().and_then(|keys| keys.trace.as_deref());
    let properties = request(header, &call.payload, trace).with_correlation_id(short(&call.id.to_string()));
    let properties = match reply_to {
        Some(queue) => properties.with_reply_to(short(queue)),
        None => properties,
    };
    Publication::to_queue(queue, properties, call.payload.bytes.clone())
}

/// A call, to be published again under another header, for the same asker.
pub(crate) fn call_again(
    header: &CallHeader,
    payload: &Payload,
    trace: Option<&str>,
    asker: &Asker,
    queue: &str,
) -> Publication {
    let mut properties = request(header, payload, trace);
    if asker.plain {
        let mut headers = properties.headers().clone().unwrap_or_default();
        headers.insert(short(PLAIN), AMQPValue::Boolean(true));
        properties = properties.with_headers(headers);
    }
    if let Some(queue) = &asker.reply_to {
        properties = properties.with_reply_to(queue.clone());
    }
    if let Some(correlation) = &asker.correlation {
        properties = properties.with_correlation_id(correlation.clone());
    }
    Publication::to_queue(queue, properties, payload.bytes.clone())
}

/// Set on a call of a plain asker once it was published again, and so has our header.
const PLAIN: &str = "antiphon-plain";

fn request(header: &CallHeader, payload: &Payload, trace: Option<&str>) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(short(CALL), text(&header.write()));
    if let Some(trace) = trace {
        let (parent, state) = split_trace(trace);
        headers.insert(short(TRACEPARENT), text(parent));
        if let Some(state) = state {
            headers.insert(short(TRACESTATE), text(state));
        }
    }
    let properties = BasicProperties::default()
        .with_content_type(short(payload.content_type.media_type()))
        .with_delivery_mode(delivery_mode(header.durable))
        .with_headers(headers);
    if header.priority == Priority::DEFAULT.class() { properties } else { properties.with_priority(header.priority) }
}

const fn delivery_mode(durable: bool) -> u8 {
    if durable { 2 } else { 1 }
}

/// Reads a call. One without our header is a plain one, with `new_id` unless its asker's id can be ours.
///
/// # Errors
/// When it has our header and that cannot be read.
pub(crate) fn read_request(
    properties: &BasicProperties,
    body: Vec<u8>,
    redelivered: bool,
    new_id: impl FnOnce() -> CallId,
) -> Result<Request, HeaderError> {
    let header = find(properties, CALL);
    let correlation = properties.correlation_id().clone();
    let plain = header.is_none() || flag(properties, PLAIN);
    let header = match header {
        Some(header) => CallHeader::read(header)?,
        None => {
            let theirs = correlation.as_ref().and_then(|id| id.as_str().parse().ok());
            let mut header = CallHeader::plain(theirs.unwrap_or_else(new_id));
            header.durable = *properties.delivery_mode() == Some(2);
            header
        }
    };
    let counted = number(properties, DELIVERY_COUNT).unwrap_or(0);
    let trace = find(properties, TRACEPARENT).map(|parent| join_trace(parent, find(properties, TRACESTATE)));
    let reply_to = properties.reply_to().clone();
    Ok(Request {
        header,
        redelivered: counted.max(u32::from(redelivered)),
        payload: payload(properties, body),
        trace,
        asker: Asker { reply_to, correlation, plain },
    })
}

/// An outcome, to be published to whoever asked.
pub(crate) fn outcome(
    header: &CallHeader,
    (state, attempts, outcome): (State, u16, &Outcome),
    asker: &Asker,
    queue: &str,
) -> Publication {
    let mut headers = FieldTable::default();
    headers.insert(short(OUTCOME), text(&OutcomeHeader::new(header.id, state, attempts, outcome).write()));
    let body = match outcome {
        Outcome::Reply(value) => value.clone(),
        Outcome::Failure(failure) => {
            headers.insert(short(FAILURE), text(failure_text(&failure.message)));
            if asker.plain { plain_failure(failure) } else { failure.details.clone().unwrap_or_default() }
        }
    };
    let mut properties = BasicProperties::default()
        .with_content_type(short(body.content_type.media_type()))
        .with_delivery_mode(delivery_mode(header.durable))
        .with_headers(headers);
    if let Some(correlation) = &asker.correlation {
        properties = properties.with_correlation_id(correlation.clone());
    }
    Publication::to_queue(queue, properties, body.bytes)
}

/// Reads an outcome. One without our header is a plain reply, known by its correlation.
pub(crate) fn read_response(properties: &BasicProperties, body: Vec<u8>) -> Option<Response> {
    let payload = payload(properties, body);
    let Some(header) = find(properties, OUTCOME) else {
        let id = properties.correlation_id().as_ref()?.as_str().parse().ok()?;
        return Some(Response { id, state: State::Succeeded, attempts: 1, outcome: Outcome::Reply(payload) });
    };
    let header = OutcomeHeader::read(header).ok()?;
    let outcome = header.outcome(find(properties, FAILURE), payload);
    Some(Response { id: header.id, state: header.state, attempts: header.attempts, outcome })
}

/// A dead letter: the call as it stood, and what it died of.
pub(crate) fn dead_letter(
    call: Publication,
    names: &Names,
    procedure: &str,
    header: &CallHeader,
    (state, attempts, outcome): (State, u16, &Outcome),
    wall_ms: u64,
) -> Publication {
    let mut headers = call.properties.headers().clone().unwrap_or_default();
    headers.insert(short(DEAD), text(&OutcomeHeader::new(header.id, state, attempts, outcome).write()));
    headers.insert(short(PROCEDURE), text(procedure));
    headers.insert(short(DIED), text(&wall_ms.to_string()));
    if let Outcome::Failure(failure) = outcome {
        headers.insert(short(FAILURE), text(failure_text(&failure.message)));
    }
    Publication { key: short(&names.dead()), properties: call.properties.with_headers(headers), ..call }
}

fn payload(properties: &BasicProperties, body: Vec<u8>) -> Payload {
    let media = properties.content_type().as_ref().map(ShortString::as_str).unwrap_or_default();
    Payload::new(content_type(media), Bytes::from(body))
}

/// The text of a header.
pub(crate) fn find<'a>(properties: &'a BasicProperties, key: &str) -> Option<&'a str> {
    match properties.headers().as_ref()?.inner().get(key)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

fn flag(properties: &BasicProperties, key: &str) -> bool {
    let value = properties.headers().as_ref().and_then(|headers| headers.inner().get(key));
    matches!(value, Some(AMQPValue::Boolean(true)))
}

fn number(properties: &BasicProperties, key: &str) -> Option<u32> {
    match properties.headers().as_ref()?.inner().get(key)? {
        AMQPValue::ShortShortUInt(number) => Some(u32::from(*number)),
        AMQPValue::ShortShortInt(number) => u32::try_from(*number).ok(),
        AMQPValue::ShortUInt(number) => Some(u32::from(*number)),
        AMQPValue::ShortInt(number) => u32::try_from(*number).ok(),
        AMQPValue::LongUInt(number) => Some(*number),
        AMQPValue::LongInt(number) => u32::try_from(*number).ok(),
        AMQPValue::LongLongInt(number) => u32::try_from(*number).ok(),
        _ => None,
    }
}

pub(crate) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// A worker's name from a control message.
pub(crate) fn read_name(body: &[u8]) -> Option<Name> {
    Name::new(std::str::from_utf8(body).ok()?).ok()
}
