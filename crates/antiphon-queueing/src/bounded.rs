//! M/M/c/K: room for K calls, running ones included; whoever finds it full is refused. M/M/c/c has no queue at all.

use crate::error::{positive, servers};
use crate::{QueueingError, erlang_b};

/// M/M/c/K. Stable at any load, because it refuses.
///
/// Source: D. Gross and C. Harris, *Fundamentals of Queueing Theory*, section 2.5.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bounded {
    arrival_per_s: f64,
    service_s: f64,
    refused: f64,
    taken: f64,
    waiting: f64,
    waits: f64,
}

impl Bounded {
    /// `server_count` servers and room for `room` calls, those that run included.
    ///
    /// # Errors
    /// [`QueueingError::Invalid`] when there is less room than servers. Time grows with `room`.
    pub fn new(arrival_per_s: f64, service_s: f64, server_count: u32, room: u32) -> Result<Self, QueueingError> {
        positive("the arrival rate", arrival_per_s)?;
        positive("the service time", service_s)?;
        let capacity = f64::from(servers(server_count)?);
        if room < server_count {
            let must = "at least the number of servers";
            return Err(QueueingError::Invalid { what: "the room", value: f64::from(room), must });
        }
        let load = arrival_per_s * service_s;
        let lost = erlang_b(server_count, load)?;
        let ratio = load / capacity;
        // Relative to the state in which all servers are busy and nobody waits: its own weight is 1, that of the
        // states up to it 1/B, and each that waits multiplies by the ratio. Rescaled so that no weight overflows.
        let (mut weight, mut sum, mut waiting, mut busy) = (1.0, 1.0 / lost, 0.0, 1.0);
        let mut in_line = 0.0;
        for _ in server_count..room {
            in_line += 1.0;
            weight *= ratio;
            sum += weight;
            busy += weight;
            waiting += in_line * weight;
            if sum > 1e200 {
                for value in [&mut weight, &mut sum, &mut waiting, &mut busy] {
                    *value *= 1e-200;
                }
            }
        }
        let refused = weight / sum;
        // Not 1 − refused, of which nothing would be left when nearly all are.
        let taken = (sum - weight) / sum;
        let waits = if room == server_count { 0.0 } else { (busy - weight) / (sum - weight) };
        Ok(Self { arrival_per_s, service_s, refused, taken, waiting: waiting / sum, waits })
    }

    /// The probability that a call is refused. With as much room as servers it is Erlang B.
    #[must_use]
    pub const fn probability_of_refusal(&self) -> f64 {
        self.refused
    }

    /// The probability that a call that is taken has to wait.
    #[must_use]
    pub const fn probability_of_waiting(&self) -> f64 {
        self.waits
    }

    /// Calls answered per second.
    #[must_use]
    pub fn throughput_per_s(&self) -> f64 {
        self.arrival_per_s * self.taken
    }

    /// The mean number of calls in the queue.
    #[must_use]
    pub const fn mean_queue_length(&self) -> f64 {
        self.waiting
    }

    /// The mean number of calls waiting or running.
    #[must_use]
    pub fn mean_in_system(&self) -> f64 {
        self.waiting + self.throughput_per_s() * self.service_s
    }

    /// The mean time in the queue of a call that is taken, in seconds.
    #[must_use]
    pub fn mean_wait_s(&self) -> f64 {
        self.waiting / self.throughput_per_s()
    }

    /// The mean time from arrival to reply of a call that is taken, in seconds.
    #[must_use]
    pub fn mean_response_s(&self) -> f64 {
        self.mean_wait_s() + self.service_s
    }
}
