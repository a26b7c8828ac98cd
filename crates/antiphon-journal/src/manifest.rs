//! The `meta` file: who the journal is, which segments it consists of, and where the closed ones end.
//! It is written twice in place (two copies, each with an fsync), so one torn or rotten copy harms nothing.
//! A segment that is not listed does not exist; nothing else decides that.
//!
//! ```text
//! copy: 0 crc  4 "AMET"  8 format  9 zero  12 copy length  16 sequence  24 broker id  40 next segment  44 segments
//!       48 durable through  56 young end  64 cold end  72 records, zeros up to the copy's length
//! record: 0 segment  4 file  8 length  12 end, 0 while active  16 generation  17 zero (20 bytes)
//! ```

use crate::planted::planted;
use std::io;

use crate::checksum::{u32_at, u64_at};
use crate::position::{Both, Generation, Lsn, Watermark};
use crate::storage::File;

pub(crate) const META_NAME: &str = "meta";
pub(crate) const META_NEW_NAME: &str = "meta.new";
/// Highest format this program reads, and the one it writes.
pub(crate) const FORMAT: u8 = 1;
/// Room for 3,273 segments a copy: 200 GiB in segments of 64 MiB. A file with longer copies is read as well.
pub(crate) const COPY_BYTES: usize = 64 << 10;
/// Longest copy that is believed; bounds what opening a damaged file allocates.
const COPY_BYTES_MAX: u64 = 16 << 20;
const HEADER_BYTES: usize = 72;
const RECORD_BYTES: usize = 20;
const MAGIC: [u8; 4] = *b"AMET";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentRecord {
    pub number: u32,
    pub file: u32,
    pub length: u32,
    pub end: u32,
    pub generation: Generation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub copy_bytes: usize,
    pub sequence: u64,
    pub broker: [u8; 16],
    pub next_segment: u32,
    pub watermark: Watermark,
    /// In order of their numbers.
    pub segments: Vec<SegmentRecord>,
}

/// Why no manifest could be had.
#[derive(Debug)]
pub(crate) enum ManifestError {
    Damaged { from: u64, to: u64, what: &'static str },
    NewerFormat { found: u8 },
    Io(io::Error),
}

impl Manifest {
    pub fn new(broker: [u8; 16]) -> Self {
        Self {
            copy_bytes: COPY_BYTES,
            sequence: 0,
            broker,
            next_segment: 1,
            watermark: Watermark::default(),
            segments: Vec::new(),
        }
    }

    /// How many segments can be listed.
    pub fn segments_max(&self) -> usize {
        (self.copy_bytes - HEADER_BYTES) / RECORD_BYTES
    }

    /// One copy, of `copy_bytes` bytes.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.segments.len() <= self.segments_max(), "rolling checks that there is room");
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[FORMAT, 0, 0, 0]);
        bytes.extend_from_slice(&(self.copy_bytes as u32).to_le_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.broker);
        bytes.extend_from_slice(&self.next_segment.to_le_bytes());
        bytes.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.watermark.durable_through.as_u64().to_le_bytes());
        bytes.extend_from_slice(&self.watermark.ends.young.to_le_bytes());
        bytes.extend_from_slice(&self.watermark.ends.cold.to_le_bytes());
        for record in &self.segments {
            bytes.extend_from_slice(&record.number.to_le_bytes());
            bytes.extend_from_slice(&record.file.to_le_bytes());
            bytes.extend_from_slice(&record.length.to_le_bytes());
            bytes.extend_from_slice(&record.end.to_le_bytes());
            bytes.extend_from_slice(&[record.generation.to_byte(), 0, 0, 0]);
        }
        bytes.resize(self.copy_bytes, 0);
        let crc = crc32c::crc32c(bytes.get(4..).expect("a copy is longer than its crc"));
        if let Some(slot) = bytes.first_chunk_mut::<4>() {
            *slot = crc.to_le_bytes();
        }
        bytes
    }

    /// One copy from exactly its bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.get(4..8)? != MAGIC || *bytes.get(8)? != FORMAT || u32_at(bytes, 0)? != crc32c::crc32c(bytes.get(4..)?)
        {
            return None;
        }
        let count = u32_at(bytes, 44)? as usize;
        let records = bytes.get(HEADER_BYTES..HEADER_BYTES.checked_add(count.checked_mul(RECORD_BYTES)?)?)?;
        let manifest = Self {
            copy_bytes: u32_at(bytes, 12)? as usize,
            sequence: u64_at(bytes, 16)?,
            broker: *bytes.get(24..)?.first_chunk()?,
            next_segment: u32_at(bytes, 40)?,
            watermark: Watermark {
                durable_through: Lsn::from_u64(u64_at(bytes, 48)?),
                ends: Both { young: u64_at(bytes, 56)?, cold: u64_at(bytes, 64)? },
            },
            segments: records.chunks_exact(RECORD_BYTES).map(decode_record).collect::<Option<_>>()?,
        };
        (manifest.copy_bytes == bytes.len() && manifest.is_consistent()).then_some(manifest)
    }

    fn is_consistent(&self) -> bool {
        let believable = self.watermark.durable_through.is_believable();
        let ordered = self.segments.is_sorted_by(|a, b| a.number < b.number);
        believable
            && ordered
            && self.segments.iter().all(|s| s.number > 0 && s.number < self.next_segment && s.end <= s.length)
    }

    /// Reads the newer of the two copies that are whole.
    pub fn read(file: &dyn File) -> Result<Self, ManifestError> {
        let len = file.len().map_err(ManifestError::Io)?;
        let damaged = |what| Err(ManifestError::Damaged { from: 0, to: len, what });
        if !len.is_multiple_of(2) || len / 2 < HEADER_BYTES as u64 || len / 2 > COPY_BYTES_MAX {
            return damaged("the file has a length it never had");
        }
        let mut bytes = vec![0; len as usize];
        if file.read_at(&mut bytes, 0).map_err(ManifestError::Io)? != bytes.len() {
            return damaged("the file is shorter than it says");
        }
        let (first, second) = bytes.split_at(bytes.len() / 2);
        match (Self::decode(first), Self::decode(second)) {
            (Some(a), Some(b)) => Ok(if a.sequence >= b.sequence { a } else { b }),
            (Some(one), None) | (None, Some(one)) => Ok(one),
            (None, None) => match newer_format(first).or_else(|| newer_format(second)) {
                Some(found) => Err(ManifestError::NewerFormat { found }),
                None => damaged("both copies fail their checksum"),
            },
        }
    }

    /// Makes both copies this manifest, which was read from one of them, before anything is built on it: the one it was
    /// read from may stand in the page cache alone. The other goes first, as it may be older or no copy at all: a write
    /// that power ends can spoil what it was to replace, and must not meet the only good one.
    pub fn settle(&self, file: &dyn File) -> Result<(), (&'static str, io::Error)> {
        let copy = self.encode();
        let mut first = vec![0; copy.len()];
        let read = file.read_at(&mut first, 0).map_err(|error| ("read", error))?;
        let is_first = read == first.len() && first == copy;
        let order = if is_first { [1, 0] } else { [0, 1] };
        for number in order {
            file.write_all_at(&copy, number * copy.len() as u64).map_err(|error| ("write", error))?;
            file.sync_data().map_err(|error| ("fsync", error))?;
        }
        Ok(())
    }

    /// Writes both copies, each with its fsync. A crash in between leaves the old or the new one whole.
    pub fn write(file: &dyn File, copy: &[u8]) -> Result<(), (&'static str, io::Error)> {
        for number in 0..2 {
            file.write_all_at(copy, number * copy.len() as u64).map_err(|error| ("write", error))?;
            if !planted!("manifest not synced") {
                file.sync_data().map_err(|error| ("fsync", error))?;
            }
        }
        Ok(())
    }
}

