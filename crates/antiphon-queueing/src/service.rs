//! Service times known by two moments, and the distribution that stands for them.

use crate::QueueingError;
use crate::error::{not_negative, positive};
use crate::quantile::{quantile_s, tail_of_sum};
use rand::Rng;
use rand_distr::{Distribution, Exp1, Gamma};

/// Below this coefficient of variation a service time is taken to be always the same: its spread is then less than the
/// error of the waiting time's approximation.
const CONSTANT_CV: f64 = 0.03;
/// Points of the quadrature over an Erlang density; its error is below 1e-6.
const POINTS: u32 = 400;

/// Service times by their mean and their coefficient of variation (standard deviation ÷ mean).
///
/// Where a whole distribution is needed it is the usual fit of two moments: always the same at 0, a mixture of two
/// Erlang distributions below 1, exponential at 1, two exponential branches with balanced means above (H. Tijms, *A
/// First Course in Stochastic Models*, 2003, appendix B).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Service {
    mean_s: f64,
    cv: f64,
    fit: Fit,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Fit {
    Constant,
    /// `stages − 1` stages with probability `shorter`, else `stages`; `log_factorial` is ln (stages − 1)!.
    Erlang {
        stages: u32,
        shorter: f64,
        rate: f64,
        log_factorial: f64,
    },
    /// An exponential time at the first rate with this probability, else at the second.
    Branches {
        first: f64,
        rates: (f64, f64),
    },
}

impl Service {
    /// Service times of `mean_s` seconds on average.
    ///
    /// # Errors
    /// [`QueueingError::Invalid`] for a mean that is not above 0 or a negative coefficient.
    pub fn new(mean_s: f64, cv: f64) -> Result<Self, QueueingError> {
        positive("the service time", mean_s)?;
        not_negative("the coefficient of variation", cv)?;
        let square = cv * cv;
        let fit = if cv < CONSTANT_CV {
            Fit::Constant
        } else if cv < 1.0 {
            let stages = (1.0 / square - 1e-9).ceil().max(2.0);
            let root = (stages * (1.0 + square) - stages * stages * square).max(0.0).sqrt();
            let shorter = (stages * square - root) / (1.0 + square);
            let rate = (stages - shorter) / mean_s;
            let stages = stages as u32;
            let log_factorial = (1..stages).map(|stage| f64::from(stage).ln()).sum();
            Fit::Erlang { stages, shorter, rate, log_factorial }
        } else {
            let first = 0.5 * (1.0 + ((square - 1.0) / (square + 1.0)).sqrt());
            Fit::Branches { first, rates: (2.0 * first / mean_s, 2.0 * (1.0 - first) / mean_s) }
        };
        Ok(Self { mean_s, cv, fit })
    }

    /// The mean, in seconds.
    #[must_use]
    pub const fn mean_s(&self) -> f64 {
        self.mean_s
    }

    /// Standard deviation ÷ mean.
    #[must_use]
    pub const fn cv(&self) -> f64 {
        self.cv
    }

    /// The probability of taking longer than `t` seconds.
    #[must_use]
    pub fn tail(&self, t: f64) -> f64 {
        match self.fit {
            Fit::Constant => f64::from(u8::from(t < self.mean_s)),
            Fit::Erlang { stages, shorter, rate, log_factorial } => {
                let last = erlang_term(stages, rate * t, log_factorial);
                let longer = erlang_tail(stages, rate * t, last);
                // One stage less: the same sum without its last term.
                longer - shorter * last
            }
            Fit::Branches { first, rates } => first * (-rates.0 * t).exp() + (1.0 - first) * (-rates.1 * t).exp(),
        }
    }

