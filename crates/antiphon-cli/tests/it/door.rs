//! `queue limit`, and what the door says when it is reached.

use crate::stage::{Broker, antiphon};

#[test]
fn a_limit_is_set_printed_reached_kept_over_a_restart_and_taken_back() {
    let mut broker = Broker::start();
    assert!(broker.run(["queue", "limit", "a.b"]).ok().contains("nothing is set for a.b"));
    let set = broker.run(["queue", "limit", "a.b", "--queued", "1", "--keep-outcomes", "1h", "-o", "json"]).json();
    assert_eq!(set, serde_json::json!({ "queued_max": 1, "outcome_ms": 3_600_000 }));
    broker.run(["call", "a.b", "--detach"]).ok();
    broker
        .run(["call", "a.b", "--detach"])
        .fails(6, "as many calls wait for a.b as may, 1: add workers or try again later");
    broker.run(["call", "c.d", "--detach"]).ok();
    broker.kill_and_restart();
    broker.run(["call", "a.b", "--detach"]).fails(6, "as many calls wait for a.b as may");
    let left = broker.run(["queue", "limit", "a.b", "--queued", "default", "-o", "json"]).json();
    assert_eq!(left, serde_json::json!({ "outcome_ms": 3_600_000 }));
    broker.run(["call", "a.b", "--detach"]).ok();
}

#[test]
fn sizes_are_read_with_their_units() {
    let broker = Broker::start();
    let set = broker.run(["queue", "limit", "a.b", "--queued-bytes", "2KiB", "-o", "json"]).json();
    assert_eq!(set["queued_bytes_max"], 2_048);
    let large = format!("\"{}\"", "x".repeat(3_000));
    broker.run(["call", "a.b", &large, "--detach"]).fails(6, "bytes of arguments wait for a.b as may, 2048");
    broker.run(["queue", "limit", "a.b", "--queued-bytes", "2 parsecs"]).fails(2, "is not a size");
}

#[test]
fn a_section_of_the_configuration_holds_from_the_start_and_takes_the_place_of_what_was_set() {
    let mut broker = Broker::start_with("[procedure.\"a.b\"]\nqueued_max = 1\noutcome_ms = \"1h\"\n");
    let set = broker.run(["queue", "limit", "a.b", "-o", "json"]).json();
    assert_eq!(set, serde_json::json!({ "queued_max": 1, "outcome_ms": 3_600_000 }));
    broker.run(["call", "a.b", "--detach"]).ok();
    broker.run(["call", "a.b", "--detach"]).fails(6, "as many calls wait for a.b as may, 1");
    broker.run(["queue", "limit", "a.b", "--queued", "2", "--running", "5"]).ok();
    broker.run(["call", "a.b", "--detach"]).ok();
    broker.kill_and_restart();
    let set = broker.run(["queue", "limit", "a.b", "-o", "json"]).json();
    assert_eq!(set, serde_json::json!({ "queued_max": 1, "outcome_ms": 3_600_000, "running_max": 5 }));
    broker.run(["call", "a.b", "--detach"]).fails(6, "as many calls wait for a.b as may, 1");
}

#[test]
fn a_section_that_is_wrong_keeps_the_broker_from_starting_and_names_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("antiphon.toml");
    std::fs::write(&path, "[procedure.\"a.b\"]\nrate = \"fast\"\n").unwrap();
    let config = path.to_str().unwrap();
    antiphon(&["serve", "--memory", "--listen", "127.0.0.1:0", "--http", "none", "--config", config])
        .fails(2, "procedure.\"a.b\".rate: \"fast\" is no rate: write it like 100/s");
}
