//! The running journal: appending, committing, and what is pending or on its way to disk.
//! Rolling to a new segment is in `roll.rs`, giving segments back in `sweep.rs`, opening in `recovery.rs`.

use crate::planted::planted;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{BATCH_ALIGN, BATCH_HEADER_BYTES, BatchHeader};
use crate::entry::{self, BODY_BYTES_MAX, ENTRY_HEADER_BYTES, Entry, EntryData, HEAD_BYTES_MAX, Reserve, Role};
use crate::error::{AppendError, Poisoned, ReadError};
use crate::index::{Index, IndexRecord};
use crate::manifest::Manifest;
use crate::options::Options;
use crate::position::{Both, Generation, Lsn, Position, Watermark};
use crate::reader::{Reader, decode_entry};
use crate::segment::{Segment, SegmentFile, SegmentState};
use crate::space::Space;
use crate::stats::Counters;
use crate::storage::{File, Lock, Storage};
use crate::writer::{Commit, Cost, Part, Writer};

/// Buffers above this size are given back to the system after a commit; one large burst must not be kept.
const BUFFER_KEPT_MAX: usize = 8 << 20;
/// Buffers kept for the next batches: two generations, one batch filling while one is written.
const BUFFERS_KEPT: usize = 4;
/// Weight of the newest fsync in the smoothed time: one in eight follows a change within some tens of commits.
const SYNC_WEIGHT: u32 = 8;

/// The segment a generation appends to.
pub(crate) struct Active {
    pub number: u32,
    /// Next free byte, behind everything pending.
    pub tail: u32,
    pub index: Index,
}

/// An open journal. Owned by one thread; commits and new files are made on threads of its own.
///
/// Dropping it writes nothing: what was not committed is gone, as in a crash.
pub struct Journal {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) options: Options,
    pub(crate) manifest: Manifest,
    pub(crate) meta: Arc<dyn File>,
    /// A segment came or went since the manifest was written.
    pub(crate) manifest_is_stale: bool,
    pub(crate) segments: BTreeMap<u32, Segment>,
    pub(crate) active: Both<Option<Active>>,
    /// Where the last sealed segment of each log ends: a position.
    pub(crate) sealed_end: Both<u64>,
    /// Parts of the batch that fills, at most one per segment, and which of them takes the next entry.
    pub(crate) pending: Vec<Part>,
    pub(crate) open_part: Both<Option<usize>>,
    pub(crate) under_way: Option<Arc<Commit>>,
    pub(crate) buffers: Vec<Vec<u8>>,
    pub(crate) tip: Lsn,
    pub(crate) watermark: Watermark,
    pub(crate) poisoned: Option<Poisoned>,
    /// False until the owner has said which recovered bases live.
    pub(crate) recycling: bool,
    pub(crate) counters: Counters,
    pub(crate) last_sync: Duration,
    pub(crate) reader: Reader,
    pub(crate) space: Space,
    pub(crate) writer: Writer,
    pub(crate) _lock: Box<dyn Lock>,
}

impl Journal {
    /// Adds an entry to the pending batch, in memory. It is on disk once `durable()` reaches the present `tip()`.
    ///
    /// Its position is final, unless a crash comes: recovery may move entries of the last commit. It waits only
    /// when a segment is full and the next one is still being made.
    ///
    /// # Errors
    /// `Full` when no segment is left for this reserve class, `TooLarge`, `Poisoned`. Nothing was appended.
    pub fn append(
        &mut self,
        generation: Generation,
        role: Role,
        entry: &Entry<'_>,
        reserve: Reserve,
    ) -> Result<Position, AppendError> {
        self.check_poison()?;
        check_size(entry)?;
        let total = ENTRY_HEADER_BYTES + entry.head.len() + entry.body_len();
        if !self.fits(generation, total) {
            self.roll(generation, total, reserve)?;
        }
        Ok(self.append_to_active(generation, role, entry, total))
    }

