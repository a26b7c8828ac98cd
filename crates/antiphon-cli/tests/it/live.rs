//! `antiphon plan --live` on a broker that runs.

use crate::stage::Broker;
use serde_json::Value;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_running_procedure_is_measured_and_planned_for() {
    let broker = Broker::start();
    let _worker = broker.worker(&["--slots", "2", "--exec", "text.echo=sleep 0.02; echo 1"]);
    let calls = std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            for _ in 0..40 {
                broker.run(["call", "text.echo", "1"]).ok();
            }
        });
        let live = broker.run(["plan", "--live", "text.echo", "--watch", "1s", "-o", "json"]);
        live.ok();
        caller.join().unwrap();
        live.json()
    });
    assert_eq!(calls["procedure"], "text.echo");
    let observed = &calls["observed"];
    assert_eq!(observed["slots"], 2);
    assert!(number(&observed["arrival_per_s"]) > 0.0, "{calls}");
    // How long a call takes is up to the machine, but no worker is faster than its sleep.
    assert!(number(&observed["service_s"]) >= 0.015, "{calls}");
    let spread = &observed["service_quantiles_s"];
    assert!(number(&spread["p50"]) >= 0.015 && number(&spread["p50"]) <= number(&spread["p99"]), "{calls}");
    assert!(number(&observed["wait_s"]["p50"]) <= number(&observed["wait_s"]["p99"]), "{calls}");
    assert!(number(&observed["utilisation"]) <= 1.0, "{calls}");
    let load = number(&observed["arrival_per_s"]) * number(&observed["service_s"]) / 2.0;
    if load < 1.0 {
        assert!((number(&calls["prediction"]["utilisation"]) - load).abs() < 1e-9, "{calls}");
    }
    assert!(calls["recommendation"]["reason"].is_string() && calls["recommendation"]["workers"].is_number());
    let table = broker.run(["plan", "--live", "text.echo", "--watch", "100ms"]);
    for part in ["OBSERVED", "PREDICTED", "mean wait", "wait p99", ", p90 ", "Recommended: "] {
        assert!(table.ok().contains(part), "{part} is not in {table:?}");
    }
}

#[test]
fn an_idle_an_unserved_and_an_unknown_procedure_are_told() {
    let broker = Broker::start();
    let unknown = broker.run(["plan", "--live", "text.eccho", "--watch", "100ms"]);
    unknown.fails(5, "no calls or workers of text.eccho are known");
    broker.run(["call", "text.echo", "1", "--detach"]).ok();
    let unserved = broker.run(["plan", "--live", "text.echo", "--watch", "100ms", "-o", "json"]).json();
    assert_eq!(unserved["recommendation"]["reason"], "nobody serves it: start a worker");
    assert_eq!(unserved["prediction"], Value::Null);
    let both = broker.run(["plan", "--live", "text.echo", "--arrival", "1/s"]);
    both.fails(2, "cannot be used with");
}
