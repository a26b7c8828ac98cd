//! What is counted of calls: how they ended, how long they waited, and how that changed over time.

use crate::experiment::station::End;
use hdrhistogram::Histogram;
use serde::Serialize;

/// A response that takes longer is counted as this long: two months.
const LONGEST: u64 = 60 * 86_400 * PER_S;
/// The histogram's unit: a ten-millionth of a second.
const PER_S: u64 = 10_000_000;
/// Groups of calls whose means tell how far the mean of all can be trusted.
const BATCHES: usize = 20;
/// Student's t for 95 % and 19 degrees of freedom.
const T_95: f64 = 2.093;
/// Points of a line over time.
pub(crate) const BUCKETS: usize = 150;

/// One kind of calls.
pub(crate) struct Tally {
    counts: Counts,
    response: Histogram<u64>,
    wait_sum_s: f64,
    answer_sum_s: f64,
    ended: u64,
    batches: [(f64, u64); BATCHES],
}

/// How many calls, by what became of them.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Counts {
    /// Submitted.
    pub submitted: u64,
    /// With a reply.
    pub succeeded: u64,
    /// Of those, before their deadline.
    pub in_time: u64,
    /// Failed for good.
    pub failed: u64,
    /// Given up at their deadline.
    pub expired: u64,
    /// Refused at the door.
    pub refused: u64,
    /// Attempts started.
    pub attempts: u64,
}

/// What was measured of one kind of calls.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// How many.
    #[serde(flatten)]
    pub counts: Counts,
    /// The part of calls with a reply before their deadline.
    pub in_time_share: f64,
    /// From submission to the start of the last attempt, of calls with a reply, in seconds.
    pub mean_wait_s: f64,
    /// From submission to reply, in seconds.
    pub mean_response_s: f64,
    /// How far off that mean may be (95 %), in seconds.
    pub mean_response_error_s: f64,
    /// Percentiles of it.
    pub response_s: Percentiles,
    /// From submission to whatever the caller hears, in seconds.
    pub mean_answer_s: f64,
}

/// Percentiles of a time, in seconds, to three digits.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[allow(missing_docs)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
}

/// A call that has ended.
pub(crate) struct Ended {
    pub how: End,
    pub response_ns: u64,
    pub wait_ns: u64,
    pub deadline_ns: u64,
    /// Where it stands among those that are counted, 0 to 1.
    pub place: f64,
}

impl Ended {
    /// Whether there was a reply before the deadline.
    pub fn in_time(&self) -> bool {
        self.how == End::Succeeded && (self.deadline_ns == 0 || self.response_ns <= self.deadline_ns)
    }
}

impl Tally {
    pub fn new() -> Self {
        let response = Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds that a histogram takes");
        let batches = [(0.0, 0); BATCHES];
        Self { counts: Counts::default(), response, wait_sum_s: 0.0, answer_sum_s: 0.0, ended: 0, batches }
    }

    pub fn submitted(&mut self) {
        self.counts.submitted += 1;
    }

    pub fn attempt(&mut self) {
        self.counts.attempts += 1;
    }

    pub fn ended(&mut self, it: &Ended) {
        let response_s = it.response_ns as f64 / 1e9;
        self.ended += 1;
        self.answer_sum_s += response_s;
        self.counts.in_time += u64::from(it.in_time());
        match it.how {
            End::Failed => self.counts.failed += 1,
            End::Expired => self.counts.expired += 1,
            End::Refused => self.counts.refused += 1,
            End::Succeeded => {
                self.counts.succeeded += 1;
                self.wait_sum_s += it.wait_ns as f64 / 1e9;
                self.response.saturating_record((it.response_ns / (1_000_000_000 / PER_S)).max(1));
                let batch = ((it.place * BATCHES as f64) as usize).min(BATCHES - 1);
                if let Some((sum, count)) = self.batches.get_mut(batch) {
                    *sum += response_s;
                    *count += 1;
                }
            }
        }
    }

    /// Takes in what another tally counted.
    pub fn add(&mut self, other: &Self) {
        let (ours, theirs) = (&mut self.counts, &other.counts);
        ours.submitted += theirs.submitted;
        ours.succeeded += theirs.succeeded;
        ours.in_time += theirs.in_time;
        ours.failed += theirs.failed;
        ours.expired += theirs.expired;
        ours.refused += theirs.refused;
        ours.attempts += theirs.attempts;
        self.response.add(&other.response).expect("the bounds are the same");
        self.wait_sum_s += other.wait_sum_s;
        self.answer_sum_s += other.answer_sum_s;
        self.ended += other.ended;
        for (ours, theirs) in self.batches.iter_mut().zip(&other.batches) {
            ours.0 += theirs.0;
            ours.1 += theirs.1;
        }
    }

    pub fn measured(&self) -> Measured {
        let percentile = |quantile: f64| self.response.value_at_quantile(quantile) as f64 / PER_S as f64;
        let mean = |sum: f64, count: u64| if count > 0 { sum / count as f64 } else { 0.0 };
        let sum: f64 = self.batches.iter().map(|batch| batch.0).sum();
        let mean_response_s = mean(sum, self.counts.succeeded);
        let spread: f64 = self.batches.iter().map(|batch| (mean(batch.0, batch.1) - mean_response_s).powi(2)).sum();
        let batches = BATCHES as f64;
        Measured {
            counts: self.counts,
            in_time_share: mean(self.counts.in_time as f64, self.counts.submitted),
            mean_wait_s: mean(self.wait_sum_s, self.counts.succeeded),
            mean_response_s,
            mean_response_error_s: T_95 * (spread / (batches - 1.0) / batches).sqrt(),
            response_s: Percentiles {
                p50: percentile(0.5),
                p90: percentile(0.9),
                p99: percentile(0.99),
                p999: percentile(0.999),
            },
            mean_answer_s: mean(self.answer_sum_s, self.ended),
        }
    }

    /// The response time that this part of calls keeps, in seconds.
    pub fn response_quantile_s(&self, quantile: f64) -> f64 {
        self.response.value_at_quantile(quantile) as f64 / PER_S as f64
    }
}

/// What a broker measures of itself, in the end: newer samples weigh more.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BrokerMeasured {
    /// Between two starts while calls wait, in seconds.
    pub start_interval_s: Option<f64>,
    /// From lease to end of an attempt, on average, in seconds.
    pub service_s: f64,
    /// Its standard deviation ÷ its mean.
    pub service_cv: f64,
    /// What it said of waits when it accepted calls, on average, in seconds.
    pub promised_wait_s: Option<f64>,
    /// How far its predictions of waits are off, as a part of them.
    pub prediction_error: Option<f64>,
}

/// A stretch of time.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Bucket {
    /// Its middle, in seconds since the beginning.
    pub at_s: f64,
    /// Calls submitted in it, per second.
    pub submitted_per_s: f64,
    /// Replies before the deadline of calls submitted in it, per second.
    pub goodput_per_s: f64,
    /// Attempts started in it, per second.
    pub attempts_per_s: f64,
    /// Calls without an end, without an attempt that runs, at its end.
    pub waiting: u64,
    /// The mean response time of calls submitted in it, in seconds.
    pub mean_response_s: f64,
    /// How many those are, whatever became of them.
    #[serde(skip)]
    pub replies: u64,
}
