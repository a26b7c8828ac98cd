//! M/M/c and M/M/1: Poisson arrivals, exponential service times, one queue, room for all.

use crate::error::{positive, servers, stable};
use crate::quantile::{quantile_s, tail_of_sum};
use crate::{QueueingError, erlang_c};

/// M/M/c; M/M/1 with one server.
///
/// Source: L. Kleinrock, *Queueing Systems* I (1975), sections 3.2 and 3.5; D. Gross and C. Harris, *Fundamentals of
/// Queueing Theory*, section 2.3.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Markov {
    arrival_per_s: f64,
    service_s: f64,
    servers: u32,
    waits: f64,
}

impl Markov {
    /// `arrival_per_s` calls a second, each of which takes a server `service_s` seconds on average.
    ///
    /// # Errors
    /// [`QueueingError::Unstable`] when the load is not below the number of servers.
    pub fn new(arrival_per_s: f64, service_s: f64, server_count: u32) -> Result<Self, QueueingError> {
        positive("the arrival rate", arrival_per_s)?;
        positive("the service time", service_s)?;
        let load = arrival_per_s * service_s;
        stable(load, f64::from(servers(server_count)?))?;
        Ok(Self { arrival_per_s, service_s, servers: server_count, waits: erlang_c(server_count, load)? })
    }

    /// Arrival rate × service time, in erlangs: the mean number of busy servers.
    #[must_use]
    pub fn load(&self) -> f64 {
        self.arrival_per_s * self.service_s
    }

    /// The part of the time that a server is busy, 0 to 1.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        self.load() / f64::from(self.servers)
    }

    /// The probability that a call has to wait (Erlang C).
    #[must_use]
    pub const fn probability_of_waiting(&self) -> f64 {
        self.waits
    }

    /// How fast a queue that there is gets shorter, in calls per second: cμ − λ.
    fn drain_per_s(&self) -> f64 {
        (f64::from(self.servers) - self.load()) / self.service_s
    }

    /// The mean time in the queue, in seconds.
    #[must_use]
    pub fn mean_wait_s(&self) -> f64 {
        self.waits / self.drain_per_s()
    }

    /// The mean time from arrival to reply, in seconds. With one server this is 1/(μ − λ).
    #[must_use]
    pub fn mean_response_s(&self) -> f64 {
        self.mean_wait_s() + self.service_s
    }

    /// The mean number of calls in the queue.
    #[must_use]
    pub fn mean_queue_length(&self) -> f64 {
        self.arrival_per_s * self.mean_wait_s()
    }

    /// The mean number of calls waiting or running.
    #[must_use]
    pub fn mean_in_system(&self) -> f64 {
        self.arrival_per_s * self.mean_response_s()
    }

    /// The probability of waiting longer than `t` seconds.
    #[must_use]
    pub fn wait_tail(&self, t: f64) -> f64 {
        self.waits * (-self.drain_per_s() * t).exp()
    }

    /// The probability that the reply takes longer than `t` seconds.
    #[must_use]
    pub fn response_tail(&self, t: f64) -> f64 {
        let service_per_s = 1.0 / self.service_s;
        (1.0 - self.waits) * (-service_per_s * t).exp() + self.waits * tail_of_sum(service_per_s, self.drain_per_s(), t)
    }

    /// The wait that a part `quantile` (0 to 1) of calls does not exceed, in seconds.
    #[must_use]
    pub fn wait_quantile_s(&self, quantile: f64) -> f64 {
        let rest = 1.0 - quantile;
        if rest >= self.waits { 0.0 } else { (self.waits / rest).ln() / self.drain_per_s() }
    }

    /// The time to the reply that a part `quantile` (0 to 1) of calls does not exceed, in seconds.
    #[must_use]
    pub fn response_quantile_s(&self, quantile: f64) -> f64 {
        quantile_s(quantile, self.service_s, |t| self.response_tail(t))
    }
}

/// M/M/1/1: one server and no queue. Whoever finds it busy goes away. Exact, at any load (A. K. Erlang, 1917).
///
/// Texts on asynchronous RPC print its `busy()`, λ/(λ + μ), as the "throughput" of a queue. It is a probability; the
/// throughput is λμ/(λ + μ).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Unqueued {
    arrival_per_s: f64,
    service_per_s: f64,
}

impl Unqueued {
    /// `arrival_per_s` calls a second, and a server that does `service_per_s` a second while it is busy.
    ///
    /// # Errors
    /// [`QueueingError::Invalid`] for a rate that is not above 0.
    pub fn new(arrival_per_s: f64, service_per_s: f64) -> Result<Self, QueueingError> {
        Ok(Self {
            arrival_per_s: positive("the arrival rate", arrival_per_s)?,
            service_per_s: positive("the service rate", service_per_s)?,
        })
    }

    /// The part of the time that the server is busy, which is also the part of calls that are lost: λ/(λ + μ).
    #[must_use]
    pub fn busy(&self) -> f64 {
        self.arrival_per_s / (self.arrival_per_s + self.service_per_s)
    }

    /// Calls answered per second: λμ/(λ + μ).
    #[must_use]
    pub fn throughput_per_s(&self) -> f64 {
        self.service_per_s * self.busy()
    }
}
