//! Payloads as JSON, whatever they are encoded in, and back.

use antiphon_protocol::{ContentType, Payload};
use bytes::Bytes;
use serde_json::{Value, json};

/// The payload as JSON text, or why it is none.
pub fn to_json(payload: &Payload) -> Result<Bytes, String> {
    match payload.content_type {
        ContentType::Json => Ok(payload.bytes.clone()),
        ContentType::MessagePack => {
            let value: Value = rmp_serde::from_slice(&payload.bytes).map_err(|error| error.to_string())?;
            serde_json::to_vec(&value).map(Bytes::from).map_err(|error| error.to_string())
        }
        ContentType::Raw => Err("it is raw bytes".to_owned()),
    }
}

/// The payload as a JSON value; bytes that are no text become `{"base64": …}`.
pub fn to_value(payload: &Payload) -> Value {
    let parsed = to_json(payload).ok().and_then(|text| serde_json::from_slice(&text).ok());
    parsed.unwrap_or_else(|| match std::str::from_utf8(&payload.bytes) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => json!({ "base64": base64(&payload.bytes) }),
    })
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
        assert_eq!(to_value(&Payload::raw(vec![0xff])), json!({ "base64": "/w==" }));
        assert_eq!(to_value(&Payload::raw(vec![0xff, 0xfe])), json!({ "base64": "//4=" }));
        assert_eq!(to_value(&Payload::raw(vec![0xff, 0xfe, 0xfd])), json!({ "base64": "//79" }));
    }
}
