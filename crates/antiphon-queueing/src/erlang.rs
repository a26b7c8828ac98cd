//! Erlang's two formulas (A. K. Erlang, 1917), by recurrences of positive terms: nothing overflows or cancels, whatever
//! the number of servers.

use crate::QueueingError;
use crate::error::{not_negative, servers, stable};

/// Erlang B: the probability that a call is lost in M/G/c/c, where a call that finds all servers busy goes away.
///
/// Valid for Poisson arrivals and any service times; any load. Time grows with the number of servers.
///
/// # Errors
/// [`QueueingError::Invalid`] for a negative load or no servers.
pub fn erlang_b(server_count: u32, load: f64) -> Result<f64, QueueingError> {
    not_negative("the load", load)?;
    let count = servers(server_count)?;
    let mut lost = 1.0;
    for servers in 1..=count {
        lost = load * lost / (f64::from(servers) + load * lost);
    }
    Ok(lost)
}

/// Erlang C: the probability that a call has to wait in M/M/c.
///
/// Valid for Poisson arrivals, exponential service times, and a load below the number of servers.
///
/// # Errors
/// [`QueueingError::Unstable`] when the load is not below the number of servers.
pub fn erlang_c(server_count: u32, load: f64) -> Result<f64, QueueingError> {
    let lost = erlang_b(server_count, load)?;
    let capacity = f64::from(server_count);
    stable(load, capacity)?;
    Ok(capacity * lost / (capacity - load + load * lost))
}
