//! The torn tail: the entries of the last commit, of which a crash may have kept any part. It keeps the
//! longest gapless run after the watermark and writes it anew; the rest was never acknowledged.

use std::sync::Arc;

use crate::batch::{BATCH_ALIGN, BATCH_HEADER_BYTES, BatchHeader};
use crate::entry::{self, Entry, EntryHeader, Recovered};
use crate::error::OpenError;
use crate::index::{Index, IndexRecord};
use crate::layout::{Span, Spans};
use crate::position::{Generation, Lsn, Position, Watermark};
use crate::replay::{read_error, recovered};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentFile};
use crate::storage::Storage;
use crate::walk::{Stop, Walk};

/// An entry of the last commit, whole and verified.
pub(crate) struct TailEntry {
    /// Where it was found.
    pub position: Position,
    pub generation: Generation,
    pub header: EntryHeader,
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

impl TailEntry {
    fn entry<'a>(&'a self, body: &'a [&'a [u8]]) -> Entry<'a> {
        Entry { key: self.header.key, kind: self.header.kind, head: &self.head, body }
    }

    pub fn recovered(&self, position: Position, generation: Generation) -> Recovered<'_> {
        recovered(position, generation, &self.header, &self.head)
    }
}

/// What was found behind the watermark.
pub(crate) struct Tail {
    /// Gapless, beginning right after the watermark.
    pub entries: Vec<TailEntry>,
    /// Highest number that was seen in use, kept or not.
    pub last_lsn: Lsn,
    /// Whole entries that were not kept, because one before them was not whole.
    pub cut: u64,
}

impl Tail {
    /// Reads the tails of both logs. Of each, everything behind the first wrong byte is left.
    pub fn read(
        storage: &dyn Storage,
        broker: &[u8; 16],
        spans: &[Spans],
        watermark: &Watermark,
    ) -> Result<Self, OpenError> {
        let mut tail = Self { entries: Vec::new(), last_lsn: watermark.durable_through, cut: 0 };
        for spans in spans {
            for span in &spans.tail {
                match tail.read_span(broker, span) {
                    Ok(()) => {}
                    Err(Stop::Wrong(_)) => break,
                    Err(Stop::Io(error)) => return Err(read_error(storage, &span.file, error)),
                }
            }
        }
        tail.cut_at_gap(watermark.durable_through);
        Ok(tail)
    }

    fn read_span(&mut self, broker: &[u8; 16], span: &Span) -> Result<(), Stop> {
        let mut walk = Walk::new(Arc::clone(&span.file), span.from, span.to);
        let wrong = |offset| Stop::Wrong(crate::walk::Wrong { offset, what: "torn" });
        if !walk.header_is_right(broker)? {
            return Err(wrong(0));
        }
        while let Some(batch) = walk.next_batch()? {
            self.last_lsn = self.last_lsn.max(batch.last_lsn);
            while let Some((offset, header)) = walk.next_entry()? {
                let Some(body) = walk.body()?.map(<[u8]>::to_vec) else { return Err(wrong(offset)) };
                let head = walk.head()?.to_vec();
                let position = Position::new(walk.number(), offset);
                self.entries.push(TailEntry { position, generation: walk.generation(), header, head, body });
            }
        }
        Ok(())
    }

    /// The log is one sequence over both generations: nothing behind a missing number is kept.
    fn cut_at_gap(&mut self, durable_through: Lsn) {
        self.entries.sort_by_key(|entry| entry.header.lsn);
        let found = self.entries.len();
        let mut expected = durable_through.next();
        let gapless = self.entries.iter().take_while(|entry| {
            let follows = entry.header.lsn == expected;
            expected = entry.header.lsn.next();
            follows
        });
        let kept = gapless.count();
        self.entries.truncate(kept);
        self.cut = (found - kept) as u64;
    }

    /// Bytes of a segment file that holds header and batch.
    pub fn entry_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.header.total()).sum()
    }

    /// The first bytes of the new segment: its header and one batch with all entries. The batch is written
    /// and fsynced before any manifest lists the segment, so it vouches for itself.
    pub fn encode(&self, segment: &SegmentFile, broker: &[u8; 16], cold_end: u64) -> Rewritten {
        let mut buffer = segment.header().encode(broker).to_vec();
        buffer.resize(SEGMENT_HEADER_BYTES + BATCH_HEADER_BYTES, 0);
        let mut index = Index::default();
        let mut positions = Vec::with_capacity(self.entries.len());
        for tail in &self.entries {
            let offset = buffer.len() as u32;
            let (lsn, kind, key, role) = (tail.header.lsn, tail.header.kind, tail.header.key, tail.header.role);
            entry::encode(segment.seed, offset, lsn, role, &tail.entry(&[&tail.body]), &mut buffer);
            index.push(&IndexRecord { key, offset, lsn, kind, role });
            positions.push(Position::new(segment.number, offset));
        }
        buffer.resize(buffer.len().next_multiple_of(BATCH_ALIGN), 0);
        let end = buffer.len() as u32;
        let mut watermark = Watermark { durable_through: self.last_lsn, ends: Default::default() };
        watermark.ends.young = Position::new(segment.number, end).as_u64();
        watermark.ends.cold = cold_end;
        let header = self.batch_header(segment, end, watermark).encode(segment.seed, SEGMENT_HEADER_BYTES as u32);
        let slot = buffer.get_mut(SEGMENT_HEADER_BYTES..SEGMENT_HEADER_BYTES + BATCH_HEADER_BYTES);
        slot.expect("it was made with room for both headers").copy_from_slice(&header);
        Rewritten { buffer, index, positions, end, watermark }
    }

    fn batch_header(&self, segment: &SegmentFile, end: u32, watermark: Watermark) -> BatchHeader {
        BatchHeader {
            generation: segment.generation,
            segment: segment.number,
            length: end - SEGMENT_HEADER_BYTES as u32,
            count: self.entries.len() as u32,
            first_lsn: self.entries.first().map_or(self.last_lsn.next(), |entry| entry.header.lsn),
            last_lsn: self.entries.last().map_or(self.last_lsn, |entry| entry.header.lsn),
            watermark,
        }
    }
}

/// The tail in its new place.
pub(crate) struct Rewritten {
    pub buffer: Vec<u8>,
    pub index: Index,
    pub positions: Vec<Position>,
    pub end: u32,
    pub watermark: Watermark,
}
