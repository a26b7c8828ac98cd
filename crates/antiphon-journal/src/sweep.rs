//! Giving segments back: what lives in each, which one is worth emptying, and when its file is free.
//! Which entries survive a sweep is the owner's decision.

use crate::planted::planted;
use std::sync::Arc;

use crate::entry::Role;
use crate::error::ReadError;
use crate::index::{INDEX_HEADER_BYTES, IndexRecord, decode_index, index_len};
use crate::journal::Journal;
use crate::position::{Generation, Lsn, Position};
use crate::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentFile, SegmentState};
use crate::space::Spare;
use crate::walk::{Stop, Walk};

/// A sealed segment is worth emptying when less than one in this many of its bytes live.
const DEAD_RATIO: u64 = 2;

/// One entry of a segment that is being emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Where it is; read it there to append it anew.
    pub position: Position,
    /// Its number.
    pub lsn: Lsn,
    /// Its key.
    pub key: [u8; 16],
    /// Its kind.
    pub kind: u8,
    /// Its role.
    pub role: Role,
}

/// A sealed segment offered for emptying. Append its survivors to the cold log, then hand it to
/// [`Journal::retire`]. Dropped instead, the segment stays as it is until the journal is opened anew.
pub struct Sweep {
    segment: Arc<SegmentFile>,
    end: u32,
    entries: Option<std::vec::IntoIter<IndexRecord>>,
}

impl Sweep {
    /// Which log the segment belongs to.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.segment.generation
    }

    /// Number of the segment.
    #[must_use]
    pub fn segment(&self) -> u32 {
        self.segment.number
    }

    /// The next entries, at most `limit`, in lsn order; empty at the end. The first call reads the index (or,
    /// if it has none, walks the segment), no bodies.
    ///
    /// # Errors
    /// `Damaged` or `Io` if the segment cannot be read; it must then not be retired.
    pub fn next_batch(&mut self, limit: usize) -> Result<Vec<Swept>, ReadError> {
        if self.entries.is_none() {
            self.entries = Some(self.load()?.into_iter());
        }
        let number = self.segment.number;
        let entries = self.entries.iter_mut().flatten().take(limit);
        Ok(entries.map(|record| swept(number, &record)).collect())
    }

    fn load(&self) -> Result<Vec<IndexRecord>, ReadError> {
        match read_index(&self.segment, self.end) {
            Some(records) => Ok(records),
            None => walk_records(&self.segment, self.end),
        }
    }

    fn is_finished(&self) -> bool {
        self.entries.as_ref().is_some_and(|entries| entries.len() == 0)
    }
}

fn swept(segment: u32, record: &IndexRecord) -> Swept {
    let position = Position::new(segment, record.offset);
    Swept { position, lsn: record.lsn, key: record.key, kind: record.kind, role: record.role }
}

/// The index behind `end`; `None` if there is none, which is no error: a segment that recovery closed has none.
pub(crate) fn read_index(segment: &SegmentFile, end: u32) -> Option<Vec<IndexRecord>> {
    let mut header = [0; INDEX_HEADER_BYTES];
    let room = segment.length.checked_sub(end)? as usize;
    if segment.handle.read_at(&mut header, u64::from(end)).ok()? != header.len() {
        return None;
    }
    let mut bytes = vec![0; index_len(&header, room)?];
    let read = segment.handle.read_at(&mut bytes, u64::from(end)).ok()?;
    (read == bytes.len()).then(|| decode_index(segment.seed, end, &bytes))?
}

