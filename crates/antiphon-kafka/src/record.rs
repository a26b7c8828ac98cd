//! Calls and outcomes as records, and back. Peers without Antiphon need only the headers that Spring's
//! `ReplyingKafkaTemplate` uses: `kafka_correlationId`, `kafka_replyTopic`, `kafka_replyPartition`.

use crate::publisher::Publication;
use antiphon_broker::foreign::{
    CALL, CallHeader, Delivery, FAILURE, HeaderError, OUTCOME, OutcomeHeader, TRACEPARENT, TRACESTATE, content_type,
    failure_text, join_trace, plain_failure, split_trace,
};
use antiphon_protocol::{CallId, ContentType, Outcome, Payload, State};
use bytes::Bytes;
use rdkafka::message::{Header, Headers, OwnedHeaders};

/// What the asker recognises its answer by.
const CORRELATION: &str = "kafka_correlationId";
/// Where the answer goes.
const REPLY_TOPIC: &str = "kafka_replyTopic";
/// Which partition of it: a number of four bytes, the highest first.
const REPLY_PARTITION: &str = "kafka_replyPartition";
const CONTENT_TYPE: &str = "content-type";
/// Set on a call of a plain asker once it was published again, and so has our header.
const PLAIN: &str = "antiphon-plain";
/// Whose inbox it is: written by whoever opens it.
const CLAIM: &str = "antiphon-claim";
/// The header of a dead letter: its [`OutcomeHeader`].
const DEAD: &str = "antiphon-dead";
/// The header of a dead letter: when it died, in milliseconds since 1970.
const DIED: &str = "antiphon-died";
/// The header of a dead letter: its procedure.
const PROCEDURE: &str = "antiphon-procedure";
/// Says of a dead letter that it is revived or purged: its call's id.
const GONE: &str = "antiphon-gone";

/// Who waits for an outcome.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    /// `None` where nobody waits.
    pub(crate) topic: Option<String>,
    pub(crate) partition: Option<i32>,
    pub(crate) correlation: Option<Vec<u8>>,
    /// Whether it knows nothing of our headers, so that a failure must be in the body.
    pub(crate) plain: bool,
}

/// A call as it was read.
pub(crate) struct Request {
    pub(crate) header: CallHeader,
    pub(crate) payload: Payload,
    pub(crate) trace: Option<Box<str>>,
    pub(crate) asker: Asker,
}

/// An outcome as it was read.
pub(crate) struct Response {
    pub(crate) id: CallId,
    pub(crate) state: State,
    pub(crate) attempts: u16,
    pub(crate) outcome: Outcome,
}

fn with(headers: OwnedHeaders, key: &str, value: impl AsRef<[u8]>) -> OwnedHeaders {
    headers.insert(Header { key, value: Some(value.as_ref()) })
}

fn find<'a>(headers: Option<&'a OwnedHeaders>, key: &str) -> Option<&'a [u8]> {
    // The last one counts, as with Spring.
    headers?.iter().filter(|header| header.key == key).last()?.value
}

fn text<'a>(headers: Option<&'a OwnedHeaders>, key: &str) -> Option<&'a str> {
    std::str::from_utf8(find(headers, key)?).ok()
}

/// A call, for `topic`, to be answered in a partition of another.
pub(crate) fn call(delivery: Delivery<'_>, topic: String, reply: Option<(&str, i32)>) -> Publication {
    let Delivery { call, header, .. } = delivery;
    let trace = call.keys.as_ref().and_then(|keys| keys.trace.as_deref());
    let asker = Asker {
        topic: reply.map(|(topic, _)| topic.to_owned()),
        partition: reply.map(|(_, partition)| partition),
        correlation: Some(call.id.to_bytes().to_vec()),
        plain: false,
    };
    call_again(header, &call.payload, trace, &asker, topic)
}

/// A call, to be published again under another header, for the same asker.
pub(crate) fn call_again(
    header: &CallHeader,
    payload: &Payload,
    trace: Option<&str>,
    asker: &Asker,
    topic: String,
) -> Publication {
    let mut headers = with(OwnedHeaders::new_with_capacity(8), CALL, header.write());
    headers = with(headers, CONTENT_TYPE, payload.content_type.media_type());
    if let Some(correlation) = &asker.correlation {
        headers = with(headers, CORRELATION, correlation);
    }
    if let Some(topic) = &asker.topic {
        headers = with(headers, REPLY_TOPIC, topic);
    }
    if let Some(partition) = asker.partition {
        headers = with(headers, REPLY_PARTITION, partition.to_be_bytes());
    }
    if asker.plain {
        headers = with(headers, PLAIN, "1");
    }
    if let Some(trace) = trace {
        let (parent, state) = split_trace(trace);
        headers = with(headers, TRACEPARENT, parent);
        if let Some(state) = state {
            headers = with(headers, TRACESTATE, state);
        }
    }
    Publication { topic, partition: None, headers, body: payload.bytes.clone(), once: header.at_most_once }
}

