//! Running a scenario, policy by policy and load by load.

use crate::experiment::central::Central;
use crate::experiment::placed::Placed;
use crate::experiment::scenario::{Placement, Policy, Scenario};
use crate::experiment::tally::{BrokerMeasured, Bucket, Measured, Tally};
use crate::experiment::world::{Seen, World};
use crate::experiment::{Problem, Traces, worker_slots};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Serialize;

/// Points of a distribution that are kept, as parts of calls.
const QUANTILES: [f64; 23] = [
    0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99,
    0.995, 0.998, 0.999,
];

/// Is told how many calls have come in a run, now and then; false ends the experiment.
pub type Progress<'a> = dyn FnMut(u64) -> bool + 'a;

/// What one policy did at one load.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// The policy.
    pub policy: String,
    /// The utilisation that was asked for; as the scenario has it when none was.
    pub load: f64,
    /// The part of the workers' time in which they ran something.
    pub utilisation: f64,
    /// How long it took in the world, in seconds.
    pub simulated_s: f64,
    /// Calls that had not ended when all patience was used up.
    pub lost: u64,
    /// What the engine measured of itself; nothing for the models beside it.
    pub broker: Option<BrokerMeasured>,
    /// All calls together.
    pub all: Measured,
    /// The calls of each source.
    pub sources: Vec<SourceResults>,
    /// How it went on.
    pub over_time: Vec<Bucket>,
    /// The response times that parts of all calls keep: part, seconds.
    pub distribution: Vec<(f64, f64)>,
}

/// The calls of one source.
#[derive(Clone, Debug, Serialize)]
pub struct SourceResults {
    /// Its name.
    pub source: String,
    /// What was measured.
    #[serde(flatten)]
    pub measured: Measured,
    /// The response times that parts of its calls keep: part, seconds.
    pub distribution: Vec<(f64, f64)>,
}

impl Scenario {
    /// The loads at which each policy is run: those that are named, or the one of the rates.
    ///
    /// # Errors
    /// When a trace was not read.
    pub fn loads(&self, traces: &Traces) -> Result<Vec<f64>, Problem> {
        if self.loads.is_empty() { Ok(vec![self.utilisation(traces)?]) } else { Ok(self.loads.clone()) }
    }

    /// Runs one policy at one load. The same every time.
    ///
    /// # Errors
    /// A [`Problem`] when the scenario cannot be run.
    pub fn run(
        &self,
        policy: &Policy,
        load: f64,
        traces: &Traces,
        progress: &mut Progress<'_>,
    ) -> Result<Results, Problem> {
        self.check()?;
        let factor = load / self.utilisation(traces)?;
        let seen = match policy.placement {
            Placement::Central => World::new(self, Central::new(self, policy)?, factor, traces)?.run(progress)?,
            placement => {
                let random = SmallRng::seed_from_u64(self.seed ^ 5);
                let station = Placed::new(placement, worker_slots(self), random);
                World::new(self, station, factor, traces)?.run(progress)?
            }
        };
        Ok(self.results(policy, load, seen))
    }

    fn results(&self, policy: &Policy, load: f64, seen: Seen) -> Results {
        let mut all = Tally::new();
        for tally in &seen.tallies {
            all.add(tally);
        }
        let distribution = |tally: &Tally| QUANTILES.map(|part| (part, tally.response_quantile_s(part))).to_vec();
        let sources = self.source.iter().zip(&seen.tallies).map(|(source, tally)| SourceResults {
            source: source.name.clone(),
            measured: tally.measured(),
            distribution: distribution(tally),
        });
        Results {
            policy: policy.name.clone(),
            load,
            utilisation: seen.utilisation,
            simulated_s: seen.length_s,
            lost: seen.lost,
            broker: seen.measured,
            all: all.measured(),
            sources: sources.collect(),
            over_time: seen.buckets,
            distribution: distribution(&all),
        }
    }
}
