//! Seeded fault simulation of Antiphon: the real engine, journal and driver on a simulated disk, with simulated callers,
//! workers and connections on virtual time, watched by three judges that know nothing of each other.
//!
//! A seed decides everything, so a failure is a number. See `docs/reliability.md`.
#![allow(
    missing_docs,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "nothing but this repository's own checks uses this crate, and a simulation that goes wrong must stop at once"
)]

mod action;
mod audit;
mod batch;
mod caller;
mod checker;
mod clock;
mod coverage;
mod disk;
mod explore;
mod generator;
mod history;
mod link;
mod model;
mod planted;
mod random;
mod routes;
mod run;
mod seeds;
mod shrink;
mod swarm;
mod wire;
mod worker;
mod world;

pub use action::{Action, Client, Deed, How, Shape, Want};
pub use batch::{Batch, batch};
pub use coverage::Coverage;
pub use disk::{DiskFault, Op};
pub use explore::{Choice, Explored, Setup, explore};
pub use planted::{BUGS, PROTOCOL_BUGS};
#[cfg(planting)]
pub use planted::{Caught, hunt, with_planted};
pub use random::Fingerprint;
pub use run::{EVENTS, Ran, replay, run};
pub use shrink::{Shrunk, shrink};
pub use swarm::{Fault, Feature, Swarm};
pub use wire::{STEPS, Step, Wired, Wires, shrink_wired, wired, wired_again, wires};

/// What a panic said.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word").to_owned()
}
