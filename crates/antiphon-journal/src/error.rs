//! What can go wrong, one enum per decision-maker: who opens, who appends, who reads.

use std::io;
use std::sync::Arc;

use crate::position::Position;

/// Why the journal was not opened. Nothing was changed on disk, except that an interrupted creation may
/// have left a `meta.new`, which the next opening replaces.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("the journal is in use by process {pid}: stop that process, or open another directory")]
    InUse {
        /// Its process id; 0 when it could not be read.
        pid: u32,
    },
    /// The directory may not be written.
    #[error("cannot write to {path}: the journal needs a directory it may write to")]
    ReadOnly {
        /// What was tried.
        path: String,
    },
    /// A newer program wrote it.
    #[error("the journal has format {found}, this program knows up to {known}: use a newer program")]
    NewerFormat {
        /// Version on disk.
        found: u8,
        /// Highest version this program reads.
        known: u8,
    },
    /// Bytes that were durable are not what was written. Nothing is served, nothing is deleted.
    #[error(
        "{file} is damaged in bytes {from}..{to}: {what}; restore it from a copy, or see `antiphon journal verify`"
    )]
    Damaged {
        /// The file, as `Storage::path_of` names it.
        file: String,
        /// Number of the segment; 0 for the `meta` file.
        segment: u32,
        /// First damaged byte.
        from: u64,
        /// End of the damaged range.
        to: u64,
        /// What was found there.
        what: &'static str,
    },
    /// Opening needs one segment for the recovered tail, and there is no room for it.
    #[error("no room to open the journal: {needed} bytes are needed, free some space on the disk")]
    NoSpace {
        /// Bytes that must be free.
        needed: u64,
    },
    /// The operating system refused.
    #[error("cannot {op} {path}: {source}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: String,
        /// Its answer.
        source: io::Error,
    },
}

/// Why an entry was not appended. In every case nothing of it is in the journal.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// No segment is free for it. Passes by itself once space returns.
    #[error("the journal is full: {needed} bytes are needed and {free} are free; free disk space or raise its limit")]
    Full {
        /// Bytes that this kind of entry may still use.
        free: u64,
        /// Bytes of the segment that would be needed.
        needed: u64,
    },
    /// Head or body is over `HEAD_BYTES_MAX` or `BODY_BYTES_MAX`.
    #[error("an entry of {bytes} bytes is too large, the limit is {limit}")]
    TooLarge {
        /// Its length.
        bytes: u64,
        /// The limit it breaks.
        limit: u64,
    },
    /// An earlier write failed.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

/// An earlier write or fsync failed. Nothing is acknowledged any more: what was appended since the last
/// durable entry may or may not be there after a restart. Only a restart, with its recovery, helps.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the journal stopped after a failed {op} of {path}: {source}; check the disk and restart")]
pub struct Poisoned {
    /// `write` or `fsync`.
    pub op: &'static str,
    /// The file it was tried on.
    pub path: String,
    /// The first error.
    pub source: Arc<io::Error>,
}

/// Why an entry could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Its segment was recycled, or the position was never handed out.
    #[error("no entry at {0:?}: its segment was recycled")]
    Gone(Position),
    /// Its checksum does not match; the bytes are not handed out.
    #[error("the entry at {0:?} is damaged: its checksum does not match")]
    Damaged(Position),
    /// The operating system refused.
    #[error("cannot read the entry at {position:?}: {source}")]
    Io {
        /// Which entry.
        position: Position,
        /// Its answer.
        source: io::Error,
    },
}
