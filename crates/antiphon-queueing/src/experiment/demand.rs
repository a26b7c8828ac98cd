//! What calls take of a worker.

use crate::experiment::scenario::Demand;
use crate::experiment::{Problem, Traces};
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Exp1, LogNormal, Pareto};
use std::sync::Arc;

/// What varies more is no service time.
const CV_MAX: f64 = 1_000.0;

/// Service times, one after the other.
pub(crate) enum Demands {
    Constant(f64),
    Exponential(f64),
    LogNormal(LogNormal<f64>),
    Pareto(Pareto<f64>),
    Trace { times_s: Arc<[f64]>, next: usize },
}

impl Demands {
    pub fn new(demand: &Demand, traces: &Traces) -> Result<Self, Problem> {
        let mean_s = Self::mean_s(demand, traces)?;
        if mean_s <= 0.0 {
            return Err(Problem("a service time is above 0".to_owned()));
        }
        Ok(match demand {
            Demand::Constant { .. } => Self::Constant(mean_s),
            Demand::Exponential { .. } => Self::Exponential(mean_s),
            Demand::LogNormal { cv, .. } => {
                if !(0.0..=CV_MAX).contains(cv) {
                    return Err(Problem(format!("a coefficient of variation is 0 to {CV_MAX}, not {cv}")));
                }
                let spread = (1.0 + cv * cv).ln();
                let fitted = LogNormal::new(mean_s.ln() - spread / 2.0, spread.sqrt());
                Self::LogNormal(fitted.map_err(|_| Problem(format!("a coefficient of variation is not {cv}")))?)
            }
            Demand::Pareto { shape, .. } => {
                if *shape <= 1.0 {
                    return Err(Problem(format!("a Pareto distribution of shape {shape} has no mean: it is above 1")));
                }
                let fitted = Pareto::new(mean_s * (shape - 1.0) / shape, *shape);
                Self::Pareto(fitted.map_err(|_| Problem(format!("a shape is not {shape}")))?)
            }
            Demand::Trace { file } => Self::Trace { times_s: traces.get(file)?, next: 0 },
        })
    }

    /// On average, in seconds.
    pub fn mean_s(demand: &Demand, traces: &Traces) -> Result<f64, Problem> {
        Ok(match demand {
            Demand::Constant { mean }
            | Demand::Exponential { mean }
            | Demand::LogNormal { mean, .. }
            | Demand::Pareto { mean, .. } => mean.0,
            Demand::Trace { file } => {
                let times_s = traces.get(file)?;
                times_s.iter().sum::<f64>() / times_s.len() as f64
            }
        })
    }

    pub fn next(&mut self, random: &mut SmallRng) -> f64 {
        match self {
            Self::Constant(mean_s) => *mean_s,
            Self::Exponential(mean_s) => {
                let drawn: f64 = Exp1.sample(random);
                drawn * *mean_s
            }
            Self::LogNormal(distribution) => distribution.sample(random),
            Self::Pareto(distribution) => distribution.sample(random),
            Self::Trace { times_s, next } => {
                let time_s = times_s.get(*next).copied().unwrap_or_default();
                *next = (*next + 1) % times_s.len();
                time_s
            }
        }
    }
}
