//! Rolling: seals the active segment of a generation and begins the next one. Also the manifest, which is
//! the record of it. Where free files come from is `space.rs`'s business.

use crate::planted::planted;
use std::io;
use std::sync::Arc;

use crate::batch::{BATCH_ALIGN, BATCH_HEADER_BYTES};
use crate::checksum::Seed;
use crate::entry::Reserve;
use crate::error::AppendError;
use crate::index::{INDEX_HEADER_BYTES, INDEX_RECORD_BYTES, Index};
use crate::journal::{Active, Journal};
use crate::manifest::SegmentRecord;
use crate::position::{Generation, Position};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentFile, SegmentState};
use crate::space::{NoSpare, Spare};
use crate::storage::File;

/// Bytes that a segment with one entry of `total` bytes needs.
pub(crate) fn segment_bytes_for(total: usize) -> usize {
    let entries = SEGMENT_HEADER_BYTES + BATCH_HEADER_BYTES + total + BATCH_ALIGN;
    (entries + BATCH_HEADER_BYTES + INDEX_HEADER_BYTES + INDEX_RECORD_BYTES).next_multiple_of(BATCH_ALIGN)
}

impl Journal {
    /// Makes a segment active that has room for an entry of `total` bytes.
    pub(crate) fn roll(&mut self, generation: Generation, total: usize, reserve: Reserve) -> Result<(), AppendError> {
        let spare = self.take_spare(total, reserve)?;
        self.seal(generation);
        let number = self.manifest.next_segment;
        self.manifest.next_segment = number.checked_add(1).expect("2^32 segments are never reached");
        let file = SegmentFile {
            number,
            generation,
            file: spare.file,
            length: spare.length,
            seed: Seed::new(&self.manifest.broker, number, generation),
            handle: spare.handle,
        };
        self.install(Arc::new(file));
        *self.active.of_mut(generation) = Some(Active { number, tail: 0, index: Index::default() });
        self.manifest_is_stale = true;
        self.counters.rolls += 1;
        // What was released while its segment was active may be dead since it was sealed.
        self.retire_dead();
        Ok(())
    }

    fn take_spare(&mut self, total: usize, reserve: Reserve) -> Result<Spare, AppendError> {
        if self.segments.len() >= self.manifest.segments_max() {
            return Err(AppendError::Full { free: 0, needed: u64::from(self.options.segment_bytes) });
        }
        let floor = if reserve == Reserve::No { self.options.reserve } else { 0 };
        let needed = segment_bytes_for(total);
        let spare = if needed <= self.options.segment_bytes as usize {
            self.space.take(floor)
        } else {
            self.take_large(needed, floor)
        };
        spare.map_err(|NoSpare { free, needed }| AppendError::Full { free, needed })
    }

    /// A segment for one large entry is made on the spot. New work must leave the reserve whole, so that the
    /// disk is not filled by large entries what small ones may not do.
    fn take_large(&mut self, needed: usize, floor: usize) -> Result<Spare, NoSpare> {
        let refused = |free| NoSpare { free, needed: needed as u64 };
        // A journal that was just opened is still making its reserve: that is no lack of room.
        self.space.wait_for(floor).map_err(|_| refused(0))?;
        let length = u32::try_from(needed).expect("heads and bodies are bounded");
        self.space.make(length).map_err(|_: io::Error| refused(self.storage.free_bytes().unwrap_or(0)))
    }

    /// Ends the active segment behind its last entry and writes its index there, in the pending batch.
    fn seal(&mut self, generation: Generation) {
        let empty = self.active.of(generation).as_ref().is_none_or(|active| active.tail == 0);
        if self.open_part.of(generation).is_none()
            && self.active.of(generation).is_some()
            && !(empty && planted!("empty segment without an end"))
        {
            // The index needs a part to travel in; an empty batch carries the newest watermark as well. A segment that
            // took no entry needs an end too: without one it would be listed as active.
            self.open_part(generation, self.tip.next());
        }
        self.close_part(generation);
        let Some(active) = self.active.of_mut(generation).take() else { return };
        let segment = self.segments.get_mut(&active.number).expect("the active segment is known");
        segment.state = SegmentState::Sealed;
        segment.end = active.tail;
        *self.sealed_end.of_mut(generation) = Position::new(active.number, active.tail).as_u64();
        let part = self.pending.iter_mut().find(|part| part.segment.number == active.number);
        if let Some(part) = part {
            part.index_at = Some(part.buffer.len());
            active.index.encode(segment.file.seed, active.tail, &mut part.buffer);
        }
    }

    /// The manifest of the segments there are now, and the file to write it to.
    pub(crate) fn next_manifest(&mut self) -> (Arc<dyn File>, Vec<u8>) {
        self.manifest_is_stale = false;
        self.manifest.sequence += 1;
        self.manifest.watermark = self.watermark;
        self.manifest.segments = self.segments.values().map(|segment| record(&segment.file, segment.end)).collect();
        (Arc::clone(&self.meta), self.manifest.encode())
    }
}

pub(crate) fn record(file: &SegmentFile, end: u32) -> SegmentRecord {
    SegmentRecord { number: file.number, file: file.file, length: file.length, end, generation: file.generation }
}
