//! Locks and threads; under `--cfg shuttle` those of a scheduler that tries the orders in which threads may run.

#[cfg(shuttle)]
pub(crate) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::{self, JoinHandle},
};
#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::{self, JoinHandle},
};
