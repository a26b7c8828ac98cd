//! What a scenario file says. Reading files is left to who has them.

use crate::quantity::{PerSecond, Seconds};
use serde::{Deserialize, Serialize};

/// An experiment: who calls, who works, what goes wrong, and the policies that are compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a few words.
    pub title: String,
    /// How many calls each policy gets.
    #[serde(default = "calls")]
    pub calls: u64,
    /// The part of them at the beginning that is not counted, while the queue fills; 0.1 by default.
    #[serde(default = "warm_up")]
    pub warm_up: f64,
    /// The same seed gives the same calls; every policy gets the same ones.
    #[serde(default)]
    pub seed: u64,
    /// Whether calls are durable: then a retry budget that is used up delays retries instead of failing calls.
    #[serde(default)]
    pub durable: bool,
    /// Who calls.
    pub source: Vec<Source>,
    /// Who works.
    pub workers: Vec<Workers>,
    /// How long a message takes, one way.
    #[serde(default)]
    pub network: Network,
    /// When attempts fail.
    #[serde(default)]
    pub outage: Vec<Outage>,
    /// How workers crash; not at all by default.
    pub crashes: Option<Crashes>,
    /// What is compared; the product's own policy by default.
    #[serde(default = "policies")]
    pub policy: Vec<Policy>,
    /// Utilisations at which all is run again, by changing the arrival rates.
    #[serde(default)]
    pub loads: Vec<f64>,
    /// What is drawn.
    #[serde(default)]
    pub chart: Vec<ChartOf>,
}

const fn calls() -> u64 {
    1_000_000
}

const fn warm_up() -> f64 {
    0.1
}

fn policies() -> Vec<Policy> {
    vec![Policy::default()]
}

/// Somebody who calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name in results.
    pub name: String,
    /// When it calls.
    pub arrival: Arrival,
    /// What its calls take of a worker of speed 1.
    pub service: Demand,
    /// Its tenant; none by default.
    pub tenant: Option<String>,
    /// Its class, 0 to 9, 9 first; 4 by default.
    #[serde(default = "priority")]
    pub priority: u8,
    /// What remains of a call when it is submitted; none by default.
    pub deadline: Option<Seconds>,
    /// How often a call is tried; 3 by default.
    #[serde(default = "attempts")]
    pub attempts: u16,
    /// The part of attempts that fail; 0 by default.
    #[serde(default)]
    pub failing: f64,
}

const fn priority() -> u8 {
    antiphon_protocol::defaults::PRIORITY
}

const fn attempts() -> u16 {
    antiphon_protocol::defaults::ATTEMPTS
}

/// When calls come.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrival {
    /// Independent of each other.
    Poisson {
        /// How many come.
        rate: PerSecond,
    },
    /// Poisson with two rates: bursts, and the quiet between them; both last exponential times.
    Bursty {
        /// How many come in the long run.
        rate: PerSecond,
        /// What the rate is multiplied by in a burst.
        burst: f64,
        /// From one burst to the next, on average.
        every: Seconds,
        /// How long a burst lasts, on average.
        lasting: Seconds,
    },
    /// Poisson with a rate that swings like the day.
    Diurnal {
        /// How many come on average.
        rate: PerSecond,
        /// How far the rate swings, as a part of itself, 0 to 1.
        swing: f64,
        /// How long a day is.
        period: Seconds,
    },
    /// As somebody recorded them: each line of the file is a time since the beginning. It is repeated.
    Trace {
        /// The file.
        file: String,
    },
}

/// What calls take.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Demand {
    /// Always the same.
    Constant {
        /// How long.
        mean: Seconds,
    },
    /// Exponential.
    Exponential {
        /// On average.
        mean: Seconds,
    },
    /// Log-normal: a long tail, as of most procedures.
    LogNormal {
        /// On average.
        mean: Seconds,
        /// Standard deviation ÷ mean.
        cv: f64,
    },
    /// Pareto: a tail so long that few calls make most of the work.
    Pareto {
        /// On average.
        mean: Seconds,
        /// The smaller, the longer the tail; above 1, and up to 2 the variance is infinite.
        shape: f64,
    },
    /// As somebody recorded them: each line of the file is a time. It is repeated.
    Trace {
        /// The file.
        file: String,
    },
}

