//! The closed system: a fixed number of callers, each of which thinks, calls, and waits for the reply.

use crate::QueueingError;
use crate::error::{not_negative, positive, servers};

/// M/M/c with a finite population, known as machine repair: callers that have at most one call open each.
///
/// Thinking times may have any distribution, service times are exponential. Stable at any load: whoever waits does not
/// call. Source: D. Gross and C. Harris, *Fundamentals of Queueing Theory*, section 2.7.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Closed {
    throughput_per_s: f64,
    in_queue: f64,
    service_s: f64,
    busy: f64,
    servers: u32,
}

impl Closed {
    /// `callers` callers, each of which thinks `think_s` seconds on average between a reply and its next call.
    ///
    /// # Errors
    /// [`QueueingError::Invalid`] for no callers, no servers, or times that have no meaning.
    pub fn new(callers: u32, think_s: f64, service_s: f64, server_count: u32) -> Result<Self, QueueingError> {
        positive("the number of callers", f64::from(callers))?;
        not_negative("the thinking time", think_s)?;
        positive("the service time", service_s)?;
        let capacity = f64::from(servers(server_count)?);
        if think_s == 0.0 {
            let busy = capacity.min(f64::from(callers));
            let in_queue = f64::from(callers) - busy;
            let throughput_per_s = busy / service_s;
            return Ok(Self { throughput_per_s, in_queue, service_s, busy, servers: server_count });
        }
        // Weights of the states by how many calls are open, each from the one before, rescaled so that none overflows.
        let each = service_s / think_s;
        let (mut weight, mut sum, mut queued, mut busy) = (1.0_f64, 1.0_f64, 0.0_f64, 0.0_f64);
        for open in 1..=callers {
            let running = f64::from(open).min(capacity);
            weight *= f64::from(callers - open + 1) * each / running;
            sum += weight;
            busy += running * weight;
            queued += (f64::from(open) - running) * weight;
            if sum > 1e200 {
                for value in [&mut weight, &mut sum, &mut queued, &mut busy] {
                    *value *= 1e-200;
                }
            }
        }
        let (busy, in_queue) = (busy / sum, queued / sum);
        Ok(Self { throughput_per_s: busy / service_s, in_queue, service_s, busy, servers: server_count })
    }

    /// Calls answered per second.
    #[must_use]
    pub const fn throughput_per_s(&self) -> f64 {
        self.throughput_per_s
    }

    /// The part of the time that a server is busy, 0 to 1.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        self.busy / f64::from(self.servers)
    }

    /// The mean number of calls in the queue.
    #[must_use]
    pub const fn mean_queue_length(&self) -> f64 {
        self.in_queue
    }

    /// The mean time in the queue, in seconds.
    #[must_use]
    pub fn mean_wait_s(&self) -> f64 {
        self.in_queue / self.throughput_per_s
    }

    /// The mean time from call to reply, in seconds.
    #[must_use]
    pub fn mean_response_s(&self) -> f64 {
        self.mean_wait_s() + self.service_s
    }
}
