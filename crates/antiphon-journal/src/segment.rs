//! One segment: the header of its file, and what the running journal remembers of it.
//! A segment has a number of its own for ever; its file is used again by later segments.
//!
//! ```text
//! 0 "ANTIPHON"  8 version  9 generation  10 zero  12 segment  16 file  20 length  24 broker id  40 zero  60 crc
//! ```

use crate::planted::planted;
use std::sync::Arc;

use crate::checksum::{Seed, u32_at};
use crate::position::{Generation, Lsn};
use crate::storage::File;

pub(crate) const SEGMENT_HEADER_BYTES: usize = 64;
const SEGMENT_MAGIC: [u8; 8] = *b"ANTIPHON";
const SEGMENT_VERSION: u8 = 1;

/// Name of the file with this id.
pub(crate) fn file_name(file: u32) -> String {
    format!("segment-{file:08}")
}

/// The id in a file's name.
pub(crate) fn file_id(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("segment-")?;
    let id = digits.parse().ok()?;
    (file_name(id) == name).then_some(id)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub generation: Generation,
    pub number: u32,
    pub file: u32,
    pub length: u32,
}

impl SegmentHeader {
    pub fn encode(&self, broker: &[u8; 16]) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8] = SEGMENT_VERSION;
        bytes[9] = self.generation.to_byte();
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.file.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.length.to_le_bytes());
        bytes[24..40].copy_from_slice(broker);
        let crc = Seed::new(broker, self.number, self.generation).at(0, &bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Whether `bytes` are exactly this header.
    pub fn matches(&self, broker: &[u8; 16], bytes: &[u8]) -> bool {
        bytes.first_chunk() == Some(&self.encode(broker))
    }

    /// The segment a file last held, for reports only.
    pub fn last_number(bytes: &[u8]) -> Option<u32> {
        if bytes.get(..8)? == SEGMENT_MAGIC { u32_at(bytes, 12) } else { None }
    }
}

/// A file and what identifies its present use; shared with the writer thread and readers.
pub(crate) struct SegmentFile {
    pub number: u32,
    pub generation: Generation,
    pub file: u32,
    pub length: u32,
    pub seed: Seed,
    pub handle: Arc<dyn File>,
}

impl SegmentFile {
    pub fn header(&self) -> SegmentHeader {
        SegmentHeader { generation: self.generation, number: self.number, file: self.file, length: self.length }
    }
}

/// In which part of its life a segment is.
///
/// ```text
///  Active ──roll or recovery──► Sealed ──sweep()──► Sweeping ──retire──► Retiring ──durable──► free pool
///                                  └────────────── dead ─────────────────────▲
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SegmentState {
    Active,
    Sealed,
    Sweeping,
    /// May leave the manifest once everything up to `after` is durable.
    Retiring {
        after: Lsn,
    },
}

/// What the running journal remembers of a segment.
pub(crate) struct Segment {
    pub file: Arc<SegmentFile>,
    pub state: SegmentState,
    /// Where its entries end; 0 while active.
    pub end: u32,
    /// Number of its first entry; its successors' if it has none yet.
    pub first_lsn: Lsn,
    pub bases: Tally,
    /// Deltas of bases in the cold log. While one lives, the segment is swept before it is recycled.
    pub pinned: Tally,
}

/// Entries of one role. Their number and bytes only grow; together they give the mean size of a live one, so
/// that no length must be remembered for each entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub count: u64,
    pub bytes: u64,
    pub live: u64,
}

impl Tally {
    pub fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }

    fn live_bytes(&self) -> u64 {
        let bytes = u128::from(self.bytes) * u128::from(self.live) / u128::from(self.count.max(1));
        bytes as u64
    }
}

impl Segment {
    pub fn new(file: Arc<SegmentFile>, state: SegmentState, end: u32, first_lsn: Lsn) -> Self {
        Self { file, state, end, first_lsn, bases: Tally::default(), pinned: Tally::default() }
    }

    /// Bytes that a sweep would have to write anew, about.
    pub fn live_bytes(&self) -> u64 {
        self.bases.live_bytes() + self.pinned.live_bytes()
    }

    /// Nothing in it can be needed, whatever it says.
    pub fn is_dead(&self) -> bool {
        self.state == SegmentState::Sealed
            && (self.bases.live == 0 || planted!("segment recycled while it is needed"))
            && self.pinned.live == 0
    }
}
