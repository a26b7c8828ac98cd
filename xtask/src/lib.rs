//! What tests share with the chores: real servers, started on demand.

pub mod services;
