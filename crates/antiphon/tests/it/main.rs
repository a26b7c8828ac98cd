//! The rules of the client and the worker, against a broker that does only what a test says, and against the embedded
//! one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod client;
mod combination;
mod connection;
mod context;
mod delivery;
mod drain;
mod events;
mod fake;
mod launch;
mod overflow;
mod parking;
mod progress;
mod remote;
mod service;
mod ties;
mod url;
mod waiting;
mod worker;
