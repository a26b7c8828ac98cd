//! Payloads as JSON, whatever they are encoded in, and back.

use antiphon_protocol::{ContentType, Payload};
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::fmt;

/// The payload as JSON text, or why it is none.
pub fn to_json(payload: &Payload) -> Result<Bytes, String> {
    match payload.content_type {
        ContentType::Json => Ok(payload.bytes.clone()),
        ContentType::MessagePack => {
            let Readable(value) = rmp_serde::from_slice(&payload.bytes).map_err(|error| error.to_string())?;
            serde_json::to_vec(&value).map(Bytes::from).map_err(|error| error.to_string())
        }
        ContentType::Raw => Err("it is raw bytes".to_owned()),
    }
}

/// The payload as a JSON value; bytes become their text, or `{"base64": …, "bytes": …}` if they are none.
pub fn to_value(payload: &Payload) -> Value {
    let parsed = to_json(payload).ok().and_then(|text| serde_json::from_slice(&text).ok());
    parsed.unwrap_or_else(|| of_bytes(&payload.bytes))
}

fn of_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => json!({ "base64": base64(bytes), "bytes": bytes.len() }),
    }
}

/// Any value for people to read: JSON, but for bytes in it, which are shown as [`to_value`] shows them.
pub struct Readable(pub Value);

impl Serialize for Readable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading).map(Self)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(of_bytes(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Readable::deserialize(deserializer).map(|readable| readable.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Readable(value)) = sequence.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((Readable(key), Readable(value))) = entries.next_entry()? {
            let key = match key {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                _ => return Err(A::Error::custom("a key that is neither text nor a number")),
            };
            map.insert(key, value);
        }
        Ok(map.into())
    }
}

/// What a program printed, as a payload of the content type asked for: JSON if it is JSON, else a string.
pub fn from_text(text: &[u8], content_type: ContentType) -> Result<Payload, String> {
    if content_type == ContentType::Raw {
        return Ok(Payload::raw(text.to_vec()));
    }
    let text = std::str::from_utf8(text).map_err(|_| "the value is neither JSON nor UTF-8 text".to_owned())?;
    let trimmed = text.trim();
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(trimmed).is_ok();
    let json = match trimmed {
        "" => "null".to_owned(),
        _ if is_json => trimmed.to_owned(),
        _ => Value::from(text.strip_suffix('\n').unwrap_or(text)).to_string(),
    };
    from_json(json.into(), content_type)
}

/// JSON text as a payload of the content type asked for.
pub fn from_json(json: Bytes, content_type: ContentType) -> Result<Payload, String> {
    if content_type != ContentType::MessagePack {
        return Ok(Payload::new(content_type, json));
    }
    let value: Value = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
    let bytes = rmp_serde::to_vec_named(&value).map_err(|error| error.to_string())?;
    Ok(Payload::new(ContentType::MessagePack, bytes))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| LETTERS.get((bits & 63) as usize).map_or('=', |letter| char::from(*letter));
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            text.push(if place <= chunk.len() { letter(bits >> (18 - 6 * place)) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_prints_is_json_or_a_string() {
        let value = |text: &str| to_value(&from_text(text.as_bytes(), ContentType::Json).unwrap());
        assert_eq!(value("42\n"), json!(42));
        assert_eq!(value("{\"a\": [1]}"), json!({ "a": [1] }));
        assert_eq!(value("two words\n"), json!("two words"));
        assert_eq!(value(""), json!(null));
        assert!(from_text(b"\xff", ContentType::Json).is_err());
        assert_eq!(from_text(b"\xff", ContentType::Raw).unwrap().bytes.as_ref(), b"\xff");
    }

    #[test]
    fn message_pack_is_read_and_written_as_json() {
        let payload = from_text(b"{\"n\": [1, null, \"x\"]}", ContentType::MessagePack).unwrap();
        assert_eq!(payload.content_type, ContentType::MessagePack);
        assert_eq!(to_value(&payload), json!({ "n": [1, null, "x"] }));
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_in_base64() {
        assert_eq!(to_value(&Payload::raw(vec![0xff])), json!({ "base64": "/w==", "bytes": 1 }));
        assert_eq!(to_value(&Payload::raw(vec![0xff, 0xfe])), json!({ "base64": "//4=", "bytes": 2 }));
        assert_eq!(to_value(&Payload::raw(vec![0xff, 0xfe, 0xfd])), json!({ "base64": "//79", "bytes": 3 }));
    }

    #[test]
    fn bytes_inside_of_message_pack_are_read_like_bytes_alone() {
        // {"a": bin 2 0xff 0x00, "b": [bin 2 "hi", null, true, -1, 1.5, "x"], 7: {}}
        let bytes = [
            &b"\x83\xa1a\xc4\x02\xff\x00\xa1b\x96\xc4\x02hi\xc0\xc3\xff\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xa1x"[..],
            b"\x07\x80",
        ];
        let value = to_value(&Payload::new(ContentType::MessagePack, bytes.concat()));
        let read = json!({ "a": { "base64": "/wA=", "bytes": 2 }, "b": ["hi", null, true, -1, 1.5, "x"], "7": {} });
        assert_eq!(value, read);
    }
}
