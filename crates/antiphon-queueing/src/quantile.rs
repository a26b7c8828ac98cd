//! Quantiles of distributions that are given by their tails.

/// The smallest time, in seconds, at which `tail` (falling from at most 1 to 0) is at most `1 − quantile`.
/// `scale_s` is a time of the distribution's order, to start from.
pub(crate) fn quantile_s(quantile: f64, scale_s: f64, tail: impl Fn(f64) -> f64) -> f64 {
    let rest = 1.0 - quantile.clamp(0.0, 1.0 - 1e-15);
    if tail(0.0) <= rest {
        return 0.0;
    }
    let mut low = 0.0;
    let mut high = scale_s;
    while tail(high) > rest {
        low = high;
        high *= 2.0;
        if !high.is_finite() {
            return f64::INFINITY;
        }
    }
    // Halving 80 times leaves less than the last digit of a double.
    for _ in 0..80 {
        let middle = low + (high - low) / 2.0;
        if tail(middle) > rest {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The tail at `t` of a sum of two independent exponential times with these rates.
pub(crate) fn tail_of_sum(rate_a: f64, rate_b: f64, t: f64) -> f64 {
    let (slow, fast) = if rate_a < rate_b { (rate_a, rate_b) } else { (rate_b, rate_a) };
    // (fast·e^(−slow·t) − slow·e^(−fast·t)) / (fast − slow), written so that equal rates are no special case.
    let x = (fast - slow) * t;
    let integral = if x > 0.0 { -(-x).exp_m1() / x } else { 1.0 };
    (-slow * t).exp() * (1.0 + slow * t * integral)
}
