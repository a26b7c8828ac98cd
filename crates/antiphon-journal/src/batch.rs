//! The header in front of the entries that one commit writes into one segment. One commit touches one
//! batch per segment; which segments those are is `journal.rs`'s business.
//!
//! ```text
//! 0 crc  4 "ABAT"  8 version  9 generation  10 zero  12 segment  16 length  20 count
//! 24 first lsn  32 last lsn  40 durable through  48 young end  56 cold end  64 entries, zeros up to 8
//! ```

use crate::checksum::{Seed, u32_at, u64_at};
use crate::position::{Both, Generation, Lsn, Watermark};

pub(crate) const BATCH_HEADER_BYTES: usize = 64;
pub(crate) const BATCH_MAGIC: [u8; 4] = *b"ABAT";
/// Batches start at multiples of this, so that a search for headers behind a torn one is short.
pub(crate) const BATCH_ALIGN: usize = 8;
const BATCH_VERSION: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub generation: Generation,
    pub segment: u32,
    /// Bytes from the start of this header to the next batch.
    pub length: u32,
    pub count: u32,
    /// Of the entries here; the other generation may hold numbers in between.
    pub first_lsn: Lsn,
    pub last_lsn: Lsn,
    /// What was on disk when this was written, thus before any byte of this batch.
    pub watermark: Watermark,
}

impl BatchHeader {
    pub fn encode(&self, seed: Seed, offset: u32) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        bytes[4..8].copy_from_slice(&BATCH_MAGIC);
        bytes[8] = BATCH_VERSION;
        bytes[9] = self.generation.to_byte();
        bytes[12..16].copy_from_slice(&self.segment.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.length.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.count.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_lsn.as_u64().to_le_bytes());
        bytes[32..40].copy_from_slice(&self.last_lsn.as_u64().to_le_bytes());
        bytes[40..48].copy_from_slice(&self.watermark.durable_through.as_u64().to_le_bytes());
        bytes[48..56].copy_from_slice(&self.watermark.ends.young.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.watermark.ends.cold.to_le_bytes());
        let crc = seed.at(offset, &bytes[4..]);
        bytes[0..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at `offset` of a segment, if it is one and its batch ends within `room` bytes.
    pub fn decode(seed: Seed, offset: u32, bytes: &[u8], room: usize) -> Option<Self> {
        let bytes: &[u8; BATCH_HEADER_BYTES] = bytes.first_chunk()?;
        if bytes[4..8] != BATCH_MAGIC || bytes[8] != BATCH_VERSION || bytes[10..12] != [0, 0] {
            return None;
        }
        if u32_at(bytes, 0)? != seed.at(offset, &bytes[4..]) {
            return None;
        }
        let header = Self {
            generation: Generation::from_byte(bytes[9])?,
            segment: u32_at(bytes, 12)?,
            length: u32_at(bytes, 16)?,
            count: u32_at(bytes, 20)?,
            first_lsn: Lsn::from_u64(u64_at(bytes, 24)?),
            last_lsn: Lsn::from_u64(u64_at(bytes, 32)?),
            watermark: Watermark {
                durable_through: Lsn::from_u64(u64_at(bytes, 40)?),
                ends: Both { young: u64_at(bytes, 48)?, cold: u64_at(bytes, 56)? },
            },
        };
        let length = header.length as usize;
        let fits = length >= BATCH_HEADER_BYTES && length <= room && length.is_multiple_of(BATCH_ALIGN);
        let lsns = [header.first_lsn, header.last_lsn, header.watermark.durable_through];
        (fits && lsns.iter().all(|lsn| lsn.is_believable())).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_decode_to_what_encodes_to_them_or_to_nothing(mut bytes: [u8; BATCH_HEADER_BYTES], room in 0usize..1 << 30, forge: bool) {
            let seed = Seed::new(&[3; 16], 7, Generation::Young);
            if forge {
                bytes[4..9].copy_from_slice(b"ABAT\x01");
                bytes[9] &= 1;
                bytes[10..12].fill(0);
                bytes[16] &= 0xF8;
                let crc = seed.at(640, &bytes[4..]);
                bytes[0..4].copy_from_slice(&crc.to_le_bytes());
            }
            if let Some(header) = BatchHeader::decode(seed, 640, &bytes, room) {
                prop_assert!(forge && header.length as usize <= room);
                prop_assert_eq!(header.encode(seed, 640), bytes);
            }
            prop_assert!(BatchHeader::decode(seed, 648, &bytes, room).is_none(), "not at another offset");
        }
    }
}
