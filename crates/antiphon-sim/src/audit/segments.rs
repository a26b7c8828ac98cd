//! The bytes of a journal, read by the book: `docs/journal-format.md`. It shares no code with the journal.

use crate::disk::Disk;
use std::ops::Range;

/// One entry, whole.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub lsn: u64,
    pub kind: u8,
    pub key: [u8; 16],
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    generation: u8,
    position: u64,
    /// It stands behind a wrong byte of its log.
    lost: bool,
}

impl Entry {
    /// Whether it stands in the log that compaction writes.
    pub fn is_cold(&self) -> bool {
        self.generation != 0
    }
}

/// What a byte of a durable part of the journal belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    /// Header or head: recovery reads and checks it.
    Checked,
    /// A body, which is read when it is wanted.
    Body,
}

/// The segments of a journal.
#[derive(Default)]
pub(crate) struct Segments {
    entries: Vec<Entry>,
    durable_through: u64,
    ends: [u64; 2],
    /// Durable byte ranges: file name, from, to, what.
    pub regions: Vec<(String, usize, usize, Region)>,
}

struct Meta {
    sequence: u64,
    broker: Vec<u8>,
    durable_through: u64,
    ends: [u64; 2],
    /// Segment, file, length, end, generation.
    segments: Vec<(u32, u32, usize, usize, u8)>,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn read_meta(bytes: &[u8]) -> Option<Meta> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let copies = [first, second].into_iter().filter_map(read_copy);
    copies.max_by_key(|meta| meta.sequence)
}

fn read_copy(copy: &[u8]) -> Option<Meta> {
    if copy.get(4..8)? != b"AMET" || *copy.get(8)? != 1 || u32_at(copy, 0)? != crc32c::crc32c(copy.get(4..)?) {
        return None;
    }
    let count = u32_at(copy, 44)? as usize;
    let record = |number: usize| {
        let at = 72 + 20 * number;
        let (length, end) = (u32_at(copy, at + 8)? as usize, u32_at(copy, at + 12)? as usize);
        Some((u32_at(copy, at)?, u32_at(copy, at + 4)?, length, end, *copy.get(at + 16)?))
    };
    Some(Meta {
        sequence: u64_at(copy, 16)?,
        broker: copy.get(24..40)?.to_vec(),
        durable_through: u64_at(copy, 48)?,
        ends: [u64_at(copy, 56)?, u64_at(copy, 64)?],
        segments: (0..count).map(record).collect::<Option<_>>()?,
    })
}

/// One segment being read.
struct Reader<'a> {
    seed: u32,
    bytes: &'a [u8],
    number: u32,
    generation: u8,
}

struct Batch {
    length: usize,
    count: u32,
    durable_through: u64,
    ends: [u64; 2],
}

impl Reader<'_> {
    fn crc(&self, offset: usize, bytes: &[u8]) -> u32 {
        let seeded = crc32c::crc32c_append(self.seed, &(offset as u32).to_le_bytes());
        crc32c::crc32c_append(seeded, bytes)
    }

    fn batch(&self, at: usize) -> Option<Batch> {
        let header = self.bytes.get(at..at + 64)?;
        let right = header.get(4..8)? == b"ABAT"
            && u32_at(header, 0)? == self.crc(at, header.get(4..64)?)
            && u32_at(header, 12)? == self.number
            && *header.get(9)? == self.generation;
        right.then_some(Batch {
            length: u32_at(header, 16)? as usize,
            count: u32_at(header, 20)?,
            durable_through: u64_at(header, 40)?,
            ends: [u64_at(header, 48)?, u64_at(header, 56)?],
        })
    }

    fn entry(&self, at: usize, end: usize) -> Option<(Entry, usize)> {
        let header = self.bytes.get(at..at + 44)?;
        let (body_length, head_length) = (u32_at(header, 8)? as usize, u32_at(header, 12)? as usize);
        let whole = 44 + head_length + body_length;
        let bytes = self.bytes.get(at..at + whole).filter(|_| at + whole <= end)?;
        let (head, body) = bytes.get(44..)?.split_at(head_length);
        if u32_at(bytes, 0)? != self.crc(at, bytes.get(4..44 + head_length)?) || u32_at(bytes, 4)? != self.crc(at, body)
        {
            return None;
        }
        let entry = Entry {
            lsn: u64_at(bytes, 16)?,
            key: bytes.get(24..40)?.try_into().ok()?,
            kind: *bytes.get(40)?,
            head: head.to_vec(),
            body: body.to_vec(),
            generation: self.generation,
            position: u64::from(self.number) << 32 | at as u64,
            lost: false,
        };
        Some((entry, whole))
    }
}

