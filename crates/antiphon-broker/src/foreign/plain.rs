//! What peers without Antiphon say and understand: media types, and failures in the body.

use antiphon_protocol::{ContentType, Failure, Payload};

/// The longest text of a failure that travels in a header, in bytes.
const FAILURE_TEXT_MAX: usize = 16 * 1024;

/// The content type that a peer's media type means. Plain peers rarely say, and then it is JSON.
#[must_use]
pub fn content_type(media: &str) -> ContentType {
    match media.split(';').next().unwrap_or_default().trim() {
        "application/vnd.msgpack" | "application/msgpack" | "application/x-msgpack" => ContentType::MessagePack,
        "application/octet-stream" => ContentType::Raw,
        _ => ContentType::Json,
    }
}

/// A failure for who reads only the body: `{"error":{"code":"OUT_OF_RANGE","message":"…"}}`.
#[must_use]
pub fn plain_failure(failure: &Failure) -> Payload {
    let mut json = String::from("{\"error\":{\"code\":\"");
    json.push_str(&failure.code.to_string());
    json.push_str("\",\"message\":\"");
    for character in failure.message.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            control if control < ' ' => json.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => json.push(other),
        }
    }
    json.push('"');
    if let Some(details) = failure.details.as_ref().filter(|details| details.content_type == ContentType::Json) {
        json.push_str(",\"details\":");
        json.push_str(&String::from_utf8_lossy(&details.bytes));
    }
    json.push_str("}}");
    Payload::json(json)
}

/// As much of a failure's text as a header takes.
#[must_use]
pub fn failure_text(text: &str) -> &str {
    let mut end = text.len().min(FAILURE_TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
