//! M/G/1: one server, Poisson arrivals, any service times.

use crate::QueueingError;
use crate::error::{not_negative, positive, stable};

/// M/G/1, first come first served, by the Pollaczek–Khinchine formula (1930, 1932). Exact.
///
/// Source: L. Kleinrock, *Queueing Systems* I (1975), section 5.6.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PollaczekKhinchine {
    arrival_per_s: f64,
    service_s: f64,
    service_cv: f64,
}

impl PollaczekKhinchine {
    /// `service_cv` is the coefficient of variation of the service time: its standard deviation ÷ its mean; 0 is
    /// always the same, 1 exponential.
    ///
    /// # Errors
    /// [`QueueingError::Unstable`] when the load is not below 1.
    pub fn new(arrival_per_s: f64, service_s: f64, service_cv: f64) -> Result<Self, QueueingError> {
        positive("the arrival rate", arrival_per_s)?;
        positive("the service time", service_s)?;
        not_negative("the coefficient of variation", service_cv)?;
        stable(arrival_per_s * service_s, 1.0)?;
        Ok(Self { arrival_per_s, service_s, service_cv })
    }

    /// The part of the time that the server is busy, which is also the probability of waiting.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        self.arrival_per_s * self.service_s
    }

    /// The mean time in the queue, in seconds: λE\[S²\] / 2(1 − ρ).
    #[must_use]
    pub fn mean_wait_s(&self) -> f64 {
        let second_moment = self.service_s * self.service_s * (1.0 + self.service_cv * self.service_cv);
        self.arrival_per_s * second_moment / (2.0 * (1.0 - self.utilisation()))
    }

    /// The mean time from arrival to reply, in seconds.
    #[must_use]
    pub fn mean_response_s(&self) -> f64 {
        self.mean_wait_s() + self.service_s
    }

    /// The mean number of calls in the queue.
    #[must_use]
    pub fn mean_queue_length(&self) -> f64 {
        self.arrival_per_s * self.mean_wait_s()
    }

    /// The variance of the time in the queue, in seconds², from the third moment of the service time, in seconds³. Exact
    /// (L. Takács, 1962).
    #[must_use]
    pub fn wait_variance(&self, third_moment: f64) -> f64 {
        let mean = self.mean_wait_s();
        mean * mean + self.arrival_per_s * third_moment / (3.0 * (1.0 - self.utilisation()))
    }
}
