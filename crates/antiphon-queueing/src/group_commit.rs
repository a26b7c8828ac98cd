//! Batch service: a server that takes all that wait at once. That is what group commit is: one fsync for every record
//! that came while the one before it ran.

use crate::QueueingError;
use crate::error::{not_negative, positive, stable};

/// What is left out of the distribution of the queue: less than the last digit of a double.
const TAIL: f64 = 40.0;
/// Rounds after which a distribution that still moves is called one whose load is too near the capacity.
const ROUNDS_MAX: u32 = 1_000_000;

/// A server with Poisson arrivals that serves whoever waits in one batch, of constant length plus a constant for each
/// call in it. It starts at once when somebody comes and it is idle.
///
/// Exact: the chain of how many wait at the end of a batch (N. Bailey, 1954), and between ends the mean of Poisson
/// arrivals.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GroupCommit {
    arrival_per_s: f64,
    mean_batch: f64,
    utilisation: f64,
    in_system: f64,
    service_s: f64,
}

impl GroupCommit {
    /// Batches of at most `batch_max` calls (`None`: of any number) that take `per_batch_s` and `per_call_s` for each call.
    ///
    /// # Errors
    /// [`QueueingError::Unstable`] when the largest batches are too slow; its load is the part of the time they would
    /// take.
    pub fn new(
        arrival_per_s: f64,
        per_batch_s: f64,
        per_call_s: f64,
        batch_max: Option<u32>,
    ) -> Result<Self, QueueingError> {
        positive("the arrival rate", arrival_per_s)?;
        positive("the time of a batch", per_batch_s)?;
        not_negative("the time of a call in a batch", per_call_s)?;
        let largest = match batch_max {
            Some(calls) => positive("the largest batch", f64::from(calls))?,
            None => f64::INFINITY,
        };
        stable(arrival_per_s * (per_batch_s / largest + per_call_s), 1.0)?;
        let length_s = |calls: f64| per_batch_s + per_call_s * calls;
        let chain = Chain::solve(arrival_per_s, largest, length_s)?;
        // Means over one batch, each started with `waiting` calls in line: its length, the idle time before it, how
        // many it serves, and the time that calls spend in the system meanwhile.
        let (mut busy_s, mut idle_s, mut served, mut spent_s, mut in_service_s) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (at_end, share) in chain.shares.iter().enumerate() {
            let at_end = at_end as f64;
            let waiting = at_end.max(1.0);
            let batch = waiting.min(largest);
            let length = length_s(batch);
            busy_s += share * length;
            idle_s += if at_end == 0.0 { share / arrival_per_s } else { 0.0 };
            served += share * batch;
            spent_s += share * (waiting * length + arrival_per_s * length * length / 2.0);
            in_service_s += share * batch * length;
        }
        let cycle_s = busy_s + idle_s;
        Ok(Self {
            arrival_per_s,
            mean_batch: served,
            utilisation: busy_s / cycle_s,
            in_system: spent_s / cycle_s,
            service_s: in_service_s / served,
        })
    }

    /// The mean number of calls in a batch.
    #[must_use]
    pub const fn mean_batch(&self) -> f64 {
        self.mean_batch
    }

    /// Batches per second.
    #[must_use]
    pub fn batches_per_s(&self) -> f64 {
        self.arrival_per_s / self.mean_batch
    }

    /// The part of the time that the server is busy, 0 to 1.
    #[must_use]
    pub const fn utilisation(&self) -> f64 {
        self.utilisation
    }

    /// The mean time from arrival to the end of the batch, in seconds.
    #[must_use]
    pub fn mean_response_s(&self) -> f64 {
        self.in_system / self.arrival_per_s
    }

    /// The mean time until a call's batch begins, in seconds.
    #[must_use]
    pub fn mean_wait_s(&self) -> f64 {
        self.mean_response_s() - self.service_s
    }

    /// The mean number of calls waiting or in a batch.
    #[must_use]
    pub const fn mean_in_system(&self) -> f64 {
        self.in_system
    }
}

/// How many wait at the end of a batch.
struct Chain {
    shares: Vec<f64>,
}

impl Chain {
    fn solve(arrival_per_s: f64, largest: f64, length_s: impl Fn(f64) -> f64) -> Result<Self, QueueingError> {
        let states = states(arrival_per_s, largest, &length_s);
        // What comes during a batch depends only on how many it serves.
        let distinct = if largest.is_finite() { (largest as usize).min(states) } else { states };
        let arrivals: Vec<Window> =
            (1..=distinct.max(1)).map(|calls| Window::poisson(arrival_per_s * length_s(calls as f64))).collect();
        let mut shares = vec![0.0; states];
        if let Some(first) = shares.first_mut() {
            *first = 1.0;
        }
        for _ in 0..ROUNDS_MAX {
            let mut next = vec![0.0; states];
            for (at_end, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
                let waiting = at_end.max(1);
                let batch = waiting.min(distinct);
                if let Some(window) = arrivals.get(batch - 1) {
                    window.add(share, waiting - batch, &mut next);
                }
            }
            let moved: f64 = shares.iter().zip(&next).map(|(before, after)| (before - after).abs()).sum();
            shares = next;
            if moved < 1e-14 {
                return Ok(Self { shares });
            }
        }
        let load = arrival_per_s * length_s(largest) / largest;
        Err(QueueingError::Unstable { load, capacity: 1.0 })
    }
}

/// How many states hold all but e^−[`TAIL`] of the queue: its tail falls at least as fast as that of a random walk with
/// the same drift and variance.
fn states(arrival_per_s: f64, largest: f64, length_s: impl Fn(f64) -> f64) -> usize {
    if largest.is_finite() {
        let come = arrival_per_s * length_s(largest);
        let excess = TAIL * come / (2.0 * (largest - come));
        return (largest + excess + come + 12.0 * come.sqrt() + 40.0) as usize;
    }
    // Without a bound the batch grows until it takes in what comes: the fixed point, and room for its spread.
    let (fixed, slope) = (arrival_per_s * length_s(0.0), arrival_per_s * (length_s(1.0) - length_s(0.0)));
    let mean = (fixed / (1.0 - slope)).max(1.0);
    let spread = (mean / (1.0 - slope * slope)).sqrt();
    (mean + 14.0 * spread + 40.0) as usize
}

/// The part of a Poisson distribution that matters.
struct Window {
    from: usize,
    shares: Vec<f64>,
}

impl Window {
    fn poisson(mean: f64) -> Self {
        let spread = 10.0 * mean.sqrt() + 25.0;
        let from = (mean - spread).max(0.0).floor();
        let to = (mean + spread).ceil();
        let log_factorial: f64 = (1..=from as u64).map(|number| (number as f64).ln()).sum();
        let mut share = (from * mean.ln() - mean - log_factorial).exp();
        let mut shares = vec![share];
        let mut number = from;
        while number < to {
            number += 1.0;
            share *= mean / number;
            shares.push(share);
        }
        let sum: f64 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share /= sum);
        Self { from: from as usize, shares }
    }

    fn add(&self, weight: &f64, left: usize, to: &mut [f64]) {
        let last = to.len() - 1;
        for (place, share) in self.shares.iter().enumerate() {
            if let Some(target) = to.get_mut((left + self.from + place).min(last)) {
                *target += weight * share;
            }
        }
    }
}
