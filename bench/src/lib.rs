//! What every measured system shares: the load, what is measured of it, and the parts that processes play.

#![allow(missing_docs, reason = "an internal crate, whose fields and systems are called what they are")]

pub mod cpu;
pub mod load;
mod part;
mod system;

pub use part::{Part, READY, play};
pub use system::{Middle, System};
