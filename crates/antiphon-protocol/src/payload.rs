//! Arguments and values: bytes with a content type, opaque to everything between caller and procedure.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How a payload's bytes are to be read. A reply uses the content type of its request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[repr(u8)]
#[serde(rename_all = "snake_case")]
pub enum ContentType {
    /// MessagePack (<https://msgpack.org>), structs as maps by name. The default of typed clients.
    #[default]
    MessagePack = 1,
    /// JSON (RFC 8259), UTF-8.
    Json = 2,
    /// Bytes as they are.
    Raw = 3,
}

impl ContentType {
    /// The content type with this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::MessagePack),
            2 => Some(Self::Json),
            3 => Some(Self::Raw),
            _ => None,
        }
    }

    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::MessagePack => "application/vnd.msgpack",
            Self::Json => "application/json",
            Self::Raw => "application/octet-stream",
        }
    }
}

/// Bytes with a content type. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Payload {
    /// How to read them.
    pub content_type: ContentType,
    /// The bytes.
    pub bytes: Bytes,
}

impl Payload {
    /// Bytes to be read as `content_type` says.
    #[must_use]
    pub fn new(content_type: ContentType, bytes: impl Into<Bytes>) -> Self {
        Self { content_type, bytes: bytes.into() }
    }

    /// JSON text.
    #[must_use]
    pub fn json(text: impl Into<Bytes>) -> Self {
        Self::new(ContentType::Json, text)
    }

    /// Bytes as they are.
    #[must_use]
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self::new(ContentType::Raw, bytes)
    }
}
