//! The engine, told what happens in small scripts, and held to its rules by random ones.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod budget;
mod callbacks;
mod calls;
mod children;
mod combinations;
mod door;
mod events;
mod explain;
mod fanout;
mod figures;
mod groups;
mod inboxes;
mod keys;
mod leases;
#[cfg(target_os = "linux")]
mod memory;
mod needs;
mod order;
#[cfg(planting)]
mod planted;
mod prediction;
mod records;
mod recurring;
mod reference;
mod restarts;
mod retention;
mod rule;
mod rules;
mod rules_of_ties;
mod schemas;
mod script;
mod shares;
mod suspects;