/// Reads a call. One without our header is a plain one, with `new_id` unless its asker's id can be ours.
///
/// # Errors
/// When it has our header and that cannot be read; with who is to be told.
pub(crate) fn read_request(
    headers: Option<&OwnedHeaders>,
    body: Vec<u8>,
    new_id: impl FnOnce() -> CallId,
) -> Result<Request, (HeaderError, Asker)> {
    let correlation = find(headers, CORRELATION).map(<[u8]>::to_vec);
    let ours = text(headers, CALL);
    let asker = Asker {
        topic: text(headers, REPLY_TOPIC).map(str::to_owned),
        partition: find(headers, REPLY_PARTITION).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes),
        plain: ours.is_none() || find(headers, PLAIN).is_some(),
        correlation,
    };
    let header = match ours.map(CallHeader::read) {
        Some(Ok(header)) => header,
        Some(Err(error)) => return Err((error, asker)),
        None => {
            let theirs = asker.correlation.as_deref().and_then(|bytes| bytes.try_into().ok()).map(CallId::from_bytes);
            CallHeader { durable: true, ..CallHeader::plain(theirs.unwrap_or_else(new_id)) }
        }
    };
    let trace = text(headers, TRACEPARENT).map(|parent| join_trace(parent, text(headers, TRACESTATE)));
    Ok(Request { header, payload: payload(headers, body), trace, asker })
}

/// An outcome, for whoever asked; `None` where nobody did.
pub(crate) fn outcome(
    header: &CallHeader,
    (state, attempts, outcome): (State, u16, &Outcome),
    asker: &Asker,
) -> Option<Publication> {
    let topic = asker.topic.clone()?;
    let ours = OutcomeHeader::new(header.id, state, attempts, outcome).write();
    let mut headers = with(OwnedHeaders::new_with_capacity(4), OUTCOME, ours);
    let body = match outcome {
        Outcome::Reply(value) => value.clone(),
        Outcome::Failure(failure) => {
            headers = with(headers, FAILURE, failure_text(&failure.message));
            if asker.plain { plain_failure(failure) } else { failure.details.clone().unwrap_or_default() }
        }
    };
    headers = with(headers, CONTENT_TYPE, body.content_type.media_type());
    if let Some(correlation) = &asker.correlation {
        headers = with(headers, CORRELATION, correlation);
    }
    Some(Publication { topic, partition: asker.partition, headers, body: body.bytes, once: false })
}

/// Reads an outcome. One without our header is a plain reply, known by its correlation.
pub(crate) fn read_response(headers: Option<&OwnedHeaders>, body: Vec<u8>) -> Option<Response> {
    let payload = payload(headers, body);
    let Some(header) = text(headers, OUTCOME) else {
        let id = CallId::from_bytes(find(headers, CORRELATION)?.try_into().ok()?);
        return Some(Response { id, state: State::Succeeded, attempts: 1, outcome: Outcome::Reply(payload) });
    };
    let header = OutcomeHeader::read(header).ok()?;
    let outcome = header.outcome(text(headers, FAILURE), payload);
    Some(Response { id: header.id, state: header.state, attempts: header.attempts, outcome })
}

/// A dead letter: the call as it stood, and what it died of.
pub(crate) fn dead_letter(
    call: Publication,
    topic: String,
    procedure: &str,
    header: &CallHeader,
    (state, attempts, outcome): (State, u16, &Outcome),
    wall_ms: u64,
) -> Publication {
    let mut headers = with(call.headers, DEAD, OutcomeHeader::new(header.id, state, attempts, outcome).write());
    headers = with(headers, PROCEDURE, procedure);
    headers = with(headers, DIED, wall_ms.to_string());
    if let Outcome::Failure(failure) = outcome {
        headers = with(headers, FAILURE, failure_text(&failure.message));
    }
    // The first: a topic that somebody else has made may have more, and a question reads them one after the other.
    Publication { topic, partition: Some(0), headers, body: call.body, once: false }
}

/// What is written on a dead letter.
pub(crate) struct Written<'a> {
    pub(crate) procedure: &'a str,
    pub(crate) died: Option<OutcomeHeader>,
    pub(crate) died_ms: Option<u64>,
    pub(crate) message: &'a str,
}

/// Reads it.
pub(crate) fn read_dead_letter(headers: Option<&OwnedHeaders>) -> Written<'_> {
    Written {
        procedure: text(headers, PROCEDURE).unwrap_or_default(),
        died: text(headers, DEAD).and_then(|text| OutcomeHeader::read(text).ok()),
        died_ms: text(headers, DIED).and_then(|text| text.parse().ok()),
        message: failure_text(text(headers, FAILURE).unwrap_or_default()),
    }
}

/// What is written behind a dead letter that is revived or purged: a topic forgets nothing at once.
pub(crate) fn gone(topic: String, partition: i32, id: CallId) -> Publication {
    let headers = with(OwnedHeaders::new(), GONE, id.to_bytes());
    Publication { topic, partition: Some(partition), headers, body: Bytes::new(), once: false }
}

/// Which dead letter is gone, if a record says so of one.
pub(crate) fn read_gone(headers: Option<&OwnedHeaders>) -> Option<CallId> {
    find(headers, GONE)?.try_into().ok().map(CallId::from_bytes)
}

/// What whoever opens an inbox writes into it first.
pub(crate) fn claim(topic: String, claim: u64) -> Publication {
    let headers = with(OwnedHeaders::new(), CLAIM, claim.to_be_bytes());
    Publication { topic, partition: Some(0), headers, body: Bytes::new(), once: false }
}

/// Whose claim a record is, if it is one.
pub(crate) fn read_claim(headers: Option<&OwnedHeaders>) -> Option<u64> {
    find(headers, CLAIM)?.try_into().ok().map(u64::from_be_bytes)
}

fn payload(headers: Option<&OwnedHeaders>, body: Vec<u8>) -> Payload {
    let content_type = text(headers, CONTENT_TYPE).map_or(ContentType::Json, content_type);
    Payload::new(content_type, Bytes::from(body))
}
