//! Plans: what a station is predicted to do, and how many workers it needs.

use crate::reference::close;
use antiphon_queueing::{Markov, QueueingError, Service, Station, Target};
use serde_json::json;

fn station(arrival_per_s: f64, cv: f64, workers: u32) -> Station {
    Station { arrival_per_s, service: Service::new(0.01, cv).unwrap(), workers }
}

#[test]
fn a_plan_is_what_the_formulas_say() {
    let plan = station(320.0, 1.0, 4).plan(Some(0.05), None).unwrap();
    let exact = Markov::new(320.0, 0.01, 4).unwrap();
    let it = plan.prediction;
    close(it.mean_wait_s, exact.mean_wait_s(), 1e-12, "wait");
    close(it.response_s.p99, exact.response_quantile_s(0.99), 1e-9, "p99");
    close(it.wait_s.p90, exact.wait_quantile_s(0.9), 1e-9, "p90");
    close(it.probability_of_missing_deadline.unwrap(), exact.response_tail(0.05), 1e-9, "deadline");
    assert_eq!(plan.workers_needed, Some(4), "3.2 erlangs need 4 workers");
    let factors: Vec<f64> = plan.outlook.iter().map(|outlook| outlook.factor).collect();
    assert_eq!(factors, [0.8, 1.0, 1.2, 2.0]);
    let stable: Vec<bool> = plan.outlook.iter().map(|outlook| outlook.prediction.is_some()).collect();
    assert_eq!(stable, [true, true, true, false], "4 workers do 400/s");
    assert_eq!(plan.outlook[3].workers_needed, Some(7));
}

#[test]
fn a_plan_has_the_fields_that_are_promised() {
    let plan = serde_json::to_value(station(320.0, 1.5, 4).plan(Some(0.05), None).unwrap()).unwrap();
    for field in [
        "utilisation",
        "probability_of_waiting",
        "mean_wait_s",
        "mean_response_s",
        "mean_queue_length",
        "probability_of_missing_deadline",
        "workers_needed",
    ] {
        assert!(plan[field].is_number(), "{field}: {plan}");
    }
    for quantile in ["p50", "p90", "p99"] {
        assert!(plan["response_s"][quantile].is_number(), "{quantile}: {plan}");
    }
    let without = serde_json::to_value(station(320.0, 1.0, 4).plan(None, None).unwrap()).unwrap();
    assert_eq!(without["probability_of_missing_deadline"], json!(null));
}

#[test]
fn the_fewest_workers_for_a_target_are_enough_and_one_less_is_not() {
    for (cv, quantile, response_s) in
        [(1.0, Some(0.99), 0.05), (0.0, Some(0.9), 0.02), (2.0, Some(0.99), 0.12), (1.0, None, 0.0102)]
    {
        let target = Target { quantile, response_s };
        let workers = station(900.0, cv, 1).workers_needed(Some(target)).unwrap().unwrap();
        let kept = |workers: u32| {
            let model = antiphon_queueing::General::new(900.0, Service::new(0.01, cv).unwrap(), workers).unwrap();
            match quantile {
                Some(quantile) => model.response_quantile_s(quantile) <= response_s * (1.0 + 1e-9),
                None => model.mean_response_s() <= response_s,
            }
        };
        assert!(kept(workers), "{cv} {quantile:?}: {workers}");
        assert!(workers == 10 || !kept(workers - 1), "{cv} {quantile:?}: {workers}");
    }
}

#[test]
fn a_target_below_the_service_time_is_kept_by_no_number_of_workers() {
    let target = Target { quantile: Some(0.99), response_s: 0.04 };
    // The 99th percentile of the service alone is 46 ms.
    assert_eq!(station(900.0, 1.0, 1).workers_needed(Some(target)).unwrap(), None);
}

#[test]
fn a_load_above_the_capacity_has_no_plan_but_a_number_of_workers() {
    let station = station(500.0, 1.0, 4);
    assert_eq!(station.plan(None, None).unwrap_err(), QueueingError::Unstable { load: 5.0, capacity: 4.0 });
    assert_eq!(station.workers_needed(None).unwrap(), Some(6));
}
