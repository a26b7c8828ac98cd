//! When calls come: the next time after the last.

use crate::experiment::scenario::Arrival;
use crate::experiment::{Problem, Traces};
use crate::service::unit;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Exp1};
use std::f64::consts::TAU;
use std::sync::Arc;

/// A process of arrivals.
pub(crate) struct Arrivals {
    kind: Kind,
    /// When the last came, in seconds.
    last_s: f64,
}

enum Kind {
    Poisson { rate: f64 },
    Bursty { rates: [f64; 2], lengths_s: [f64; 2], burst: usize, until_s: f64 },
    Diurnal { rate: f64, swing: f64, period_s: f64 },
    Trace { times_s: Arc<[f64]>, scale: f64, next: usize, round_s: f64 },
}

impl Arrivals {
    /// The process, with its rate multiplied by `factor`.
    pub fn new(arrival: &Arrival, factor: f64, traces: &Traces) -> Result<Self, Problem> {
        let kind = match arrival {
            Arrival::Poisson { rate } => Kind::Poisson { rate: rate.0 * factor },
            Arrival::Bursty { rate, burst, every, lasting } => {
                let quiet_s = every.0 - lasting.0;
                let quiet = rate.0 * (every.0 - burst * lasting.0) / quiet_s;
                if !(lasting.0 > 0.0 && quiet_s > 0.0 && quiet >= 0.0 && *burst > 0.0) {
                    return Err(Problem(format!(
                        "bursts of ×{burst} lasting {} s every {} s leave nothing for the quiet: a burst may have at most the whole rate, burst × lasting ≤ every",
                        lasting.0, every.0
                    )));
                }
                let rates = [quiet * factor, rate.0 * burst * factor];
                Kind::Bursty { rates, lengths_s: [quiet_s, lasting.0], burst: 1, until_s: 0.0 }
            }
            Arrival::Diurnal { rate, swing, period } => {
                if !(0.0..=1.0).contains(swing) || period.0 <= 0.0 {
                    return Err(Problem(format!(
                        "a rate swings by 0 to 1 of itself, not {swing}, over a period above 0"
                    )));
                }
                Kind::Diurnal { rate: rate.0 * factor, swing: *swing, period_s: period.0 }
            }
            Arrival::Trace { file } => {
                let times_s = traces.get(file)?;
                if times_s.windows(2).any(|two| matches!(two, [a, b] if b < a)) {
                    return Err(Problem(format!("{file}: the times of arrivals do not go back")));
                }
                Kind::Trace { times_s, scale: 1.0 / factor, next: 0, round_s: 0.0 }
            }
        };
        Ok(Self { kind, last_s: 0.0 })
    }

    /// How many come per second in the long run, before any factor.
    pub fn rate(arrival: &Arrival, traces: &Traces) -> Result<f64, Problem> {
        Ok(match arrival {
            Arrival::Poisson { rate } | Arrival::Bursty { rate, .. } | Arrival::Diurnal { rate, .. } => rate.0,
            Arrival::Trace { file } => {
                let times_s = traces.get(file)?;
                times_s.len() as f64 / times_s.last().copied().filter(|last| *last > 0.0).unwrap_or(1.0)
            }
        })
    }

    /// When the next comes, in seconds.
    pub fn next(&mut self, random: &mut SmallRng) -> f64 {
        let wait = |random: &mut SmallRng, rate: f64| -> f64 {
            let wait: f64 = Exp1.sample(random);
            wait / rate
        };
        match &mut self.kind {
            Kind::Poisson { rate } => self.last_s += wait(random, *rate),
            Kind::Bursty { rates, lengths_s, burst, until_s } => loop {
                let at = |of: &[f64; 2], burst: usize| of.get(burst).copied().unwrap_or_default();
                let next = self.last_s + wait(random, at(rates, *burst));
                if next <= *until_s {
                    self.last_s = next;
                    break;
                }
                // An exponential wait has no memory: it may begin anew with the next rate.
                self.last_s = *until_s;
                *burst = 1 - *burst;
                *until_s += wait(random, 1.0 / at(lengths_s, *burst));
            },
            Kind::Diurnal { rate, swing, period_s } => loop {
                // Thinning: as many as at the height of the day, and of them as many as are due.
                self.last_s += wait(random, *rate * (1.0 + *swing));
                let due = 1.0 + *swing * (TAU * self.last_s / *period_s).sin();
                if unit(random) * (1.0 + *swing) <= due {
                    break;
                }
            },
            Kind::Trace { times_s, scale, next, round_s } => {
                if *next == times_s.len() {
                    *next = 0;
                    *round_s = self.last_s;
                }
                self.last_s = *round_s + times_s.get(*next).copied().unwrap_or_default() * *scale;
                *next += 1;
            }
        }
        self.last_s
    }
}
