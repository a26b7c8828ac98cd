//! One entry: its public form, its bytes, its limits. Who may append it and where is `journal.rs`'s business.
//!
//! ```text
//! 0 crc  4 body crc  8 body length  12 head length  16 lsn  24 key  40 kind  41 role  42 zero  44 head, body
//! ```
//! The crc covers bytes 4.. and the head; the body has its own, so that recovery need not read it.
//! To change the layout: raise `FORMAT` in `manifest.rs`, keep reading the old one, add golden bytes.

use crate::checksum::{Seed, u32_at, u64_at};
use crate::planted::planted;
use crate::position::{Generation, Lsn, Position};

/// Largest head: heads are read at recovery and must stay small.
pub const HEAD_BYTES_MAX: usize = 1 << 20;
/// Largest body: twice the largest payload, so that an entry can carry one with its framing.
pub const BODY_BYTES_MAX: usize = 32 << 20;
pub(crate) const ENTRY_HEADER_BYTES: usize = 44;

/// What the owner appends. The journal understands none of it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Whose entry it is; recorded in the index of a sealed segment.
    pub key: [u8; 16],
    /// What the owner calls it.
    pub kind: u8,
    /// Read at recovery. At most [`HEAD_BYTES_MAX`].
    pub head: &'a [u8],
    /// Not read at recovery, its pieces are joined. At most [`BODY_BYTES_MAX`].
    pub body: &'a [&'a [u8]],
}

impl Entry<'_> {
    pub(crate) fn body_len(&self) -> usize {
        self.body.iter().map(|piece| piece.len()).sum()
    }
}

/// What an entry means for the recycling of its segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Role {
    /// Complete in itself; keeps its segment until it is released.
    Base,
    /// Adds to a base in the young log. Never keeps a segment: an older base goes first.
    Delta,
    /// Adds to a base in the cold log: its segment must be swept before it is recycled.
    PinnedDelta,
}

impl Role {
    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Self::Delta => 0,
            Self::Base => 1,
            Self::PinnedDelta => 2,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Delta),
            1 => Some(Self::Base),
            2 => Some(Self::PinnedDelta),
            _ => None,
        }
    }
}

/// Whether an entry may use the reserved segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reserve {
    /// New work: refused when only the reserve is left.
    No,
    /// Settlements and compaction, which make room or end work.
    Yes,
}

/// An entry as recovery hands it to the owner, in lsn order over both generations.
#[derive(Clone, Copy, Debug)]
pub struct Recovered<'a> {
    /// Where it is now; entries of the last commit may have moved.
    pub position: Position,
    /// Its number.
    pub lsn: Lsn,
    /// Which log holds it now.
    pub generation: Generation,
    /// Its role, as appended.
    pub role: Role,
    /// Its key.
    pub key: [u8; 16],
    /// Its kind.
    pub kind: u8,
    /// Its head.
    pub head: &'a [u8],
    /// Length of its body in bytes; the body itself is read with [`crate::Journal::read`].
    pub body_len: u32,
}

/// A whole entry, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryData {
    /// Its number.
    pub lsn: Lsn,
    /// Its role, as appended.
    pub role: Role,
    /// Its key.
    pub key: [u8; 16],
    /// Its kind.
    pub kind: u8,
    /// Its head.
    pub head: Vec<u8>,
    /// Its body; the checksum was verified.
    pub body: Vec<u8>,
}

/// The fixed part, decoded and verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    pub body_crc: u32,
    pub body_len: u32,
    pub head_len: u32,
    pub lsn: Lsn,
    pub key: [u8; 16],
    pub kind: u8,
    pub role: Role,
}

/// Lengths read from a header that is not verified yet: bounded, but possibly wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    pub head: usize,
    pub body: usize,
}

impl Lengths {
    pub fn total(self) -> usize {
        ENTRY_HEADER_BYTES + self.head + self.body
    }
}

/// The lengths of an entry that must fit into `room` bytes; `None` if they cannot be true.
pub(crate) fn lengths(header: &[u8], room: usize) -> Option<Lengths> {
    let body = u32_at(header, 8)? as usize;
    let head = u32_at(header, 12)? as usize;
    let lengths = Lengths { head, body };
    (head <= HEAD_BYTES_MAX && body <= BODY_BYTES_MAX && lengths.total() <= room).then_some(lengths)
}

