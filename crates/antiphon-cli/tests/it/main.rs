//! The `antiphon` program as its users run it: real processes, loopback, free ports, temporary directories.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod bench;
mod demo;
mod disk;
mod door;
mod events;
mod exec;
mod explain;
mod foreign;
mod input;
mod kill;
mod lines;
mod live;
mod load;
mod operate;
mod order;
mod pause;
mod plan;
mod proxy;
mod serve;
mod simulate;
mod stage;
mod ties;
mod topics;
