//! Little's law, L = λW (J. D. C. Little, 1961): for any system in the long run, whatever its order, its distributions
//! and what counts as the system, as long as what goes in comes out.

/// How many are in a system that `throughput_per_s` go through and where each stays `sojourn_s` on average.
#[must_use]
pub const fn number_in_system(throughput_per_s: f64, sojourn_s: f64) -> f64 {
    throughput_per_s * sojourn_s
}

/// How long each stays, in seconds, when there are `number` in the system on average.
#[must_use]
pub const fn sojourn_s(number: f64, throughput_per_s: f64) -> f64 {
    number / throughput_per_s
}

/// How many go through per second when there are `number` in the system and each stays `sojourn_s`.
#[must_use]
pub const fn throughput_per_s(number: f64, sojourn_s: f64) -> f64 {
    number / sojourn_s
}