fn walk_records(segment: &Arc<SegmentFile>, end: u32) -> Result<Vec<IndexRecord>, ReadError> {
    let mut walk = Walk::new(Arc::clone(segment), SEGMENT_HEADER_BYTES as u32, end);
    let mut records = Vec::new();
    let mut walk_all = || -> Result<(), Stop> {
        while walk.next_batch()?.is_some() {
            while let Some((offset, header)) = walk.next_entry()? {
                let (key, lsn, kind, role) = (header.key, header.lsn, header.kind, header.role);
                records.push(IndexRecord { key, offset, lsn, kind, role });
            }
        }
        Ok(())
    };
    match walk_all() {
        Ok(()) => Ok(records),
        Err(Stop::Wrong(wrong)) => Err(ReadError::Damaged(Position::new(segment.number, wrong.offset))),
        Err(Stop::Io(source)) => Err(ReadError::Io { position: Position::new(segment.number, walk.offset()), source }),
    }
}

impl Journal {
    /// Says that a recovered base is live, once for each. Call it before [`Journal::start_recycling`].
    ///
    /// # Panics
    /// If there are more of them than the segment has bases.
    pub fn retain(&mut self, position: Position) {
        let segment = self.segments.get_mut(&position.segment()).expect("a recovered entry's segment is there");
        segment.bases.live += 1;
        assert!(segment.bases.live <= segment.bases.count, "a base is retained once");
    }

    /// Says that a recovered delta of a cold base is still needed: its segment is swept before it is recycled.
    /// Once for each, before [`Journal::start_recycling`].
    ///
    /// # Panics
    /// If there are more of them than the segment has pinned deltas.
    pub fn pin(&mut self, position: Position) {
        let segment = self.segments.get_mut(&position.segment()).expect("a recovered entry's segment is there");
        segment.pinned.live += 1;
        assert!(segment.pinned.live <= segment.pinned.count, "a pinned delta is pinned once");
    }

    /// Says that `retain` and `pin` were called for everything that lives. Before this no segment is recycled.
    pub fn start_recycling(&mut self) {
        self.recycling = true;
        self.retire_dead();
    }

    /// Says that a base is no longer needed: superseded by a later one, or forgotten. Once for each base. The
    /// entry that supersedes it must have been appended before; its own durability is waited for.
    ///
    /// # Panics
    /// If more bases of the segment are released than live there.
    pub fn release(&mut self, position: Position) {
        // An owner may release what it had in a segment that it has emptied and retired.
        let Some(segment) = self.segments.get_mut(&position.segment()) else { return };
        if matches!(segment.state, SegmentState::Retiring { .. }) {
            return;
        }
        assert!(segment.bases.live > 0, "a base is released once");
        segment.bases.live -= 1;
        if segment.is_dead() {
            self.retire_dead();
        }
    }

    /// Whether the segment of this position still exists. An entry that says "forget this base" is needed while
    /// any segment exists that held a base of the same key: recovery would show that base again.
    #[must_use]
    pub fn holds(&self, position: Position) -> bool {
        self.segments.contains_key(&position.segment())
    }

    /// No entry of this log has a lower number; `None` when the log has no segment.
    #[must_use]
    pub fn oldest(&self, generation: Generation) -> Option<Lsn> {
        let segments = self.segments.values().filter(|segment| segment.file.generation == generation);
        segments.map(|segment| segment.first_lsn).min()
    }

    /// A sealed segment worth emptying now, if any: the oldest young one when the young log is over its budget
    /// or mostly dead, or a cold one that is more than half dead. Dead segments need no sweep and are not offered.
    pub fn sweep(&mut self) -> Option<Sweep> {
        if !self.recycling || self.poisoned.is_some() {
            return None;
        }
        self.retire_dead();
        let number = self.young_to_sweep().or_else(|| self.cold_to_sweep())?;
        let segment = self.segments.get_mut(&number).expect("it was just chosen");
        segment.state = SegmentState::Sweeping;
        Some(Sweep { segment: Arc::clone(&segment.file), end: segment.end, entries: None })
    }

    /// Takes back a sweep that could not be finished: the segment stays, and is offered again.
    ///
    /// # Panics
    /// If the sweep is not of this journal.
    pub fn put_off(&mut self, sweep: Sweep) {
        let segment = self.segments.get_mut(&sweep.segment.number).expect("a sweeping segment stays");
        assert_eq!(segment.state, SegmentState::Sweeping, "a sweep is put off once");
        segment.state = SegmentState::Sealed;
    }

