//! The formulas against references that were made by other means, and against each other where one contains the other.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

mod approximation;
mod batches;
mod limits;
mod makespan;
mod plan;
mod reference;
mod simulation;
mod textbook;