/// A later format keeps the magic and its version byte where they are.
fn newer_format(copy: &[u8]) -> Option<u8> {
    let version = *copy.get(8)?;
    (copy.get(4..8)? == MAGIC && version > FORMAT).then_some(version)
}

fn decode_record(bytes: &[u8]) -> Option<SegmentRecord> {
    Some(SegmentRecord {
        number: u32_at(bytes, 0)?,
        file: u32_at(bytes, 4)?,
        length: u32_at(bytes, 8)?,
        end: u32_at(bytes, 12)?,
        generation: Generation::from_byte(*bytes.get(16)?)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    /// A file whose power goes at a write: it spoils what was to be replaced.
    struct Spoiling {
        bytes: Mutex<Vec<u8>>,
        writes_left: AtomicU32,
    }

    impl File for Spoiling {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let bytes = self.bytes.lock().unwrap();
            buffer.copy_from_slice(&bytes[offset as usize..][..buffer.len()]);
            Ok(buffer.len())
        }

        fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            let left = self.writes_left.load(Relaxed);
            let mut all = self.bytes.lock().unwrap();
            let place = &mut all[offset as usize..][..bytes.len()];
            if left == 0 {
                place.fill(0xFF);
                return Err(io::Error::other("the power is gone"));
            }
            self.writes_left.store(left - 1, Relaxed);
            place.copy_from_slice(bytes);
            Ok(())
        }

        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }

        fn len(&self) -> io::Result<u64> {
            Ok(self.bytes.lock().unwrap().len() as u64)
        }
    }

    #[test]
    fn power_that_goes_while_a_manifest_is_settled_leaves_a_good_copy() {
        let mut newest = Manifest::new([7; 16]);
        newest.sequence = 2;
        let (good, none) = (newest.encode(), vec![0xFF; COPY_BYTES]);
        for bytes in [[good.clone(), none.clone()].concat(), [none, good].concat()] {
            for writes in 0..3 {
                let file = Spoiling { bytes: Mutex::new(bytes.clone()), writes_left: AtomicU32::new(writes) };
                assert_eq!(newest.settle(&file).is_ok(), writes == 2);
                assert_eq!(Manifest::read(&file).unwrap(), newest, "after {writes} writes");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_what_encodes_to_them_or_to_nothing(mut bytes in proptest::collection::vec(any::<u8>(), 72..400), count in 0u32..12) {
            bytes[4..12].copy_from_slice(b"AMET\x01\0\0\0");
            let len = bytes.len() as u32;
            bytes[12..16].copy_from_slice(&len.to_le_bytes());
            bytes[44..48].copy_from_slice(&count.to_le_bytes());
            let crc = crc32c::crc32c(&bytes[4..]);
            bytes[0..4].copy_from_slice(&crc.to_le_bytes());
            if let Some(manifest) = Manifest::decode(&bytes) {
                prop_assert_eq!(manifest.segments.len(), count as usize);
                prop_assert_eq!(Manifest::decode(&manifest.encode()), Some(manifest));
            }
        }

        #[test]
        fn a_manifest_is_read_back(sequence: u64, broker: [u8; 16], ends: [u64; 2], segments in 0u32..3000) {
            let record = |number| SegmentRecord { number, file: number / 2, length: 4096, end: number % 4096, generation: Generation::Cold };
            let mut manifest = Manifest::new(broker);
            manifest.sequence = sequence;
            manifest.next_segment = segments + 1;
            manifest.watermark.ends = Both { young: ends[0], cold: ends[1] };
            manifest.segments = (1..=segments).map(record).collect();
            prop_assert_eq!(Manifest::decode(&manifest.encode()), Some(manifest));
        }
    }
}