    /// The probability that a wait and the service together take longer than `t` seconds: the wait is 0 with
    /// probability 1 − `waits`, else exponential with `wait_rate` per second.
    pub(crate) fn response_tail(&self, waits: f64, wait_rate: f64, t: f64) -> f64 {
        match self.fit {
            Fit::Constant if t < self.mean_s => 1.0,
            Fit::Constant => waits * (-wait_rate * (t - self.mean_s)).exp(),
            Fit::Erlang { .. } => self.tail(t) + waits * self.after_service(wait_rate, t),
            Fit::Branches { first, rates } => {
                let branch = |rate: f64| (1.0 - waits) * (-rate * t).exp() + waits * tail_of_sum(rate, wait_rate, t);
                first * branch(rates.0) + (1.0 - first) * branch(rates.1)
            }
        }
    }

    /// ∫ density(s) · e^(−rate·(t − s)) ds over 0..t, by Simpson's rule where the density has its mass.
    fn after_service(&self, wait_rate: f64, t: f64) -> f64 {
        let spread = self.mean_s * self.cv;
        let low = (self.mean_s - 12.0 * spread).max(0.0);
        let high = (self.mean_s + 25.0 * spread).min(t);
        if high <= low {
            return 0.0;
        }
        let step = (high - low) / f64::from(POINTS);
        let value = |point: u32| {
            let s = low + step * f64::from(point);
            self.density(s) * (-wait_rate * (t - s)).exp()
        };
        let inner: f64 = (1..POINTS).map(|point| value(point) * if point % 2 == 1 { 4.0 } else { 2.0 }).sum();
        (value(0) + inner + value(POINTS)) * step / 3.0
    }

    fn density(&self, s: f64) -> f64 {
        let Fit::Erlang { stages, shorter, rate, log_factorial } = self.fit else { return 0.0 };
        let term = erlang_term(stages, rate * s, log_factorial);
        let before = if s > 0.0 { term * f64::from(stages - 1) / (rate * s) } else { f64::from(u8::from(stages == 2)) };
        rate * ((1.0 - shorter) * term + shorter * before)
    }

    /// The time that a part `quantile` (0 to 1) of services does not exceed, in seconds.
    #[must_use]
    pub fn quantile_s(&self, quantile: f64) -> f64 {
        quantile_s(quantile, self.mean_s, |t| self.tail(t))
    }

    /// One service time, in seconds.
    pub fn sample(&self, random: &mut impl Rng) -> f64 {
        let exponential = |random: &mut _| -> f64 { Exp1.sample(random) };
        match self.fit {
            Fit::Constant => self.mean_s,
            Fit::Erlang { stages, shorter, rate, .. } => {
                let stages = if unit(random) < shorter { stages - 1 } else { stages };
                let gamma = Gamma::new(f64::from(stages), 1.0 / rate);
                gamma.expect("stages and rate are above 0").sample(random)
            }
            Fit::Branches { first, rates } => {
                let rate = if unit(random) < first { rates.0 } else { rates.1 };
                exponential(random) / rate
            }
        }
    }
}

/// A number between 0 and 1.
pub(crate) fn unit(random: &mut impl Rng) -> f64 {
    // 53 bits: as many as a double has.
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// e^(−x) · x^(stages − 1) / (stages − 1)!
fn erlang_term(stages: u32, x: f64, log_factorial: f64) -> f64 {
    if x <= 0.0 {
        return f64::from(u8::from(stages == 1));
    }
    (f64::from(stages - 1) * x.ln() - x - log_factorial).exp()
}

/// The tail of an Erlang distribution: the Poisson probabilities of fewer than `stages`, the last of which is `last`. Each
/// side of the mean sums what falls off from its own end, so that nothing that counts is too small for a double.
fn erlang_tail(stages: u32, x: f64, last: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    if x < f64::from(stages) {
        let (mut term, mut sum, mut stage) = (last, 0.0, f64::from(stages));
        while term > 0.0 && sum + term > sum {
            term *= x / stage;
            sum += term;
            stage += 1.0;
        }
        return 1.0 - sum;
    }
    let (mut term, mut sum) = (last, last);
    for stage in (1..stages).rev() {
        term *= f64::from(stage) / x;
        sum += term;
    }
    sum.min(1.0)
}
