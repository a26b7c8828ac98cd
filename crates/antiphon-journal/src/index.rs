//! The index at the end of a sealed segment: key, kind, role, offset and lsn of every entry, so that a
//! sweep reads no bodies and a damage report can name what was hit. Recovery does not depend on it.
//!
//! ```text
//! 0 crc  4 "AIDX"  8 version  9 zero  12 count  16 first lsn  24 records
//! record: 0 key  16 offset  20 lsn - first lsn  24 kind  25 role
//! ```

use crate::checksum::{Seed, u32_at, u64_at};
use crate::entry::Role;
use crate::position::Lsn;

pub(crate) const INDEX_HEADER_BYTES: usize = 24;
pub(crate) const INDEX_RECORD_BYTES: usize = 26;
const INDEX_MAGIC: [u8; 4] = *b"AIDX";
const INDEX_VERSION: u8 = 1;

/// One entry as the index names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexRecord {
    pub key: [u8; 16],
    pub offset: u32,
    pub lsn: Lsn,
    pub kind: u8,
    pub role: Role,
}

/// The index of the active segment, kept in its final bytes.
#[derive(Default)]
pub(crate) struct Index {
    records: Vec<u8>,
    count: u32,
    first_lsn: Option<Lsn>,
}

impl Index {
    /// Bytes of an index with room for one record more.
    pub fn len_with_one_more(&self) -> usize {
        INDEX_HEADER_BYTES + self.records.len() + INDEX_RECORD_BYTES
    }

    /// Whether `lsn` is too far from the first one to be recorded: only a cold segment that fills for ages.
    pub fn is_too_far(&self, lsn: Lsn) -> bool {
        self.first_lsn.is_some_and(|first| lsn.as_u64() - first.as_u64() > u64::from(u32::MAX))
    }

    pub fn push(&mut self, record: &IndexRecord) {
        let first = *self.first_lsn.get_or_insert(record.lsn);
        let distance = u32::try_from(record.lsn.as_u64() - first.as_u64()).expect("the segment was sealed before");
        let mut bytes = [0; INDEX_RECORD_BYTES];
        bytes[0..16].copy_from_slice(&record.key);
        bytes[16..20].copy_from_slice(&record.offset.to_le_bytes());
        bytes[20..24].copy_from_slice(&distance.to_le_bytes());
        bytes[24] = record.kind;
        bytes[25] = record.role.to_byte();
        self.records.extend_from_slice(&bytes);
        self.count += 1;
    }

    /// Appends the index to `out`; it will stand at `offset` of its segment.
    pub fn encode(&self, seed: Seed, offset: u32, out: &mut Vec<u8>) {
        let mut header = [0; INDEX_HEADER_BYTES];
        header[4..8].copy_from_slice(&INDEX_MAGIC);
        header[8] = INDEX_VERSION;
        header[12..16].copy_from_slice(&self.count.to_le_bytes());
        header[16..24].copy_from_slice(&self.first_lsn.unwrap_or(Lsn::ZERO).as_u64().to_le_bytes());
        let crc = seed.of_pieces(offset, &[&header[4..], &self.records]);
        header[0..4].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(&self.records);
    }
}

/// Length of the index whose header these bytes are, if it may be one and fits into `room`.
pub(crate) fn index_len(header: &[u8], room: usize) -> Option<usize> {
    if header.get(4..8)? != INDEX_MAGIC || *header.get(8)? != INDEX_VERSION || header.get(9..12)? != [0; 3] {
        return None;
    }
    let len = INDEX_HEADER_BYTES + (u32_at(header, 12)? as usize).checked_mul(INDEX_RECORD_BYTES)?;
    (len <= room).then_some(len)
}

/// Decodes a whole index that stands at `offset`; `None` if any of it is wrong.
pub(crate) fn decode_index(seed: Seed, offset: u32, bytes: &[u8]) -> Option<Vec<IndexRecord>> {
    if index_len(bytes, bytes.len())? != bytes.len() || u32_at(bytes, 0)? != seed.at(offset, bytes.get(4..)?) {
        return None;
    }
    let first = u64_at(bytes, 16)?;
    bytes
        .get(INDEX_HEADER_BYTES..)?
        .chunks_exact(INDEX_RECORD_BYTES)
        .map(|record| decode_record(first, record))
        .collect()
}

fn decode_record(first: u64, bytes: &[u8]) -> Option<IndexRecord> {
    Some(IndexRecord {
        key: *bytes.first_chunk()?,
        offset: u32_at(bytes, 16)?,
        lsn: Lsn::from_u64(first.checked_add(u64::from(u32_at(bytes, 20)?))?),
        kind: *bytes.get(24)?,
        role: Role::from_byte(*bytes.get(25)?)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::position::Generation;

    proptest! {
        #[test]
        fn an_index_is_read_back_and_no_flipped_bit_passes(
            offsets in proptest::collection::vec(any::<u32>(), 0..20), first in 1u64..1 << 60, at: prop::sample::Index, bit in 0u8..8,
        ) {
            let seed = Seed::new(&[9; 16], 1, Generation::Cold);
            let record = |(step, offset): (usize, &u32)| IndexRecord {
                key: [step as u8; 16], offset: *offset, lsn: Lsn::from_u64(first + 3 * step as u64), kind: 4, role: Role::Base,
            };
            let records: Vec<_> = offsets.iter().enumerate().map(record).collect();
            let mut index = Index::default();
            records.iter().for_each(|record| index.push(record));
            let mut bytes = Vec::new();
            index.encode(seed, 4096, &mut bytes);
            prop_assert_eq!(index_len(&bytes, bytes.len()), Some(bytes.len()));
            prop_assert_eq!(decode_index(seed, 4096, &bytes), Some(records));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(decode_index(seed, 4096, &bytes), None);
        }
    }
}
