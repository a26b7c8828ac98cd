//! M/G/c: several servers, Poisson arrivals, any service times. There is no exact formula; these are the approximations
//! that hold best.

use crate::error::{positive, servers, stable};
use crate::quantile::quantile_s;
use crate::{Markov, QueueingError, Service};

/// The squared coefficient of variation above which Kimura's waits are too short.
const FAR: f64 = 4.0;

/// M/G/c, first come first served, and G/G/c by [`General::allen_cunneen_wait_s`].
///
/// Exact with exponential service times, and in the mean with one server. Otherwise the mean wait lies between that of
/// exponential and that of constant service times, weighted by the squared coefficient of variation (E. Page, 1972), the
/// latter by G. Cosmetatos (1976); above a coefficient of 1 it is T. Kimura's (1986) interpolation. Above 2 that promises
/// too short waits and Page's too long ones: there it is a mean of the two that leans to Page's as the coefficient grows,
/// fitted to chains of hyperexponential calls. The tail of the wait is taken to be exponential. How close that comes is
/// measured in this crate's tests, and said in the guide.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct General {
    exponential: Markov,
    arrival_per_s: f64,
    service: Service,
    servers: u32,
    wait_s: f64,
}

impl General {
    /// `arrival_per_s` calls a second on this many servers.
    ///
    /// # Errors
    /// [`QueueingError::Unstable`] when the load is not below the number of servers.
    pub fn new(arrival_per_s: f64, service: Service, server_count: u32) -> Result<Self, QueueingError> {
        positive("the arrival rate", arrival_per_s)?;
        stable(arrival_per_s * service.mean_s(), f64::from(servers(server_count)?))?;
        let exponential = Markov::new(arrival_per_s, service.mean_s(), server_count)?;
        let mut it = Self { exponential, arrival_per_s, service, servers: server_count, wait_s: 0.0 };
        it.wait_s = it.interpolated_wait_s();
        Ok(it)
    }

    /// Arrival rate × service time, in erlangs.
    #[must_use]
    pub fn load(&self) -> f64 {
        self.exponential.load()
    }

    /// The part of the time that a server is busy, 0 to 1.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        self.exponential.utilisation()
    }

    /// The probability of waiting: Erlang C, which hardly depends on the distribution of the service time.
    #[must_use]
    pub const fn probability_of_waiting(&self) -> f64 {
        self.exponential.probability_of_waiting()
    }

    /// The mean time in the queue by A. Allen and J. Cunneen (1978), in seconds: that of M/M/c times
    /// (`arrival_cv`² + service's²)/2. Poisson arrivals have a coefficient of 1.
    #[must_use]
    pub fn allen_cunneen_wait_s(&self, arrival_cv: f64) -> f64 {
        let service_cv = self.service.cv();
        self.exponential.mean_wait_s() * (arrival_cv * arrival_cv + service_cv * service_cv) / 2.0
    }

    /// The mean time in the queue, in seconds.
    #[must_use]
    pub const fn mean_wait_s(&self) -> f64 {
        self.wait_s
    }

    fn interpolated_wait_s(&self) -> f64 {
        let exponential = self.exponential.mean_wait_s();
        let constant = self.constant_wait_s();
        let square = self.service.cv() * self.service.cv();
        if self.servers == 1 {
            exponential * (1.0 + square) / 2.0
        } else {
            let page = square * exponential + (1.0 - square) * constant;
            let kimura = (1.0 + square) / (2.0 * square / exponential + (1.0 - square) / constant);
            match square {
                ..=1.0 => page,
                ..=FAR => kimura,
                _ => kimura * (page / kimura).powf(1.0 - FAR / square),
            }
        }
    }

    /// The mean wait with constant service times, M/D/c (Cosmetatos).
    fn constant_wait_s(&self) -> f64 {
        let servers = f64::from(self.servers);
        let idle = 1.0 - self.utilisation();
        let factor = 1.0 + idle * (servers - 1.0) * ((4.0 + 5.0 * servers).sqrt() - 2.0) / (16.0 * self.load());
        // At low loads the correction overshoots; no wait is longer than with exponential service times.
        self.exponential.mean_wait_s() * (factor / 2.0).min(1.0)
    }

    /// The mean time from arrival to reply, in seconds.
    #[must_use]
    pub fn mean_response_s(&self) -> f64 {
        self.wait_s + self.service.mean_s()
    }

    /// The mean number of calls in the queue.
    #[must_use]
    pub fn mean_queue_length(&self) -> f64 {
        self.arrival_per_s * self.wait_s
    }

    /// How fast the tail of the wait falls, per second.
    fn wait_rate(&self) -> f64 {
        self.probability_of_waiting() / self.wait_s
    }

    /// The probability of waiting longer than `t` seconds.
    #[must_use]
    pub fn wait_tail(&self, t: f64) -> f64 {
        if self.wait_s == 0.0 { 0.0 } else { self.probability_of_waiting() * (-self.wait_rate() * t).exp() }
    }

    /// The probability that the reply takes longer than `t` seconds.
    #[must_use]
    pub fn response_tail(&self, t: f64) -> f64 {
        if self.wait_s == 0.0 {
            return self.service.tail(t);
        }
        self.service.response_tail(self.probability_of_waiting(), self.wait_rate(), t)
    }

    /// The wait that a part `quantile` (0 to 1) of calls does not exceed, in seconds.
    #[must_use]
    pub fn wait_quantile_s(&self, quantile: f64) -> f64 {
        quantile_s(quantile, self.service.mean_s(), |t| self.wait_tail(t))
    }

    /// The time to the reply that a part `quantile` (0 to 1) of calls does not exceed, in seconds.
    #[must_use]
    pub fn response_quantile_s(&self, quantile: f64) -> f64 {
        quantile_s(quantile, self.mean_response_s(), |t| self.response_tail(t))
    }
}
