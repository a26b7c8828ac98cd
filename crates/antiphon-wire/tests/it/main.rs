//! The wire's tests, by noun.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

mod document;
mod golden;
mod hostile;
mod remote;