impl Segments {
    /// Reads the disk; `None` when there is no journal on it yet, or its manifest is damaged.
    pub fn read(disk: &Disk) -> Option<Self> {
        let meta = read_meta(&disk.bytes("meta")?)?;
        let mut segments = Self { durable_through: meta.durable_through, ends: meta.ends, ..Self::default() };
        let mut walked = Vec::new();
        for (number, file, length, end, generation) in &meta.segments {
            let name = format!("segment-{file:08}");
            let Some(bytes) = disk.bytes(&name) else { continue };
            let mut seed = crc32c::crc32c(&meta.broker);
            seed = crc32c::crc32c_append(seed, &number.to_le_bytes());
            seed = crc32c::crc32c_append(seed, &[*generation]);
            let reader = Reader { seed, bytes: &bytes, number: *number, generation: *generation };
            let limit = if *end == 0 { *length } else { *end };
            let before = segments.entries.len();
            let whole = segments.walk(&reader, limit, &name);
            walked.push((*number, *generation, before..segments.entries.len(), whole));
        }
        segments.cut_tails(&walked);
        segments.entries.sort_by_key(|entry| entry.lsn);
        let (through, ends) = (segments.durable_through, segments.ends);
        segments.regions.retain(|(name, _, to, _)| {
            let of = meta.segments.iter().find(|(_, file, ..)| *name == format!("segment-{file:08}"));
            let Some((number, _, _, _, generation)) = of else { return false };
            let end = ends.get(usize::from(*generation)).copied().unwrap_or(0);
            through > 0 && (u64::from(*number) << 32 | *to as u64) <= end
        });
        Some(segments)
    }

    /// Reads a segment up to its first wrong byte; whether there is none before its end.
    fn walk(&mut self, reader: &Reader<'_>, limit: usize, name: &str) -> bool {
        let mut at = 64;
        while at + 64 <= limit
            && let Some(batch) = reader.batch(at)
        {
            self.durable_through = self.durable_through.max(batch.durable_through);
            for (end, found) in self.ends.iter_mut().zip(batch.ends) {
                *end = (*end).max(found);
            }
            let end = at + batch.length;
            let mut offset = at + 64;
            self.regions.push((name.to_owned(), at, at + 64, Region::Checked));
            for _ in 0..batch.count {
                let Some((entry, whole)) = reader.entry(offset, end) else { return false };
                let body = offset + 44 + entry.head.len();
                self.regions.push((name.to_owned(), offset, body, Region::Checked));
                if !entry.body.is_empty() {
                    self.regions.push((name.to_owned(), body, offset + whole, Region::Body));
                }
                self.entries.push(entry);
                offset += whole;
            }
            at = end;
        }
        at == limit
    }

    /// Of what is not durable in one log, everything behind the first wrong byte is left, also in later segments.
    fn cut_tails(&mut self, walked: &[(u32, u8, Range<usize>, bool)]) {
        let mut broken = [false; 2];
        for (number, generation, range, whole) in walked {
            let Some(broken) = broken.get_mut(usize::from(*generation)) else { continue };
            let end = self.ends.get(usize::from(*generation)).copied().unwrap_or(0);
            if *broken {
                self.entries[range.clone()].iter_mut().for_each(|entry| entry.lost = true);
            }
            // Segments before the durable end are judged by recovery itself.
            *broken |= !whole && u64::from(*number) >= end >> 32;
        }
    }

    /// What recovery must find: everything durable, and what follows it without a gap.
    pub fn recovered(&self) -> impl Iterator<Item = &Entry> {
        let mut next = self.durable_through + 1;
        let mut cut = false;
        self.entries.iter().filter(move |entry| {
            let end = self.ends.get(usize::from(entry.generation)).copied().unwrap_or(0);
            if entry.position < end {
                return true;
            }
            if entry.lost {
                return false;
            }
            if entry.lsn == next && !cut {
                next += 1;
                return true;
            }
            cut = true;
            false
        })
    }
}
