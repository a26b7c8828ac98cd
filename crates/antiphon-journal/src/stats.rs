//! Numbers for people and metrics. Nothing here decides anything.

use std::time::Duration;

use crate::journal::Journal;
use crate::position::Generation;
use crate::writer::Cost;

/// Upper bounds of the fsync time classes, in microseconds; the last class is everything above.
pub const SYNC_BOUNDS_MICROS: [u64; 9] = [50, 100, 200, 500, 1_000, 2_000, 5_000, 20_000, 100_000];

/// A moment's figures of a journal. Counts run since it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Segments of the young log.
    pub segments_young: usize,
    /// Segments of the cold log.
    pub segments_cold: usize,
    /// Free segment files, the reserve included.
    pub segments_free: usize,
    /// Bytes of all segment files.
    pub bytes: u64,
    /// Bytes of base entries that are not released and of pinned deltas, estimated by the mean in each segment.
    pub live_bytes: u64,
    /// Base entries that are not released.
    pub live: u64,
    /// Batches written (one per segment a commit touches).
    pub batches: u64,
    /// Entries appended.
    pub entries: u64,
    /// Commits that ended well.
    pub commits: u64,
    /// Fsyncs of those commits.
    pub syncs: u64,
    /// Bytes those commits wrote.
    pub written_bytes: u64,
    /// Time of all commits' fsyncs.
    pub sync_time: Duration,
    /// Longest fsyncs of one commit.
    pub sync_time_max: Duration,
    /// Commits by fsync time: one class per bound of [`SYNC_BOUNDS_MICROS`], and one above.
    pub sync_classes: [u64; 10],
    /// Segments begun.
    pub rolls: u64,
    /// Segments given back.
    pub recycled: u64,
    /// Whether a write or fsync failed.
    pub poisoned: bool,
    /// Entries recovered at opening.
    pub recovered: u64,
    /// Of those, entries of the last commit that were written anew.
    pub rewritten: u64,
    /// Entries of the last commit that were cut off because an earlier one was not whole. None of them was
    /// acknowledged.
    pub cut: u64,
}

/// What the journal counts as it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    pub batches: u64,
    pub entries: u64,
    pub commits: u64,
    pub syncs: u64,
    pub written_bytes: u64,
    pub sync_time: Duration,
    pub sync_time_max: Duration,
    pub sync_classes: [u64; 10],
    pub rolls: u64,
    pub recycled: u64,
    pub recovered: u64,
    pub rewritten: u64,
    pub cut: u64,
}

impl Counters {
    pub fn add(&mut self, batches: usize, cost: &Cost) {
        self.batches += batches as u64;
        self.commits += 1;
        self.syncs += u64::from(cost.syncs);
        self.written_bytes += cost.bytes;
        self.sync_time += cost.sync;
        self.sync_time_max = self.sync_time_max.max(cost.sync);
        let micros = cost.sync.as_micros() as u64;
        let class = SYNC_BOUNDS_MICROS.iter().position(|bound| micros <= *bound).unwrap_or(SYNC_BOUNDS_MICROS.len());
        if let Some(class) = self.sync_classes.get_mut(class) {
            *class += 1;
        }
    }
}

impl Journal {
    /// The figures now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let of = |generation| self.segments.values().filter(|s| s.file.generation == generation).count();
        let (segments_free, bytes) = self.space.figures();
        let counters = &self.counters;
        Stats {
            segments_young: of(Generation::Young),
            segments_cold: of(Generation::Cold),
            segments_free,
            bytes,
            live_bytes: self.segments.values().map(|segment| segment.live_bytes()).sum(),
            live: self.segments.values().map(|segment| segment.bases.live).sum(),
            batches: counters.batches,
            entries: counters.entries,
            commits: counters.commits,
            syncs: counters.syncs,
            written_bytes: counters.written_bytes,
            sync_time: counters.sync_time,
            sync_time_max: counters.sync_time_max,
            sync_classes: counters.sync_classes,
            rolls: counters.rolls,
            recycled: counters.recycled,
            poisoned: self.poisoned.is_some(),
            recovered: counters.recovered,
            rewritten: counters.rewritten,
            cut: counters.cut,
        }
    }
}
