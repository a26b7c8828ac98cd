//! What every measured system shares: the load, what is measured of it, and the parts that processes play.

#![allow(missing_docs, reason = "an internal crate, whose fields and systems are called what they are")]

pub mod cpu;
pub mod load;
mod part;
mod system;

/// The same for all that is measured, and the one that the `antiphon` program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub use part::{Part, READY, end_with_the_bench, play};
pub use system::{Middle, System};
