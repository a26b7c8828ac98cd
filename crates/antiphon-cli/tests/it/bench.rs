//! `bench`: the shape of its JSON, and that it measures something.

use crate::stage::{Broker, antiphon};

#[test]
fn its_json_has_rates_and_latencies_per_cell() {
    let ran = antiphon(&["bench", "--seconds", "1", "--in-flight", "1,16", "--mode", "volatile,durable", "-o", "json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let json = ran.json();
    let cells = json["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 4);
    for cell in cells {
        assert!(cell["calls"].as_u64().unwrap() > 0, "{cell}");
        assert_eq!((&cell["errors"], &cell["payload"]), (&0.into(), &64.into()));
        assert!(cell["calls_per_second"].as_f64().unwrap() > 0.0);
        let latency = |name: &str| cell["latency_us"][name].as_f64().unwrap();
        assert!(latency("p50") > 0.0);
        assert!(latency("p50") <= latency("p90") && latency("p90") <= latency("p99"), "{cell}");
        assert!(latency("p99") <= latency("p999") && latency("p999") <= latency("max") * 1.01, "{cell}");
    }
    assert_eq!((&cells[3]["mode"], &cells[3]["in_flight"]), (&"durable".into(), &16.into()));
}

#[test]
fn it_uses_a_broker_that_runs() {
    let broker = Broker::start();
    let ran =
        broker.run(["bench", "--seconds", "1", "--in-flight", "4", "--mode", "durable-idempotent", "-o", "jsonl"]);
    assert!(ran.json()["calls"].as_u64().unwrap() > 0);
    let accepted = broker.run(["ping", "-o", "json"]).json()["broker"]["accepted"].as_u64().unwrap();
    assert!(accepted >= ran.json()["calls"].as_u64().unwrap());
}

#[test]
fn one_cell_is_an_object_of_its_own() {
    let ran = antiphon(&["bench", "--seconds", "1", "--in-flight", "4", "--mode", "volatile", "-o", "json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let json = ran.json();
    assert!(json["calls"].as_u64().unwrap() > 0 && json["calls_per_second"].as_f64().unwrap() > 0.0, "{json}");
    assert_eq!(json["errors"], 0);
    assert!(json["latency_us"]["p50"].as_f64().unwrap() > 0.0);
    let help = antiphon(&["bench", "--help"]);
    assert!(help.ok().contains("`cells`"), "{help:?}");
}

#[test]
fn data_is_refused_beside_a_broker_that_runs() {
    let broker = Broker::start();
    broker.run(["bench", "--seconds", "1", "--data", "/tmp/unused"]).fails(2, "leave one out");
}

#[test]
fn why_its_broker_does_not_start_is_told() {
    let ran = antiphon(&["bench", "--seconds", "1", "--data", "/proc/antiphon"]);
    ran.fails(1, "cannot use the data directory");
}
