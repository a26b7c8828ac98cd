//! How calls ended, as callbacks and groups are told: `{id, procedure, state, attempts, value | failure}`. JSON where
//! all that it holds is JSON, else MessagePack; in which raw bytes are `bin`.

use antiphon_engine::Told;
use antiphon_protocol::{Code, ContentType, Failure, GroupCounts, Outcome, Payload};
use bytes::Bytes;
use serde::de::{Deserialize, IgnoredAny};
use std::io::Cursor;

/// The arguments of a callback that takes an outcome of at most `bytes_max` bytes.
pub(crate) fn argument(told: &Told, outcome: Option<&Outcome>, bytes_max: usize) -> Payload {
    let payload = Form::of(outcome).encode(told, outcome);
    if payload.bytes.len() <= bytes_max {
        return payload;
    }
    let failure = too_large(payload.bytes.len(), bytes_max);
    Form::Json.encode(told, Some(&Outcome::Failure(failure)))
}

fn too_large(bytes: usize, bytes_max: usize) -> Failure {
    let text = format!("the outcome has {bytes} bytes and the broker takes at most {bytes_max}: read it by its id");
    Failure::new(Code::ResourceExhausted, text).may_have_run()
}

/// What is gathered of a group's children: the list that becomes its outcome.
#[derive(Debug)]
pub(crate) struct Gathering {
    form: Form,
    /// The children, one behind the other; in JSON with commas between.
    out: Vec<u8>,
    count: u32,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { form: Form::Json, out: Vec::new(), count: 0 }
    }
}

impl Gathering {
    /// One more child. What does not fit any more is named and not told.
    pub fn add(&mut self, told: &Told, outcome: Option<&Outcome>, bytes_max: usize) {
        if self.form == Form::Json && Form::of(outcome) == Form::MessagePack {
            self.convert();
        }
        if self.form == Form::Json && self.count > 0 {
            self.out.push(b',');
        }
        let before = self.out.len();
        self.form.write(told, outcome, &mut self.out);
        if self.out.len() > bytes_max {
            self.out.truncate(before);
            self.form.write(told, None, &mut self.out);
        }
        self.count += 1;
    }

    /// The first that is not JSON makes the whole list MessagePack.
    fn convert(&mut self) {
        self.form = Form::MessagePack;
        let text = [b"[", &self.out[..], b"]"].concat();
        self.out.clear();
        let list: Vec<serde_json::Value> = serde_json::from_slice(&text).expect("only JSON was written");
        for child in list {
            self.out.extend(rmp_serde::to_vec_named(&child).expect("JSON is MessagePack"));
        }
    }

    /// The outcome of the group, and its bytes.
    pub fn finish(&mut self, met: bool, counts: GroupCounts) -> Outcome {
        let Self { form, out, count } = std::mem::take(self);
        let list = match form {
            Form::Json => Payload::json([b"[", &out[..], b"]"].concat()),
            Form::MessagePack => {
                let head = [&[0xDD][..], &count.to_be_bytes()].concat();
                Payload::new(ContentType::MessagePack, [head, out].concat())
            }
        };
        if met {
            return Outcome::Reply(list);
        }
        let GroupCounts { children, open, succeeded } = counts;
        let without = children - open - succeeded;
        let text = format!(
            "the group cannot succeed: of {children} children {succeeded} succeeded, {without} ended without a value and {open} had not settled"
        );
        Outcome::Failure(Failure::new(Code::Aborted, text).may_have_run().details(list))
    }
}

/// What something is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Json,
    MessagePack,
}

impl Form {
    /// The form that holds this without converting it.
    fn of(outcome: Option<&Outcome>) -> Self {
        match inner(outcome) {
            None => Self::Json,
            Some(payload) if payload.content_type == ContentType::Json && is_json(&payload.bytes) => Self::Json,
            Some(_) => Self::MessagePack,
        }
    }

    fn encode(self, told: &Told, outcome: Option<&Outcome>) -> Payload {
        let mut out = Vec::new();
        self.write(told, outcome, &mut out);
        match self {
            Self::Json => Payload::json(out),
            Self::MessagePack => Payload::new(ContentType::MessagePack, out),
        }
    }

    fn write(self, told: &Told, outcome: Option<&Outcome>, out: &mut Vec<u8>) {
        match self {
            Self::Json => write_json(told, outcome, out),
            Self::MessagePack => write_message_pack(told, outcome, out),
        }
    }
}