    /// Makes sure that an entry of this head and body length can be appended next, so that an owner can refuse
    /// work before it has decided anything.
    ///
    /// # Errors
    /// As for [`Journal::append`].
    pub fn make_room(&mut self, generation: Generation, bytes: usize, reserve: Reserve) -> Result<(), AppendError> {
        self.check_poison()?;
        if bytes > HEAD_BYTES_MAX + BODY_BYTES_MAX {
            let limit = (HEAD_BYTES_MAX + BODY_BYTES_MAX) as u64;
            return Err(AppendError::TooLarge { bytes: bytes as u64, limit });
        }
        let total = ENTRY_HEADER_BYTES + bytes;
        if self.fits(generation, total) { Ok(()) } else { self.roll(generation, total, reserve) }
    }

    fn append_to_active(&mut self, generation: Generation, role: Role, entry: &Entry<'_>, total: usize) -> Position {
        let lsn = self.tip.next();
        let part = self.open_part(generation, lsn);
        let active = self.active.of_mut(generation).as_mut().expect("rolled when there was none");
        let part = self.pending.get_mut(part).expect("open parts are pending");
        let (offset, segment) = (active.tail, &part.segment);
        entry::encode(segment.seed, offset, lsn, role, entry, &mut part.buffer);
        part.count += 1;
        part.last_lsn = lsn;
        active.index.push(&IndexRecord { key: entry.key, offset, lsn, kind: entry.kind, role });
        active.tail += total as u32;
        self.tip = lsn;
        self.counters.entries += 1;
        let position = Position::new(active.number, offset);
        self.count_entry(position.segment(), role, total as u64);
        position
    }

    fn count_entry(&mut self, segment: u32, role: Role, bytes: u64) {
        let segment = self.segments.get_mut(&segment).expect("the active segment is known");
        let tally = match role {
            Role::Base => &mut segment.bases,
            Role::PinnedDelta => &mut segment.pinned,
            Role::Delta => return,
        };
        tally.add(bytes);
        tally.live += 1;
    }

    /// Whether the active segment takes the entry, its batch header and padding, and still its index.
    fn fits(&self, generation: Generation, total: usize) -> bool {
        let Some(active) = self.active.of(generation) else { return false };
        let header = if self.open_part.of(generation).is_some() { 0 } else { BATCH_HEADER_BYTES };
        let length = self.segments.get(&active.number).map_or(0, |segment| segment.file.length as usize);
        // Sealing may need one more, empty batch for the index to travel in.
        let sealing = BATCH_ALIGN + BATCH_HEADER_BYTES + active.index.len_with_one_more();
        let end = active.tail as usize + header + total + sealing;
        end <= length && !active.index.is_too_far(self.tip.next())
    }

    /// The pending part of the active segment, begun if there is none.
    pub(crate) fn open_part(&mut self, generation: Generation, first_lsn: Lsn) -> usize {
        if let Some(part) = *self.open_part.of(generation) {
            return part;
        }
        let active = self.active.of_mut(generation).as_mut().expect("rolled when there was none");
        let segment = Arc::clone(&self.segments.get(&active.number).expect("the active segment is known").file);
        let mut buffer = self.buffers.pop().unwrap_or_default();
        buffer.clear();
        let mut offset = active.tail;
        if active.tail == 0 {
            buffer.extend_from_slice(&segment.header().encode(&self.manifest.broker));
            active.tail += buffer.len() as u32;
            offset = 0;
        }
        let batch_at = buffer.len();
        buffer.resize(batch_at + BATCH_HEADER_BYTES, 0);
        active.tail += BATCH_HEADER_BYTES as u32;
        let last_lsn = Lsn::from_u64(first_lsn.as_u64() - 1);
        self.pending.push(Part { segment, offset, buffer, batch_at, count: 0, first_lsn, last_lsn, index_at: None });
        let part = self.pending.len() - 1;
        *self.open_part.of_mut(generation) = Some(part);
        part
    }

