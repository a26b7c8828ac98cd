//! A plan: what to expect of calls at a rate, workers and a service time; and what changes when the load does.

use crate::error::positive;
use crate::{General, QueueingError, Service};
use serde::Serialize;

/// A load is called hopeless for its target only after the probability of waiting has fallen below this.
const HARDLY_WAITS: f64 = 1e-12;
/// The changes of load that a plan looks at.
const CHANGES: [f64; 4] = [0.8, 1.0, 1.2, 2.0];

/// Calls at a rate, what each takes, and how many run at a time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Station {
    /// Calls per second.
    pub arrival_per_s: f64,
    /// What a call takes of a worker.
    pub service: Service,
    /// How many calls run at a time: the slots of all workers together.
    pub workers: u32,
}

/// What is wanted of the response time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Target {
    /// The part of calls, 0 to 1; `None` is the mean.
    pub quantile: Option<f64>,
    /// The time to the reply that they keep, in seconds.
    pub response_s: f64,
}

/// Quantiles of a time, in seconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Quantiles {
    /// Half of the calls keep it.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// Ninety-nine of a hundred.
    pub p99: f64,
}

/// What to expect in the long run. Calls are taken in the order they came, and none is given up.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Prediction {
    /// Calls per second.
    pub arrival_per_s: f64,
    /// How many workers the load keeps busy, in erlangs.
    pub load: f64,
    /// The part of the time that a worker is busy.
    pub utilisation: f64,
    /// The part of calls that wait.
    pub probability_of_waiting: f64,
    /// In the queue, in seconds.
    pub mean_wait_s: f64,
    /// From arrival to reply, in seconds.
    pub mean_response_s: f64,
    /// Calls that wait.
    pub mean_queue_length: f64,
    /// The time in the queue.
    pub wait_s: Quantiles,
    /// The time from arrival to reply.
    pub response_s: Quantiles,
    /// The part of calls whose reply takes longer than the deadline, if there is one.
    pub probability_of_missing_deadline: Option<f64>,
}

/// What a change of the load would mean.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Outlook {
    /// What the arrival rate is multiplied by.
    pub factor: f64,
    /// Calls per second.
    pub arrival_per_s: f64,
    /// What to expect; `None` when the queue would grow without end.
    pub prediction: Option<Prediction>,
    /// The fewest workers that keep the target at this load, if any number does.
    pub workers_needed: Option<u32>,
}

/// A prediction, the workers needed, and the outlook.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Plan {
    /// How many calls run at a time.
    pub workers: u32,
    /// What to expect.
    #[serde(flatten)]
    pub prediction: Prediction,
    /// The fewest workers that keep the target, if any number does; without a target, that carry the load.
    pub workers_needed: Option<u32>,
    /// The same at other loads.
    pub outlook: Vec<Outlook>,
}

impl Station {
    fn model(&self) -> Result<General, QueueingError> {
        General::new(self.arrival_per_s, self.service, self.workers)
    }

    /// What to expect; `deadline_s` is what counts as too late, in seconds.
    ///
    /// # Errors
    /// [`QueueingError::Unstable`] when the queue would grow without end.
    pub fn predict(&self, deadline_s: Option<f64>) -> Result<Prediction, QueueingError> {
        let model = self.model()?;
        if let Some(deadline_s) = deadline_s {
            positive("the deadline", deadline_s)?;
        }
        let quantiles = |of: &dyn Fn(f64) -> f64| Quantiles { p50: of(0.5), p90: of(0.9), p99: of(0.99) };
        Ok(Prediction {
            arrival_per_s: self.arrival_per_s,
            load: model.load(),
            utilisation: model.utilisation(),
            probability_of_waiting: model.probability_of_waiting(),
            mean_wait_s: model.mean_wait_s(),
            mean_response_s: model.mean_response_s(),
            mean_queue_length: model.mean_queue_length(),
            wait_s: quantiles(&|quantile| model.wait_quantile_s(quantile)),
            response_s: quantiles(&|quantile| model.response_quantile_s(quantile)),
            probability_of_missing_deadline: deadline_s.map(|deadline_s| model.response_tail(deadline_s)),
        })
    }

    /// The fewest workers with which the queue does not grow without end, and the target, if there is one, is kept.
    /// `None` when no number is enough, because the service alone takes longer.
    ///
    /// # Errors
    /// [`QueueingError::Invalid`] for a target that has no meaning.
    pub fn workers_needed(&self, target: Option<Target>) -> Result<Option<u32>, QueueingError> {
        let load = positive("the arrival rate", self.arrival_per_s)? * self.service.mean_s();
        if load >= f64::from(u32::MAX / 2) {
            return Err(QueueingError::Invalid { what: "the load", value: load, must: "below two thousand million" });
        }
        let least = load.floor() as u32 + 1;
        let Some(target) = target else { return Ok(Some(least)) };
        positive("the target", target.response_s)?;
        let keeps = |workers: u32| -> Result<(bool, f64), QueueingError> {
            let model = Self { workers, ..*self }.model()?;
            let kept = match target.quantile {
                Some(quantile) => model.response_tail(target.response_s) <= 1.0 - quantile,
                None => model.mean_response_s() <= target.response_s,
            };
            Ok((kept, model.probability_of_waiting()))
        };
        // Doubling what is above the least, then halving: the response only gets shorter with more workers.
        let (mut low, mut extra) = (least, 0);
        let mut high = least;
        loop {
            let (kept, waits) = keeps(high)?;
            if kept {
                break;
            }
            if waits < HARDLY_WAITS {
                return Ok(None);
            }
            low = high + 1;
            extra = (extra * 2).max(1);
            high = least.saturating_add(extra);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if keeps(middle)?.0 {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(Some(low))
    }

    /// The whole plan.
    ///
    /// # Errors
    /// [`QueueingError::Unstable`] when the queue would grow without end at the load itself.
    pub fn plan(&self, deadline_s: Option<f64>, target: Option<Target>) -> Result<Plan, QueueingError> {
        let prediction = self.predict(deadline_s)?;
        let outlook = CHANGES.iter().map(|factor| {
            let station = Self { arrival_per_s: self.arrival_per_s * factor, ..*self };
            Ok(Outlook {
                factor: *factor,
                arrival_per_s: station.arrival_per_s,
                prediction: match station.predict(deadline_s) {
                    Ok(prediction) => Some(prediction),
                    Err(QueueingError::Unstable { .. }) => None,
                    Err(error) => return Err(error),
                },
                workers_needed: station.workers_needed(target)?,
            })
        });
        Ok(Plan {
            workers: self.workers,
            prediction,
            workers_needed: self.workers_needed(target)?,
            outlook: outlook.collect::<Result<_, _>>()?,
        })
    }
}
