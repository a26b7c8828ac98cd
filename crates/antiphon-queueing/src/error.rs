//! Why a formula gives no answer.

use thiserror::Error;

/// Why a formula gives no answer.
#[derive(Clone, Copy, PartialEq, Debug, Error)]
pub enum QueueingError {
    /// More work arrives than the servers can do: the queue grows without end.
    #[error(
        "the load is {load:.4} erlangs and the capacity {capacity} {}: the queue grows without end; lower the arrival rate or the service time, or have more than {load:.4} workers",
        if *capacity == 1.0 { "worker" } else { "workers" }
    )]
    Unstable {
        /// Arrival rate × mean service time: how many servers the work keeps busy.
        load: f64,
        /// How many servers there are.
        capacity: f64,
    },
    /// An input has no meaning.
    #[error("{what} is {value}: it must be {must}")]
    Invalid {
        /// Which input.
        what: &'static str,
        /// What it was.
        value: f64,
        /// What it may be.
        must: &'static str,
    },
}

/// Checks that an input is a finite number above 0.
pub(crate) fn positive(what: &'static str, value: f64) -> Result<f64, QueueingError> {
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(QueueingError::Invalid { what, value, must: "a finite number above 0" })
    }
}

/// Checks that an input is a finite number of at least 0.
pub(crate) fn not_negative(what: &'static str, value: f64) -> Result<f64, QueueingError> {
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        Err(QueueingError::Invalid { what, value, must: "a finite number of at least 0" })
    }
}

/// Checks that there are servers.
pub(crate) fn servers(count: u32) -> Result<u32, QueueingError> {
    if count > 0 {
        Ok(count)
    } else {
        Err(QueueingError::Invalid { what: "the number of servers", value: 0.0, must: "at least 1" })
    }
}

/// Checks that the servers can do the work.
pub(crate) fn stable(load: f64, capacity: f64) -> Result<(), QueueingError> {
    if load < capacity { Ok(()) } else { Err(QueueingError::Unstable { load, capacity }) }
}
