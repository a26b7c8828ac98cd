//! Each test is named after the rule it guards. `fault.rs` is the disk that forgets, `world.rs` the owner.

mod crash;
mod damage;
mod failure;
mod fault;
mod smoke;
mod world;
