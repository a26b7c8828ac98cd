//! Steps through the batches and entries of one segment, verifying each before it is shown. Bodies are
//! jumped over, not read, unless they lie in the window anyway. It judges nothing: where the first wrong
//! byte means damage and where a torn tail is `recovery.rs`'s business.

use std::io;
use std::sync::Arc;

use crate::batch::{BATCH_HEADER_BYTES, BatchHeader};
use crate::entry::{ENTRY_HEADER_BYTES, EntryHeader, lengths};
use crate::position::{Generation, Lsn};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentFile};

/// Read at once when entries follow each other: full disk speed, small enough for the cache.
const WINDOW_MAX: usize = 256 << 10;
/// Read after a jump over a body: header, head, and the neighbours if they are small.
const WINDOW_MIN: usize = 16 << 10;

/// Bytes of a segment file around the present offset.
struct Window {
    segment: Arc<SegmentFile>,
    /// No byte at or behind it is read.
    limit: u32,
    bytes: Vec<u8>,
    start: u32,
    size: usize,
}

impl Window {
    /// `len` bytes at `offset`; `None` if they do not lie before the limit.
    fn read(&mut self, offset: u32, len: usize) -> io::Result<Option<&[u8]>> {
        let Some(end) = (offset as usize).checked_add(len).filter(|end| *end <= self.limit as usize) else {
            return Ok(None);
        };
        let window_end = self.start as usize + self.bytes.len();
        if offset < self.start || end > window_end {
            self.refill(offset, len, offset as usize > window_end)?;
        }
        let from = (offset - self.start) as usize;
        Ok(self.bytes.get(from..from + len))
    }

    fn refill(&mut self, offset: u32, len: usize, jumped: bool) -> io::Result<()> {
        self.size = if jumped { WINDOW_MIN } else { (self.size * 2).min(WINDOW_MAX) };
        let room = (self.limit - offset) as usize;
        self.bytes.resize(self.size.max(len).min(room), 0);
        self.start = offset;
        let read = self.segment.handle.read_at(&mut self.bytes, u64::from(offset))?;
        self.bytes.truncate(read);
        Ok(())
    }
}

/// The first thing that is not what was written, as far as the walk can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub offset: u32,
    pub what: &'static str,
}

/// What a step can fail with.
#[derive(Debug)]
pub(crate) enum Stop {
    Wrong(Wrong),
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A walk over one segment from its first batch up to a limit.
pub(crate) struct Walk {
    window: Window,
    /// Next batch, or next entry inside one.
    offset: u32,
    batch_end: u32,
    left: u32,
    last_lsn: Lsn,
    batch_last_lsn: Lsn,
    /// Offset and header of the entry the last step found.
    current: (u32, Option<EntryHeader>),
}

impl Walk {
    /// `from` is where a batch begins; nothing at or behind `limit` is looked at.
    pub fn new(segment: Arc<SegmentFile>, from: u32, limit: u32) -> Self {
        let limit = limit.min(segment.length);
        let window = Window { segment, limit, bytes: Vec::new(), start: 0, size: WINDOW_MIN };
        Self {
            window,
            offset: from,
            batch_end: from,
            left: 0,
            last_lsn: Lsn::ZERO,
            batch_last_lsn: Lsn::ZERO,
            current: (from, None),
        }
    }

    /// Whether the file begins as this segment must.
    pub fn header_is_right(&mut self, broker: &[u8; 16]) -> io::Result<bool> {
        let header = self.window.segment.header();
        let bytes = self.window.read(0, SEGMENT_HEADER_BYTES)?;
        Ok(bytes.is_some_and(|bytes| header.matches(broker, bytes)))
    }

    /// The batch header at the present offset; `None` at the limit. Call it only between batches.
    pub fn next_batch(&mut self) -> Result<Option<BatchHeader>, Stop> {
        assert_eq!(self.left, 0, "a batch is walked to its end first");
        let offset = self.batch_end;
        self.offset = offset;
        if offset >= self.window.limit {
            return Ok(None);
        }
        let wrong = Stop::Wrong(Wrong { offset, what: "no valid batch header" });
        let room = (self.window.limit - offset) as usize;
        let segment = Arc::clone(&self.window.segment);
        let Some(bytes) = self.window.read(offset, BATCH_HEADER_BYTES)? else { return Err(wrong) };
        let header = BatchHeader::decode(segment.seed, offset, bytes, room)
            .filter(|h| h.segment == segment.number && h.generation == segment.generation);
        let Some(header) = header else { return Err(wrong) };
        self.offset = offset + BATCH_HEADER_BYTES as u32;
        self.batch_end = offset + header.length;
        self.left = header.count;
        self.batch_last_lsn = header.last_lsn;
        Ok(Some(header))
    }

    /// Goes over the entries of the present batch without looking at them.
    pub fn skip_batch(&mut self) {
        self.left = 0;
    }

    /// The next entry of the present batch; `None` behind its last.
    pub fn next_entry(&mut self) -> Result<Option<(u32, EntryHeader)>, Stop> {
        if self.left == 0 {
            return Ok(None);
        }
        let offset = self.offset;
        let wrong = |what| Stop::Wrong(Wrong { offset, what });
        let room = self.batch_end.saturating_sub(offset) as usize;
        let seed = self.window.segment.seed;
        let Some(bytes) = self.window.read(offset, ENTRY_HEADER_BYTES)? else {
            return Err(wrong("an entry ends behind its segment"));
        };
        let Some(lengths) = lengths(bytes, room) else { return Err(wrong("an entry with impossible lengths")) };
        let Some(bytes) = self.window.read(offset, ENTRY_HEADER_BYTES + lengths.head)? else {
            return Err(wrong("an entry ends behind its segment"));
        };
        let Some((header, _)) = EntryHeader::decode(seed, offset, bytes, room) else {
            return Err(wrong("an entry fails its checksum"));
        };
        if header.lsn <= self.last_lsn || header.lsn > self.batch_last_lsn {
            return Err(wrong("an entry out of order"));
        }
        self.last_lsn = header.lsn;
        self.offset = offset + header.total() as u32;
        self.left -= 1;
        self.current = (offset, Some(header));
        Ok(Some((offset, header)))
    }

    /// The head of the entry that `next_entry` just gave.
    pub fn head(&mut self) -> io::Result<&[u8]> {
        let (offset, header) = self.current;
        let len = header.map_or(0, |header| header.head_len as usize);
        let bytes = self.window.read(offset, ENTRY_HEADER_BYTES + len)?;
        Ok(bytes.and_then(|bytes| bytes.get(ENTRY_HEADER_BYTES..)).unwrap_or_default())
    }

    /// The body of the entry that `next_entry` just gave; `None` if its checksum does not match.
    pub fn body(&mut self) -> io::Result<Option<&[u8]>> {
        let (offset, header) = self.current;
        let Some(header) = header else { return Ok(None) };
        let seed = self.window.segment.seed;
        let at = header.total() - header.body_len as usize;
        let bytes = self.window.read(offset, header.total())?;
        let body = bytes.and_then(|bytes| bytes.get(at..));
        Ok(body.filter(|body| header.body_is_whole(seed, offset, body)))
    }

    /// Where the walk stands.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    pub fn generation(&self) -> Generation {
        self.window.segment.generation
    }

    pub fn number(&self) -> u32 {
        self.window.segment.number
    }
}