fn inner(outcome: Option<&Outcome>) -> Option<&Payload> {
    match outcome? {
        Outcome::Reply(payload) => Some(payload),
        Outcome::Failure(failure) => failure.details.as_ref(),
    }
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// Whether the bytes are one MessagePack value and nothing else.
fn is_message_pack(bytes: &[u8]) -> bool {
    let mut deserializer = rmp_serde::Deserializer::new(Cursor::new(bytes));
    IgnoredAny::deserialize(&mut deserializer).is_ok() && deserializer.position() == bytes.len() as u64
}

fn write_json(told: &Told, outcome: Option<&Outcome>, out: &mut Vec<u8>) {
    let Told { id, procedure, state, attempts, .. } = told;
    // Ids, names and states have nothing in them that JSON escapes.
    let head = format!(r#"{{"id":"{id}","procedure":"{procedure}","state":"{state}","attempts":{attempts}"#);
    out.extend_from_slice(head.as_bytes());
    match outcome {
        None => {}
        Some(Outcome::Reply(payload)) => {
            out.extend_from_slice(br#","value":"#);
            out.extend_from_slice(&payload.bytes);
        }
        Some(Outcome::Failure(failure)) => {
            let message = serde_json::Value::from(failure.message.as_str());
            let (code, ran) = (failure.code.name(), failure.may_have_run);
            let text = format!(r#","failure":{{"code":"{code}","message":{message},"may_have_run":{ran}"#);
            out.extend_from_slice(text.as_bytes());
            if let Some(ms) = failure.retry_after_ms {
                out.extend_from_slice(format!(r#","retry_after_ms":{ms}"#).as_bytes());
            }
            if let Some(details) = &failure.details {
                out.extend_from_slice(br#","details":"#);
                out.extend_from_slice(&details.bytes);
            }
            out.push(b'}');
        }
    }
    out.push(b'}');
}

fn write_message_pack(told: &Told, outcome: Option<&Outcome>, out: &mut Vec<u8>) {
    out.push(0x80 | if outcome.is_some() { 5 } else { 4 });
    put_text("id", out);
    put_text(&told.id.to_string(), out);
    put_text("procedure", out);
    put_text(&told.procedure, out);
    put_text("state", out);
    put_text(told.state.name(), out);
    put_text("attempts", out);
    put_number(u32::from(told.attempts), out);
    match outcome {
        None => {}
        Some(Outcome::Reply(payload)) => {
            put_text("value", out);
            put_payload(payload, out);
        }
        Some(Outcome::Failure(failure)) => {
            put_text("failure", out);
            let fields = 3 + u8::from(failure.retry_after_ms.is_some()) + u8::from(failure.details.is_some());
            out.push(0x80 | fields);
            put_text("code", out);
            put_text(failure.code.name(), out);
            put_text("message", out);
            put_text(&failure.message, out);
            put_text("may_have_run", out);
            out.push(if failure.may_have_run { 0xC3 } else { 0xC2 });
            if let Some(ms) = failure.retry_after_ms {
                put_text("retry_after_ms", out);
                put_number(ms, out);
            }
            if let Some(details) = &failure.details {
                put_text("details", out);
                put_payload(details, out);
            }
        }
    }
}

/// A value inside a value: as it is if it is MessagePack, converted from JSON, or as bytes.
fn put_payload(payload: &Payload, out: &mut Vec<u8>) {
    let bytes: &Bytes = &payload.bytes;
    match payload.content_type {
        ContentType::MessagePack if is_message_pack(bytes) => out.extend_from_slice(bytes),
        ContentType::Json => match from_json(bytes) {
            Some(converted) => out.extend_from_slice(&converted),
            None => put_bytes(bytes, out),
        },
        _ => put_bytes(bytes, out),
    }
}

fn from_json(bytes: &[u8]) -> Option<Vec<u8>> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    rmp_serde::to_vec_named(&value).ok()
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_length(text.len(), [0xD9, 0xDA, 0xDB], out);
    out.extend_from_slice(text.as_bytes());
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), [0xC4, 0xC5, 0xC6], out);
    out.extend_from_slice(bytes);
}

/// The marker for a length of 8, 16 or 32 bits, and the length.
fn put_length(length: usize, [short, middle, long]: [u8; 3], out: &mut Vec<u8>) {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length), _) => out.extend_from_slice(&[short, length]),
        (_, Ok(length)) => {
            out.push(middle);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(long);
            out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
}

fn put_number(number: u32, out: &mut Vec<u8>) {
    match u8::try_from(number) {
        Ok(small) if small < 0x80 => out.push(small),
        _ => {
            out.push(0xCE);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use super::*;
    use antiphon_engine::Ending;
    use antiphon_protocol::{CallId, Name, State};
    use serde_json::{Value, json};

    fn told() -> Told {
        Told {
            id: CallId::from_bytes([0xc1; 16]),
            procedure: Name::from_static("math.fib"),
            state: State::Succeeded,
            attempts: 200,
            ending: Some(Ending::Stored(antiphon_engine::Handle(1))),
        }
    }

    fn value(payload: &Payload) -> Value {
        match payload.content_type {
            ContentType::Json => serde_json::from_slice(&payload.bytes).unwrap(),
            _ => rmp_serde::from_slice(&payload.bytes).unwrap(),
        }
    }

    fn head() -> Value {
        json!({ "id": "c1c1c1c1-c1c1-c1c1-c1c1-c1c1c1c1c1c1", "procedure": "math.fib", "state": "succeeded",
            "attempts": 200 })
    }

    #[test]
    fn an_argument_holds_what_it_is_told_in_the_form_of_the_value() {
        let mut expected = head();
        expected["value"] = json!({ "n": [1, null] });
        let json = Outcome::Reply(Payload::json(r#"{"n":[1,null]}"#));
        let same = argument(&told(), Some(&json), 1_000);
        assert_eq!((same.content_type, value(&same)), (ContentType::Json, expected.clone()));
        let packed = rmp_serde::to_vec_named(&expected["value"]).unwrap();
        let packed = argument(&told(), Some(&Outcome::Reply(Payload::new(ContentType::MessagePack, packed))), 1_000);
        assert_eq!((packed.content_type, value(&packed)), (ContentType::MessagePack, expected));
    }

    #[test]
    fn a_list_is_json_until_something_is_not() {
        let json = Outcome::Reply(Payload::json("[1]"));
        let packed = Outcome::Reply(Payload::new(ContentType::MessagePack, vec![0x91, 2]));
        let mut first = head();
        first["value"] = json!([1]);
        let mut second = head();
        second["value"] = json!([2]);
        let counts = GroupCounts { children: 3, open: 1, succeeded: 2 };
        let mut gathering = Gathering::default();
        gathering.add(&told(), Some(&json), 1_000);
        gathering.add(&told(), None, 1_000);
        let Outcome::Reply(list) = gathering.finish(true, counts) else { panic!() };
        assert_eq!((list.content_type, value(&list)), (ContentType::Json, json!([first, head()])));
        for outcome in [Some(&json), None, Some(&packed), Some(&json)] {
            gathering.add(&told(), outcome, 1_000);
        }
        let Outcome::Failure(failure) = gathering.finish(false, counts) else { panic!() };
        let list = failure.details.unwrap();
        assert_eq!(list.content_type, ContentType::MessagePack);
        assert_eq!(value(&list), json!([first, head(), second, first]));
        assert_eq!(gathering.finish(true, counts), Outcome::Reply(Payload::json("[]")));
    }

    #[test]
    fn what_does_not_fit_into_a_list_is_named() {
        let large = Outcome::Reply(Payload::json(format!("\"{}\"", "x".repeat(300))));
        let mut gathering = Gathering::default();
        (0..3).for_each(|_| gathering.add(&told(), Some(&large), 1_000));
        let Outcome::Reply(list) = gathering.finish(true, GroupCounts::default()) else { panic!() };
        let list = value(&list);
        assert_eq!((list[0]["value"].as_str().map(str::len), list[2].clone()), (Some(300), head()));
    }

    #[test]
    fn a_failure_is_told_whole() {
        let failure = Failure::new(Code::OutOfRange, "a \"quote\"").details(Payload::json("7")).retry_after_ms(300);
        let mut expected = head();
        expected["failure"] = json!({ "code": "OUT_OF_RANGE", "message": "a \"quote\"", "may_have_run": false,
            "retry_after_ms": 300, "details": 7 });
        let told = told();
        assert_eq!(value(&argument(&told, Some(&Outcome::Failure(failure.clone())), 1_000)), expected);
        assert_eq!(value(&Form::MessagePack.encode(&told, Some(&Outcome::Failure(failure)))), expected);
    }

    #[test]
    fn bytes_that_are_not_what_they_say_are_handed_on_as_bytes() {
        for (content_type, bytes) in
            [(ContentType::Json, &b"{\"a\":"[..]), (ContentType::MessagePack, &[0x92, 1]), (ContentType::Raw, b"x")]
        {
            let payload = argument(&told(), Some(&Outcome::Reply(Payload::new(content_type, bytes.to_vec()))), 1_000);
            assert_eq!(payload.content_type, ContentType::MessagePack);
            let mut end = vec![0xC4, u8::try_from(bytes.len()).unwrap()];
            end.extend_from_slice(bytes);
            assert!(payload.bytes.ends_with(&end), "{payload:?}");
        }
    }

    #[test]
    fn an_outcome_that_is_too_large_is_named_and_not_told() {
        let large = Outcome::Reply(Payload::json(format!("\"{}\"", "x".repeat(1_000))));
        let argument = value(&argument(&told(), Some(&large), 1_000));
        assert_eq!(argument["failure"]["code"], "RESOURCE_EXHAUSTED");
        assert_eq!((&argument["state"], argument.get("value")), (&json!("succeeded"), None));
    }
}