    /// Ends the generation's pending batch, if it has one: pads it to where the next may begin.
    pub(crate) fn close_part(&mut self, generation: Generation) -> Option<&mut Part> {
        let part = self.open_part.of_mut(generation).take()?;
        let part = self.pending.get_mut(part).expect("open parts are pending");
        let active = self.active.of_mut(generation).as_mut().expect("an open part has an active segment");
        let padded = part.buffer.len().next_multiple_of(BATCH_ALIGN);
        active.tail += (padded - part.buffer.len()) as u32;
        part.buffer.resize(padded, 0);
        Some(part)
    }

    /// Number of the last appended entry.
    #[must_use]
    pub fn tip(&self) -> Lsn {
        self.tip
    }

    /// Every entry up to here is fsynced and survives a crash.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.watermark.durable_through
    }

    /// Bytes that wait for the next commit.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.pending.iter().map(|part| part.buffer.len() as u64).sum()
    }

    /// Whether a commit is on the writer thread and was not collected yet.
    #[must_use]
    pub fn is_committing(&self) -> bool {
        self.under_way.is_some()
    }

    /// Time of one commit's fsyncs, smoothed exponentially; zero before the first.
    #[must_use]
    pub fn last_sync(&self) -> Duration {
        self.last_sync
    }

    /// Writes the pending batch and fsyncs it on this thread, after waiting for a commit under way.
    /// Without anything to write it only waits.
    ///
    /// # Errors
    /// `Poisoned` if this or any earlier write or fsync failed; nothing new is durable then.
    pub fn commit(&mut self) -> Result<Lsn, Poisoned> {
        if self.under_way.is_some() {
            let done = self.writer.wait();
            self.collect(done)?;
        }
        self.check_poison()?;
        if let Some(commit) = self.prepare_commit() {
            let done = commit.run(&*self.storage);
            self.under_way = Some(commit);
            self.collect(done)?;
        }
        Ok(self.durable())
    }

    /// Hands the pending batch to the writer thread; `wake` is called when it has ended, then call `poll`.
    /// False if nothing was handed over: a commit is under way already, or there is nothing to write.
    ///
    /// # Errors
    /// `Poisoned` if an earlier write or fsync failed.
    pub fn begin_commit(&mut self) -> Result<bool, Poisoned> {
        self.poll()?;
        if self.under_way.is_some() {
            return Ok(false);
        }
        let Some(commit) = self.prepare_commit() else { return Ok(false) };
        self.under_way = Some(Arc::clone(&commit));
        self.writer.begin(commit);
        Ok(true)
    }

    /// Collects a commit that has ended on the writer thread, and says what is durable now.
    ///
    /// # Errors
    /// `Poisoned` if this or any earlier write or fsync failed.
    pub fn poll(&mut self) -> Result<Lsn, Poisoned> {
        if self.under_way.is_some()
            && let Some(done) = self.writer.poll()
        {
            self.collect(done)?;
        }
        self.check_poison()?;
        Ok(self.durable())
    }

    fn check_poison(&self) -> Result<(), Poisoned> {
        self.poisoned.clone().map_or(Ok(()), Err)
    }

    /// Takes everything pending. No commit is under way, so the watermark is the newest there is.
    fn prepare_commit(&mut self) -> Option<Arc<Commit>> {
        for generation in Generation::ALL {
            self.close_part(generation);
        }
        let retired = self.take_retired();
        if self.pending.is_empty() && !self.manifest_is_stale {
            return None;
        }
        let mut parts = std::mem::take(&mut self.pending);
        for part in &mut parts {
            write_batch_header(part, self.watermark);
        }
        let manifest = self.manifest_is_stale.then(|| self.next_manifest());
        let durable_through = if planted!("watermark one too high") { self.tip.next() } else { self.tip };
        let mut after = Watermark { durable_through, ends: self.watermark.ends };
        for generation in Generation::ALL {
            // A new segment may have nothing in it yet; what this commit writes then ends in the one before it.
            let end = match self.active.of(generation) {
                Some(active) if active.tail > 0 => Position::new(active.number, active.tail).as_u64(),
                _ if planted!("end forgotten with a new segment") => 0,
                _ => *self.sealed_end.of(generation),
            };
            let known = after.ends.of_mut(generation);
            *known = (*known).max(end);
        }
        Some(Arc::new(Commit { parts, manifest, after, retired }))
    }

    fn collect(&mut self, done: Result<Cost, Poisoned>) -> Result<(), Poisoned> {
        let commit = self.under_way.take().expect("only called for a commit under way");
        match done {
            Ok(cost) => {
                self.watermark = commit.after;
                self.count_commit(&commit, &cost);
                for segment in &commit.retired {
                    self.recycle(segment);
                }
                self.reuse_buffers(commit);
                self.space.refill();
                Ok(())
            }
            Err(poisoned) => {
                self.poisoned = Some(poisoned.clone());
                Err(poisoned)
            }
        }
    }

    fn count_commit(&mut self, commit: &Commit, cost: &Cost) {
        self.counters.add(commit.parts.len(), cost);
        self.last_sync = if self.last_sync.is_zero() {
            cost.sync
        } else {
            (self.last_sync * (SYNC_WEIGHT - 1) + cost.sync) / SYNC_WEIGHT
        };
    }

    fn reuse_buffers(&mut self, commit: Arc<Commit>) {
        let Ok(commit) = Arc::try_unwrap(commit) else { return };
        for part in commit.parts {
            if self.buffers.len() < BUFFERS_KEPT && part.buffer.capacity() <= BUFFER_KEPT_MAX {
                self.buffers.push(part.buffer);
            }
        }
    }

    /// Reads an entry back, be it pending, on its way, or durable. Body and head are verified.
    ///
    /// # Errors
    /// `Gone` if its segment was recycled, `Damaged` if its checksum does not match, `Io`.
    pub fn read(&self, position: Position) -> Result<EntryData, ReadError> {
        let under_way = self.under_way.iter().flat_map(|commit| commit.parts.iter());
        for part in self.pending.iter().chain(under_way) {
            let number = part.segment.number;
            if number == position.segment() && position.offset() >= part.offset {
                let bytes = part.buffer.get((position.offset() - part.offset) as usize..);
                let entry = bytes.and_then(|bytes| decode_entry(part.segment.seed, position.offset(), bytes));
                return entry.ok_or(ReadError::Damaged(position));
            }
        }
        self.reader.read(position)
    }

    /// A handle that reads durable entries from any thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    pub(crate) fn install(&mut self, file: Arc<SegmentFile>) {
        self.reader.insert(Arc::clone(&file));
        let segment = Segment::new(Arc::clone(&file), SegmentState::Active, 0, self.tip.next());
        self.segments.insert(file.number, segment);
    }
}

fn check_size(entry: &Entry<'_>) -> Result<(), AppendError> {
    for (bytes, limit) in [(entry.head.len(), HEAD_BYTES_MAX), (entry.body_len(), BODY_BYTES_MAX)] {
        if bytes > limit {
            return Err(AppendError::TooLarge { bytes: bytes as u64, limit: limit as u64 });
        }
    }
    Ok(())
}

/// Fills in the header that `open_part` left room for. The index of a sealed segment follows the batch,
/// so the batch's length was fixed when the segment was sealed.
fn write_batch_header(part: &mut Part, watermark: Watermark) {
    let length = part.batch_length();
    let header = BatchHeader {
        generation: part.segment.generation,
        segment: part.segment.number,
        length,
        count: part.count,
        first_lsn: part.first_lsn,
        last_lsn: part.last_lsn,
        watermark,
    };
    let offset = part.offset + part.batch_at as u32;
    let bytes = header.encode(part.segment.seed, offset);
    let slot = part.buffer.get_mut(part.batch_at..part.batch_at + BATCH_HEADER_BYTES);
    slot.expect("open_part left room for it").copy_from_slice(&bytes);
}
