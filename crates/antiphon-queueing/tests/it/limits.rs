//! Formulas that contain each other agree where they meet, and none breaks down at the edges.

use crate::reference::close;
use antiphon_queueing::{
    Bounded, Closed, General, GroupCommit, Markov, PollaczekKhinchine, Priorities, PriorityClass, Service, Station,
    Target, erlang_b, erlang_c,
};

#[test]
fn a_hundred_thousand_servers_at_a_thousandth_below_capacity_are_no_trouble() {
    let (servers, load) = (100_000, 99_900.0);
    let waits = erlang_c(servers, load).unwrap();
    // Halfin and Whitt's limit (1981): β = (c − a)/√a, 1/(1 + βΦ(β)/φ(β)), here at β = 0.3164.
    assert!((waits - 0.6577).abs() < 0.001, "{waits}");
    let queue = Markov::new(load, 1.0, servers).unwrap();
    assert!(queue.mean_wait_s().is_finite() && queue.response_quantile_s(0.999) > 1.0);
    assert!(erlang_b(servers, load).unwrap() > 0.0);
    assert!(Bounded::new(load * 1.5, 1.0, servers, servers + 10_000).unwrap().probability_of_refusal() > 0.33);
}

#[test]
fn enough_room_is_no_bound_and_enough_callers_are_an_open_system() {
    let open = Markov::new(300.0, 0.01, 4).unwrap();
    let roomy = Bounded::new(300.0, 0.01, 4, 2_000).unwrap();
    close(roomy.mean_wait_s(), open.mean_wait_s(), 1e-9, "room for 2000");
    close(roomy.probability_of_waiting(), open.probability_of_waiting(), 1e-9, "room for 2000");
    let crowd = Closed::new(3_000_000, 10_000.0, 0.01, 4).unwrap();
    close(crowd.throughput_per_s(), 300.0, 1e-4, "three million callers");
    close(crowd.mean_wait_s(), open.mean_wait_s(), 1e-3, "three million callers");
}

#[test]
fn callers_that_never_think_keep_the_servers_busy() {
    let greedy = Closed::new(10, 0.0, 0.01, 4).unwrap();
    close(greedy.throughput_per_s(), 400.0, 1e-12, "throughput");
    close(greedy.utilisation(), 1.0, 1e-12, "utilisation");
    close(greedy.mean_queue_length(), 6.0, 1e-12, "queue");
    let nearly = Closed::new(10, 1e-9, 0.01, 4).unwrap();
    close(nearly.throughput_per_s(), greedy.throughput_per_s(), 1e-6, "throughput");
}

#[test]
fn batches_of_one_are_a_queue_of_constant_calls() {
    let single = GroupCommit::new(900.0, 0.001, 0.0, Some(1)).unwrap();
    let exact = PollaczekKhinchine::new(900.0, 0.001, 0.0).unwrap();
    close(single.mean_response_s(), exact.mean_response_s(), 1e-9, "M/D/1");
    // A commit that nobody shares still costs one; shared ones carry a load that single ones could not.
    let alone = GroupCommit::new(1.0, 0.001, 0.0, None).unwrap();
    close(alone.mean_response_s(), 0.001, 1e-3, "alone");
    let shared = GroupCommit::new(100_000.0, 0.001, 0.0, None).unwrap();
    assert!(shared.mean_batch() > 99.0 && shared.mean_response_s() < 0.001_51);
}

#[test]
fn priorities_move_waits_and_leave_their_sum() {
    let class = |arrival_per_s| PriorityClass { arrival_per_s, service_s: 0.01, service_cv: 1.0 };
    let classes = [class(50.0), class(150.0), class(120.0)];
    let waits = Priorities::new(&classes, 4).unwrap();
    let all = Markov::new(320.0, 0.01, 4).unwrap();
    let weighed = classes.iter().zip(waits.mean_waits_s()).map(|(class, wait)| class.arrival_per_s * wait);
    close(weighed.sum::<f64>() / 320.0, all.mean_wait_s(), 1e-12, "the conservation law");
    let [first, second, third] = waits.mean_waits_s() else { panic!("three classes") };
    assert!(first < second && second < third);
}