impl EntryHeader {
    /// Decodes header and head at `offset`. `bytes` must hold both; the body may be missing.
    pub fn decode(seed: Seed, offset: u32, bytes: &[u8], room: usize) -> Option<(Self, &[u8])> {
        let lengths = lengths(bytes, room)?;
        let covered = bytes.get(4..ENTRY_HEADER_BYTES + lengths.head)?;
        if (u32_at(bytes, 0)? != seed.at(offset, covered) && !planted!("checksum not looked at"))
            || bytes.get(42..44)? != [0, 0]
        {
            return None;
        }
        let header = Self {
            body_crc: u32_at(bytes, 4)?,
            body_len: u32_at(bytes, 8)?,
            head_len: u32_at(bytes, 12)?,
            lsn: Lsn::from_u64(u64_at(bytes, 16)?),
            key: *bytes.get(24..)?.first_chunk()?,
            kind: *bytes.get(40)?,
            role: Role::from_byte(*bytes.get(41)?)?,
        };
        if !header.lsn.is_believable() {
            return None;
        }
        Some((header, bytes.get(ENTRY_HEADER_BYTES..ENTRY_HEADER_BYTES + lengths.head)?))
    }

    pub fn total(&self) -> usize {
        ENTRY_HEADER_BYTES + self.head_len as usize + self.body_len as usize
    }

    pub fn body_is_whole(&self, seed: Seed, offset: u32, body: &[u8]) -> bool {
        body.len() == self.body_len as usize && seed.at(offset, body) == self.body_crc
    }
}

/// Appends the bytes of `entry` to `out`; the entry will stand at `offset` of its segment.
pub(crate) fn encode(seed: Seed, offset: u32, lsn: Lsn, role: Role, entry: &Entry<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let mut header = [0; ENTRY_HEADER_BYTES];
    header[4..8].copy_from_slice(&seed.of_pieces(offset, entry.body).to_le_bytes());
    header[8..12].copy_from_slice(&(entry.body_len() as u32).to_le_bytes());
    header[12..16].copy_from_slice(&(entry.head.len() as u32).to_le_bytes());
    header[16..24].copy_from_slice(&lsn.as_u64().to_le_bytes());
    header[24..40].copy_from_slice(&entry.key);
    header[40] = entry.kind;
    header[41] = role.to_byte();
    let crc = seed.of_pieces(offset, &[&header[4..], entry.head]);
    header[0..4].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(entry.head);
    for piece in entry.body {
        out.extend_from_slice(piece);
    }
    assert_eq!(out.len() - start, ENTRY_HEADER_BYTES + entry.head.len() + entry.body_len());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_entry_is_read_back_and_no_flipped_bit_passes(
            key: [u8; 16], kind: u8, lsn in 1u64..1 << 60,
            head in proptest::collection::vec(any::<u8>(), 0..50),
            body in proptest::collection::vec(any::<u8>(), 0..50),
            split in 0usize..50, at: prop::sample::Index, bit in 0u8..8,
        ) {
            let seed = Seed::new(&[9; 16], 1, Generation::Cold);
            let (first, second) = body.split_at(split.min(body.len()));
            let entry = Entry { key, kind, head: &head, body: &[first, second] };
            let mut bytes = Vec::new();
            encode(seed, 64, Lsn::from_u64(lsn), Role::Base, &entry, &mut bytes);
            let read = crate::reader::decode_entry(seed, 64, &bytes).expect("it was just encoded");
            let expected = EntryData { lsn: Lsn::from_u64(lsn), role: Role::Base, key, kind, head, body };
            prop_assert_eq!(read, expected);
            prop_assert!(crate::reader::decode_entry(seed, 72, &bytes).is_none(), "not at another offset");
            for (broker, segment, generation) in
                [(8, 1, Generation::Cold), (9, 2, Generation::Cold), (9, 1, Generation::Young)]
            {
                let other = Seed::new(&[broker; 16], segment, generation);
                prop_assert!(crate::reader::decode_entry(other, 64, &bytes).is_none(), "not in another segment");
            }
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(crate::reader::decode_entry(seed, 64, &bytes).is_none());
        }

        #[test]
        fn any_bytes_are_taken_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), lens: [u8; 2]) {
            let seed = Seed::new(&[9; 16], 1, Generation::Cold);
            prop_assert!(crate::reader::decode_entry(seed, 64, &bytes).is_none());
            if bytes.len() >= ENTRY_HEADER_BYTES {
                bytes[8..16].copy_from_slice(&[lens[0], 0, 0, 0, lens[1], 0, 0, 0]);
                let end = (ENTRY_HEADER_BYTES + lens[1] as usize).min(bytes.len());
                let crc = seed.at(64, &bytes[4..end]);
                bytes[0..4].copy_from_slice(&crc.to_le_bytes());
                let room = bytes.len();
                if let Some((header, head)) = EntryHeader::decode(seed, 64, &bytes, room) {
                    prop_assert!(header.total() <= room && head.len() == lens[1] as usize);
                }
            }
        }
    }
}