/// Workers of one kind.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workers {
    /// How many.
    pub count: u32,
    /// How many calls each runs at a time; 1 by default.
    #[serde(default = "one_slot")]
    pub slots: u32,
    /// How fast each is; 1 by default.
    #[serde(default = "full_speed")]
    pub speed: f64,
}

const fn one_slot() -> u32 {
    1
}

const fn full_speed() -> f64 {
    1.0
}

/// How long something takes on its way; nothing by default.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Between callers and the broker, one way.
    #[serde(default)]
    pub caller: Seconds,
    /// Between the broker and workers, one way.
    #[serde(default)]
    pub worker: Seconds,
}

/// A time in which attempts fail.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// Its beginning.
    pub from: Seconds,
    /// Its end.
    pub to: Seconds,
    /// The part of attempts that fail; all by default.
    #[serde(default = "full_speed")]
    pub failing: f64,
    /// How long an attempt takes to fail; as long as it would take to succeed by default.
    pub takes: Option<Seconds>,
}

/// Workers that crash at random.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crashes {
    /// How long a worker lives, on average.
    pub every: Seconds,
    /// How long it is away.
    pub back_after: Seconds,
}

/// How calls are ordered, admitted and placed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Its name in results.
    pub name: String,
    /// In which order calls of one tenant and class go.
    pub order: Order,
    /// How classes share.
    pub classes: Classes,
    /// Whether all calls are put into one class, whatever theirs is.
    pub one_class: bool,
    /// Whether tenants take turns, or stand in one line.
    pub fair: bool,
    /// Whether a call that would start after its deadline, as far as the broker can tell, is refused at once.
    pub admission: bool,
    /// Whether retries are bounded by the budget of brokers.
    pub retry_budget: bool,
    /// Where calls wait.
    pub placement: Placement,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            name: "as built".to_owned(),
            order: Order::Due,
            classes: Classes::Weighted,
            one_class: false,
            fair: true,
            admission: true,
            retry_budget: true,
            placement: Placement::Central,
        }
    }
}

/// In which order calls of one tenant and class go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// By their due times: deadlines before calls that have none.
    Due,
    /// As they were submitted.
    Submitted,
}

/// How classes share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Classes {
    /// Each by its weight.
    Weighted,
    /// The most urgent first, always.
    Strict,
}

/// Where calls wait. All but the first are models beside the engine: calls wait at the worker they were sent to, in the
/// order they came, and there are no retries, deadlines, classes or crashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// In the broker, until a worker has a free slot.
    Central,
    /// At a worker drawn at random.
    Random,
    /// At the next worker in turn.
    RoundRobin,
    /// At the one of two drawn at random that has fewer calls (power of two choices).
    TwoChoices,
    /// At the worker with the fewest calls.
    ShortestQueue,
}

/// A chart of results.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChartOf {
    /// The file, in the directory of `--svg`.
    pub file: String,
    /// Its title.
    pub title: String,
    /// Its horizontal axis.
    pub over: Over,
    /// Its vertical axis.
    pub measure: Measure,
    /// Only these sources, each a line of its own; all together by default.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Whether the vertical axis is logarithmic.
    #[serde(default)]
    pub logarithmic: bool,
}

/// A horizontal axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// The utilisations of `loads`.
    Load,
    /// The time since the beginning.
    Time,
    /// The part of calls that keep it: the distribution of the response time.
    Calls,
}

/// A vertical axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The mean response time.
    Mean,
    /// The median response time.
    P50,
    /// The 99th percentile of the response time.
    P99,
    /// The part of calls with a reply before their deadline.
    InTime,
    /// Calls with a reply before their deadline, per second.
    Goodput,
    /// How long a caller waits for whatever it hears, on average.
    Answer,
    /// Calls that wait.
    Waiting,
    /// Attempts started per second.
    Attempts,
}
