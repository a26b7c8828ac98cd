//! Between values and payloads: MessagePack with structs as maps, JSON, and bytes as they are.

use antiphon_protocol::{ContentType, Payload};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::de::value::BytesDeserializer;

/// Why a value and its bytes could not be converted, in words.
pub(crate) type EncodingError = String;

/// The value as bytes of this content type; raw bytes cannot hold a typed value.
pub(crate) fn encode<T: Serialize>(value: &T, content_type: ContentType) -> Result<Payload, EncodingError> {
    match content_type {
        ContentType::MessagePack => rmp_serde::to_vec_named(value)
            .map(|bytes| Payload::new(content_type, bytes))
            .map_err(|error| error.to_string()),
        ContentType::Json => {
            serde_json::to_vec(value).map(|bytes| Payload::new(content_type, bytes)).map_err(|error| error.to_string())
        }
        ContentType::Raw => Err("a typed value cannot be sent as raw bytes: use MessagePack or JSON".to_owned()),
    }
}

/// The value that these bytes are. Raw bytes are a value to types that take bytes.
pub(crate) fn decode<T: DeserializeOwned>(payload: &Payload) -> Result<T, EncodingError> {
    match payload.content_type {
        ContentType::MessagePack => rmp_serde::from_slice(&payload.bytes).map_err(|error| error.to_string()),
        ContentType::Json => serde_json::from_slice(&payload.bytes).map_err(|error| error.to_string()),
        ContentType::Raw => T::deserialize(BytesDeserializer::<serde::de::value::Error>::new(&payload.bytes))
            .map_err(|_| "raw bytes came where a typed value was expected".to_owned()),
    }
}

/// Arguments of a procedure without parameters: null is sent, and whatever comes is taken.
pub(crate) fn decode_nothing<T: Default>(_: &Payload) -> Result<T, EncodingError> {
    Ok(T::default())
}

pub(crate) fn encode_raw<T: Clone + Into<Bytes>>(value: &T, _: ContentType) -> Result<Payload, EncodingError> {
    Ok(Payload::raw(value.clone()))
}

pub(crate) fn decode_raw<T: From<Bytes>>(payload: &Payload) -> Result<T, EncodingError> {
    Ok(T::from(payload.bytes.clone()))
}

#[allow(clippy::unnecessary_wraps, reason = "one of a procedure's conversions, which may fail in general")]
pub(crate) fn pass_on(payload: &Payload, _: ContentType) -> Result<Payload, EncodingError> {
    Ok(payload.clone())
}

#[allow(clippy::unnecessary_wraps, reason = "one of a procedure's conversions, which may fail in general")]
pub(crate) fn pass_back(payload: &Payload) -> Result<Payload, EncodingError> {
    Ok(payload.clone())
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};
    use antiphon_protocol::ContentType;
    use serde::{Deserialize, Serialize};
    use std::collections::BTreeMap;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Pair {
        one: u32,
        #[serde(default)]
        other: Option<u32>,
    }

    #[test]
    fn structs_travel_as_maps_by_name_and_missing_fields_are_none() {
        for content_type in [ContentType::MessagePack, ContentType::Json] {
            let payload = encode(&Pair { one: 1, other: Some(2) }, content_type).unwrap();
            let map: BTreeMap<String, u32> = decode(&payload).unwrap();
            assert_eq!(map, BTreeMap::from([("one".to_owned(), 1), ("other".to_owned(), 2)]));
            let more = encode(&BTreeMap::from([("one", 1), ("third", 3)]), content_type).unwrap();
            assert_eq!(decode::<Pair>(&more).unwrap(), Pair { one: 1, other: None });
        }
    }

    #[test]
    fn raw_bytes_hold_no_typed_value() {
        assert!(encode(&1, ContentType::Raw).is_err());
        assert!(decode::<u32>(&antiphon_protocol::Payload::raw("1")).is_err());
        assert!(decode::<serde::de::IgnoredAny>(&antiphon_protocol::Payload::raw("1")).is_ok());
    }
}
