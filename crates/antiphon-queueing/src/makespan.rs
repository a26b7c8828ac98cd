//! How long a batch of calls takes on several workers.
//!
//! Introductory texts give T = Σ tᵢ for n calls. That is the total work: the time on one worker that is never idle, with
//! communication left out. On c workers it lies between the larger of Σ tᵢ/c and the longest call, and Graham's bound.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The least time, in seconds, in which `workers` could do all: the larger of an equal share of the work and the
/// longest call. No schedule is shorter.
#[must_use]
pub fn lower_bound_s(services_s: &[f64], workers: u32) -> f64 {
    let total: f64 = services_s.iter().sum();
    (total / f64::from(workers)).max(longest(services_s))
}

/// The longest that any schedule takes which leaves no worker idle while a call waits, in seconds (R. L. Graham, 1966):
/// Σ tᵢ/c + (1 − 1/c) · max tᵢ, at most 2 − 1/c times the best.
#[must_use]
pub fn graham_bound_s(services_s: &[f64], workers: u32) -> f64 {
    let workers = f64::from(workers);
    let total: f64 = services_s.iter().sum();
    total / workers + (1.0 - 1.0 / workers) * longest(services_s)
}

fn longest(services_s: &[f64]) -> f64 {
    services_s.iter().copied().fold(0.0, f64::max)
}

/// The time, in seconds, until all are done when free workers take the calls in the order given: what a central queue
/// does.
#[must_use]
pub fn list_schedule_s(services_s: impl IntoIterator<Item = f64>, workers: u32) -> f64 {
    let mut free_at: BinaryHeap<Reverse<Instant>> = BinaryHeap::new();
    let mut end = 0.0_f64;
    for service_s in services_s {
        // Whoever has not worked yet is free first.
        if free_at.len() < workers as usize {
            free_at.push(Reverse(Instant(service_s)));
            end = end.max(service_s);
            continue;
        }
        let Some(mut first) = free_at.peek_mut() else { return f64::INFINITY };
        first.0.0 += service_s;
        end = end.max(first.0.0);
    }
    end
}

/// The same with the longest calls first (LPT), which is at most 4/3 − 1/(3c) times the best (R. L. Graham, 1969).
#[must_use]
pub fn longest_first_s(services_s: &[f64], workers: u32) -> f64 {
    let mut sorted = services_s.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    list_schedule_s(sorted, workers)
}

/// A time that has an order.
#[derive(Clone, Copy, PartialEq)]
struct Instant(f64);

impl Eq for Instant {}

impl Ord for Instant {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Instant {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A known batch on a number of workers.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
pub struct Makespan {
    /// How many calls at a time.
    pub workers: u32,
    /// Σ tᵢ, overhead included, in seconds: the time on one worker.
    pub total_work_s: f64,
    /// No schedule is shorter, in seconds.
    pub lower_bound_s: f64,
    /// In the order given, in seconds.
    pub in_order_s: f64,
    /// The longest first, in seconds.
    pub longest_first_s: f64,
    /// No order is longer, in seconds.
    pub graham_bound_s: f64,
}

impl Makespan {
    /// Calls of these lengths, each of which also costs its worker `overhead_s`: the round trip and the decoding that
    /// T = Σ tᵢ leaves out.
    #[must_use]
    pub fn new(services_s: &[f64], overhead_s: f64, workers: u32) -> Self {
        let with_overhead: Vec<f64> = services_s.iter().map(|service_s| service_s + overhead_s).collect();
        Self {
            workers,
            total_work_s: with_overhead.iter().sum(),
            lower_bound_s: lower_bound_s(&with_overhead, workers),
            in_order_s: list_schedule_s(with_overhead.iter().copied(), workers),
            longest_first_s: longest_first_s(&with_overhead, workers),
            graham_bound_s: graham_bound_s(&with_overhead, workers),
        }
    }
}
