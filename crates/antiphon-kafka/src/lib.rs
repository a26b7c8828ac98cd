#![doc = include_str!("../README.md")]

mod address;
mod caller_pump;
mod chance;
mod dead_letters;
mod kafka;
mod names;
mod offsets;
mod publisher;
mod reader;
mod record;
mod topics;
mod worker_pump;

pub use kafka::{Kafka, driver};
