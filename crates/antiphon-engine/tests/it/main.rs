//! The engine, told what happens in small scripts, and held to its rules by random ones.

mod calls;
mod inboxes;
mod keys;
mod leases;
mod records;
mod restarts;
mod retention;
mod rules;
mod script;
