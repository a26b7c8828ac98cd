//! How calls wait on a server that cannot delay: in queues whose every message lives equally long, and is then
//! dead-lettered to the queue of its procedure. A call waits in the longest that is not too long; the worker that gets it
//! sends what remains to the next. So a delay ends within 10 ms of its time, after few hops, and needs a worker that is up.

/// How long delay queues hold a call, in milliseconds: each at most half longer than the one before, so that a call of
/// any delay needs few of them.
const STEPS_MS: &[u64] = &[
    10,
    15,
    20,
    30,
    40,
    60,
    80,
    100,
    150,
    200,
    300,
    400,
    600,
    800,
    1_000,
    1_500,
    2_000,
    3_000,
    4_000,
    5_000,
    7_000,
    10_000,
    15_000,
    20_000,
    30_000,
    45_000,
    60_000,
    90_000,
    120_000,
    180_000,
    300_000,
    450_000,
    600_000,
    900_000,
    1_200_000,
    1_800_000,
    2_700_000,
    3_600_000,
    5_400_000,
    7_200_000,
    10_800_000,
    14_400_000,
    21_600_000,
    28_800_000,
    43_200_000,
    64_800_000,
    86_400_000,
    129_600_000,
    172_800_000,
    259_200_000,
    345_600_000,
    518_400_000,
    604_800_000,
];

/// The longest delay a caller may ask for, in milliseconds: a year, in hops of a week.
pub(crate) const DELAY_MS_MAX: u64 = 365 * 86_400_000;

/// The step for a wait of so many milliseconds: the longest that is not longer, and never less than the shortest.
pub(crate) fn step_ms(wait_ms: u64) -> u64 {
    let first = STEPS_MS.first().copied().unwrap_or(1);
    STEPS_MS.iter().rev().copied().find(|step| *step <= wait_ms).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_delay_is_over_after_few_steps_and_never_early() {
        for wait in [1_u64, 9, 10, 11, 14, 199, 3_600_000, 11_400_000, 86_399_999, 1_000_000_007] {
            let (mut left, mut hops) = (wait, 0_u64);
            while left > 0 {
                left = left.saturating_sub(step_ms(left));
                hops += 1;
            }
            assert!(hops <= 20, "{wait} ms take {hops} hops");
        }
        assert_eq!(step_ms(3_600_000), 3_600_000);
    }

    #[test]
    fn each_step_is_at_most_half_longer_than_the_one_before() {
        for pair in STEPS_MS.windows(2) {
            let [before, after] = pair else { unreachable!("windows of two") };
            assert!(before < after && *after <= before * 3 / 2 + before / 5, "{before} then {after}");
        }
    }
}
