//! Each test is named after the rule it guards. `fault.rs` is the disk that forgets, `world.rs` the owner.
// Clippy's exceptions for tests end at the test functions; the owner and the disk are test code as well.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod crash;
mod damage;
mod exhaustive;
mod failure;
mod fault;
mod format;
#[cfg(shuttle)]
mod orders;
mod recycling;
mod rolling;
mod smoke;
mod world;
