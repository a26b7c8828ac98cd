//! Published values, with where they stand.

use crate::reference::close;
use antiphon_queueing::{
    Closed, GroupCommit, Markov, PollaczekKhinchine, Priorities, PriorityClass, QueueingError, Unqueued, erlang_b,
    number_in_system, sojourn_s, throughput_per_s,
};

/// The traffic table of Erlang B as it is printed everywhere (for one: ITU, *Teletraffic Engineering Handbook*): the load
/// in erlangs at which this many lines lose one call in a hundred, and one in twenty.
const TRAFFIC: [(u32, f64, f64); 7] = [
    (1, 0.0101, 0.0526),
    (2, 0.153, 0.381),
    (5, 1.36, 2.22),
    (10, 4.46, 6.22),
    (20, 12.0, 15.2),
    (50, 37.9, 44.5),
    (100, 84.1, 95.2),
];

#[test]
fn erlang_b_is_the_traffic_table() {
    for (lines, at_1_percent, at_5_percent) in TRAFFIC {
        for (load, lost) in [(at_1_percent, 0.01), (at_5_percent, 0.05)] {
            // The table has three digits of the load, so the loss below and above that digit brackets the column's.
            let digit = 10_f64.powf(load.log10().floor() - 2.0) * 0.51;
            let (low, high) = (erlang_b(lines, load - digit).unwrap(), erlang_b(lines, load + digit).unwrap());
            assert!(low < lost && lost < high, "{lines} lines, {load} erlangs: {low} to {high}, not {lost}");
        }
    }
}

/// F. Hillier and G. Lieberman, *Introduction to Operations Research*, the emergency room of the county hospital: 2
/// patients an hour, 20 minutes each, one doctor or two; then the same in three classes of urgency.
#[test]
fn the_county_hospital_comes_out_as_printed() {
    let one = Markov::new(2.0, 1.0 / 3.0, 1).unwrap();
    close(one.utilisation(), 2.0 / 3.0, 1e-12, "utilisation");
    close(one.mean_queue_length(), 4.0 / 3.0, 1e-12, "queue");
    close(one.mean_in_system(), 2.0, 1e-12, "in system");
    close(one.mean_wait_s(), 2.0 / 3.0, 1e-12, "wait");
    close(one.mean_response_s(), 1.0, 1e-12, "response");
    let two = Markov::new(2.0, 1.0 / 3.0, 2).unwrap();
    close(two.mean_queue_length(), 1.0 / 12.0, 1e-12, "queue");
    close(two.mean_in_system(), 3.0 / 4.0, 1e-12, "in system");
    close(two.mean_wait_s(), 1.0 / 24.0, 1e-12, "wait");
    close(two.mean_response_s(), 3.0 / 8.0, 1e-12, "response");
    close(two.wait_tail(1.0), (-4.0_f64).exp() / 6.0, 1e-12, "longer than an hour");
    let class = |arrival_per_s| PriorityClass { arrival_per_s, service_s: 1.0 / 3.0, service_cv: 1.0 };
    let classes = [class(0.2), class(0.6), class(1.2)];
    for (doctors, printed) in [(1, [0.238, 0.325]), (2, [0.029, 0.033])] {
        let waits = Priorities::new(&classes, doctors).unwrap();
        for (ours, theirs) in waits.mean_waits_s().iter().zip(printed) {
            assert!((ours - theirs).abs() < 0.0005, "{ours} is not {theirs}");
        }
    }
}

#[test]
fn introductory_texts_are_put_right() {
    let (arrival, service) = (80.0, 100.0);
    // W = 1/(μ − λ) is the response time of M/M/1, waiting included.
    let queue = Markov::new(arrival, 1.0 / service, 1).unwrap();
    close(queue.mean_response_s(), 1.0 / (service - arrival), 1e-12, "W");
    // λ/(λ + μ) is how often a server without a queue is busy, and what it loses; not a throughput.
    let unqueued = Unqueued::new(arrival, service).unwrap();
    close(unqueued.busy(), arrival / (arrival + service), 1e-12, "busy");
    close(unqueued.busy(), erlang_b(1, arrival / service).unwrap(), 1e-12, "lost");
    close(unqueued.throughput_per_s(), arrival * service / (arrival + service), 1e-12, "throughput");
    close(unqueued.throughput_per_s(), arrival * (1.0 - unqueued.busy()), 1e-12, "what is not lost");
}

#[test]
fn littles_law_holds_of_every_formula() {
    let queue = Markov::new(30.0, 0.1, 4).unwrap();
    close(number_in_system(30.0, queue.mean_response_s()), queue.mean_in_system(), 1e-12, "L");
    close(sojourn_s(queue.mean_queue_length(), 30.0), queue.mean_wait_s(), 1e-12, "W");
    close(throughput_per_s(queue.mean_in_system(), queue.mean_response_s()), 30.0, 1e-12, "λ");
    let commit = GroupCommit::new(5_000.0, 0.001, 0.0, None).unwrap();
    close(number_in_system(5_000.0, commit.mean_response_s()), commit.mean_in_system(), 1e-12, "L");
    close(commit.batches_per_s() * commit.mean_batch(), 5_000.0, 1e-12, "λ");
}

#[test]
fn unstable_says_the_load_and_the_capacity() {
    let error = Markov::new(500.0, 0.01, 4).unwrap_err();
    assert_eq!(error, QueueingError::Unstable { load: 5.0, capacity: 4.0 });
    assert!(error.to_string().contains("the load is 5.0000 erlangs and the capacity 4 workers"), "{error}");
    let at_capacity = PollaczekKhinchine::new(100.0, 0.01, 0.0).unwrap_err();
    assert_eq!(at_capacity, QueueingError::Unstable { load: 1.0, capacity: 1.0 });
    assert!(GroupCommit::new(5_000.0, 0.001, 0.0, Some(4)).is_err());
    assert!(Priorities::new(&[PriorityClass { arrival_per_s: 9.0, service_s: 1.0, service_cv: 1.0 }], 8).is_err());
    // A closed system is never unstable.
    assert!(Closed::new(1_000, 0.001, 1.0, 1).is_ok());
}

#[test]
fn an_input_without_a_meaning_is_named() {
    let error = Markov::new(-1.0, 0.01, 4).unwrap_err().to_string();
    assert_eq!(error, "the arrival rate is -1: it must be a finite number above 0");
    assert!(Markov::new(1.0, f64::NAN, 4).unwrap_err().to_string().contains("the service time is NaN"));
    assert!(erlang_b(0, 1.0).unwrap_err().to_string().contains("the number of servers is 0"));
}
