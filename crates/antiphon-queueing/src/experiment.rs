//! Experiments: the real engine, or a model beside it, on virtual time, with callers, workers and faults around it.
//!
//! The world keeps one event for each caller's next call, each running attempt and each worker's next crash, so its cost
//! does not grow with the length of the queue. It reads no clock; the same scenario gives the same results.

mod arrival;
mod central;
mod demand;
mod placed;
mod run;
mod scenario;
mod station;
mod tally;
mod world;

pub use run::{Progress, Results, SourceResults};
pub use scenario::{
    Arrival, ChartOf, Classes, Crashes, Demand, Measure, Network, Order, Outage, Over, Placement, Policy, Scenario,
    Source, Workers,
};
pub use tally::{BrokerMeasured, Bucket, Counts, Measured, Percentiles};

use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;

/// Why a scenario cannot be run, in words.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0}")]
pub struct Problem(pub String);

/// What the trace files of a scenario hold, in seconds.
#[derive(Clone, Debug, Default)]
pub struct Traces(BTreeMap<String, Arc<[f64]>>);

impl Traces {
    /// Puts in what a file holds: arrival times since the beginning, or service times, in seconds.
    ///
    /// # Errors
    /// When it holds nothing, or a time that is not finite or negative.
    pub fn insert(&mut self, file: &str, times_s: Vec<f64>) -> Result<(), Problem> {
        if times_s.is_empty() {
            return Err(Problem(format!("{file} has no times in it")));
        }
        if let Some(time_s) = times_s.iter().find(|time_s| !(time_s.is_finite() && **time_s >= 0.0)) {
            return Err(Problem(format!("{file}: {time_s} s is no time")));
        }
        self.0.insert(file.to_owned(), times_s.into());
        Ok(())
    }

    fn get(&self, file: &str) -> Result<Arc<[f64]>, Problem> {
        self.0.get(file).cloned().ok_or_else(|| Problem(format!("{file} was not read")))
    }
}

impl Scenario {
    /// The trace files that are to be read before it is run.
    #[must_use]
    pub fn trace_files(&self) -> Vec<&str> {
        let arrivals = self.source.iter().filter_map(|source| match &source.arrival {
            Arrival::Trace { file } => Some(file.as_str()),
            _ => None,
        });
        let demands = self.source.iter().filter_map(|source| match &source.service {
            Demand::Trace { file } => Some(file.as_str()),
            _ => None,
        });
        arrivals.chain(demands).collect()
    }

    /// How many calls come per second, in the long run.
    ///
    /// # Errors
    /// When a trace was not read.
    pub fn arrival_per_s(&self, traces: &Traces) -> Result<f64, Problem> {
        self.source.iter().map(|source| arrival::Arrivals::rate(&source.arrival, traces)).sum()
    }

    /// The part of the workers' time that the load takes, without retries.
    ///
    /// # Errors
    /// When a trace was not read.
    pub fn utilisation(&self, traces: &Traces) -> Result<f64, Problem> {
        let of = |source: &Source| {
            Ok(arrival::Arrivals::rate(&source.arrival, traces)? * demand::Demands::mean_s(&source.service, traces)?)
        };
        let load: f64 = self.source.iter().map(of).sum::<Result<f64, Problem>>()?;
        Ok(load / self.speed())
    }

    /// Of all slots together.
    fn speed(&self) -> f64 {
        let of = |workers: &Workers| f64::from(workers.count) * f64::from(workers.slots) * workers.speed;
        self.workers.iter().map(of).sum()
    }

    /// Refuses what cannot be run.
    ///
    /// # Errors
    /// A [`Problem`] that says what a scenario may be.
    pub fn check(&self) -> Result<(), Problem> {
        let refuse = |text: String| Err(Problem(text));
        if self.source.is_empty() {
            return refuse("nobody calls: a [[source]] says who".to_owned());
        }
        let workers: u64 = self.workers.iter().map(|workers| u64::from(workers.count)).sum();
        if workers == 0 || workers > 1_000_000 || self.workers.iter().any(|workers| workers.slots == 0) {
            return refuse("[[workers]] has a count of 1 to a million in all, and at least 1 slot each".to_owned());
        }
        if self.workers.iter().any(|workers| !(workers.speed > 0.0 && workers.speed.is_finite())) {
            return refuse("the speed of workers is above 0; 1 is normal".to_owned());
        }
        if self.calls == 0 || !(0.0..1.0).contains(&self.warm_up) {
            return refuse("there is at least 1 call, and `warm_up` is at least 0 and below 1".to_owned());
        }
        let outages = self.outage.iter().map(|outage| outage.failing);
        if let Some(part) =
            self.source.iter().map(|source| source.failing).chain(outages).find(|it| !(0.0..=1.0).contains(it))
        {
            return refuse(format!("`failing` is a part of attempts, 0 to 1, not {part}"));
        }
        if let Some(load) = self.loads.iter().find(|load| !(**load > 0.0 && load.is_finite())) {
            return refuse(format!("`loads` are utilisations above 0, not {load}"));
        }
        if let Some(source) = self.source.iter().find(|source| source.attempts == 0) {
            return refuse(format!("{}: a call has at least 1 attempt", source.name));
        }
        if self.crashes.is_some_and(|crashes| !(crashes.every.0 >= 1e-3 && crashes.back_after.0 >= 1e-3)) {
            return refuse(
                "`crashes` come every millisecond at most, and take workers away for at least one".to_owned(),
            );
        }
        if let Some(outage) = self.outage.iter().find(|outage| outage.from.0 >= outage.to.0) {
            let (from, to) = (outage.from.0, outage.to.0);
            return refuse(format!("an outage goes `from` a time `to` a later one, not from {from} s to {to} s"));
        }
        if self.policy.is_empty() {
            return refuse("there is no policy to run: leave `policy` out for the one of brokers".to_owned());
        }
        let mut names: Vec<&str> = self.policy.iter().map(|policy| policy.name.as_str()).collect();
        names.sort_unstable();
        if let Some([name, _]) = names.windows(2).find(|two| matches!(two, [a, b] if a == b)) {
            return refuse(format!("two policies are called {name:?}: give each a `name`"));
        }
        let placed = self.policy.iter().find(|policy| policy.placement != Placement::Central);
        if let (Some(policy), true) = (placed, self.crashes.is_some()) {
            return refuse(format!("{}: only the central queue has crashes", policy.name));
        }
        Ok(())
    }
}

/// How many slots each worker has, in the order of the scenario.
fn worker_slots(scenario: &Scenario) -> impl Iterator<Item = u32> {
    scenario.workers.iter().flat_map(|workers| (0..workers.count).map(|_| workers.slots))
}
