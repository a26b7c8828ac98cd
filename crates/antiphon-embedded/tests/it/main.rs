//! The embedded broker, in memory and on a directory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod compaction;
mod conformance;
mod crooked;
mod full;
#[cfg(shuttle)]
mod orders;
mod panics;
mod schedules;
