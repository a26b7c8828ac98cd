//! Hands the durable entries of both logs to the owner in lsn order, verifying every byte that it shows.

use std::io;
use std::sync::Arc;

use crate::entry::{EntryHeader, Recovered, Role};
use crate::error::OpenError;
use crate::layout::{Span, damage, io_error};
use crate::position::{Generation, Lsn, Position};
use crate::segment::{SegmentFile, Tally, file_name};
use crate::storage::Storage;
use crate::walk::{Stop, Walk};

/// What one segment holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub segment: u32,
    pub first_lsn: Option<Lsn>,
    pub bases: Tally,
    pub pinned: Tally,
}

impl Count {
    pub fn new(segment: u32) -> Self {
        Self { segment, first_lsn: None, bases: Tally::default(), pinned: Tally::default() }
    }

    pub fn add(&mut self, header: &EntryHeader) {
        self.first_lsn.get_or_insert(header.lsn);
        match header.role {
            Role::Base => self.bases.add(header.total() as u64),
            Role::PinnedDelta => self.pinned.add(header.total() as u64),
            Role::Delta => {}
        }
    }
}

/// A walk over the durable spans of one log.
struct Cursor<'a> {
    storage: &'a dyn Storage,
    broker: [u8; 16],
    spans: std::slice::Iter<'a, Span>,
    walk: Option<(Walk, &'a Span)>,
    current: Option<(u32, EntryHeader)>,
    last: Lsn,
    counts: Vec<Count>,
}

impl<'a> Cursor<'a> {
    fn new(storage: &'a dyn Storage, broker: [u8; 16], spans: &'a [Span]) -> Result<Self, OpenError> {
        let spans = spans.iter();
        let mut cursor =
            Self { storage, broker, spans, walk: None, current: None, last: Lsn::ZERO, counts: Vec::new() };
        cursor.advance()?;
        Ok(cursor)
    }

    /// Makes the next entry the current one; below the watermark anything wrong is damage.
    fn advance(&mut self) -> Result<(), OpenError> {
        loop {
            let Some((walk, span)) = &mut self.walk else {
                let Some(span) = self.spans.next() else {
                    self.current = None;
                    return Ok(());
                };
                self.walk = Some((start(self.storage, &self.broker, span)?, span));
                self.counts.push(Count::new(span.file.number));
                continue;
            };
            let stopped = |stop| stop_error(self.storage, span, stop);
            if let Some((offset, header)) = walk.next_entry().map_err(stopped)? {
                if header.lsn <= self.last {
                    return Err(damage(self.storage, &span.file, offset, span.to, "entries out of order"));
                }
                self.last = header.lsn;
                self.current = Some((offset, header));
                return Ok(());
            }
            let stopped = |stop| stop_error(self.storage, span, stop);
            if walk.next_batch().map_err(stopped)?.is_none() {
                self.walk = None;
            }
        }
    }

    fn show(&mut self, visit: &mut dyn FnMut(Recovered<'_>)) -> Result<(), OpenError> {
        let Some(((walk, span), (offset, header))) = self.walk.as_mut().zip(self.current) else { return Ok(()) };
        if let Some(count) = self.counts.last_mut() {
            count.add(&header);
        }
        let position = Position::new(walk.number(), offset);
        let generation = walk.generation();
        let head = walk.head().map_err(|error| stop_error(self.storage, span, Stop::Io(error)))?;
        visit(recovered(position, generation, &header, head));
        Ok(())
    }

    fn lsn(&self) -> Option<Lsn> {
        self.current.map(|(_, header)| header.lsn)
    }
}

pub(crate) fn recovered<'a>(
    position: Position,
    generation: Generation,
    header: &EntryHeader,
    head: &'a [u8],
) -> Recovered<'a> {
    Recovered {
        position,
        lsn: header.lsn,
        generation,
        role: header.role,
        key: header.key,
        kind: header.kind,
        head,
        body_len: header.body_len,
    }
}

fn start(storage: &dyn Storage, broker: &[u8; 16], span: &Span) -> Result<Walk, OpenError> {
    let mut walk = Walk::new(Arc::clone(&span.file), span.from, span.to);
    if walk.header_is_right(broker).map_err(|error| stop_error(storage, span, Stop::Io(error)))? {
        Ok(walk)
    } else {
        Err(damage(storage, &span.file, 0, span.from, "it is not the segment that belongs here"))
    }
}

/// Where the walk stops, everything up to the durable end is unreachable, and named so.
fn stop_error(storage: &dyn Storage, span: &Span, stop: Stop) -> OpenError {
    match stop {
        Stop::Wrong(wrong) => damage(storage, &span.file, wrong.offset, span.to, wrong.what),
        Stop::Io(error) => read_error(storage, &span.file, error),
    }
}

pub(crate) fn read_error(storage: &dyn Storage, file: &SegmentFile, error: io::Error) -> OpenError {
    io_error("read", storage.path_of(&file_name(file.file)), error)
}

/// Visits all durable entries; returns what every segment holds.
pub(crate) fn replay(
    storage: &dyn Storage,
    broker: [u8; 16],
    young: &[Span],
    cold: &[Span],
    visit: &mut dyn FnMut(Recovered<'_>),
) -> Result<Vec<Count>, OpenError> {
    let mut young = Cursor::new(storage, broker, young)?;
    let mut cold = Cursor::new(storage, broker, cold)?;
    loop {
        let cursor = match (young.lsn(), cold.lsn()) {
            (None, None) => break,
            (Some(_), None) => &mut young,
            (None, Some(_)) => &mut cold,
            (Some(a), Some(b)) => {
                if a < b {
                    &mut young
                } else {
                    &mut cold
                }
            }
        };
        cursor.show(visit)?;
        cursor.advance()?;
    }
    young.counts.append(&mut cold.counts);
    Ok(young.counts)
}