    /// Gives a swept segment back. Its file is used again once everything appended so far is durable, so the
    /// survivors need not be committed before.
    ///
    /// # Panics
    /// If the sweep was not read to its end: what was not looked at would be lost.
    pub fn retire(&mut self, sweep: Sweep) {
        assert!(sweep.is_finished(), "a sweep is read to its end before its segment is retired");
        let after = self.tip;
        let segment = self.segments.get_mut(&sweep.segment.number).expect("a sweeping segment stays");
        assert_eq!(segment.state, SegmentState::Sweeping, "a sweep is retired once");
        segment.state = SegmentState::Retiring { after };
        self.retire_dead();
    }

    fn sealed_young(&self) -> impl Iterator<Item = (&u32, &Segment)> {
        let is_sealed = |s: &Segment| matches!(s.state, SegmentState::Sealed | SegmentState::Sweeping);
        self.segments.iter().filter(move |(_, s)| s.file.generation == Generation::Young && is_sealed(s))
    }

    /// The oldest young segment, and only that: a delta must not outlive the base it adds to.
    fn young_to_sweep(&self) -> Option<u32> {
        let (number, oldest) = self.sealed_young().next()?;
        if oldest.state != SegmentState::Sealed {
            return None;
        }
        // Segments that a restart closed early are full of nothing: what lives is held against what was written.
        let (count, bytes, used, live) =
            self.sealed_young().fold((0, 0, 0, 0), |(count, bytes, used, live), (_, s)| {
                (count + 1, bytes + u64::from(s.file.length), used + u64::from(s.end), live + s.live_bytes())
            });
        let mostly_dead = count >= 2 && live < used / DEAD_RATIO / 2;
        (bytes > self.options.young_bytes || mostly_dead).then_some(*number)
    }

    fn cold_to_sweep(&self) -> Option<u32> {
        let sealed = |s: &Segment| s.file.generation == Generation::Cold && s.state == SegmentState::Sealed;
        let cold = self.segments.iter().filter(|(_, s)| sealed(s));
        cold.filter(|(_, s)| s.live_bytes() < u64::from(s.end) / DEAD_RATIO).map(|(number, _)| *number).next()
    }

    /// Marks what is dead: young segments from the oldest on, cold ones anywhere.
    pub(crate) fn retire_dead(&mut self) {
        if !self.recycling {
            return;
        }
        let after = self.tip;
        for segment in self.segments.values_mut().filter(|s| s.file.generation == Generation::Young) {
            if matches!(segment.state, SegmentState::Retiring { .. }) {
                continue;
            }
            if !segment.is_dead() {
                break;
            }
            segment.state = SegmentState::Retiring { after };
        }
        for segment in self.segments.values_mut() {
            if segment.file.generation == Generation::Cold && segment.is_dead() {
                segment.state = SegmentState::Retiring { after };
            }
        }
    }

    /// Takes the segments whose end is decided and durable out of the journal; the next manifest leaves them out.
    pub(crate) fn take_retired(&mut self) -> Vec<Arc<SegmentFile>> {
        let durable = self.durable();
        let is_ready = |s: &Segment| matches!(s.state, SegmentState::Retiring { after } if after <= durable || planted!("segment recycled before its copies are durable"));
        let retired: Vec<_> = self.segments.extract_if(.., |_, s| is_ready(s)).map(|(_, s)| s.file).collect();
        self.manifest_is_stale |= !retired.is_empty();
        retired
    }

    /// The manifest without this segment is durable: its file is free.
    pub(crate) fn recycle(&mut self, segment: &Arc<SegmentFile>) {
        self.reader.remove(segment.number);
        self.counters.recycled += 1;
        self.space.give(Spare { file: segment.file, length: segment.length, handle: Arc::clone(&segment.handle) });
    }
}
