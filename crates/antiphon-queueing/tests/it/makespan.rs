//! Batches: bounds that hold, and predictions that come true.

use crate::reference::close;
use antiphon_queueing::{
    BatchPlan, Makespan, Service, graham_bound_s, list_schedule_s, longest_first_s, lower_bound_s,
};
use rand::{Rng, SeedableRng};

/// Graham's own worst case (1969): with the longest first, 7 calls on 3 workers take 11 where 9 would do.
#[test]
fn grahams_examples_come_out_as_printed() {
    let worst = [5.0, 5.0, 4.0, 4.0, 3.0, 3.0, 3.0];
    close(longest_first_s(&worst, 3), 11.0, 1e-12, "LPT");
    close(lower_bound_s(&worst, 3), 9.0, 1e-12, "the best");
    close(11.0 / 9.0, 4.0 / 3.0 - 1.0 / 9.0, 1e-12, "4/3 − 1/(3c)");
    // And of any order: the long call last, 2 − 1/c times the best.
    let late = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0];
    close(list_schedule_s(late, 3), 5.0, 1e-12, "in that order");
    close(graham_bound_s(&late, 3), 5.0, 1e-12, "the bound");
    close(longest_first_s(&late, 3), 3.0, 1e-12, "LPT");
}

#[test]
fn more_workers_than_calls_change_nothing() {
    assert_eq!(list_schedule_s([3.0, 1.0, 2.0], u32::MAX), 3.0);
    assert_eq!(list_schedule_s([], 3), 0.0);
    assert_eq!(list_schedule_s([1.0], 0), f64::INFINITY);
}

#[test]
fn every_schedule_lies_between_the_bounds() {
    let mut random = rand::rngs::SmallRng::seed_from_u64(5);
    for case in 0..500 {
        let calls: Vec<f64> = (0..random.next_u64() % 40 + 1).map(|_| (random.next_u64() % 1_000) as f64).collect();
        let workers = u32::try_from(random.next_u64() % 8 + 1).unwrap();
        let it = Makespan::new(&calls, 0.5, workers);
        for schedule in [it.in_order_s, it.longest_first_s] {
            assert!(it.lower_bound_s <= schedule + 1e-9 && schedule <= it.graham_bound_s + 1e-9, "{case}: {it:?}");
        }
        let ratio = 4.0 / 3.0 - 1.0 / (3.0 * f64::from(workers));
        // The best is not known, but it is at least the lower bound and at most any schedule.
        assert!(it.longest_first_s <= ratio * it.in_order_s.min(it.longest_first_s) + 1e-9);
        close(it.total_work_s, calls.iter().sum::<f64>() + 0.5 * calls.len() as f64, 1e-12, "Σ tᵢ and overhead");
    }
}

#[test]
fn one_worker_takes_the_sum_and_overhead_counts_for_every_call() {
    let it = Makespan::new(&[1.0, 2.0, 3.0], 0.1, 1);
    for time in [it.in_order_s, it.longest_first_s, it.lower_bound_s, it.graham_bound_s, it.total_work_s] {
        close(time, 6.3, 1e-12, "T = Σ tᵢ + n·overhead");
    }
}

/// With exponential calls the last ones end like a race: the work is shared until fewer are left than workers, then the
/// maximum of c exponential times, whose mean is the harmonic number.
#[test]
fn a_sampled_batch_takes_as_long_as_theory_says() {
    let (calls, workers, mean) = (2_000_u32, 8_u32, 0.01);
    let plan = BatchPlan::sampled(calls, Service::new(mean, 1.0).unwrap(), 0.0).unwrap();
    let harmonic: f64 = (1..=workers).map(|k| 1.0 / f64::from(k)).sum();
    let expected = f64::from(calls - workers) * mean / f64::from(workers) + mean * harmonic;
    let row = plan.on(workers);
    close(row.makespan_s, expected, 0.01, "makespan");
    assert!(row.lower_bound_s < row.makespan_s && row.makespan_s < row.graham_bound_s);
    assert!(row.makespan_p90_s > row.makespan_s && row.longest_first_s < row.makespan_s);
    assert!(row.efficiency > 0.95 && row.efficiency < 1.0);
}

#[test]
fn the_fewest_workers_for_a_budget_are_enough_and_one_less_is_not() {
    let plan = BatchPlan::sampled(500, Service::new(0.1, 0.5).unwrap(), 0.01).unwrap();
    let workers = plan.workers_for(5.0).unwrap();
    assert!(plan.on(workers).makespan_p90_s <= 5.0);
    assert!(plan.on(workers - 1).makespan_p90_s > 5.0);
    assert_eq!(plan.workers_for(0.05), None, "the longest call alone takes longer");
}