#[test]
fn the_variance_of_the_wait_is_that_of_m_m_1() {
    let queue = PollaczekKhinchine::new(70.0, 0.01, 1.0).unwrap();
    // M/M/1: the wait is 0 with probability 1 − ρ, else exponential: variance ρ(2 − ρ)/(μ − λ)².
    close(queue.wait_variance(6.0 * 0.01_f64.powi(3)), 0.7 * 1.3 / 900.0, 1e-12, "variance");
}

#[test]
fn response_quantiles_do_not_jump_where_two_rates_are_equal() {
    // cμ − λ = μ with 2 servers at load 1: a removable singularity of the textbook formula.
    let at = |load: f64| Markov::new(load * 100.0, 0.01, 2).unwrap().response_quantile_s(0.99);
    close(at(1.0), f64::midpoint(at(1.0 - 1e-7), at(1.0 + 1e-7)), 1e-9, "p99");
}

#[test]
fn general_service_runs_into_markov_at_one() {
    for (arrival, servers) in [(70.0, 1), (350.0, 4), (3_900.0, 40)] {
        let exact = Markov::new(arrival, 0.01, servers).unwrap();
        let at = |cv: f64| General::new(arrival, Service::new(0.01, cv).unwrap(), servers).unwrap();
        for quantile in [0.5, 0.9, 0.99] {
            close(at(1.0).response_quantile_s(quantile), exact.response_quantile_s(quantile), 1e-9, "at 1");
            close(at(0.999_9).response_quantile_s(quantile), exact.response_quantile_s(quantile), 2e-3, "below 1");
            close(at(1.000_1).response_quantile_s(quantile), exact.response_quantile_s(quantile), 2e-3, "above 1");
        }
    }
}

#[test]
fn no_call_is_done_before_it_can_be_and_tails_fall_from_one_to_nothing() {
    for cv in [0.03, 0.035, 0.05, 0.1, 0.3, 0.7, 0.99, 1.0, 2.0, 30.0] {
        let service = Service::new(0.01, cv).unwrap();
        let mut before = 1.0;
        for place in 0..4_000 {
            let tail = service.tail(f64::from(place) * 2e-5);
            assert!((0.0..=before + 1e-12).contains(&tail), "{cv}: {tail} after {before} at {place}");
            before = tail;
        }
        assert!((service.tail(1e-12) - 1.0).abs() < 1e-6, "{cv}: hardly any takes no time");
        let half = service.tail(service.quantile_s(0.5));
        assert!((half - 0.5).abs() < 1e-6, "{cv}: {half}");
    }
    // Of calls that hardly vary none is done after a fifth of their time, and no number of workers helps.
    let station = Station { arrival_per_s: 80.0, service: Service::new(0.01, 0.03).unwrap(), workers: 4 };
    assert!(station.predict(Some(0.002)).unwrap().probability_of_missing_deadline.unwrap() > 0.999_999);
    let target = Target { quantile: Some(0.99), response_s: 0.002 };
    assert_eq!(station.workers_needed(Some(target)).unwrap(), None);
}

#[test]
fn a_fitted_service_time_has_the_moments_it_was_given() {
    use rand::SeedableRng;
    for cv in [0.0, 0.1, 0.4, 0.9, 1.0, 1.7, 3.0] {
        let service = Service::new(0.02, cv).unwrap();
        let mut random = rand::rngs::SmallRng::seed_from_u64(11);
        let samples: Vec<f64> = (0..400_000).map(|_| service.sample(&mut random)).collect();
        let mean = samples.iter().sum::<f64>() / samples.len() as f64;
        let variance = samples.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / samples.len() as f64;
        close(mean, 0.02, 0.02, "mean");
        assert!((variance.sqrt() / mean - cv).abs() < 0.05 * (cv + 0.01), "{cv}: {}", variance.sqrt() / mean);
        // The tail is that of the samples.
        let median = service.quantile_s(0.5);
        let above = samples.iter().filter(|s| **s > median).count() as f64 / samples.len() as f64;
        assert!(cv == 0.0 || (above - 0.5).abs() < 0.01, "{cv}: {above}");
    }
}
