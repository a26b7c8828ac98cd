//! A segmented, recycled, group-committed log behind a storage trait.
//!
//! It stores entries and hands them back after a crash; it knows nothing about calls. Two logs share one
//! sequence and one directory: the young log takes everything, the cold log what outlived its segment there.
//! The bytes are described in `docs/journal-format.md`.
//!
//! ```text
//!  append ──► pending batch ──commit──► active segment ──roll──► sealed ──dead, or sweep + retire──► free pool
//!             (memory)        1 write, 1 fsync                                                          │
//!                                           ▲───────────────────────────────────────────────────────────┘
//! ```
#![forbid(unsafe_code)]

mod batch;
mod check;
mod checksum;
mod directory;
mod entry;
mod error;
mod index;
mod journal;
mod layout;
mod manifest;
mod options;
mod planted;
mod position;
mod reader;
mod recovery;
mod replay;
mod roll;
mod segment;
mod space;
mod stats;
mod storage;
mod sweep;
mod sync;
mod tail;
mod walk;
mod writer;

pub use check::{Damage, Report, SegmentReport, dump, verify};
pub use directory::Directory;
pub use entry::{BODY_BYTES_MAX, Entry, EntryData, HEAD_BYTES_MAX, Recovered, Reserve, Role};
pub use error::{AppendError, OpenError, Poisoned, ReadError};
pub use journal::Journal;
pub use options::Options;
pub use position::{Generation, Lsn, Position};
pub use reader::Reader;
pub use stats::{SYNC_BOUNDS_MICROS, Stats};
pub use storage::{File, Lock, LockError, Storage};
pub use sweep::{Sweep, Swept};
pub use writer::Wake;
