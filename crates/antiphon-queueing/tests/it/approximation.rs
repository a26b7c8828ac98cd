//! How close the approximations come to M/D/c, M/E2/c and M/H2/c, whose mean waits `reference.py` gets from their Markov
//! chains: squared coefficients of variation 0, ½, 1, 2¼, 4, 9 and 25 on 2 to 8 servers. The guide states these figures.

use crate::reference::{close, count, number, values};
use antiphon_queueing::{General, PollaczekKhinchine, Service};

struct Errors {
    utilisation: f64,
    square: f64,
    wait: f64,
    response: f64,
    allen_cunneen: f64,
}

fn errors() -> Vec<Errors> {
    let rows = values("general").into_iter().filter(|row| count(row, "servers") > 1);
    let of = |row: serde_json::Value| {
        let (servers, utilisation) = (count(&row, "servers"), number(&row, "utilisation"));
        let square = number(&row, "service_cv_squared");
        let exact = number(&row, "mean_wait_in_services");
        let service = Service::new(1.0, square.sqrt()).unwrap();
        let model = General::new(utilisation * f64::from(servers), service, servers).unwrap();
        Errors {
            utilisation,
            square,
            wait: (model.mean_wait_s() / exact - 1.0).abs(),
            response: (model.mean_response_s() / (exact + 1.0) - 1.0).abs(),
            allen_cunneen: (model.allen_cunneen_wait_s(1.0) / exact - 1.0).abs(),
        }
    };
    rows.map(of).collect()
}

fn worst(errors: &[Errors], of: fn(&Errors) -> f64, within: impl Fn(&Errors) -> bool) -> f64 {
    let chosen: Vec<f64> = errors.iter().filter(|error| within(error)).map(of).collect();
    assert!(!chosen.is_empty());
    chosen.into_iter().fold(0.0, f64::max)
}

#[test]
fn the_mean_response_is_within_2_percent_up_to_a_coefficient_of_3_and_12_percent_at_5() {
    let errors = errors();
    assert!(worst(&errors, |error| error.response, |error| error.square <= 9.0) < 0.02);
    assert!(worst(&errors, |error| error.response, |_| true) < 0.12);
}

#[test]
fn the_mean_wait_is_within_2_percent_from_half_load_and_5_percent_when_calls_vary_much() {
    let errors: Vec<Errors> = errors().into_iter().filter(|error| error.square <= 4.0).collect();
    let usual = worst(&errors, |error| error.wait, |error| error.utilisation >= 0.5 && error.square <= 2.25);
    assert!(usual < 0.02, "{usual}");
    let varied = worst(&errors, |error| error.wait, |error| error.utilisation >= 0.5);
    assert!(varied < 0.05, "{varied}");
    let light = worst(&errors, |error| error.wait, |_| true);
    assert!(light < 0.12, "{light}");
}

/// Allen and Cunneen's formula is the simplest, and good under load only.
#[test]
fn allen_and_cunneen_are_within_2_percent_of_calls_that_vary_little_under_load() {
    let errors = errors();
    let loaded = |error: &Errors| error.utilisation >= 0.9 && error.square <= 1.0 && error.square > 0.0;
    assert!(worst(&errors, |error| error.allen_cunneen, loaded) < 0.02);
    let varied = |error: &Errors| error.utilisation >= 0.9 && error.square <= 4.0;
    assert!(worst(&errors, |error| error.allen_cunneen, varied) < 0.07);
}

#[test]
fn exponential_service_and_one_server_are_no_approximation() {
    let exact = errors().into_iter().filter(|error| error.square == 1.0).map(|error| error.wait);
    // The chains are cut off where their tail is below 1e-9.
    assert!(exact.fold(0.0, f64::max) < 1e-6);
    for cv in [0.0, 0.5, 1.0, 3.0] {
        let one = General::new(70.0, Service::new(0.01, cv).unwrap(), 1).unwrap();
        let exact = PollaczekKhinchine::new(70.0, 0.01, cv).unwrap();
        close(one.mean_wait_s(), exact.mean_wait_s(), 1e-12, "P–K");
    }
}
