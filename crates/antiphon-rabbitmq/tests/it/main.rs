//! Antiphon on a real RabbitMQ. `cargo xtask services up` starts it; a test that needs it and cannot have it fails.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod conformance;
mod faults;
mod kills;
mod plain;
mod pressure;
mod refusals;
mod tls;
mod trace;
mod world;
