//! A batch that is only known by how many calls it has and how long they take: what to expect of it.

use crate::error::not_negative;
use crate::{Makespan, QueueingError, Service};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Serialize;

/// How many calls all samples of a batch have together: about a second of work for each number of workers.
const CALLS_SAMPLED: usize = 5_000_000;
/// How many samples are enough: the error of their mean is then 5 % of the spread.
const SAMPLES_MAX: usize = 400;
/// The samples are the same every time.
const SEED: u64 = 0x0061_6e74_6970_686f;

/// Batches: one whose calls are known, or samples of one that is known by its distribution.
#[derive(Clone, Debug)]
pub struct BatchPlan {
    samples: Vec<Vec<f64>>,
    overhead_s: f64,
}

/// What to expect on a number of workers.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct BatchRow {
    /// How many calls at a time.
    pub workers: u32,
    /// The mean of the time until all are done, in seconds.
    pub makespan_s: f64,
    /// The time that nine of ten such batches keep, in seconds.
    pub makespan_p90_s: f64,
    /// The mean with the longest calls first, in seconds.
    pub longest_first_s: f64,
    /// The mean of the bound that no schedule is below, in seconds.
    pub lower_bound_s: f64,
    /// The mean of the bound that no order is above, in seconds.
    pub graham_bound_s: f64,
    /// The mean time on one worker, in seconds.
    pub total_work_s: f64,
    /// The part of the workers' time that is used until all are done.
    pub efficiency: f64,
}

impl BatchPlan {
    /// A batch of calls of these lengths, each of which costs its worker `overhead_s` more.
    ///
    /// # Errors
    /// [`QueueingError::Invalid`] for a negative time.
    pub fn of(services_s: Vec<f64>, overhead_s: f64) -> Result<Self, QueueingError> {
        not_negative("the overhead", overhead_s)?;
        for service_s in &services_s {
            not_negative("a service time", *service_s)?;
        }
        Ok(Self { samples: vec![services_s], overhead_s })
    }

    /// A batch of this many calls with such service times: several samples of it, the same every time.
    ///
    /// # Errors
    /// [`QueueingError::Invalid`] for a negative overhead.
    pub fn sampled(calls: u32, service: Service, overhead_s: f64) -> Result<Self, QueueingError> {
        not_negative("the overhead", overhead_s)?;
        let mut random = SmallRng::seed_from_u64(SEED);
        let samples = (CALLS_SAMPLED / (calls as usize).max(1)).clamp(3, SAMPLES_MAX);
        let samples = if service.cv() == 0.0 { 1 } else { samples };
        let sample = |_| (0..calls).map(|_| service.sample(&mut random)).collect();
        Ok(Self { samples: (0..samples).map(sample).collect(), overhead_s })
    }

    /// What to expect on this many workers.
    #[must_use]
    pub fn on(&self, workers: u32) -> BatchRow {
        let mut all: Vec<Makespan> =
            self.samples.iter().map(|sample| Makespan::new(sample, self.overhead_s, workers)).collect();
        all.sort_by(|a, b| a.in_order_s.total_cmp(&b.in_order_s));
        let mean = |of: fn(&Makespan) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
        let nine_of_ten = (all.len() * 9).div_ceil(10).saturating_sub(1);
        let (total_work_s, makespan_s) = (mean(|it| it.total_work_s), mean(|it| it.in_order_s));
        BatchRow {
            workers,
            makespan_s,
            makespan_p90_s: all.get(nine_of_ten).map_or(0.0, |it| it.in_order_s),
            longest_first_s: mean(|it| it.longest_first_s),
            lower_bound_s: mean(|it| it.lower_bound_s),
            graham_bound_s: mean(|it| it.graham_bound_s),
            total_work_s,
            efficiency: if makespan_s > 0.0 { total_work_s / (makespan_s * f64::from(workers)) } else { 1.0 },
        }
    }

    /// The fewest workers that nine of ten such batches are done with within `budget_s`, if any number is enough.
    #[must_use]
    pub fn workers_for(&self, budget_s: f64) -> Option<u32> {
        let calls = self.samples.iter().map(Vec::len).max().unwrap_or(0);
        // More workers than calls change nothing.
        let most = u32::try_from(calls).unwrap_or(u32::MAX).max(1);
        let keeps = |workers: u32| self.on(workers).makespan_p90_s <= budget_s;
        if !keeps(most) {
            return None;
        }
        let (mut low, mut high) = (1, most);
        while low < high {
            let middle = low + (high - low) / 2;
            if keeps(middle) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(low)
    }
}
