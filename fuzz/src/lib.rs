//! What reads bytes from strangers, fed with any bytes. Each target returns normally whatever it is given: a panic, an
//! abort, a hang or memory without bound is the finding.
//!
//! `corpus/` holds inputs to start from, `tests/smoke.rs` runs all targets with fixed seeds, the program runs them for
//! long without a nightly compiler, and `libfuzzer/` drives them with coverage.

mod address;
mod choices;
mod client;
mod control;
mod corpus;
mod frames;
mod journal;
mod mutate;
mod random;
mod record;
mod samples;
mod scribe;
mod session;

pub use corpus::{Corpus, write_corpus};
pub use mutate::mutate;
pub use random::Random;

/// A decoder, or a whole side of a conversation.
pub struct Target {
    /// Its name, also that of its corpus.
    pub name: &'static str,
    /// Feeds it one input.
    pub run: fn(&[u8]),
    /// Inputs it was made to read.
    seeds: fn() -> Vec<Vec<u8>>,
    /// How many inputs of an ordinary test run it gets of every thousand: some are a thousand times slower.
    pub share: u32,
}

/// All of them.
pub const TARGETS: [Target; 7] = [
    Target { name: "frames", run: frames::run, seeds: frames::seeds, share: 400 },
    Target { name: "record", run: record::run, seeds: record::seeds, share: 250 },
    Target { name: "control", run: control::run, seeds: control::seeds, share: 239 },
    Target { name: "address", run: address::run, seeds: address::seeds, share: 100 },
    Target { name: "session", run: session::run, seeds: session::seeds, share: 8 },
    Target { name: "journal", run: journal::run, seeds: journal::seeds, share: 2 },
    Target { name: "client", run: client::run, seeds: client::seeds, share: 1 },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
