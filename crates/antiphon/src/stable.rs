//! One encoding for equal arguments: the entries of maps in the order of their encoded keys, so that an idempotency key
//! finds a `HashMap` equal to its equal. Sequences keep their order: whether it means something, nobody can know.

use antiphon_protocol::{ContentType, Payload};

/// How deep maps and sequences may stand in each other: deeper ones are left as they are.
const DEPTH_MAX: u32 = 64;

/// The payload with its maps in order; left as it is when it holds none, is raw, or cannot be read.
pub(crate) fn stable(payload: Payload) -> Payload {
    let bytes = match payload.content_type {
        ContentType::MessagePack => ordered_messagepack(&payload.bytes),
        ContentType::Json => ordered_json(&payload.bytes),
        ContentType::Raw => None,
    };
    match bytes {
        Some(bytes) => Payload::new(payload.content_type, bytes),
        None => payload,
    }
}

/// The map behind a `Value` is ordered by key. A text with fractions is left alone: reading it could move one by a bit.
fn ordered_json(bytes: &[u8]) -> Option<Vec<u8>> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    if has_fraction(&value) { None } else { serde_json::to_vec(&value).ok() }
}

fn has_fraction(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => number.is_f64(),
        serde_json::Value::Array(values) => values.iter().any(has_fraction),
        serde_json::Value::Object(entries) => entries.values().any(has_fraction),
        _ => false,
    }
}

fn ordered_messagepack(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    copy(&mut bytes, &mut out, DEPTH_MAX)?;
    bytes.is_empty().then_some(out)
}

/// Copies one value (<https://github.com/msgpack/msgpack/blob/master/spec.md>); `None` when it is cut short or too deep.
fn copy(from: &mut &[u8], out: &mut Vec<u8>, depth: u32) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let marker = *from.first()?;
    match marker {
        0x80..=0x8f => copy_map(from, out, 1, u32::from(marker & 0x0f), depth),
        0xde => copy_map(from, out, 3, length(from, 2)?, depth),
        0xdf => copy_map(from, out, 5, length(from, 4)?, depth),
        0x90..=0x9f => copy_array(from, out, 1, u32::from(marker & 0x0f), depth),
        0xdc => copy_array(from, out, 3, length(from, 2)?, depth),
        0xdd => copy_array(from, out, 5, length(from, 4)?, depth),
        _ => take(from, out, scalar(from, marker)?),
    }
}

/// The bytes of a value that holds no others.
fn scalar(from: &[u8], marker: u8) -> Option<usize> {
    let sized = |width: usize, more: usize| Some(1 + width + more + usize::try_from(length(from, width)?).ok()?);
    match marker {
        0x00..=0x7f | 0xc0..=0xc3 | 0xe0..=0xff => Some(1),
        0xa0..=0xbf => Some(1 + usize::from(marker & 0x1f)),
        0xc4 | 0xd9 => sized(1, 0),
        0xc5 | 0xda => sized(2, 0),
        0xc6 | 0xdb => sized(4, 0),
        0xc7 => sized(1, 1),
        0xc8 => sized(2, 1),
        0xc9 => sized(4, 1),
        0xcc | 0xd0 => Some(2),
        0xcd | 0xd1 => Some(3),
        0xca | 0xce | 0xd2 => Some(5),
        0xcb | 0xcf | 0xd3 => Some(9),
        0xd4..=0xd8 => Some(2 + (1 << (marker - 0xd4))),
        _ => None,
    }
}

/// The big-endian length of this many bytes behind the marker.
fn length(from: &[u8], width: usize) -> Option<u32> {
    from.get(1..1 + width)?.iter().try_fold(0_u32, |sum, byte| sum.checked_mul(256)?.checked_add(u32::from(*byte)))
}

fn take(from: &mut &[u8], out: &mut Vec<u8>, count: usize) -> Option<()> {
    let (taken, rest) = from.split_at_checked(count)?;
    out.extend_from_slice(taken);
    *from = rest;
    Some(())
}

fn copy_array(from: &mut &[u8], out: &mut Vec<u8>, head: usize, count: u32, depth: u32) -> Option<()> {
    take(from, out, head)?;
    (0..count).try_for_each(|_| copy(from, out, depth))
}

fn copy_map(from: &mut &[u8], out: &mut Vec<u8>, head: usize, count: u32, depth: u32) -> Option<()> {
    take(from, out, head)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        copy(from, &mut key, depth)?;
        copy(from, &mut value, depth)?;
        entries.push((key, value));
    }
    entries.sort_unstable();
    entries.iter().for_each(|(key, value)| {
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    });
    Some(())
}

#[cfg(test)]
mod tests {
    use super::stable;
    use crate::encoding::encode;
    use antiphon_protocol::{ContentType, Payload};
    use std::collections::{BTreeMap, HashMap};

    type Inner = HashMap<u64, (u8, Option<String>, i64, bool)>;
    type Outer = HashMap<String, Vec<Inner>>;

    /// Values of many kinds, in maps within sequences within maps.
    fn arguments(backwards: bool) -> Outer {
        let mut numbers: Vec<u64> = (0..40).map(|number| number * 7_919 % 100_000).collect();
        if backwards {
            numbers.reverse();
        }
        let inner = |at: &u64| (*at, (7, Some("x".repeat(*at as usize % 300)), -(*at as i64), at.is_multiple_of(2)));
        let outer = |at: &u64| (format!("key {at}"), vec![numbers.iter().map(inner).collect(), HashMap::new()]);
        numbers.iter().map(outer).collect()
    }

    #[test]
    fn equal_maps_are_encoded_alike_whatever_order_they_were_filled_in() {
        for content_type in [ContentType::MessagePack, ContentType::Json] {
            let all: Vec<_> = (0..6).map(|at| encode(&arguments(at % 2 == 0), content_type).unwrap()).collect();
            assert!(all.iter().any(|payload| *payload != all[0]), "the order differs before");
            let all: Vec<_> = all.into_iter().map(stable).collect();
            assert!(all.iter().all(|payload| *payload == all[0]), "and does not after");
            let read: Outer = crate::encoding::decode(&all[0]).unwrap();
            assert_eq!(read, arguments(true), "and the value is the same");
        }
    }

    #[test]
    fn what_is_ordered_already_or_cannot_be_read_stays_as_it_is() {
        let ordered = encode(&BTreeMap::from([("a", vec![3, 1, 2]), ("b", vec![])]), ContentType::MessagePack).unwrap();
        assert_eq!(stable(ordered.clone()), ordered);
        for bytes in [&[0xdf, 0xff, 0xff, 0xff, 0xff][..], &[0x81, 0x01], &[0xc1], &[0x91; 100], &[], &[0x01, 0x02]] {
            let payload = Payload::new(ContentType::MessagePack, bytes.to_vec());
            assert_eq!(stable(payload.clone()), payload);
        }
        let fractions = Payload::json("{\"b\":0.1,\"a\":1e300}");
        assert_eq!(stable(fractions.clone()), fractions);
        let raw = Payload::raw("{\"b\":1,\"a\":2}");
        assert_eq!(stable(raw.clone()), raw);
    }
}
