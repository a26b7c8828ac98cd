//! The torn tail: the entries of the last commit, of which a crash may have kept any part. It keeps the
//! longest gapless run after the watermark and writes it anew; the rest was never acknowledged.

use crate::planted::planted;
use std::sync::Arc;

use crate::batch::{BATCH_ALIGN, BATCH_HEADER_BYTES, BatchHeader};
use crate::entry::{self, Entry, EntryHeader, Recovered};
use crate::error::OpenError;
use crate::index::{Index, IndexRecord};
use crate::layout::{Span, Spans};
use crate::position::{Generation, Lsn, Position, Watermark};
use crate::replay::{Count, read_error, recovered};
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
            let follows = entry.header.lsn == expected || planted!("torn tail kept beyond a gap");
            expected = entry.header.lsn.next();
            follows
        });
        let kept = gapless.count();
        self.entries.truncate(kept);
        self.cut = (found - kept) as u64;
    }

    /// Those of one log: they are written anew in the log they were in.
    pub fn of(&self, generation: Generation) -> impl Iterator<Item = &TailEntry> {
        self.entries.iter().filter(move |entry| entry.generation == generation)
    }
}

/// The tail of one log in its new segment: the segment's header, and one batch with all entries.
pub(crate) struct Rewritten {
    pub segment: Arc<SegmentFile>,
    pub buffer: Vec<u8>,
    pub index: Index,
    pub count: Count,
    pub positions: std::vec::IntoIter<Position>,
    pub end: u32,
    lsns: Option<(Lsn, Lsn)>,
}

impl Rewritten {
    pub fn new<'a>(segment: Arc<SegmentFile>, broker: &[u8; 16], entries: impl Iterator<Item = &'a TailEntry>) -> Self {
        let mut buffer = segment.header().encode(broker).to_vec();
        buffer.resize(SEGMENT_HEADER_BYTES + BATCH_HEADER_BYTES, 0);
        let (mut index, mut count, mut lsns) = (Index::default(), Count::new(segment.number), None);
        let mut positions = Vec::new();
        for tail in entries {
            let offset = buffer.len() as u32;
            let EntryHeader { lsn, kind, key, role, .. } = tail.header;
            entry::encode(segment.seed, offset, lsn, role, &tail.entry(&[&tail.body]), &mut buffer);
            index.push(&IndexRecord { key, offset, lsn, kind, role });
            positions.push(Position::new(segment.number, offset));
            count.add(&tail.header);
            lsns = Some((lsns.map_or(lsn, |(first, _)| first), lsn));
        }
        buffer.resize(buffer.len().next_multiple_of(BATCH_ALIGN), 0);
        let end = buffer.len() as u32;
        Self { segment, buffer, index, count, positions: positions.into_iter(), end, lsns }
    }

    /// Fills in the batch header. The segment is fsynced before any manifest lists it, so the watermark may
    /// cover the batch itself.
    pub fn seal_with(&mut self, watermark: Watermark) {
        let through = watermark.durable_through;
        let (first_lsn, last_lsn) = self.lsns.unwrap_or((through.next(), through));
        let header = BatchHeader {
            generation: self.segment.generation,
            segment: self.segment.number,
            length: self.end - SEGMENT_HEADER_BYTES as u32,
            count: self.positions.len() as u32,
            first_lsn,
            last_lsn,
            watermark,
        };
        let bytes = header.encode(self.segment.seed, SEGMENT_HEADER_BYTES as u32);
        let slot = self.buffer.get_mut(SEGMENT_HEADER_BYTES..SEGMENT_HEADER_BYTES + BATCH_HEADER_BYTES);
        slot.expect("it was made with room for both headers").copy_from_slice(&bytes);
    }

    pub fn end_position(&self) -> u64 {
        Position::new(self.segment.number, self.end).as_u64()
    }
}
