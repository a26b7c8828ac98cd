//! CRC32C with a seed of broker, segment and offset: bytes of another journal, of an earlier use of the
//! same file, or of another place never check out. Also the little-endian readers of all formats.

use crate::position::Generation;

/// Start value for everything in one segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(u32);

impl Seed {
    pub fn new(broker: &[u8; 16], segment: u32, generation: Generation) -> Self {
        let crc = crc32c::crc32c(broker);
        let crc = crc32c::crc32c_append(crc, &segment.to_le_bytes());
        Self(crc32c::crc32c_append(crc, &[generation.to_byte()]))
    }

    /// Checksum of `bytes` that stand at `offset`.
    pub fn at(self, offset: u32, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.0, &offset.to_le_bytes()), bytes)
    }

    /// The same over several pieces.
    pub fn of_pieces(self, offset: u32, pieces: &[&[u8]]) -> u32 {
        let start = crc32c::crc32c_append(self.0, &offset.to_le_bytes());
        pieces.iter().fold(start, |crc, piece| crc32c::crc32c_append(crc, piece))
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
