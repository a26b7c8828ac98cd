//! The README's program, as a user would write it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod pages;
mod readme;
