//! Antiphon on a real broker that speaks Kafka's protocol. `cargo xtask services up` starts it; a test that needs it and
//! cannot have it fails.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod conformance;
mod kills;
mod mock;
mod peers;
