//! Names of places and moments in the journal: `Position`, `Lsn`, `Generation`.
//! They are plain numbers; what lies at a position is the business of `segment.rs` and `entry.rs`.

use std::fmt;
use std::num::NonZeroU64;

/// Where an entry begins: segment number (high 32 bits) and byte offset (low 32 bits).
///
/// Opaque to callers, stable across restarts as long as the entry is not rewritten: recovery may move
/// entries of the last commit, and then reports the new position. Segment numbers are never reused, so
/// a position never names two entries. Ordered by age within one generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(NonZeroU64);

impl Position {
    pub(crate) fn new(segment: u32, offset: u32) -> Self {
        let raw = (u64::from(segment) << 32) | u64::from(offset);
        Self(NonZeroU64::new(raw).expect("segment numbers start at 1"))
    }

    /// The position as 64 bits, never zero.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0.get()
    }

    /// The position that `as_u64` gave; `None` for zero. Any other number is taken as it is: reading at a
    /// position that was never handed out fails, it does not return wrong data.
    #[must_use]
    pub fn from_u64(raw: u64) -> Option<Self> {
        NonZeroU64::new(raw).map(Self)
    }

    /// The number of the segment that holds the entry.
    #[must_use]
    pub fn segment(self) -> u32 {
        (self.0.get() >> 32) as u32
    }

    /// The byte offset of the entry in its segment.
    #[must_use]
    pub fn offset(self) -> u32 {
        (self.0.get() & u64::from(u32::MAX)) as u32
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment(), self.offset())
    }
}

/// Log sequence number: how many entries were appended, over both generations, since the journal was made.
///
/// The first entry has 1. Numbers are never reused; numbers that a crash cut off are skipped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The number itself.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// The sequence number with this value.
    #[must_use]
    pub fn from_u64(raw: u64) -> Self {
        Self(raw)
    }

    /// Whether counting on from here can never overflow; what is read from disk is refused otherwise.
    pub(crate) fn is_believable(self) -> bool {
        self.0 < 1 << 63
    }

    pub(crate) fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("2^64 entries are never reached"))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which of the two logs holds an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Generation {
    /// The hot log: everything is appended here first.
    Young,
    /// Survivors of swept segments, compacted by their dead ratio.
    Cold,
}

impl Generation {
    pub(crate) const ALL: [Self; 2] = [Self::Young, Self::Cold];

    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Self::Young => 0,
            Self::Cold => 1,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Young),
            1 => Some(Self::Cold),
            _ => None,
        }
    }
}

/// One value for each generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Both<T> {
    pub young: T,
    pub cold: T,
}

impl<T> Both<T> {
    pub fn of(&self, generation: Generation) -> &T {
        match generation {
            Generation::Young => &self.young,
            Generation::Cold => &self.cold,
        }
    }

    pub fn of_mut(&mut self, generation: Generation) -> &mut T {
        match generation {
            Generation::Young => &mut self.young,
            Generation::Cold => &mut self.cold,
        }
    }
}

/// What was known to be on disk at some moment. Every batch header carries the newest one, so that
/// recovery can tell damage (before the ends) from a torn tail (behind them).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// Every entry up to here that was not cut off by an earlier recovery is on disk.
    pub durable_through: Lsn,
    /// End of the durable bytes of each log, as a raw position; zero when the log has none.
    pub ends: Both<u64>,
}

impl Watermark {
    /// Both were true when they were written and facts do not expire, so the newest of each holds.
    pub fn merge(&mut self, other: &Self) {
        self.durable_through = self.durable_through.max(other.durable_through);
        self.ends.young = self.ends.young.max(other.ends.young);
        self.ends.cold = self.ends.cold.max(other.ends.cold);
    }

    pub fn end(&self, generation: Generation) -> Option<Position> {
        Position::from_u64(*self.ends.of(generation))
    }
}
